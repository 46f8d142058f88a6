"""Ways out for what other programs asked to be told: datagrams, and connections that come back."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure

#: Bytes that wait for a connection or a slow reader; what comes then is dropped.
MAX_QUEUED = 1 << 20
#: Seconds between attempts to connect, and for one of them.
RETRY = 5.0
TIMEOUT = 5


class Datagrams:
    """A datagram per event, sent at once or never."""

    connected = False

    def __init__(self, kind: str, where: str) -> None:
        family = socket.AF_UNIX
        self._target: Any = where
        if kind == "udp":
            host, _, port = where.rpartition(":")
            self._target = (host, int(port))
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(
            family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )

    def send(self, data: bytes) -> bool:
        """Whether it left."""
        try:
            self._socket.sendto(data, self._target)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()


class Stream(ClientFactory):
    """A connection that is opened with the first event, and again when it broke."""

    noisy = False

    def __init__(
        self, host: str, port: int, reactor: Any, gone: Callable[[], object] | None = None
    ) -> None:
        """``gone`` is called when a connection broke or could not be made."""
        self._host = host
        self._port = port
        self._reactor = reactor
        self._gone = gone
        self._protocol: _Writer | None = None
        self._connecting = False
        self._closed = False
        self._not_before = 0.0
        self._queue: list[bytes] = []
        self._queued = 0

    def send(self, data: bytes) -> bool:
        """Whether it left or waits to."""
        if self._protocol is not None:
            return self._protocol.put(data)
        if self._queued + len(data) > MAX_QUEUED:
            return False
        if not self._connecting:
            if self._reactor.seconds() < self._not_before:
                return False
            self.connect()
        self._queue.append(data)
        self._queued += len(data)
        return True

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._protocol is not None

    def connect(self) -> None:
        """Without waiting for something to send."""
        self._connecting = True
        self._reactor.connectTCP(self._host, self._port, self, timeout=TIMEOUT)

    def close(self) -> None:
        """After what was written is out."""
        self._closed = True
        if self._protocol is not None and self._protocol.transport is not None:
            self._protocol.transport.loseConnection()

    # ClientFactory

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """The one connection."""
        return _Writer(self)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """Nobody there: what waited is dropped."""
        self._connecting = False
        self._not_before = self._reactor.seconds() + RETRY
        self._queue.clear()
        self._queued = 0
        if self._gone is not None:
            self._gone()

    def connected_by(self, protocol: _Writer) -> None:
        """Send what waited."""
        self._connecting = False
        self._protocol = protocol
        for data in self._queue:
            protocol.put(data)
        self._queue.clear()
        self._queued = 0
        if self._closed:
            self.close()

    def lost(self) -> None:
        """The connection is gone; the next event opens another one."""
        self._protocol = None
        if self._gone is not None and not self._closed:
            self._gone()


class _Writer(Protocol):
    """Writes; what the other side says does not matter."""

    def __init__(self, owner: Stream) -> None:
        self._owner = owner
        self._waiting = 0
        self._full = False

    def connectionMade(self) -> None:
        """Hear when the reader is slow."""
        assert self.transport is not None
        self.transport.registerProducer(self, True)  # type: ignore[attr-defined]
        self._owner.connected_by(self)

    def put(self, data: bytes) -> bool:
        """Whether it was taken."""
        assert self.transport is not None
        if self._full:
            self._waiting += len(data)
            if self._waiting > MAX_QUEUED:
                return False
        self.transport.write(data)
        return True

    def pauseProducing(self) -> None:
        """The reader is slow."""
        self._full = True
        self._waiting = 0

    def resumeProducing(self) -> None:
        """It caught up."""
        self._full = False

    def stopProducing(self) -> None:
        """It is going."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone."""
        self._owner.lost()
