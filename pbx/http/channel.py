"""One HTTP connection with limits: how long a request may take, how many connections there are."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import http, resource, server

from pbx.http.networks import source_of

#: What every answer carries. Pages add their own policy on top.
HEADERS = (
    (b"server", b"pbx"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class LimitedRequest(server.Request):
    """A request whose body is bounded."""

    refused = False
    received = 0

    def gotLength(self, length: int | None) -> None:
        """The Content-Length, None for a chunked body."""
        if length is not None and length > self._limit():
            self.content = io.BytesIO()
            self._refuse()
            return
        super().gotLength(length)

    def handleContentChunk(self, data: bytes) -> None:
        """A part of the body."""
        self.received += len(data)
        if not self.refused and self.received > self._limit():
            self._refuse()
        if not self.refused:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The whole request is here."""
        if not self.refused:
            super().requestReceived(command, path, version)

    def render(self, resrc: resource.IResource) -> None:
        """Render the page that was found."""
        for name, value in HEADERS:
            self.setHeader(name, value)
        super().render(resrc)

    def _limit(self) -> int:
        # `self.site` is not set before the request is complete.
        site = getattr(self.channel, "site", None)
        return site.max_body if isinstance(site, LimitedSite) else 0

    def _refuse(self) -> None:
        self.refused = True
        channel = self.channel
        if channel is not None:
            channel.write(
                b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            channel.loseConnection()


class LimitedChannel(http.HTTPChannel):
    """A connection that must finish what it begins, and that may become something else."""

    transport: Any
    site: LimitedSite
    source = ""
    _deadline: IDelayedCall | None = None
    _counted = False

    def connectionMade(self) -> None:
        """Count it."""
        self._counted = True
        self.site.opened(self.source)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """The rest of a request is to come soon: a byte a minute would hold it for ever."""
        if self._deadline is None and not self._handlingRequest:
            self._deadline = self.site.clock.callLater(self.site.request_time, self._too_slow)
        super().dataReceived(data)

    def allContentReceived(self) -> None:
        """The request is complete."""
        self._stop_waiting()
        super().allContentReceived()

    def _too_slow(self) -> None:
        self._deadline = None
        self.site.too_slow += 1
        self.transport.abortConnection()

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _left(self) -> None:
        self._stop_waiting()
        if self._counted:
            self._counted = False
            self.site.left(self.source)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Count it no more."""
        self._left()
        super().connectionLost(reason)

    def timeoutConnection(self) -> None:
        """Idle for too long. No log line, which a stranger could make many of."""
        self._abortingCall = self.callLater(self.abortTimeout, self.forceAbortClient)
        self.loseConnection()

    def hand_over(self, protocol: IProtocol) -> None:
        """Let another protocol have the connection, for good."""
        self._left()
        self.setTimeout(None)
        self.requests = []
        self.transport.unregisterProducer()
        self.dataReceived = protocol.dataReceived  # type: ignore[method-assign]
        self.connectionLost = protocol.connectionLost  # type: ignore[method-assign,assignment]
        protocol.makeConnection(self.transport)


class LimitedSite(server.Site):
    """`twisted.web`'s site with limits, and without a log line per request."""

    requestFactory = LimitedRequest
    # No HTTP/2: a channel of ours may be handed over.
    protocol = LimitedChannel  # type: ignore[assignment]
    noisy = False

    def __init__(
        self,
        root: resource.Resource,
        clock: IReactorTime,
        *,
        max_body: int,
        idle_timeout: float,
        request_time: float,
        max_connections: int,
        max_connections_per_source: int,
        banned: Callable[[str], float],
        proxies: Collection[str],
    ) -> None:
        super().__init__(root, timeout=idle_timeout, reactor=clock, parsePOSTFormSubmission=False)
        self.clock = clock
        self.max_body = max_body
        self.request_time = request_time
        self._max_connections = max_connections
        self._max_per_source = max_connections_per_source
        self._banned = banned
        self._proxies = proxies
        self._sources: Counter[str] = Counter()
        self.connections = 0
        self.refused = self.too_slow = 0

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """None, which closes the connection at once, when there are too many already, or the peer
        is banned.
        """
        host = str(getattr(addr, "host", ""))
        source = source_of(host)
        full = self.connections >= self._max_connections
        greedy = self._sources[source] >= self._max_per_source and host not in self._proxies
        if full or greedy or self._banned(host):
            self.refused += 1
            return None
        channel = super().buildProtocol(addr)
        channel.source = source
        return channel

    def opened(self, source: str) -> None:
        """One more connection."""
        self.connections += 1
        self._sources[source] += 1

    def left(self, source: str) -> None:
        """One less, by its end or because it speaks something else now."""
        self.connections -= 1
        self._sources[source] -= 1
        if self._sources[source] <= 0:
            del self._sources[source]

    def log(self, request: object) -> None:
        """Nothing: who wants an access log has a proxy before us."""
