"""Values of rows that any program may have written: what is wrong is said with its column."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import Logger

from pbx.sip.errors import SIPError

log = Logger()


def whole(column: str, value: object, default: int = 0) -> int:
    """A whole number; ``default`` for NULL and nothing. Raises ValueError."""
    if isinstance(value, int):
        return value
    text = "" if value is None else str(value).strip()
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{column}: expected a whole number, not {text[:60]!r}") from None


def needed(column: str, value: object) -> str:
    """A text that is not empty. Raises ValueError."""
    text = "" if value is None else str(value).strip()
    if not text:
        raise ValueError(f"{column}: empty")
    return text


@contextmanager
def column(name: str) -> Iterator[None]:
    """What goes wrong in here is this column's fault."""
    try:
        yield
    except SIPError as error:
        raise ValueError(f"{name}: {error.reason or type(error).__name__}") from None
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def left_out(table: str, id: object, error: Exception) -> None:
    """A row is not used; the others are."""
    log.warn("{table} row {id} is left out: {error!s}", table=table, id=id, error=error)
