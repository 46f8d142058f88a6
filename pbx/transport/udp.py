"""UDP: datagrams in batches straight from the socket (RFC 3261 section 18, RFC 3581)."""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.interfaces import IReactorFDSet, IReadWriteDescriptor
from twisted.logger import Logger
from zope.interface import classImplements

from pbx.interfaces import IFlow
from pbx.sip.address import Address
from pbx.sip.errors import MalformedMessage, TransportFailed
from pbx.sip.limits import Limits
from pbx.sip.parser import parse
from pbx.transport.delivery import Delivery
from pbx.transport.hosts import Sources, is_wildcard
from pbx.transport.settings import TransportSettings

if TYPE_CHECKING:
    from twisted.python.failure import Failure

#: Datagrams per wake-up: enough to be cheap, few enough for timers and connections to get a turn.
BUDGET = 48
#: Flows kept by peer; when there are more all are forgotten and made again on demand.
MAX_FLOWS = 20000
#: Datagrams that wait while the kernel's buffer is full.
MAX_QUEUED = 1024
_IDLE = b"\r\n\0 "
_COOKIE = b"\x21\x12\xa4\x42"
_TEMPORARY = frozenset((errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS))


class UDPFlow:
    """A listener and a peer; sending is one ``sendto``."""

    __slots__ = ("_port", "_sockaddr", "local", "peer", "sent_by", "source")

    reliable = False
    closed = False
    token = ""

    def __init__(self, port: UDPPort, peer: Address, sockaddr: Any) -> None:
        self._port = port
        self._sockaddr = sockaddr
        self.local = port.address
        self.peer = peer
        self.sent_by = port.sent_by_towards(peer.host)
        self.source = port.delivery.guard.source(peer.host)

    def send(self, data: bytes) -> None:
        """Send one datagram. Raises TransportFailed."""
        port = self._port
        port.send(data, self._sockaddr)
        watch = port.delivery.watch
        if watch is not None:
            watch(True, self, data)

    def send_soon(self, data: bytes) -> None:
        """Send one datagram, in a turn of many at its end. Raises TransportFailed."""
        port = self._port
        port.send_soon(data, self._sockaddr)
        watch = port.delivery.watch
        if watch is not None:
            watch(True, self, data)

    def keep(self, seconds: float) -> None:
        """Nothing to keep."""

    def close(self) -> None:
        """Nothing to close."""

    def __repr__(self) -> str:
        return f"<UDPFlow {self.peer} via {self.local}>"


classImplements(UDPFlow, IFlow)


class UDPPort:
    """One UDP listener. Raises OSError when the address cannot be bound.

    ``sent_by`` is the advertised host and port; host "" for the address that the peer sees.
    """

    log: ClassVar = Logger(__name__)
    #: See `pbx.reactor`.
    direct = True

    def __init__(
        self,
        address: Address,
        sent_by: tuple[str, int | None],
        settings: TransportSettings,
        reactor: IReactorFDSet,
        delivery: Delivery,
        sources: Sources,
    ) -> None:
        self.delivery = delivery
        self._settings = settings
        self._limits = Limits(message=settings.max_message)
        self._reactor = reactor
        self._sources = sources
        self._socket = self._bound(address.host, address.port)
        self.address = address._replace(port=self._socket.getsockname()[1])
        self.wildcard = is_wildcard(address.host)
        self._sent_by = (sent_by[0], sent_by[1] or self.address.port)
        self._flows: dict[tuple[str, int], UDPFlow] = {}
        self._queue: deque[tuple[bytes, Any]] = deque()
        self._gathering = False

    def _bound(self, host: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.socket(
            family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                bound.setsockopt(socket.SOL_SOCKET, option, self._settings.udp_buffer)
            bound.bind((host, port))
        except OSError:
            bound.close()
            raise
        return bound

    # Listening

    def start(self) -> None:
        """Begin to receive."""
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Receive no more, and send nothing but what waits and the kernel takes."""
        if self._socket.fileno() < 0:
            return
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self._drain()
        self._queue.clear()
        self._flows.clear()
        self._socket.close()

    def fileno(self) -> int:
        """For the reactor."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """For the reactor."""
        return str(self.address)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gives up on the socket."""
        self.stop()

    def doRead(self) -> None:
        """Take what the kernel has, a budget's worth at most.

        While more than one datagram is there, what is sent soon waits for the last of them: each
        that leaves wakes up somebody, who may want this core at once.
        """
        budget = BUDGET
        current = self._receive()
        while current is not None:
            budget -= 1
            coming = self._receive() if budget else None
            if coming is not None:
                self._gathering = True
            data, sockaddr = current
            self._datagram_received(data, sockaddr)
            current = coming
        if self._gathering:
            self._gathering = False
            self._drain()
            if self._queue:
                self._reactor.addWriter(self)

    def _receive(self) -> tuple[bytes, Any] | None:
        for _ in range(BUDGET):
            try:
                return self._socket.recvfrom(65536)
            except BlockingIOError:
                return None
            except OSError:
                # An ICMP error of something sent earlier; the next datagram may be fine.
                if self._socket.fileno() < 0:
                    return None
        return None

    def _datagram_received(self, data: bytes, sockaddr: Any) -> None:
        delivery = self.delivery
        delivery.datagrams += 1
        if len(data) <= 4 and not data.strip(_IDLE):
            delivery.keep_alives += 1
            return
        flow = self._flows.get(sockaddr[:2] if len(sockaddr) > 2 else sockaddr)
        if flow is None:
            flow = self._flow(sockaddr)
        source = flow.source
        source.tokens -= 1
        if source.tokens < 0 and source.wait():
            source.tokens += 1
            return
        if data[0] < 4 and len(data) >= 20:
            self._stun_received(data, flow, sockaddr)
            return
        if delivery.watch is not None:
            delivery.watch(False, flow, data)
        try:
            message = parse(data, self._limits)
        except MalformedMessage as error:
            delivery.malformed_received(error, flow)
            return
        delivery.message_received(message, flow, source)

    def _flow(self, sockaddr: Any) -> UDPFlow:
        host, port = sockaddr[:2]
        if len(self._flows) >= MAX_FLOWS:
            self._flows.clear()
        flow = UDPFlow(self, Address("UDP", host.partition("%")[0], port), sockaddr)
        self._flows[(host, port)] = flow
        if "%" in host:
            # Link-local: whoever answers does not know the zone.
            self._flows[(flow.peer.host, port)] = flow
        return flow

    def _stun_received(self, data: bytes, flow: UDPFlow, sockaddr: Any) -> None:
        """Answer a binding request (RFC 5626 section 4.4.2, RFC 5389 section 7.3.1)."""
        self.delivery.keep_alives += 1
        if data[:2] != b"\0\x01" or data[4:8] != _COOKIE:
            return
        transaction = data[4:20]
        host, port = flow.peer.host, flow.peer.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        packed = socket.inet_pton(family, host)
        masked = bytes(one ^ other for one, other in zip(packed, transaction, strict=False))
        value = bytes((0, 2 if ":" in host else 1)) + (port ^ 0x2112).to_bytes(2, "big") + masked
        attribute = b"\0\x20" + len(value).to_bytes(2, "big") + value
        try:
            self.send(
                b"\x01\x01" + len(attribute).to_bytes(2, "big") + transaction + attribute, sockaddr
            )
        except TransportFailed:
            return

    # Sending

    def flow_to(self, host: str, port: int) -> UDPFlow:
        """The flow to a peer."""
        flow = self._flows.get((host, port))
        return self._flow((host, port)) if flow is None else flow

    def sent_by_towards(self, host: str) -> tuple[str, int]:
        """What to write into Via for this peer (18.1.1)."""
        name, port = self._sent_by
        if name:
            return self._sent_by
        if self.wildcard:
            return self._sources.towards(host) or self.address.host, port
        return self.address.host, port

    def forget_sources(self) -> None:
        """The interfaces may have changed: ask the kernel anew what peers see."""
        self._flows.clear()

    def send(self, data: bytes, sockaddr: Any) -> None:
        """Send one datagram behind what waits, or queue it. Raises TransportFailed when it cannot
        leave.
        """
        self.delivery.sent += 1
        if self._queue:
            if self._gathering:
                self._drain()
            if self._queue:
                self._hold(data, sockaddr)
                return
        try:
            self._transmit(data, sockaddr)
        except OSError as error:
            if error.errno in _TEMPORARY:
                self._hold(data, sockaddr)
                self._reactor.addWriter(self)
                return
            self.delivery.send_failures += 1
            raise TransportFailed(error.strerror or "send failed") from None

    def send_soon(self, data: bytes, sockaddr: Any) -> None:
        """Send one datagram, at the end of the turn when more than one came. Raises TransportFailed
        when it cannot leave, as far as that is known at once.
        """
        if self._gathering:
            self.delivery.sent += 1
            self._hold(data, sockaddr)
        else:
            self.send(data, sockaddr)

    def _transmit(self, data: bytes, sockaddr: Any) -> None:
        try:
            self._socket.sendto(data, sockaddr)
        except ConnectionRefusedError:
            # The ICMP answer to an earlier datagram, perhaps to another peer; this one stayed.
            self._socket.sendto(data, sockaddr)

    def _hold(self, data: bytes, sockaddr: Any) -> None:
        if len(self._queue) >= MAX_QUEUED:
            self.delivery.send_failures += 1
            raise TransportFailed("Send Queue Full")
        self._queue.append((data, sockaddr))

    def _drain(self) -> None:
        """Send what waits, as much as the kernel takes."""
        queue = self._queue
        while queue:
            data, sockaddr = queue[0]
            try:
                self._transmit(data, sockaddr)
            except OSError as error:
                if error.errno in _TEMPORARY:
                    return
                self.delivery.send_failures += 1
            queue.popleft()

    def doWrite(self) -> None:
        """Send what waited."""
        self._drain()
        if not self._queue:
            self._reactor.removeWriter(self)

    @property
    def queued(self) -> int:
        """Bytes that wait for the kernel."""
        return sum(len(data) for data, _ in self._queue)


classImplements(UDPPort, IReadWriteDescriptor)
