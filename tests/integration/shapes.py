"""Whether JSON has the shape that a specification gives: keys, types, nesting."""

from __future__ import annotations

import re
from typing import Any


def mismatch(found: Any, shape: Any, at: str = "result") -> str:
    """ "" if it fits, else where it does not and why.

    A dict needs these keys and no others; a key that ends in ``?`` may be missing. A list of one
    shape has entries of this shape, at least one if the shape comes as a tuple. A type is an
    instance (``int`` is no bool), a compiled pattern matches text, a set lists what is allowed;
    everything else has to be equal.
    """
    if isinstance(shape, dict):
        return _of_dict(found, shape, at)
    if isinstance(shape, (list, tuple)):
        if not isinstance(found, list) or (isinstance(shape, tuple) and not found):
            return (
                f"{at}: expected a list{' that is not empty' * isinstance(shape, tuple)}: {found!r}"
            )
        faults = (mismatch(entry, shape[0], f"{at}[{n}]") for n, entry in enumerate(found))
        return next(filter(None, faults), "")
    if isinstance(shape, type):
        good = isinstance(found, shape) and not (shape is int and isinstance(found, bool))
    elif isinstance(shape, re.Pattern):
        good = isinstance(found, str) and shape.search(found) is not None
    elif isinstance(shape, frozenset):
        good = found in shape
    else:
        good = found == shape and type(found) is type(shape)
    return "" if good else f"{at}: expected {shape}, not {found!r}"


def _of_dict(found: Any, shape: dict[str, Any], at: str) -> str:
    if not isinstance(found, dict):
        return f"{at}: expected an object: {found!r}"
    known = {key.removesuffix("?") for key in shape}
    if extra := sorted(set(found) - known):
        return f"{at}: unexpected {', '.join(extra)}"
    for key, wanted in shape.items():
        name = key.removesuffix("?")
        if name in found:
            if fault := mismatch(found[name], wanted, f"{at}.{name}"):
                return fault
        elif name == key:
            return f"{at}: no {key}: {found!r}"
    return ""
