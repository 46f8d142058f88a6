"""The HTTP site on a loopback port."""

from __future__ import annotations

import json
import select
import socket
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import CannotListenError
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from pbx.health import Health
from pbx.http.health import HealthPage
from pbx.http.settings import HTTPSettings
from pbx.http.site import Site


class SiteTestCase(TestCase):
    """A site on a free port."""

    timeout = 20
    limits: dict[str, Any] = {}

    async def setUp(self) -> None:  # type: ignore[override]
        self.health = Health("ok")
        self.site = self.make("tcp:127.0.0.1:0", "tls:127.0.0.1:0")
        self.site.put("/health", HealthPage(lambda: self.health))
        await self.site.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.site.stop()))
        self.port = self.site.listeners()[0].port

    def make(self, *listen: str) -> Site:
        settings = HTTPSettings(listen=listen, max_body=1000, **self.limits)
        return Site(settings, reactor)  # type: ignore[arg-type]

    def talk(self, data: bytes) -> Deferred[bytes]:
        def blocking() -> bytes:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
                connection.sendall(data)
                found = b""
                while chunk := connection.recv(65536):
                    found += chunk
                return found

        return deferToThread(blocking)

    @inlineCallbacks
    def get(self, path: str, method: str = "GET") -> Any:
        text = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = yield self.talk(text.encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body


class SiteTests(SiteTestCase):
    @inlineCallbacks
    def test_health(self) -> Any:
        """200 while calls can be served, also when degraded; 503 when not; JSON with reasons."""
        for word, expected in (("ok", 200), ("degraded", 200), ("down", 503)):
            self.health = Health(word, (f"because {word}",))
            status, body = yield self.get("/health")
            found = json.loads(body)
            self.assertEqual(status, expected)
            self.assertEqual((found["status"], found["reasons"]), (word, [f"because {word}"]))

    @inlineCallbacks
    def test_other_paths_and_methods(self) -> Any:
        """404 and 405."""
        for path in ("/", "/none", "/health2"):
            status, _ = yield self.get(path)
            self.assertEqual(status, 404, path)
        status, _ = yield self.get("/health", "POST")
        self.assertEqual(status, 405)
        status, body = yield self.get("/health", "HEAD")
        self.assertEqual((status, body), (200, b""))

    @inlineCallbacks
    def test_body_too_large(self) -> Any:
        """413, announced or in chunks, and the connection is closed."""
        head = b"POST /health HTTP/1.1\r\nHost: x\r\n"
        for text in (
            b"Content-Length: 2000\r\n\r\n" + b"x" * 2000,
            b"Transfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n",
        ):
            answer = yield self.talk(head + text)
            self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer[:200])
            self.assertEqual(answer.count(b"HTTP/1.1"), 1)

    @inlineCallbacks
    def test_garbage(self) -> Any:
        """400, and the next client is served."""
        yield self.talk(b"\xff\x00\r\n\r\n")
        status, _ = yield self.get("/health")
        self.assertEqual(status, 200)

    def test_listener_without_certificate_is_left_out(self) -> None:
        self.assertEqual([at.transport for at in self.site.listeners()], ["TCP"])
        self.assertEqual(self.site.url(), f"http://127.0.0.1:{self.port}/")

    def test_port_in_use(self) -> None:
        start = Deferred.fromCoroutine(self.make(f"tcp:127.0.0.1:{self.port}").start())
        self.failureResultOf(start, CannotListenError)


class LimitTests(SiteTestCase):
    limits = {"request_time": 0.5, "max_connections_per_source": 3, "idle_timeout": 5.0}

    def connected(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self.addCleanup(connection.close)
        return connection

    @inlineCallbacks
    def test_slow_request(self) -> Any:
        """Cut off, however lively its bytes drip; a request that is being answered is not."""

        def drip() -> int:
            connection = self.connected()
            sent = 0
            try:
                for byte in b"GET /health HTTP/1.1\r\nX: " + b"y" * 400:
                    connection.sendall(bytes([byte]))
                    sent += 1
                    time.sleep(0.02)
                    if select.select([connection], [], [], 0)[0] and not connection.recv(1):
                        break
            except OSError:
                pass
            return sent

        sent = yield deferToThread(drip)
        self.assertLess(sent, 300)
        self.assertEqual(self.site.statistics()["http:slow_requests"], 1)

    @inlineCallbacks
    def test_kept_connection_is_not_slow(self) -> Any:
        """The time counts per request."""

        def twice() -> list[bytes]:
            connection = self.connected()
            found: list[bytes] = []
            for _ in range(2):
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                found.append(connection.recv(12))
                while select.select([connection], [], [], 0.7)[0]:
                    connection.recv(4096)
            return found

        found = yield deferToThread(twice)
        self.assertEqual(found, [b"HTTP/1.1 200"] * 2)

    @inlineCallbacks
    def test_too_many_connections(self) -> Any:
        """Those beyond the limit are closed at once; one that ends makes room."""

        def fill() -> tuple[list[bytes], bytes]:
            kept = [self.connected() for _ in range(3)]
            for connection in kept:
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                connection.recv(4096)
            beyond = self.connected()
            try:
                refused = [beyond.recv(1)]
            except ConnectionResetError:
                refused = [b""]
            kept.pop().close()
            time.sleep(0.3)
            last = self.connected()
            last.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            return refused, last.recv(12)

        refused, served = yield deferToThread(fill)
        self.assertEqual((refused, served), ([b""], b"HTTP/1.1 200"))
        self.assertEqual(self.site.statistics()["http:refused_connections"], 1)

    @inlineCallbacks
    def test_proxy_may_open_more(self) -> Any:
        """Its connections are those of many clients."""
        settings = HTTPSettings(listen=("tcp:127.0.0.1:0",), max_connections_per_source=3)
        other = Site(settings, reactor, proxies=("127.0.0.1",))  # type: ignore[arg-type]
        yield Deferred.fromCoroutine(other.start())
        self.addCleanup(lambda: Deferred.fromCoroutine(other.stop()))
        port = other.listeners()[0].port

        def fill() -> list[bytes]:
            kept = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(6)]
            found = []
            for connection in kept:
                connection.sendall(b"GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                found.append(connection.recv(12))
            for connection in kept:
                connection.close()
            return found

        found = yield deferToThread(fill)
        self.assertEqual(found, [b"HTTP/1.1 404"] * 6)

    @inlineCallbacks
    def test_every_answer_is_typed(self) -> Any:
        """Browsers must not guess what a text is."""
        answer = yield self.talk(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        head = answer.partition(b"\r\n\r\n")[0].lower()
        self.assertIn(b"x-content-type-options: nosniff", head)
        self.assertNotIn(b"twisted", head)
