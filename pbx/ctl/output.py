"""What pbxctl prints: aligned tables for people, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

GREEN, YELLOW, RED, BOLD = "32", "33", "31", "1"


def coloured(text: str, colour: str) -> str:
    """The text in a colour, if somebody looks at it."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def table(titles: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> str:
    """Columns as wide as they need; ``empty`` when there is no row."""
    if not rows:
        return empty
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    lines = [_line(titles, widths), *(_line(row, widths) for row in cells)]
    return "\n".join([coloured(lines[0], BOLD), *lines[1:]])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(map(str.ljust, cells, widths)).rstrip()


def printable(value: object) -> str:
    """Text from the wire must not steer a terminal."""
    text = "" if value is None else str(value)
    return "".join(char if char.isprintable() else "?" for char in text)


def as_json(value: object) -> str:
    """Indented, ASCII only."""
    return json.dumps(value, indent=2)


def duration(seconds: float) -> str:
    """``2d 3h``, ``1h 02m``, ``3m 05s`` or ``7s``."""
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"
