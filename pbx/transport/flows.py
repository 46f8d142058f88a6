"""Which flow leads to a next hop; who we are (RFC 3261 sections 16.4 and 18, RFC 5923)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTCP
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import classImplements

from pbx.interfaces import ICommands, IFlow, IFlows, IMetrics, IStatistics
from pbx.metrics import Kind, Metric
from pbx.sip.address import Address
from pbx.sip.errors import TransportFailed
from pbx.sip.uri import DEFAULT_PORTS, URI, join_host_port
from pbx.transport.connection import Connection, Connections
from pbx.transport.hosts import Sources, is_wildcard, literal
from pbx.transport.tcp import Listener, Opening, StreamProtocol, open_stream
from pbx.transport.udp import UDPFlow, UDPPort

if TYPE_CHECKING:
    from pbx.transport.locate import Locator
    from pbx.transport.tls import TLSContexts

_BROWSERS = frozenset(("WS", "WSS"))
_NAMES = ("udp", "tcp", "tls", "ws", "wss")
#: Seconds during which a peer that refused TCP is sent large requests over UDP at once.
NO_STREAM = 300.0
_MAX_NO_STREAM = 4096


class Flows:
    """Listeners report to it what they are, connections that they are there."""

    log: ClassVar = Logger(__name__)

    def __init__(
        self,
        connections: Connections,
        locator: Locator,
        reactor: IReactorTCP,
        tls: Callable[[], TLSContexts],
    ) -> None:
        self.connections = connections
        self.delivery = connections.delivery
        self.sources = Sources()
        self._settings = connections.settings
        self._locator = locator
        self._reactor = reactor
        self._tls = tls
        self._udp: list[UDPPort] = []
        #: The same by whether they speak IPv6.
        self._udp_by_family: dict[bool, list[UDPPort]] = {False: [], True: []}
        self._streams: list[Listener] = []
        self._connecting: dict[Address, list[Deferred[IFlow]]] = {}
        self._no_stream: dict[tuple[str, int], float] = {}
        self._own = Identity(self._settings.aliases)

    # Listeners

    def add_udp(self, port: UDPPort) -> None:
        """A UDP listener was bound."""
        self._udp.append(port)
        self._udp_by_family[":" in port.address.host].append(port)

    def add_stream(self, listener: Listener) -> None:
        """A TCP, TLS or WebSocket listener was bound."""
        self._streams.append(listener)

    def identify(
        self, addresses: frozenset[str], advertised: Sequence[tuple[str, int | None]]
    ) -> None:
        """Learn which addresses the machine has now, and the advertised hosts."""
        self._own = Identity(self._settings.aliases, self.listeners(), addresses, advertised)
        self.sources.forget()
        for port in self._udp:
            port.forget_sources()
        self._locator.transports(self.listeners())

    def clear(self) -> None:
        """No listener is bound any more."""
        self._udp.clear()
        for ports in self._udp_by_family.values():
            ports.clear()
        self._streams.clear()

    def listeners(self) -> Sequence[Address]:
        """What we listen on, with the ports that were really bound."""
        return [port.address for port in self._udp] + [found.address for found in self._streams]

    # Where to

    def locate(self, uri: URI) -> Sequence[Address] | None:
        """Where to send to if that is known at once."""
        return self._locator.locate(uri)

    async def resolve(self, uri: URI) -> Sequence[Address]:
        """The same through DNS. Raises TransportFailed when nothing is found."""
        return await self._locator.resolve(uri)

    def prefers_stream(self, address: Address, size: int) -> bool:
        """Whether a request of so many bytes should rather go by TCP (18.1.1)."""
        limit = self._settings.udp_max
        if not 0 < limit < size or address.transport != "UDP":
            return False
        refused = self._no_stream.get((address.host, address.port))
        return refused is None or refused <= self.connections.now()

    # Flows

    def find(self, address: Address, local: Address | None = None) -> IFlow | None:
        """A flow that is ready: any UDP address, or an open connection to the address."""
        if address.transport == "UDP":
            return self._udp_flow(address, local)
        return self.connections.find(address)

    def by_token(self, token: str) -> IFlow | None:
        """The open connection of that name."""
        return self.connections.by_token(token)

    def _udp_flow(self, address: Address, local: Address | None) -> UDPFlow | None:
        candidates = self._udp_by_family[":" in address.host]
        if not candidates:
            return None
        chosen = candidates[0]
        if len(candidates) > 1:
            chosen = self._best(candidates, address.host, local)
        return chosen.flow_to(address.host, address.port)

    def _best(self, candidates: list[UDPPort], host: str, local: Address | None) -> UDPPort:
        if local is not None:
            for port in candidates:
                if port.address == local:
                    return port
            for port in candidates:
                if port.address.host == local.host or port.address.port == local.port:
                    return port
        source = self.sources.towards(host)
        for port in candidates:
            if port.address.host == source:
                return port
        for port in candidates:
            if port.wildcard:
                return port
        return candidates[0]

    def connect(self, address: Address, local: Address | None = None) -> Deferred[IFlow]:
        """Open a connection, or join one that is being opened. Raises TransportFailed."""
        ready = self.find(address, local)
        if ready is not None:
            return succeed(ready)
        if address.transport in _BROWSERS:
            return fail(TransportFailed("Connection Closed"))
        if address.transport not in ("TCP", "TLS"):
            return fail(TransportFailed("No Such Transport"))
        waiting = self._connecting.get(address)
        joined: Deferred[IFlow] = Deferred()
        if waiting is not None:
            waiting.append(joined)
            return joined
        if not self.connections.admits(address.host):
            return fail(TransportFailed("Too Many Connections"))
        self._connecting[address] = [joined]
        try:
            self._open(address, local)
        except TransportFailed as error:
            self._opened(Failure(error), address)  # type: ignore[no-untyped-call]
        return joined

    def _open(self, address: Address, local: Address | None) -> None:
        listener = self._listener(address, local)
        wrap = check = None
        if address.transport == "TLS":
            tls = self._tls()
            names = self._locator.names_of(address)
            creator = tls.client(next(iter(names)))

            def check(protocol: StreamProtocol) -> None:
                tls.check_peer(protocol.transport, names)  # type: ignore[arg-type]

            def wrap(factory: Opening) -> TLSMemoryBIOFactory:
                return TLSMemoryBIOFactory(creator, True, factory)

        opening = Opening(self.connections, address, lambda own: listener or Listener(own), check)
        opening.done.addBoth(self._opened, address)
        bind = "" if listener is None else listener.address.host
        if bind and (is_wildcard(bind) or _loopback(bind) != _loopback(address.host)):
            bind = ""
        open_stream(self._reactor, opening, address, self._settings.connect_time, bind, wrap)

    def _opened(self, result: Connection | Failure, address: Address) -> None:
        if isinstance(result, Failure) and address.transport == "TCP":
            if len(self._no_stream) >= _MAX_NO_STREAM:
                self._no_stream.clear()
            self._no_stream[address.host, address.port] = self.connections.now() + NO_STREAM
        for joined in self._connecting.pop(address, ()):
            if isinstance(result, Failure):
                joined.errback(result)
            else:
                joined.callback(result)

    def _listener(self, address: Address, local: Address | None) -> Listener | None:
        six = ":" in address.host
        candidates = [
            listener
            for listener in self._streams
            if listener.address.transport == address.transport
            and (":" in listener.address.host) is six
        ]
        if local is not None:
            for listener in candidates:
                if listener.address.host == local.host:
                    return listener
        return candidates[0] if candidates else None

    # Who we are

    def is_own(self, uri: URI) -> bool:
        """Whether host, port and transport of a URI are one of our listeners (16.4)."""
        return self._own.is_own(uri)

    def is_own_host(self, host: str) -> bool:
        """Whether a host is the address or the advertised name of any listener."""
        return self._own.is_own_host(host)

    # Management

    def commands(
        self,
    ) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """``list_tcp_conns``."""
        return [("list_tcp_conns", [[]], self.list_connections)]

    def list_connections(self) -> dict[str, object]:
        """Every open connection; Lifetime is how many seconds it may stay idle from now."""
        now = self.connections.now()
        rows: list[dict[str, object]] = []
        for found in self.connections:
            row: dict[str, object] = {
                "ID": found.number,
                "Type": found.local.transport.lower(),
                "State": 0 if found.ready else 1,
                "Remote": join_host_port(found.peer.host, found.peer.port),
                "Local": join_host_port(found.local.host, found.local.port),
                "Lifetime": max(0, round(found.expires - now)),
            }
            if found.alias is not None:
                row["Alias port"] = found.alias.port
            rows.append(row)
        return {"Connections": rows}

    def statistics(self) -> Mapping[str, int]:
        """Counters and gauges of all transports."""
        found = dict(self.delivery.statistics())
        found["net:waiting_udp"] = sum(port.queued for port in self._udp)
        found["net:waiting_tls"] = self.connections.queued(("TLS", "WSS"))
        found["net:waiting_tcp"] = self.connections.queued()
        for name in _NAMES[1:]:
            found[f"net:{name}_connections"] = self.connections.count(name.upper())
        found["net:connecting"] = len(self._connecting)
        found["dns:dns_total_queries"] = self._locator.queries
        found["dns:dns_slow_queries"] = self._locator.slow
        found["dns:dns_failed_queries"] = self._locator.failures
        found["dns:dns_cached_names"] = len(self._locator)
        return found

    def metrics(self) -> Iterable[Metric]:
        """What there is by transport."""
        yield Metric(
            "pbx_sip_messages_received_total",
            Kind.COUNTER,
            "SIP messages received, those that could not be read included.",
            ("transport",),
            list(self.delivery.by_transport()),
        )
        yield Metric(
            "pbx_connections",
            Kind.GAUGE,
            "Open connections of phones, browsers and servers.",
            ("transport",),
            [((name,), self.connections.count(name.upper())) for name in _NAMES[1:]],
        )


classImplements(Flows, IFlows, ICommands, IStatistics, IMetrics)


class Identity:
    """Hosts and ports that mean ourselves, in sets for quick questions."""

    def __init__(
        self,
        aliases: Sequence[str] = (),
        listeners: Sequence[Address] = (),
        addresses: frozenset[str] = frozenset(),
        advertised: Sequence[tuple[str, int | None]] = (),
    ) -> None:
        self._ports: set[tuple[str, int]] = set()
        self._transports: set[tuple[str, int, str]] = set()
        names = [literal(alias) or alias.lower() for alias in aliases]
        self._hosts: set[str] = set(names)
        for bound in listeners:
            hosts = [*names, bound.host]
            if is_wildcard(bound.host):
                hosts.extend(own for own in addresses if (":" in own) is (":" in bound.host))
            for host in hosts:
                self._add(host, bound.port, bound.transport)
            for host, port in advertised:
                self._add(literal(host) or host.lower(), port or bound.port, bound.transport)
                self._add(literal(host) or host.lower(), bound.port, bound.transport)

    def _add(self, host: str, port: int, transport: str) -> None:
        self._hosts.add(host)
        self._ports.add((host, port))
        self._transports.add((host, port, transport))
        if transport == "WSS":
            # URIs have one word for both kinds of WebSocket.
            self._transports.add((host, port, "WS"))

    def is_own(self, uri: URI) -> bool:
        """Whether a URI leads to one of our listeners."""
        host = uri.host
        if host not in self._hosts:
            host = literal(host) if ":" in host else host.rstrip(".")
            if host not in self._hosts:
                return False
        if not uri.is_sip:
            return False
        transport = uri.transport
        port = uri.port
        if uri.scheme == "sips" and transport in ("", "TCP"):
            transport = "TLS"
        if port is None:
            if not literal(host):
                # A name without port may have led here through any SRV record (RFC 3263 4.2).
                return True
            port = DEFAULT_PORTS.get(transport or "UDP", 5060)
        if not transport:
            return (host, port) in self._ports
        return (host, port, transport) in self._transports

    def is_own_host(self, host: str) -> bool:
        """Whether a host is one of ours, whatever the port."""
        return host in self._hosts or (literal(host) or host.lower().rstrip(".")) in self._hosts


def _loopback(host: str) -> bool:
    return host == "::1" or host.startswith("127.")
