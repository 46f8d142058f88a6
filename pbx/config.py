"""TOML tables to frozen dataclasses, with errors that say what to write instead.

A setting lives in the module that uses it: one field of a settings dataclass with its type, its
default and, as a string literal below it, its meaning. There is no global configuration object.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import itertools
import textwrap
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

SettingsT = TypeVar("SettingsT")


class ConfigError(Exception):
    """Bad configuration; one line per fault in ``faults``."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def read(path: Path) -> dict[str, Any]:
    """The TOML file as tables. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def base_folder(path: Path) -> Path:
    """What relative paths in a configuration file start from.

    The folder that holds ``etc/`` for a file in ``etc/``, else the folder of the file.
    """
    folder = path.resolve().parent
    return folder.parent if folder.name == "etc" else folder


def located(url: str, base: Path) -> str:
    """A database URL with the path of ``sqlite:PATH`` made absolute; others as they are."""
    scheme, _, rest = url.partition(":")
    return f"sqlite:{base / rest.removeprefix('//')}" if scheme == "sqlite" and rest else url


def settings(kind: type[SettingsT], table: Mapping[str, Any], name: str) -> SettingsT:
    """The settings dataclass filled from a table. Raises ConfigError with every fault in it."""
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    faults: list[str] = []
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            faults.append(f"[{name}] {key}: unknown{suggestion(key, fields)}")
            continue
        try:
            values[key] = _converted(hints[key], value)
        except ValueError as error:
            faults.append(f"[{name}] {key}: {error}")
    for key, field in fields.items():
        missing = field.default is dataclasses.MISSING
        if key not in table and missing and field.default_factory is dataclasses.MISSING:
            faults.append(f"[{name}] {key}: missing")
    if faults:
        raise ConfigError(*faults)
    try:
        return kind(**values)
    except ValueError as error:
        raise ConfigError(f"[{name}] {error}") from None


def suggestion(key: str, known: Mapping[str, object]) -> str:
    """``; did you mean X?`` or what there is."""
    near = difflib.get_close_matches(key, known, 1)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(sorted(known))}"


def _converted(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if hint is bool:
        if isinstance(value, bool):
            return value
        raise ValueError(f"expected true or false, not {value!r}")
    if hint is float or hint is int:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"expected a number, not {value!r}")
        if hint is int and isinstance(value, float):
            raise ValueError(f"expected a whole number, not {value!r}")
        return hint(value)
    if hint is str:
        if isinstance(value, str):
            return value
        raise ValueError(f"expected a text in quotes, not {value!r}")
    if hint is Path:
        return Path(_converted(str, value))
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"expected a list, not {value!r}")
        inner = typing.get_args(hint)[0]
        return tuple(_converted(inner, item) for item in value)
    if origin in (types.UnionType, typing.Union):
        inner = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return _converted(inner[0], value)
    if origin is typing.Literal:
        if value in typing.get_args(hint):
            return value
        raise ValueError(f"expected one of {', '.join(map(repr, typing.get_args(hint)))}")
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"expected a table, not {value!r}")
        inner = typing.get_args(hint)[1]
        return {key: _converted(inner, item) for key, item in value.items()}
    raise TypeError(f"a setting cannot have the type {hint!r}")


def reference(kind: type, name: str) -> str:
    """The documentation of a settings dataclass: one block of text for ``--reference``."""
    lines = [f"[{name}]"]
    meanings = _field_docstrings(kind)
    for field in dataclasses.fields(kind):
        default: Any = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        shown = "required" if default is dataclasses.MISSING else _toml(default)
        hint = str(field.type).replace("pathlib.", "")
        lines.append(f"  {field.name} = {shown}    ({hint})")
        lines.extend(
            textwrap.wrap(
                meanings.get(field.name, ""),
                92,
                initial_indent="      ",
                subsequent_indent="      ",
            )
        )
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, Path)):
        return f'"{value}"'
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return str(value)


def _field_docstrings(kind: type) -> dict[str, str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found: dict[str, str] = {}
    for field, text in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            found[field.target.id] = " ".join(text.value.value.split())
    return found
