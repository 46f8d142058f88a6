"""Commands to another program over UDP: COOKIE SP COMMAND, answered by COOKIE SP REPLY.

rtpproxy and rtpengine both speak so. A lost datagram is repeated with the same cookie, for which
the other side repeats its answer without doing the work again.
"""

from __future__ import annotations

import secrets
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from pbx.errors import MediaFailed
from pbx.interfaces import ITimer, ITimers

#: Seconds until a command is sent again, each time; after the last one it has failed.
PAUSES = (0.5, 0.5, 1.0, 2.0)
#: So many commands may wait for their answer.
MAX_WAITING = 4096


class Command:
    """One command that waits for its answer."""

    __slots__ = ("answered", "data", "sent", "timer")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.sent = 0
        self.timer: ITimer | None = None
        self.answered: Deferred[bytes] = Deferred()


class CookieChannel(DatagramProtocol):
    """Commands to one server. ``what`` names it in messages.

    Every failure is a `MediaFailed` with status 500: it is not the fault of the caller.
    """

    noisy = False
    log = Logger()

    def __init__(self, what: str, host: str, port: int, timers: ITimers) -> None:
        self._what = what
        self._address = (host, port)
        self._timers = timers
        self._prefix = secrets.token_hex(4)
        self._number = 0
        self._waiting: dict[bytes, Command] = {}
        self.silent = False
        self.sent = 0
        self.repeated = 0
        self.failed = 0

    def open(self, reactor: Any) -> None:
        """Bind a port of our own. Not a connected one: epoll closes those when a server is gone."""
        reactor.listenUDP(0, self, interface="::" if ":" in self._address[0] else "")

    async def ask(self, command: bytes) -> bytes:
        """The answer to a command, without cookie."""
        if self.transport is None or len(self._waiting) >= MAX_WAITING:
            raise MediaFailed(f"{self._what} is not to be had", status=500)
        self._number += 1
        cookie = f"{self._prefix}_{self._number}".encode()
        waiting = self._waiting[cookie] = Command(cookie + b" " + command)
        self._send(cookie, waiting)
        return await waiting.answered

    def _send(self, cookie: bytes, command: Command) -> None:
        if command.sent == len(PAUSES):
            del self._waiting[cookie]
            self.failed += 1
            self._fail(command)
            return
        self.sent += 1
        self.repeated += command.sent > 0
        if self.transport is not None:
            self.transport.write(command.data, self._address)
        command.timer = self._timers.call_later(PAUSES[command.sent], self._send, cookie, command)
        command.sent += 1

    def _fail(self, command: Command) -> None:
        if not self.silent:
            self.silent = True
            self.log.warn("{what} does not answer", what=self._what)
        command.answered.errback(MediaFailed(f"{self._what} does not answer", status=500))

    def datagramReceived(self, data: bytes, address: Any) -> None:
        """Twisted: an answer, perhaps again. Nobody else may give one."""
        if address[:2] != self._address:
            return
        cookie, _, reply = data.partition(b" ")
        command = self._waiting.pop(cookie, None)
        if command is None:
            return
        if self.silent:
            self.silent = False
            self.log.info("{what} answers again", what=self._what)
        if command.timer is not None:
            command.timer.cancel()
        command.answered.callback(reply.rstrip(b"\r\n"))

    async def close(self) -> None:
        """Nothing is sent or answered any more."""
        waiting, self._waiting = self._waiting, {}
        for command in waiting.values():
            if command.timer is not None:
                command.timer.cancel()
            command.answered.errback(MediaFailed(f"{self._what} is closed", status=500))
        if self.transport is not None:
            await _stopped(self.transport)
            self.transport = None


async def _stopped(transport: Any) -> None:
    closing = transport.stopListening()
    if closing is not None:
        await closing
