"""The management interface on a real Unix socket."""

from __future__ import annotations

import json
import os
import socket
import stat
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from pbx.management.unix import ManagementSettings, ManagementSocket


class ManagementSocketTests(TestCase):
    timeout = 20

    async def setUp(self) -> None:  # type: ignore[override]
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "s"
        self.slow: Deferred[bytes | None] = Deferred()
        self.socket = ManagementSocket(
            ManagementSettings(max_connections=3),
            self.path,
            reactor,  # type: ignore[arg-type]
            self.handle,
        )
        await self.socket.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.socket.stop()))

    def handle(self, text: bytes) -> Deferred[bytes | None]:
        if text == b"slow":
            return self.slow
        if text == b"big":
            return succeed(b"x" * 5_000_000)
        return succeed(None if text == b"note" else b"<" + text + b">")

    def client(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10)
        connection.connect(str(self.path))
        self.addCleanup(connection.close)
        return connection

    def ask(self, text: bytes, half_close: bool = True) -> Deferred[bytes]:
        def talk() -> bytes:
            with self.client() as connection:
                connection.sendall(text)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
                found = b""
                while chunk := connection.recv(65536):
                    found += chunk
                return found

        return deferToThread(talk)

    @inlineCallbacks
    def test_a_line_for_a_line(self) -> Any:
        """Answers in order; none for a notification and an empty line; who half closes gets all."""
        found = yield self.ask(b"a\nnote\n\nb\r\nc\n")
        self.assertEqual(found, b"<a>\n<b\r>\n<c>\n")

    @inlineCallbacks
    def test_order_is_kept_behind_a_slow_command(self) -> Any:
        answer = self.ask(b"slow\na\n")
        yield self.ask(b"x\n")
        self.slow.callback(b"done")
        found = yield answer
        self.assertEqual(found, b"done\n<a>\n")

    @inlineCallbacks
    def test_big_answers(self) -> Any:
        """All of each, although the client reads late."""
        found = yield self.ask(b"big\nbig\na\n")
        self.assertEqual(len(found), 2 * 5_000_001 + 4)

    @inlineCallbacks
    def test_too_much(self) -> Any:
        """A line without end or too many requests: closed, and the next client is served."""

        def flood(text: bytes) -> None:
            with self.client() as connection:
                try:
                    connection.sendall(text)
                    connection.recv(100)
                except (BrokenPipeError, ConnectionResetError):
                    pass

        yield deferToThread(flood, b"x" * 3_000_000)
        yield deferToThread(flood, b"slow\n" * 1000)
        found = yield self.ask(b"a\n")
        self.assertEqual(found, b"<a>\n")

    @inlineCallbacks
    def test_too_many_connections(self) -> Any:
        """The one above the limit is closed at once; when one goes there is room again."""

        def fill() -> bytes:
            kept = [self.client() for _ in range(3)]
            for connection in kept:
                connection.sendall(b"a\n")
                connection.recv(100)
            with self.client() as above:
                refused = above.recv(100)
            for connection in kept:
                connection.close()
            return refused

        refused = yield deferToThread(fill)
        self.assertEqual(refused, b"")
        found = b""
        for _ in range(100):
            # The server hears of the closed ones a little later.
            try:
                found = yield self.ask(b"a\n")
            except OSError:
                pass
            if found:
                break
            yield deferLater(reactor, 0.05)
        self.assertEqual(found, b"<a>\n")

    def test_mode(self) -> None:
        """Owner and group only."""
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o660)

    def another(self, path: Path) -> ManagementSocket:
        return ManagementSocket(
            ManagementSettings(),
            path,
            reactor,  # type: ignore[arg-type]
            self.handle,
        )

    @inlineCallbacks
    def test_socket_in_use(self) -> Any:
        """A second PBX leaves the first one's socket alone."""
        start = Deferred.fromCoroutine(self.another(self.path).start())
        self.failureResultOf(start, CannotListenError)
        found = yield self.ask(b"a\n")
        self.assertEqual(found, b"<a>\n")

    @inlineCallbacks
    def test_stale_socket(self) -> Any:
        """What a killed process left is replaced, and goes away with us."""
        stale = self.path.with_suffix(".stale")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(stale))
            dead.listen()
        other = self.another(stale)
        yield Deferred.fromCoroutine(other.start())
        yield Deferred.fromCoroutine(other.stop())
        self.assertFalse(stale.exists())

    def test_no_socket_at_all(self) -> None:
        """A file of that name is somebody's: it stays."""
        other = self.path.with_suffix(".txt")
        other.write_text(json.dumps("precious"))
        start = Deferred.fromCoroutine(self.another(other).start())
        self.failureResultOf(start, CannotListenError)
        self.assertEqual(other.read_text(), '"precious"')
