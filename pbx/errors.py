"""What the database and the media engine fail with; their interfaces promise it."""

from __future__ import annotations

from enum import Enum

from pbx.sip.errors import SIPError


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


class MediaFailed(SIPError):
    """The two sides cannot hear each other (RFC 3261 sections 21.4.26 and 20.43).

    ``warning`` is the code of the Warning header that tells why: 304 no such media, 305 no common
    codec, 399 anything else.
    """

    status = 488

    def __init__(self, text: str, *, warning: int = 399, status: int | None = None) -> None:
        quoted = text.replace("\\", "").replace('"', "'")
        super().__init__("", status, (("Warning", f'{warning} pbx "{quoted}"'),))
        self.text = text
        self.warning = warning

    def __str__(self) -> str:
        return self.text
