"""The management interface on a Unix stream socket: a request a line, an answer a line."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableProtocol,
    IListeningPort,
    IPushProducer,
    IReactorUNIX,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from pbx.interfaces import IStartable


class _Pipe(ITCPTransport, IConsumer):
    """What a stream transport is."""


Handle = Callable[[bytes], "Deferred[bytes | None]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementSettings:
    """The ``[management]`` table."""

    socket: Path = Path("var/pbx.sock")
    """The Unix socket that pbxctl talks to."""
    mode: str = "0660"
    """Permissions of the socket, octal: who may manage the PBX."""
    max_connections: int = 64
    """Connections at a time; further ones are closed at once."""

    def __post_init__(self) -> None:
        if not (self.mode.isascii() and self.mode.isdigit() and len(self.mode) == 4):
            raise ValueError(f'mode: expected four octal digits like "0660", not {self.mode!r}')
        int(self.mode, 8)


@implementer(IHalfCloseableProtocol, IPushProducer)
class ManagementProtocol(LineOnlyReceiver):
    """Answers in the order of the requests; who sends more than he reads has to wait."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 20
    #: Requests of one client that wait for the one in work.
    MAX_WAITING = 100

    def __init__(self, handle: Handle, gone: Callable[[ManagementProtocol], object]) -> None:
        self._handle = handle
        self._gone = gone
        self._waiting: deque[bytes] = deque()
        self._busy = False
        self._paused = False
        self._ending = False

    def connectionMade(self) -> None:
        """Hear of it when the client does not read."""
        self._pipe().registerProducer(self, True)

    def lineReceived(self, line: bytes) -> None:
        """One request."""
        if not line.strip():
            return
        self._waiting.append(line)
        if len(self._waiting) > self.MAX_WAITING:
            self.end()
        else:
            self._next()

    def lineLengthExceeded(self, line: bytes) -> None:
        """Nobody has that much to say."""
        self.end()

    def readConnectionLost(self) -> None:
        """The client has said everything and may still read."""
        self._ending = True
        self._next()

    def writeConnectionLost(self) -> None:
        """The client does not read any more."""
        self.end()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """What is in work goes on, its answer is dropped."""
        self._waiting.clear()
        self._gone(self)

    def pauseProducing(self) -> None:
        """Too much is waiting to be read."""
        self._paused = True

    def resumeProducing(self) -> None:
        """It was read."""
        self._paused = False
        self._next()

    def stopProducing(self) -> None:
        """The connection is going."""
        self._waiting.clear()

    def end(self) -> None:
        """Close, after what was answered is sent."""
        self._waiting.clear()
        self._pipe().unregisterProducer()
        self._pipe().loseConnection()

    def _next(self) -> None:
        if self._busy or self._paused:
            return
        if self._waiting:
            self._busy = True
            self._handle(self._waiting.popleft()).addCallback(self._answer)
        elif self._ending:
            self.end()

    def _answer(self, answer: bytes | None) -> None:
        self._busy = False
        if self.connected:
            if answer is not None:
                self._pipe().write(answer + b"\n")
            self._next()

    def _pipe(self) -> _Pipe:
        return cast(_Pipe, self.transport)


class ManagementFactory(Factory):
    """A protocol per connection, up to a limit."""

    noisy = False

    def __init__(self, handle: Handle, limit: int) -> None:
        self._handle = handle
        self._limit = limit
        self.connections: set[ManagementProtocol] = set()

    def buildProtocol(self, addr: IAddress | None) -> ManagementProtocol | None:
        """None closes the connection."""
        if len(self.connections) >= self._limit:
            return None
        protocol = ManagementProtocol(self._handle, self.connections.discard)
        protocol.factory = self
        self.connections.add(protocol)
        return protocol


@implementer(IStartable)
class ManagementSocket:
    """Listens on the Unix socket; a socket that a dead PBX left behind is replaced."""

    log = Logger()

    def __init__(
        self, settings: ManagementSettings, path: Path, reactor: IReactorUNIX, handle: Handle
    ) -> None:
        self._path = path
        self._mode = int(settings.mode, 8)
        self._reactor = reactor
        self._factory = ManagementFactory(handle, settings.max_connections)
        self._port: IListeningPort | None = None

    async def start(self) -> None:
        """Listen. Raises CannotListenError, also when another PBX answers there."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        name = _shortest(self._path)
        remove_stale(Path(name))
        self._port = self._reactor.listenUNIX(name, self._factory, mode=self._mode, wantPID=False)
        self.log.info("management interface at {path}", path=str(self._path))

    async def stop(self) -> None:
        """Close the socket and every connection; the file goes away."""
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
        for protocol in tuple(self._factory.connections):
            protocol.end()


def remove_stale(path: Path) -> None:
    """Remove what a dead process left. Raises CannotListenError when somebody answers."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise _taken(path, errno.EEXIST)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        status = probe.connect_ex(str(path))
    if status != errno.ECONNREFUSED:
        raise _taken(path, errno.EADDRINUSE if status in (0, errno.EAGAIN) else status)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _shortest(path: Path) -> str:
    """The kernel takes 107 bytes: relative to the working directory, if that is shorter."""
    return min(str(path), os.path.relpath(path), key=len)


def _taken(path: Path, status: int) -> CannotListenError:
    why = OSError(status, os.strerror(status))
    return CannotListenError("unix", str(path), why)  # type: ignore[no-untyped-call]
