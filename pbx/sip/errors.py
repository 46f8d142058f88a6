"""Errors that know the answer they deserve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pbx.sip.message import Request


class SIPError(Exception):
    """Something that ends a request with a final response.

    ``status`` is the status code, ``reason`` the phrase ("" for the standard one) and ``headers``
    are added to the response.
    """

    status = 500

    def __init__(
        self,
        reason: str = "",
        status: int | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.headers = tuple(headers)
        if status is not None:
            self.status = status


class MalformedMessage(SIPError):
    """Bytes that are no SIP message, or one that breaks a rule of RFC 3261 section 8.2 or 16.3.

    ``request`` is what could be read of a request, when that is enough to answer it: its topmost
    Via is good; other headers may be bad or missing. None means that nothing can be said to the
    sender.
    """

    status = 400

    def __init__(
        self,
        reason: str = "",
        status: int | None = None,
        headers: Sequence[tuple[str, str]] = (),
        request: Request | None = None,
    ) -> None:
        super().__init__(reason, status, headers)
        self.request = request


class MalformedURI(MalformedMessage):
    """A URI outside the grammar of RFC 3261 section 25.1."""


class TransactionTimeout(SIPError):
    """No final response in time (timers B, C and F)."""

    status = 408


class TransportFailed(SIPError):
    """The message could not be sent (RFC 3261 section 17.1.4)."""

    status = 503


class LoopDetected(SIPError):
    """The request has been here before (RFC 3261 section 16.3, step 4)."""

    status = 482
