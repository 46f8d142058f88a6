"""Who asks: address, page and way of a request."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.web.server import Request

from pbx.http.access import is_admitted
from pbx.sip.address import Address


class Visitors:
    """What the headers and the connection of a request tell.

    ``client`` gives the address of the real client for the peer's and X-Forwarded-For;
    ``trusted`` are the proxies before us, ``allowed`` further origins of pages.
    """

    def __init__(
        self, client: Callable[[str, str], str], trusted: Sequence[str], allowed: Sequence[str]
    ) -> None:
        self._client = client
        self._trusted = trusted
        self._allowed = allowed

    def address(self, request: Request) -> Address:
        """Where the visitor is."""
        peer = request.getClientAddress()
        host, port = str(getattr(peer, "host", "")), int(getattr(peer, "port", 0))
        client = self._client(host, request.getHeader("x-forwarded-for") or "")
        transport = "HTTPS" if self.is_https(request) else "HTTP"
        return Address(transport, client, port if client == host else 0)

    def is_https(self, request: Request) -> bool:
        """Whether the visitor's own connection is encrypted."""
        if request.isSecure():
            return True
        host = str(getattr(request.getClientAddress(), "host", ""))
        proto = request.getHeader("x-forwarded-proto") or ""
        return host in self._trusted and proto.strip().lower() == "https"

    def is_private(self, request: Request) -> bool:
        """Whether nobody else hears what is said: https, or this very machine."""
        return self.is_https(request) or is_admitted(request, ())

    def from_own_page(self, request: Request) -> bool:
        """Whether it is our own page that asks, or no page at all."""
        if (request.getHeader("sec-fetch-site") or "none").lower() == "cross-site":
            return self._allows(request.getHeader("origin") or "")
        origin = request.getHeader("origin")
        if origin is None or self._allows(origin):
            return True
        host = (request.getHeader("host") or "").lower()
        return bool(host) and origin.lower().partition("://")[2] == host

    def _allows(self, origin: str) -> bool:
        return origin.lower() in self._allowed
