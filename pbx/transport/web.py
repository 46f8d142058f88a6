"""SIP over WebSocket (RFC 7118) at a path of the web site: same origin as the page itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IAddress, IProtocol
from zope.interface import implementer

from pbx.interfaces import IStartable
from pbx.sip.address import Address
from pbx.transport.connection import Connections
from pbx.transport.hosts import is_wildcard, literal
from pbx.transport.listeners import Listeners
from pbx.transport.settings import WebSocketSettings
from pbx.transport.tcp import Listener

if TYPE_CHECKING:
    from pbx.transport.websocket import SIPWebSocketFactory


@implementer(IStartable)
class WebSIP:
    """Browsers that came by HTTP or HTTPS; the same flows as those of ws: and wss: listeners.

    ``site`` tells what the web site listens on, once it does.
    """

    def __init__(
        self,
        connections: Connections,
        listeners: Listeners,
        settings: WebSocketSettings,
        reactor: object,
        site: Callable[[], Sequence[Address]],
    ) -> None:
        self._connections = connections
        self._listeners = listeners
        self._settings = settings
        self._reactor = reactor
        self._site = site
        self._factories: list[SIPWebSocketFactory] = []

    def successor(self, own: tuple[str, int], peer: IAddress) -> IProtocol | None:
        """Who speaks from now on on a connection to this address and port of ours; None when that
        cannot be.
        """
        host, port = literal(own[0]), own[1]
        for factory in self._factories:
            at = factory.listener.address
            if at.port == port and (at.host == host or is_wildcard(at.host)):
                protocol: IProtocol | None = factory.buildProtocol(peer)
                return protocol
        return None

    async def start(self) -> None:
        """Begin to take browsers; the site and the listeners are there."""
        found = self._site()
        if not found:
            return
        # Only now: autobahn takes time and memory.
        from pbx.transport.websocket import SIPWebSocketFactory

        for at in found:
            transport = "WSS" if at.transport == "TLS" else "WS"
            factory = SIPWebSocketFactory(
                self._connections, transport, self._settings, self._reactor, own_page_only=True
            )
            advertised = self._listeners.advertised
            factory.listener = Listener(at._replace(transport=transport), advertised)
            self._factories.append(factory)
            self._listeners.adopt(factory.listener)

    async def stop(self) -> None:
        """Take no more; the listeners close what is open."""
        self._factories.clear()

    def addresses(self) -> Sequence[Address]:
        """Where it is found: listeners of ours that are no SIP listeners of the configuration."""
        return [factory.listener.address for factory in self._factories]
