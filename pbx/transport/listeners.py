"""``udp:0.0.0.0:5060`` -> a bound socket that delivers messages (RFC 3261 section 18.2.1)."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorFDSet, IReactorTCP, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from pbx.interfaces import IStartable, ITransportUser
from pbx.sip.address import Address
from pbx.sip.errors import MalformedURI
from pbx.sip.uri import DEFAULT_PORTS, split_host_port
from pbx.timing import Periodic
from pbx.transport.connection import LINGER
from pbx.transport.flows import Flows
from pbx.transport.hosts import literal, local_addresses
from pbx.transport.settings import TransportSettings, WebSocketSettings
from pbx.transport.tcp import Listener, StreamFactory, address_of
from pbx.transport.udp import UDPPort

if TYPE_CHECKING:
    from pbx.transport.tls import TLSContexts
    from pbx.transport.websocket import SIPWebSocketFactory

#: How often to look whether the machine's addresses changed.
REFRESH = 30.0
_BACKLOG = 1024
_TRANSPORTS = ("UDP", "TCP", "TLS", "WS", "WSS")


class IReactor(IReactorTCP, IReactorFDSet, IReactorTime):
    """What listeners need of the reactor."""


class ListenFailed(Exception):
    """A listener that cannot be had; the text is one line."""


@dataclass(frozen=True, slots=True)
class ListenSpec:
    """One entry of ``listen``. Port 0 lets the system choose."""

    address: Address
    advertised: tuple[str, int | None] = ("", None)


def parse_listener(text: str) -> ListenSpec:
    """``transport:host[:port] [as host[:port]]``; ``*`` is every IPv4 address.

    Raises ListenFailed.
    """
    bound, _, advertised = text.partition(" as ")
    transport, colon, rest = bound.strip().partition(":")
    transport = transport.upper()
    if not colon or transport not in _TRANSPORTS:
        raise ListenFailed(f"{text}: expected udp:, tcp:, tls:, ws: or wss: with host and port")
    if rest == "*" or rest.startswith("*:"):
        rest = "0.0.0.0" + rest[1:]
    try:
        host, port = split_host_port(rest)
    except MalformedURI as error:
        raise ListenFailed(f"{text}: {error.reason}") from None
    if port is None:
        port = DEFAULT_PORTS[transport]
    return ListenSpec(
        Address(transport, _address(host, text), port), parse_advertised(advertised.strip())
    )


def parse_advertised(text: str) -> tuple[str, int | None]:
    """``host[:port]`` to write into Via and Record-Route, "" for none. Raises ListenFailed."""
    if not text:
        return "", None
    try:
        return split_host_port(text if text.count(":") < 2 or text[0] == "[" else f"[{text}]")
    except MalformedURI as error:
        raise ListenFailed(f"{text}: {error.reason}") from None


def _address(host: str, text: str) -> str:
    if found := literal(host):
        return found
    try:
        return literal(str(socket.getaddrinfo(host, None, socket.AF_INET)[0][4][0]))
    except OSError:
        raise ListenFailed(f"{text}: {host} is no address of this machine") from None


@implementer(IStartable)
class Listeners:
    """All listeners, bound together or not at all.

    ``tls`` gives the contexts when the first tls: or wss: listener wants them; ``websocket`` are
    the settings for ws: and wss:. ``addresses`` tells the addresses of the machine.
    """

    log = Logger()

    def __init__(
        self,
        specs: Sequence[str],
        advertise: str,
        flows: Flows,
        settings: TransportSettings,
        websocket: WebSocketSettings,
        tls: Callable[[], TLSContexts],
        reactor: IReactor,
        addresses: Callable[[], frozenset[str]] = local_addresses,
    ) -> None:
        self.advertised = parse_advertised(advertise)
        self._specs = [parse_listener(spec) for spec in specs]
        self._flows = flows
        self._settings = settings
        self._websocket = websocket
        self._tls = tls
        self._reactor = reactor
        self._addresses = addresses
        self._known: frozenset[str] = frozenset()
        self._udp: list[UDPPort] = []
        self._ports: list[IListeningPort] = []
        self._refresh = Periodic(reactor, REFRESH, self.refresh)

    def deliver_to(self, user: ITransportUser) -> None:
        """Who gets the messages."""
        self._flows.delivery.user = user

    async def start(self) -> None:
        """Bind everything. Raises ListenFailed, and then nothing stays bound."""
        raise_file_limit(self._settings.max_connections + 1024)
        try:
            for spec in self._specs:
                self._listen(spec)
        except (OSError, CannotListenError) as error:
            failed = spec.address
            await self._unbind()
            cause = error.socketError if isinstance(error, CannotListenError) else error
            why = getattr(cause, "strerror", None) or str(cause)
            raise ListenFailed(f"{failed}: {why}") from None
        self.refresh()
        self._refresh.start()
        for port in self._udp:
            port.start()

    async def stop(self) -> None:
        """Take nothing more, then close the connections."""
        self._refresh.stop()
        await self._unbind()
        connections = self._flows.connections
        for connection in connections:
            connection.close()
        if len(connections):
            await deferLater(self._reactor, 0.05, lambda: None)
        waited = 0.05
        while len(connections) and waited < LINGER:
            await deferLater(self._reactor, 0.1, lambda: None)
            waited += 0.1
        for connection in connections:
            connection.abort("the PBX stops")

    async def _unbind(self) -> None:
        for port in self._udp:
            port.stop()
        ports, self._ports = self._ports, []
        self._udp.clear()
        self._flows.clear()
        self._known = frozenset()
        await DeferredList([maybeDeferred(port.stopListening) for port in ports])

    def refresh(self) -> None:
        """Look which addresses the machine has now."""
        known = self._addresses()
        if known == self._known:
            return
        self._known = known
        advertised = [self.advertised, *(spec.advertised for spec in self._specs)]
        self._flows.identify(known, [entry for entry in advertised if entry[0]])

    def _listen(self, spec: ListenSpec) -> None:
        address = spec.address
        advertised = spec.advertised if spec.advertised[0] else self.advertised
        if address.transport == "UDP":
            flows = self._flows
            udp = UDPPort(
                address, advertised, self._settings, self._reactor, flows.delivery, flows.sources
            )
            self._udp.append(udp)
            flows.add_udp(udp)
            return
        factory: StreamFactory | SIPWebSocketFactory
        if address.transport in ("WS", "WSS"):
            # Only now: autobahn takes time and memory.
            from pbx.transport.websocket import SIPWebSocketFactory

            factory = SIPWebSocketFactory(
                self._flows.connections, address.transport, self._websocket, self._reactor
            )
        else:
            factory = StreamFactory(self._flows.connections, address.transport)
        secure = address.transport in ("TLS", "WSS")
        served: ServerFactory[Any] = factory
        if secure:
            served = TLSMemoryBIOFactory(self._tls(), False, factory)  # type: ignore[assignment]
        port = self._reactor.listenTCP(
            address.port,
            served,
            backlog=_BACKLOG,
            interface=address.host,
        )
        self._ports.append(port)
        factory.listener = Listener(address_of(address.transport, port.getHost()), advertised)
        self._flows.add_stream(factory.listener)

    def adopt(self, listener: Listener) -> None:
        """Know about a WebSocket that is part of a web site, until `stop`."""
        self._flows.add_stream(listener)
        self._known = frozenset()
        self.refresh()


def raise_file_limit(wanted: int) -> None:
    """Allow so many open files if the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
