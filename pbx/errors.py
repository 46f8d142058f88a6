"""What a database operation fails with; `IDatabase` promises it."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """What the caller can do about it."""

    UNAVAILABLE = "unavailable"
    """No server, a locked or corrupt file: try again later."""

    REFUSED = "refused"
    """The statement or a value is at fault: trying again does not help."""

    FULL = "full"
    """Disk full or read-only: reading works, writing is worth another try later."""


class DatabaseError(Exception):
    """A database operation failed; ``kind`` says what to do about it."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message

    @property
    def refused(self) -> bool:
        """Whether the rows or the statement are at fault, and not the server."""
        return self.kind is Kind.REFUSED
