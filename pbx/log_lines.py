"""One event as one line, for people or for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any, Final

from twisted.logger import LogEvent, formatEvent
from twisted.python.failure import Failure

#: Fields of an event that are told beside its text when they are there.
TOLD: Final = ("call_id", "peer", "user")
Fields = Iterable[tuple[str, object]]


class Timestamps:
    """Times as the log of Twisted writes them; the work is done once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self, now: float) -> str:
        """Local time with its distance from UTC."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(second))
        return self._text


def text_of(fields: Fields) -> str:
    """``name=value`` for each that has one; quoted like JSON where a reader could be misled."""
    return " ".join([f"{name}={_value(value)}" for name, value in fields if value != ""])


def _value(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    if " " in text or '"' in text or "=" in text or not text.isprintable():
        return json.dumps(text)
    return text


def json_of(when: str, level: str, logger: str, message: str, fields: Fields) -> str:
    """One object; fields that are empty are left out."""
    found: dict[str, object] = {"time": when, "level": level, "logger": logger, "message": message}
    for name, value in fields:
        if value != "":
            found[name] = _plain(value)
    return json.dumps(found)


def _plain(value: object) -> object:
    if isinstance(value, float):
        return round(value, 3)
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)


def event_as_json(event: LogEvent, when: str) -> str:
    """An event of Twisted's logger."""
    fields: list[tuple[str, object]] = [(name, event[name]) for name in TOLD if name in event]
    failure: Any = event.get("log_failure")
    if isinstance(failure, Failure):
        fields.append(("traceback", failure.getTraceback()))
    level = event.get("log_level")
    return json_of(
        when,
        level.name if level is not None else "info",
        str(event.get("log_namespace") or "-"),
        formatEvent(event),
        fields,
    )
