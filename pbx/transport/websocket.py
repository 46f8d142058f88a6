"""SIP over WebSocket (RFC 7118): one message per frame, browsers call and are never called.

Imported only when a ws: or wss: listener is configured: autobahn is heavy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from pbx.interfaces import ITimer
from pbx.sip.address import Address
from pbx.sip.errors import MalformedMessage, TransportFailed
from pbx.sip.limits import Limits
from pbx.sip.parser import parse
from pbx.transport.connection import Connection, Connections
from pbx.transport.hosts import literal, real_client
from pbx.transport.settings import WebSocketSettings
from pbx.transport.tcp import Listener, address_of

SUBPROTOCOL = "sip"
#: "Going away" would be truer, but autobahn sends no reserved codes.
_NORMAL_CLOSURE = 1000


class SIPWebSocket(WebSocketServerProtocol):
    """One browser."""

    transport: Any
    connection: Connection | None = None
    _beat: ITimer | None = None
    _answered = True

    def connectionMade(self) -> None:
        """Count the connection; it is usable after the opening handshake."""
        factory = self.factory
        self.transport.setTcpKeepAlive(True)
        name = factory.transport_name
        own = address_of(name, self.transport.getHost())
        listener: Listener = factory.listener
        self.connection = factory.connections.begin(
            self,
            address_of(name, self.transport.getPeer()),
            listener.address,
            listener.sent_by(own.host),
        )
        super().connectionMade()

    def onConnect(self, request: ConnectionRequest) -> str:
        """Check sub-protocol and origin (RFC 7118 section 4)."""
        settings: WebSocketSettings = self.factory.websocket
        if SUBPROTOCOL not in request.protocols:
            raise ConnectionDeny(400, "Bad Request")  # type: ignore[no-untyped-call]
        origin, host = request.headers.get("origin", ""), request.headers.get("host", "")
        own_page_only = self.factory.own_page_only
        if not may_connect(origin, host, settings.allowed_origins, own_page_only):
            raise ConnectionDeny(403, "Forbidden")  # type: ignore[no-untyped-call]
        connection = self.connection
        assert connection is not None
        forwarded = request.headers.get("x-forwarded-for", "")
        client = real_client(connection.peer.host, forwarded, settings.trusted_proxies)
        connection.is_from(client)
        if self.factory.connections.delivery.guard.banned(client):
            raise ConnectionDeny(403, "Forbidden")  # type: ignore[no-untyped-call]
        return SUBPROTOCOL

    def failHandshake(
        self,
        reason: str,
        code: int = 400,
        responseHeaders: Sequence[tuple[str, str]] | None = None,  # noqa: N803
    ) -> None:
        """Refuse with the header that RFC 6455 section 4.4 asks for."""
        headers = [*(responseHeaders or ()), ("Sec-WebSocket-Version", "13")]
        super().failHandshake(reason, code, [*headers, ("Content-Length", "0")])

    def onOpen(self) -> None:
        """The flow may be used."""
        connection = self.connection
        if connection is None or connection.closed:
            return
        # Under a web site the HTTP channel is registered still.
        self.transport.unregisterProducer()
        self.transport.registerProducer(connection, True)
        connection.handshake_done()
        self._schedule()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N803
        """Deliver the one message of a frame (section 5.2.2)."""
        connection = self.connection
        if connection is None or not connection.ready or connection.closed:
            return
        connection.touch()
        if not connection.spend(1):
            return
        factory = self.factory
        delivery = factory.connections.delivery
        if not payload.strip(b"\r\n\0"):
            delivery.keep_alives += 1
            if payload == b"\r\n\r\n":
                self._pong_crlf(connection)
            return
        if delivery.watch is not None:
            delivery.watch(False, connection, payload)
        delivery.streamed[factory.transport_name] += 1
        try:
            message = parse(payload, factory.limits)
        except MalformedMessage as error:
            delivery.malformed_received(error, connection)
            return
        delivery.message_received(message, connection, connection.guarded)

    def _pong_crlf(self, connection: Connection) -> None:
        try:
            connection.send(b"\r\n")
        except TransportFailed:
            return

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The browser is gone."""
        if self._beat is not None:
            self._beat.cancel()
        super().connectionLost(reason)
        if self.connection is not None:
            self.connection.lost()

    def dropConnection(self, abort: bool = False) -> None:
        """Close the socket, which waits for the producer to go first."""
        if self.transport is not None:
            self.transport.unregisterProducer()
        super().dropConnection(abort)

    # Heartbeat (RFC 6455 section 5.5.2)

    def _schedule(self) -> None:
        factory = self.factory
        seconds = factory.websocket.ping
        if seconds > 0:
            self._beat = factory.connections.timers.call_later(seconds, self._ping)

    def _ping(self) -> None:
        factory = self.factory
        self._answered = False
        self.sendPing()
        self._beat = factory.connections.timers.call_later(factory.websocket.pong, self._missed)

    def _missed(self) -> None:
        if self.connection is not None:
            self.connection.abort("answers no ping")

    def onPong(self, payload: bytes) -> None:
        """The browser is alive. Says nothing about its user: the idle limit goes on."""
        if not self._answered and self._beat is not None:
            self._answered = True
            self._beat.cancel()
            self._schedule()

    # Wire

    def write_message(self, data: bytes) -> None:
        """Write one message, as text when it is (section 5.2.2)."""
        self.sendMessage(data, isBinary=not _is_text(data))  # type: ignore[no-untyped-call]

    def pause_wire(self) -> None:
        """Read nothing for now."""
        self.transport.pauseProducing()

    def resume_wire(self) -> None:
        """Read again."""
        self.transport.resumeProducing()

    def close_wire(self) -> None:
        """Close with the closing handshake."""
        if self.state == self.STATE_OPEN:
            self.sendClose(_NORMAL_CLOSURE)
        else:
            self.dropConnection(abort=False)

    def abort_wire(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abortConnection()


class SIPWebSocketFactory(WebSocketServerFactory):
    """Browsers of one listener, or of one path of a web site (`pbx.transport.web`).

    ``listener`` is set when the port is bound and known. ``own_page_only``: pages of other origins
    must be allowed by name.
    """

    protocol = SIPWebSocket
    noisy = False

    def __init__(
        self,
        connections: Connections,
        transport: str,
        settings: WebSocketSettings,
        reactor: object,
        own_page_only: bool = False,
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            protocols=[SUBPROTOCOL], server="", reactor=reactor
        )
        self.connections = connections
        self.transport_name = transport
        self.websocket = settings
        self.own_page_only = own_page_only
        self.limits = Limits(message=connections.settings.max_message)
        self.listener = Listener(Address(transport, "0.0.0.0", 0))
        self.setProtocolOptions(  # type: ignore[no-untyped-call]
            webStatus=False,
            maxFramePayloadSize=connections.settings.max_message,
            maxMessagePayloadSize=connections.settings.max_message,
            # Our own timers do that, on our own clock.
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            autoPingInterval=0,
            allowNullOrigin=True,
            tcpNoDelay=True,
        )

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """None, which closes the connection at once, when there are too many already."""
        if not self.connections.admits(literal(getattr(addr, "host", ""))):
            return None
        return super().buildProtocol(addr)


def may_connect(origin: str, host: str, allowed: Sequence[str], own_page_only: bool) -> bool:
    """Whether a page of this origin may use us; ``host`` is where it connects to (RFC 6455 10.2).

    Our own pages always may. Without a list all others may too, except where ``own_page_only``
    says no. Programs that are no browser name no origin.
    """
    origin = origin.lower()
    if not origin:
        return not allowed or own_page_only
    if origin in allowed or (host and origin.partition("://")[2] == host.lower()):
        return True
    return not allowed and not own_page_only


def _is_text(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
