"""TCP and TLS: SIP messages in a stream (RFC 3261 section 18.3, RFC 5626 section 3.5.1)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IConsumer,
    IHandshakeListener,
    IPushProducer,
    IReactorTCP,
    ITCPTransport,
)
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from pbx.sip.address import Address
from pbx.sip.errors import MalformedMessage, TransportFailed
from pbx.sip.limits import Limits
from pbx.sip.message import Message, Request
from pbx.sip.stream import KeepAlive, StreamParser
from pbx.transport.connection import Connection, Connections
from pbx.transport.hosts import is_wildcard, literal


class _Transport(ITCPTransport, IConsumer, IPushProducer):
    """What Twisted's TCP and TLS transports are."""


class Listener:
    """What a connection must know of the listener that took it."""

    __slots__ = ("_sent_by", "address")

    def __init__(self, address: Address, sent_by: tuple[str, int | None] = ("", None)) -> None:
        self.address = address
        self._sent_by = sent_by

    def sent_by(self, host: str) -> tuple[str, int]:
        """For Via; ``host`` is the connection's own end."""
        name, port = self._sent_by
        bound = self.address
        if not name:
            name = host if is_wildcard(bound.host) else bound.host
        return name, port or bound.port


@implementer(IHandshakeListener)
class StreamProtocol(Protocol):
    """One connection: bytes to messages and back."""

    connection: Connection | None = None

    def __init__(
        self,
        connections: Connections,
        listener: Callable[[Address], Listener],
        transport: str,
        opened: Callable[[StreamProtocol], object] | None = None,
    ) -> None:
        self._connections = connections
        self._listener = listener
        self._name = transport
        self._opened = opened
        self._parser = StreamParser(Limits(message=connections.settings.max_message))

    def connectionMade(self) -> None:
        """Count the connection; a TLS one is usable after its handshake only."""
        transport = self._tcp
        peer = address_of(self._name, transport.getPeer())
        own = address_of(self._name, transport.getHost())
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        listener = self._listener(own)
        sent_by = listener.sent_by(own.host)
        self.connection = self._connections.begin(self, peer, listener.address, sent_by)
        transport.registerProducer(self.connection, True)
        if self._name == "TCP":
            self._ready()

    def handshakeCompleted(self) -> None:
        """TLS is up."""
        self._ready()

    def _ready(self) -> None:
        connection = self.connection
        if connection is None or connection.closed:
            return
        if self._opened is not None:
            self._opened(self)
        if not connection.closed:
            connection.handshake_done()

    @property
    def _tcp(self) -> _Transport:
        transport = self.transport
        assert transport is not None
        return transport  # type: ignore[return-value]

    def dataReceived(self, data: bytes) -> None:
        """Deliver what is complete."""
        connection = self.connection
        if connection is None or connection.closed:
            return
        connection.touch()
        delivery = self._connections.delivery
        source = connection.guarded
        if source.tokens < 0 and not connection.spend(0):
            return
        found = self._parser.feed(data)
        for item in found:
            if delivery.watch is not None and not isinstance(item, KeepAlive):
                delivery.watch(False, connection, _as_received(item, data))
            if isinstance(item, Message):
                delivery.streamed[self._name] += 1
                if self._connections.settings.accept_aliases and isinstance(item, Request):
                    self._see_alias(item, connection)
                delivery.message_received(item, connection, source)
            elif isinstance(item, KeepAlive):
                delivery.keep_alives += 1
                if item is KeepAlive.PING:
                    self._pong(connection)
            else:
                delivery.streamed[self._name] += 1
                delivery.malformed_received(item, connection)
            if connection.closed:
                return
        if not connection.spend(len(found) or 1):
            return
        if self._parser.failed:
            connection.close()
            return
        if self._parser.idle:
            connection.message_done()
        else:
            if found:
                connection.message_done()
            connection.message_begun()

    def _see_alias(self, request: Request, connection: Connection) -> None:
        try:
            via = request.via
        except MalformedMessage:
            return
        if "alias" in via.params and via.port is not None:
            self._connections.add_alias(connection, via.port)

    def _pong(self, connection: Connection) -> None:
        try:
            connection.send(b"\r\n")
        except TransportFailed:
            return

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        if self.connection is not None:
            self.connection.lost()

    # Wire

    def write_message(self, data: bytes) -> None:
        """Write one whole message."""
        self._tcp.write(data)

    def pause_wire(self) -> None:
        """Read nothing for now."""
        self._tcp.pauseProducing()

    def resume_wire(self) -> None:
        """Read again."""
        self._tcp.resumeProducing()

    def close_wire(self) -> None:
        """Close after what was written is out."""
        transport = self._tcp
        transport.unregisterProducer()
        transport.loseConnection()

    def abort_wire(self) -> None:
        """Close at once."""
        self._tcp.abortConnection()


def _as_received(item: Message | MalformedMessage, data: bytes) -> bytes:
    """The bytes of a message; of one that could not be read, those that ended it."""
    if isinstance(item, Message):
        return bytes(item)
    return data if item.request is None else bytes(item.request)


class StreamFactory(ServerFactory):
    """Connections that peers open to one listener."""

    noisy = False

    def __init__(self, connections: Connections, transport: str) -> None:
        self._connections = connections
        self._transport = transport
        #: Set when the port is bound and known.
        self.listener = Listener(Address(transport, "0.0.0.0", 0))

    def buildProtocol(self, addr: IAddress | None) -> StreamProtocol | None:
        """None, which closes the connection at once, when there are too many already."""
        if not self._connections.admits(literal(getattr(addr, "host", ""))):
            return None
        return StreamProtocol(self._connections, lambda own: self.listener, self._transport)


class Opening(ClientFactory):
    """One connection that we open; ``done`` fires with the `Connection` or TransportFailed.

    ``check`` is called with the protocol after the TLS handshake and raises TransportFailed when
    the peer is not who it should be.
    """

    noisy = False

    def __init__(
        self,
        connections: Connections,
        address: Address,
        listener: Callable[[Address], Listener],
        check: Callable[[StreamProtocol], object] | None = None,
    ) -> None:
        self._connections = connections
        self._address = address
        self._listener = listener
        self._check = check
        self._refusal: TransportFailed | None = None
        self.done: Deferred[Connection] = Deferred()

    def buildProtocol(self, addr: IAddress | None) -> OpeningProtocol:
        """The connection is there; TLS may still fail."""
        return OpeningProtocol(self, self._connections, self._listener, self._address.transport)

    def opened(self, protocol: StreamProtocol) -> None:
        """Called before the connection becomes usable."""
        if self._check is None:
            return
        try:
            self._check(protocol)
        except TransportFailed as refusal:
            self._refusal = refusal
            assert protocol.connection is not None
            protocol.connection.abort(refusal.reason)

    def succeeded(self, connection: Connection) -> None:
        """The connection can be used."""
        if not self.done.called:
            self.done.callback(connection)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Nobody there, or too slow."""
        self.failed(reason)

    def failed(self, reason: Failure) -> None:
        """It ended before it was usable."""
        if not self.done.called:
            text = reason.getErrorMessage() or type(reason.value).__name__
            self.done.errback(self._refusal or TransportFailed(text))


class OpeningProtocol(StreamProtocol):
    """A connection that we open."""

    def __init__(
        self,
        opening: Opening,
        connections: Connections,
        listener: Callable[[Address], Listener],
        transport: str,
    ) -> None:
        super().__init__(connections, listener, transport, opening.opened)
        self._opening = opening

    def _ready(self) -> None:
        super()._ready()
        if self.connection is not None and self.connection.ready:
            self._opening.succeeded(self.connection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Too early, or later."""
        super().connectionLost(reason)
        self._opening.failed(reason)


def address_of(transport: str, end: IAddress) -> Address:
    """Twisted's address of one end as ours."""
    host = str(getattr(end, "host", ""))
    return Address(transport, literal(host) or host, int(getattr(end, "port", 0)))


def open_stream(
    reactor: IReactorTCP,
    factory: Opening,
    address: Address,
    timeout: float,
    bind: str,
    wrap: Callable[[Opening], TLSMemoryBIOFactory] | None = None,
) -> IConnector:
    """Start connecting; ``bind`` is the local address, "" for any."""
    wrapped: ClientFactory[Protocol] = factory if wrap is None else wrap(factory)  # type: ignore[assignment]
    return reactor.connectTCP(
        address.host,
        address.port,
        wrapped,
        timeout=timeout,
        bindAddress=(bind, 0) if bind else None,
    )
