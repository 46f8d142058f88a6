"""What the import makes: our tables, and what is to be told about the old file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: The order of tables in the file that is written; others follow.
ORDER = (
    *("sip", "storage", "routing", "http", "management", "plugins", "media", "tls", "transport"),
    *("websocket", "dns", "proxy", "transaction", "auth", "registrar", "dialog", "accounting"),
    *("load_balancer", "dispatcher", "drouting", "dialplan", "msilo", "presence", "nat_ping"),
)

_REFERENCE = re.compile(r"\b[RO][0-9]{1,2}\b")

Value = str | int | float | bool | list[str] | list[int] | dict[str, str]


@dataclass(frozen=True, slots=True)
class Note:
    """One thing to tell. ``line`` 0: about the file as a whole; ``refs``: rules and oddities."""

    line: int
    text: str
    why: str
    refs: tuple[str, ...] = ()


@dataclass(slots=True)
class Draft:
    """Our configuration in the making."""

    tables: dict[str, dict[str, Value]] = field(default_factory=dict)
    origins: dict[tuple[str, str], str] = field(default_factory=dict)
    understood: list[Note] = field(default_factory=list)
    differs: list[Note] = field(default_factory=list)
    left_out: list[Note] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)

    def put(self, table: str, key: str, value: Value, line: int, origin: str) -> None:
        """A setting, and where it comes from."""
        self.tables.setdefault(table, {})[key] = value
        known = self.origins.get((table, key))
        if known and origin not in known:
            origin = f"{known}; {origin}"
        self.origins[(table, key)] = origin
        self.understood.append(Note(line, origin, f"[{table}] {key} = {toml(value)}"))

    def enable(self, plugin: str) -> None:
        """Use a plugin."""
        enabled = self.tables.setdefault("plugins", {}).setdefault("enabled", [])
        assert isinstance(enabled, list)
        if plugin not in enabled:
            enabled.append(plugin)  # type: ignore[arg-type]

    def differ(self, line: int, text: str, why: str, *refs: str) -> None:
        """Something is done otherwise here; rules and oddities may be named in the text."""
        note = Note(line, text, why, refs or tuple(_REFERENCE.findall(why)))
        if note not in self.differs:
            self.differs.append(note)

    def leave(self, line: int, text: str, why: str) -> None:
        """Something is not taken over."""
        self.left_out.append(Note(line, text, why))

    def text(self, source: str) -> str:
        """The TOML file."""
        lines = [
            f"# Made by `pbxctl import {source}`. Read the remarks below and the report of the",
            "# import, then check it: twistd -n pbx --check -c THIS FILE",
        ]
        lines += [f"# TO DO: {one}" for one in self.todo]
        names = [name for name in ORDER if name in self.tables]
        names += [name for name in self.tables if name not in ORDER]
        for name in names:
            lines += ["", f"[{name}]"]
            for key, value in self.tables[name].items():
                origin = self.origins.get((name, key), "")
                lines.append(
                    f"{key} = {toml(value)}" + (f"    # {_plain(origin)}" if origin else "")
                )
        return "\n".join(lines) + "\n"

    def as_json(self) -> Mapping[str, object]:
        """For programs."""
        kinds = ("understood", "differs", "left_out")
        return {
            **{kind: [dataclasses.asdict(note) for note in getattr(self, kind)] for kind in kinds},
            "todo": self.todo,
            "tables": self.tables,
        }


def toml(value: Value) -> str:
    """As TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, dict):
        inner = ", ".join(f"{_text(key)} = {_text(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        items: Sequence[object] = value
        return "[" + ", ".join(_text(i) if isinstance(i, str) else str(i) for i in items) + "]"
    return _text(value)


def _text(text: str) -> str:
    """A basic string."""
    out = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in out) + '"'


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
