"""UDP sockets for media, straight from the kernel, and the range they are taken from."""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from zope.interface import implementer

from pbx.errors import MediaFailed

if TYPE_CHECKING:
    from twisted.python.failure import Failure

#: Datagrams per wake-up: a burst of one stream must not hold up the others.
BUDGET = 16
#: So that bursts survive while SIP is busy.
BUFFER = 262144
#: Ports that are tried before the range counts as full.
_ATTEMPTS = 200
#: What media packets can be: larger ones are cut by the kernel and then fail every check.
_MAX_PACKET = 2048

#: A socket address as the kernel gives it: host, port and for IPv6 flow and scope.
Sockaddr = tuple[Any, ...]
Received = Callable[[bytes, Sockaddr], object]


class Port(Protocol):
    """A socket as legs see it."""

    port: int

    def send(self, data: bytes, sockaddr: Sockaddr) -> None:
        """One datagram; lost when it cannot leave."""

    def close(self) -> None:
        """Receive and send no more."""


class Ports(Protocol):
    """Where legs get their sockets from. Both raise MediaFailed when there is none."""

    def single(self, host: str, received: Received) -> Port:
        """One port."""

    def pair(self, host: str, rtp: Received, rtcp: Received) -> tuple[Port, Port]:
        """An even port and the next."""


@implementer(IReadDescriptor)
class MediaPort:
    """One bound socket. ``received`` gets every datagram with where it came from."""

    def __init__(self, bound: socket.socket, reactor: IReactorFDSet, received: Received) -> None:
        self._socket = bound
        self._reactor = reactor
        self._received: Received | None = received
        self.port: int = bound.getsockname()[1]
        self.send_failures = 0
        #: One ``sendto`` for each packet.
        self._sendto = bound.sendto
        reactor.addReader(self)

    def send(self, data: bytes, sockaddr: Sockaddr) -> None:
        """What the kernel does not take is lost, as on the wire."""
        try:
            self._sendto(data, sockaddr)
        except OSError:
            # Also the ICMP answer to an earlier datagram; late media is of no use to anybody.
            self.send_failures += 1

    def close(self) -> None:
        """Receive and send no more."""
        if self._received is not None:
            self._received = None
            self._reactor.removeReader(self)
            self._socket.close()

    def fileno(self) -> int:
        """For the reactor."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """For the reactor."""
        return f"media:{self.port}"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gives up on the socket."""
        self.close()

    def doRead(self) -> None:
        """Take what the kernel has, a budget's worth at most."""
        receive = self._socket.recvfrom
        for _ in range(BUDGET):
            try:
                data, sockaddr = receive(_MAX_PACKET)
            except BlockingIOError:
                return
            except OSError:
                if self._socket.fileno() < 0:
                    return
                continue
            received = self._received
            if received is None:
                return
            if len(data) >= 12:
                received(data, sockaddr)


class PortRange:
    """Hands out sockets with ports of a range; the even ones begin pairs (RFC 3550 section 11)."""

    def __init__(self, first: int, last: int, reactor: IReactorFDSet) -> None:
        self._first = first + first % 2
        self._pairs = max((last + 1 - self._first) // 2, 1)
        self._reactor = reactor
        self._at = secrets.randbelow(self._pairs)

    def single(self, host: str, received: Received) -> Port:
        """One port."""
        (bound,) = self._bind(host, 1)
        return MediaPort(bound, self._reactor, received)

    def pair(self, host: str, rtp: Received, rtcp: Received) -> tuple[Port, Port]:
        """An even port and the next."""
        one, two = self._bind(host, 2)
        return MediaPort(one, self._reactor, rtp), MediaPort(two, self._reactor, rtcp)

    def _bind(self, host: str, count: int) -> list[socket.socket]:
        for _ in range(min(_ATTEMPTS, self._pairs)):
            self._at = (self._at + 1) % self._pairs
            port = self._first + 2 * self._at
            bound: list[socket.socket] = []
            try:
                for number in range(port, port + count):
                    bound.append(_bound(host, number))
                return bound
            except OSError as error:
                for one in bound:
                    one.close()
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    why = error.strerror or "no socket"
                    raise MediaFailed(f"No Media Port: {why}", status=503) from None
        raise MediaFailed("No Media Port Left", status=503)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound
