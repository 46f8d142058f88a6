"""How much of a message we are willing to read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes."""

    #: A whole message; more is answered 513.
    message: int = 65535
    #: The body alone; more is answered 413.
    body: int = 65535
    #: Header lines; more is answered 400.
    headers: int = 256
    #: One header line with its folds; more is answered 400.
    line: int = 8192
    #: The Request-URI; more is answered 414.
    uri: int = 1024


DEFAULT = Limits()
