"""The HTTP site: listeners, limits, and resources that others put on it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLContextFactory,
    IReactorSSL,
    IReactorTCP,
    IReactorTime,
)
from twisted.logger import Logger
from twisted.web import resource
from twisted.web.server import Request
from zope.interface import implementer

from pbx.config import ConfigError
from pbx.http.channel import LimitedSite
from pbx.http.settings import HTTPSettings, parse_listener
from pbx.interfaces import IStartable, IStatistics, IWebSite
from pbx.sip.address import Address


class Reactor(IReactorTCP, IReactorSSL, IReactorTime):
    """What the site needs of the reactor."""


class Root(resource.Resource):
    """Pages by their first segment; the front page has everything else below it."""

    front: resource.IResource | None = None

    def getChild(self, path: bytes, request: Request) -> resource.IResource:
        """A file of the front page."""
        front = self.front
        found: resource.IResource
        if front is None:
            found = super().getChild(path, request)
        else:
            found = front if front.isLeaf else front.getChildWithDefault(path, request)
        return found


@implementer(IStartable, IStatistics, IWebSite)
class Site:
    """Listens when started; `put` resources on it before or after.

    ``tls`` is asked at start for what a tls: listener needs; None means there is no certificate.
    ``banned`` tells for how long peers are kept out; connections of ``proxies`` are those of many.
    """

    log = Logger()

    def __init__(
        self,
        settings: HTTPSettings,
        reactor: Reactor,
        tls: Callable[[], IOpenSSLContextFactory | None] = lambda: None,
        banned: Callable[[str], float] = lambda host: 0.0,
        proxies: Collection[str] = (),
    ) -> None:
        try:
            self._listen = [parse_listener(text) for text in settings.listen]
        except ValueError as error:
            raise ConfigError(f"[http] {error}") from None
        self._reactor = reactor
        self._tls = tls
        self._root = Root()
        self.factory = LimitedSite(
            self._root,
            reactor,
            max_body=settings.max_body,
            idle_timeout=settings.idle_timeout,
            request_time=settings.request_time,
            max_connections=settings.max_connections,
            max_connections_per_source=settings.max_connections_per_source,
            banned=banned,
            proxies=proxies,
        )
        self._ports: list[tuple[Address, IListeningPort]] = []

    def put(self, path: str, page: resource.IResource) -> None:
        """Serve a page, with all below it, at a path of one segment; "/" is the front page."""
        name = path.strip("/").encode()
        if not name:
            self._root.front = page
        self._root.putChild(name, page)

    def listeners(self) -> Sequence[Address]:
        """What is listened on, with the ports that were really bound."""
        return [
            Address(at.transport, at.host, port.getHost().port)  # type: ignore[attr-defined]
            for at, port in self._ports
        ]

    def url(self) -> str:
        """Where a browser on this host finds the site, without TLS if it can; "" when nowhere."""
        found = sorted(self.listeners(), key=lambda at: at.transport)
        if not found:
            return ""
        scheme = "https" if found[0].transport == "TLS" else "http"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(found[0].host, found[0].host)
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{found[0].port}/"

    async def start(self) -> None:
        """Listen. Raises CannotListenError."""
        context = None
        if any(at.transport == "TLS" for at in self._listen):
            context = self._tls()
        factory = cast(Any, self.factory)
        for at in self._listen:
            if at.transport == "TCP":
                port = self._reactor.listenTCP(at.port, factory, interface=at.host)
            elif context is not None:
                port = self._reactor.listenSSL(at.port, factory, context, interface=at.host)
            else:
                self.log.info("no certificate: {at} is left out", at=f"tls:{at.host}:{at.port}")
                continue
            self._ports.append((at, port))
        for at in self.listeners():
            self.log.info("HTTP at {at}", at=f"{at.transport.lower()}:{at.host}:{at.port}")

    async def stop(self) -> None:
        """Close the listeners."""
        ports, self._ports = self._ports, []
        for _, port in ports:
            await maybeDeferred(port.stopListening)

    def statistics(self) -> Mapping[str, int]:
        """Group ``http``."""
        return {
            "http:connections_used": self.factory.connections,
            "http:refused_connections": self.factory.refused,
            "http:slow_requests": self.factory.too_slow,
        }
