"""Bencoding, the words of rtpengine's ng protocol: integers, byte strings, lists, dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: What can be written; text as UTF-8. Booleans have no place in it.
Writable = int | str | bytes | Sequence["Writable"] | Mapping[str, "Writable"]
#: What is read: strings stay bytes, keys of dictionaries too.
Readable = int | bytes | list["Readable"] | dict[bytes, "Readable"]

#: So many containers may stand in each other.
MAX_DEPTH = 16


def encode(value: Writable) -> bytes:
    """The bytes of a value; keys of dictionaries in order, as the format wants it."""
    match value:
        case int():
            return b"i%de" % value
        case bytes():
            return b"%d:%b" % (len(value), value)
        case str():
            return encode(value.encode("utf-8", "surrogateescape"))
        case Mapping():
            parts = [encode(key) + encode(item) for key, item in sorted(value.items())]
            return b"d" + b"".join(parts) + b"e"
    return b"l" + b"".join(map(encode, value)) + b"e"


def decode(data: bytes) -> Readable:
    """The value that makes up all of ``data``. Raises ValueError for anything else."""
    value, end = _value(data, 0, 0)
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes too many")
    return value


def _value(data: bytes, at: int, depth: int) -> tuple[Readable, int]:
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.find(b"e", at)
        return _number(data[at + 1 : end] if end > 0 else b""), end + 1
    if kind.isdigit():
        colon = data.find(b":", at)
        length = _number(data[at:colon] if colon > 0 else b"")
        end = colon + 1 + length
        if end > len(data):
            raise ValueError("a string ends too soon")
        return data[colon + 1 : end], end
    if kind == b"l":
        return _list(data, at + 1, depth)
    if kind == b"d":
        items, end = _list(data, at + 1, depth)
        keys, values = items[::2], items[1::2]
        found: dict[bytes, Readable] = {}
        for key, value in zip(keys, values, strict=True):
            if not isinstance(key, bytes):
                raise ValueError("a key that is no string")
            found[key] = value
        return found, end
    raise ValueError(f"nothing begins with {kind!r}")


def _list(data: bytes, at: int, depth: int) -> tuple[list[Readable], int]:
    items: list[Readable] = []
    while data[at : at + 1] != b"e":
        item, at = _value(data, at, depth + 1)
        items.append(item)
    return items, at + 1


def _number(digits: bytes) -> int:
    plain = digits.removeprefix(b"-")
    if not plain.isdigit() or len(plain) > 20:
        raise ValueError(f"{digits[:20]!r} is no number")
    return int(digits)
