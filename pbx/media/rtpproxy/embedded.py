"""The embedded RTPProxy: its threads live in this process, commands go over a local stream.

Replies come in the order of the commands, without names; too many unanswered commands lose replies.
So one is under way at a time. A second instance in one process shakes hands with browsers but
relays nothing of theirs (rtp.io 1.1.1): it is made once, and a broken one needs a restart of the
PBX.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from math import ceil
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from pbx.errors import MediaFailed
from pbx.interfaces import ITimer, ITimers

#: Seconds for one command.
PATIENCE = 5.0
#: So many commands may queue.
MAX_WAITING = 4096
#: Seconds that a session waits for its answer: phones ring for minutes.
SETUP_TIMEOUT = 600
_FOR_EVER = 7 * 24 * 3600
MODULES = ("catch_dtmf", "dtls_gw", "ice_lite")


class Lines(LineOnlyReceiver):
    """Hands lines on."""

    delimiter = b"\n"
    MAX_LENGTH = 16384

    def __init__(self, heard: Callable[[str], object]) -> None:
        self._heard = heard

    def lineReceived(self, line: bytes) -> None:
        """Twisted: a line."""
        self._heard(line.decode("utf-8", "replace").rstrip("\r"))


class EmbeddedChannel:
    """Owns the embedded RTPProxy. ``timeout``: seconds that a session may be silent, 0 for ever."""

    log = Logger()

    def __init__(
        self,
        ports: tuple[int, int],
        timeout: float,
        timers: ITimers,
    ) -> None:
        #: Gets the lines about keys and dead sessions.
        self.notified: Callable[[str], object] = str
        self._ports = ports
        self._timeout = timeout
        self._timers = timers
        self._rtpproxy: Any = None
        self._commands: Lines | None = None
        self._events: Lines | None = None
        self._queue: deque[tuple[str, Deferred[str]]] = deque()
        self._under_way: Deferred[str] | None = None
        self._timer: ITimer | None = None

    @property
    def silent(self) -> bool:
        """Whether it has stopped to answer."""
        return self._commands is None

    @property
    def notify_socket(self) -> str:
        """The word that makes ``U`` report."""
        return str(self._rtpproxy.rtpp_nsock_spec)

    async def open(self, reactor: Any) -> None:
        """Start it. After daemonizing: its threads do not survive a fork."""
        try:
            from rtp.io import rtpproxy
        except ImportError:
            raise MediaFailed(
                "[media] engine rtpproxy:embedded needs the package rtp.io", status=500
            ) from None
        low, high = self._ports
        self._rtpproxy = rtpproxy(
            ttl=ceil(self._timeout) or _FOR_EVER,
            setup_ttl=SETUP_TIMEOUT,
            debug_level="err",
            port_min=low,
            port_max=high,
            modules=MODULES,
            # -F: also as root. Every command names the address to bind.
            extra_args=("-F", "-l", "127.0.0.1"),
        )
        self._commands = await _adopt(reactor, self._rtpproxy.rtpp_sock, self._replied)
        self._events = await _adopt(reactor, self._rtpproxy.rtpp_nsock, self.notified)

    async def ask(self, command: str) -> str:
        """The reply to a command."""
        if self._commands is None or len(self._queue) >= MAX_WAITING:
            raise MediaFailed("rtpproxy is not to be had", status=500)
        answered: Deferred[str] = Deferred()
        self._queue.append((command, answered))
        if self._under_way is None:
            self._next()
        return await answered

    def _next(self) -> None:
        transport = _transport(self._commands)
        if transport is None or not self._queue:
            return
        command, self._under_way = self._queue.popleft()
        transport.write(f"{command}\n".encode())
        self._timer = self._timers.call_later(PATIENCE, self._stuck)

    def _replied(self, line: str) -> None:
        answered, self._under_way = self._under_way, None
        if self._timer is not None:
            self._timer.cancel()
        self._next()
        if answered is not None:
            answered.callback(line)

    def _stuck(self) -> None:
        """No reply can be told from the next one any more: it is of no use from now on."""
        self.log.error("the embedded rtpproxy does not answer; restart the PBX")
        self._fail("rtpproxy does not answer")

    def _fail(self, why: str) -> None:
        self._commands, commands = None, self._commands
        transport = _transport(commands)
        if transport is not None:
            transport.loseConnection()
        waiting = [answered for _, answered in self._queue]
        if self._under_way is not None:
            waiting.insert(0, self._under_way)
            self._under_way = None
        self._queue.clear()
        for answered in waiting:
            answered.errback(Failure(MediaFailed(why, status=500)))  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """End its threads."""
        if self._timer is not None:
            self._timer.cancel()
        self._fail("rtpproxy is closed")
        transport = _transport(self._events)
        if transport is not None:
            transport.loseConnection()
        self._events = None
        self._rtpproxy = None


def _transport(lines: Lines | None) -> ITransport | None:
    return None if lines is None else lines.transport


async def _adopt(reactor: Any, ours: socket.socket, heard: Callable[[str], object]) -> Lines:
    lines = Lines(heard)
    factory = Factory.forProtocol(lambda: lines)
    ours.setblocking(False)
    handle = os.dup(ours.fileno())
    try:
        reactor.adoptStreamConnection(handle, socket.AF_UNIX, factory)
    finally:
        os.close(handle)
    return lines
