"""The HTTP site on a loopback port."""

from __future__ import annotations

import json
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import CannotListenError
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from pbx.health import Health
from pbx.http.health import HealthPage
from pbx.http.site import HTTPSettings, Site


class SiteTests(TestCase):
    timeout = 20

    async def setUp(self) -> None:  # type: ignore[override]
        self.health = Health("ok")
        self.site = self.make("tcp:127.0.0.1:0", "tls:127.0.0.1:0")
        self.site.put("/health", HealthPage(lambda: self.health))
        await self.site.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.site.stop()))
        self.port = self.site.listeners()[0].port

    def make(self, *listen: str) -> Site:
        return Site(HTTPSettings(listen=listen, max_body=1000), reactor)  # type: ignore[arg-type]

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
