"""A path at which an HTTP connection becomes something else (RFC 9110 section 7.8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IProtocol
from twisted.web import resource
from twisted.web.server import NOT_DONE_YET, Request

from pbx.http.channel import LimitedChannel

#: Who speaks from now on: for our own host and port and the address of the peer; None refuses.
Successor = Callable[[tuple[str, int], IAddress], IProtocol | None]


class UpgradePage(resource.Resource):
    """Hands a connection over to another protocol, which hears the request again from its start."""

    isLeaf = True

    def __init__(self, protocol: str, successor: Successor) -> None:
        super().__init__()
        self._protocol = protocol
        self._successor = successor

    def render(self, request: Request) -> bytes | int:
        """426 for a request that asks for no upgrade; 503 when there is nobody to take over."""
        if any(request.postpath or ()):
            return _refusal(request, 404, b"not found\n")
        wanted = (request.getHeader("upgrade") or "").lower()
        if request.method != b"GET" or wanted != self._protocol:
            request.setHeader("upgrade", self._protocol)
            request.setHeader("connection", "Upgrade")
            return _refusal(request, 426, f"this is for {self._protocol}\n".encode())
        channel = request.channel
        assert isinstance(channel, LimitedChannel)
        own: Any = request.getHost()
        successor = self._successor((own.host, own.port), request.getClientAddress())
        if successor is None:
            request.setHeader("retry-after", "5")
            return _refusal(request, 503, b"too many connections\n")
        head = _head(request)
        channel.hand_over(successor)
        successor.dataReceived(head)
        return NOT_DONE_YET


def _head(request: Request) -> bytes:
    """The request as it came, but for the spelling of header names."""
    lines = [b"%s %s HTTP/1.1" % (request.method, request.uri)]
    for name, values in request.requestHeaders.getAllRawHeaders():
        lines += [b"%s: %s" % (name, value) for value in values]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _refusal(request: Request, status: int, text: bytes) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    request.setHeader(b"cache-control", b"no-store")
    return text
