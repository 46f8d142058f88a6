"""JSON-RPC by HTTP (specification 40, section 1.1) and who may use it (oddity O21)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

import plugins
from pbx.config import ConfigError
from pbx.http.settings import HTTPSettings
from pbx.http.site import Site
from pbx.interfaces import (
    IDomains,
    IFolder,
    IManagement,
    IPBXPlugin,
    IWebSite,
)
from pbx.management.commands import Commands
from pbx.registry import Registry
from plugins.mi_http import MIHTTPPlugin

TOKEN = "0123456789abcdef"
LOOPBACK = IPv4Address("TCP", "127.0.0.1", 40000)
OTHER = IPv4Address("TCP", "192.0.2.7", 40000)
CALL = b'{"jsonrpc":"2.0","id":1,"method":"echo","params":["a"]}'
JSON = ("Content-Type", "application/json")


@implementer(IDomains, IFolder)
class FakeSurroundings:
    """The domain pbx.test, and a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def is_local(self, host: str) -> bool:
        return host.lower() == "pbx.test"

    def canonical(self, host: str) -> str:
        return host

    def names(self) -> list[str]:
        return ["pbx.test"]

    def located(self, path: Path) -> Path:
        return self.folder / path


class MIHTTPTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "token").write_text(TOKEN + "\n")
        self.slow: Deferred[object] = Deferred()
        self.called: list[object] = []
        self.commands = Commands()
        self.add("echo", ("text",), self.echo)
        self.add("slow", (), lambda: self.slow)
        self.site = self.make({})

    def add(self, name: str, recipe: tuple[str, ...], function: Callable[..., object]) -> None:
        self.commands.add_command(name, (recipe,), function)

    def echo(self, text: object) -> object:
        self.called.append(text)
        return text

    def make(self, table: dict[str, Any], management: object = None) -> Site:
        site = Site(HTTPSettings(listen=()), Clock())  # type: ignore[arg-type]
        cast(Any, site.factory).reactor = Clock()
        registry = Registry()
        with registry.building():
            surroundings = FakeSurroundings(self.folder)
            registry.provide(IDomains, surroundings)
            registry.provide(IFolder, surroundings)
            registry.provide(IManagement, management or self.commands)
            registry.provide(IWebSite, site)
            MIHTTPPlugin().provide(registry, Clock(), table)
        return site

    def send(
        self,
        body: bytes = CALL,
        *headers: tuple[str, str],
        method: str = "POST",
        path: str = "/mi",
        peer: IPv4Address | IPv6Address = LOOPBACK,
        host: str = "127.0.0.1:8888",
    ) -> StringTransport:
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {host}",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in headers),
        ]
        transport = StringTransport(peerAddress=peer)
        self.protocol = cast(Any, self.site.factory.buildProtocol(peer))
        self.protocol.makeConnection(transport)
        self.protocol.dataReceived("\r\n".join([*lines, "", ""]).encode() + body)
        return transport

    def answer(self, *args: Any, **named: Any) -> tuple[int, dict[str, str], bytes]:
        return self.parsed(self.send(*args, **named))

    def parsed(self, transport: StringTransport) -> tuple[int, dict[str, str], bytes]:
        head, _, body = transport.value().partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        if headers.get("transfer-encoding") == "chunked":
            size, _, rest = body.partition(b"\r\n")
            body = rest[: int(size, 16)]
        return int(status.split()[1]), headers, body

    def status(self, *args: Any, **named: Any) -> int:
        return self.answer(*args, **named)[0]


class RequestTests(MIHTTPTestCase):
    def test_call(self) -> None:
        """The answer in JSON."""
        status, headers, body = self.answer(CALL, JSON)
        self.assertEqual((status, headers["content-type"]), (200, "application/json"))
        self.assertEqual(json.loads(body), {"jsonrpc": "2.0", "id": 1, "result": "a"})

    def test_errors_of_json_rpc_are_200(self) -> None:
        for body, code in (
            (b'{"jsonrpc":"2.0","id":1,"method":"none"}', -32601),
            (b"{", -32700),
            (b"[" * 100_000, -32700),
            (b"\xff", -32700),
            (b"{}", -32600),
            (b'{"jsonrpc":"2.0","id":1,"method":"echo"}', -32602),
        ):
            status, _, answer = self.answer(body)
            self.assertEqual((status, json.loads(answer)["error"]["code"]), (200, code), body[:60])

    def test_notification(self) -> None:
        """Done, 202, and nothing said."""
        status, _, body = self.answer(b'{"jsonrpc":"2.0","method":"echo","params":["n"]}')
        self.assertEqual((status, body.strip(b"0\r\n"), self.called), (202, b"", ["n"]))

    def test_empty_body(self) -> None:
        self.assertEqual(self.status(b""), 400)
        self.assertEqual(self.status(b" \n"), 400)

    def test_other_methods(self) -> None:
        """405, which names the one that there is."""
        for method in ("GET", "PUT", "DELETE", "OPTIONS", "HEAD", "BREW"):
            status, headers, body = self.answer(b"", method=method)
            self.assertEqual((status, headers["allow"]), (405, "POST"), method)
            self.assertEqual(body == b"", method == "HEAD")

    def test_other_paths(self) -> None:
        for path in ("/", "/mi/x", "/mi/x/", "/mi2", "/MI"):
            self.assertEqual(self.status(path=path), 404, path)
        self.assertEqual(self.status(path="/mi/"), 200)

    def test_root(self) -> None:
        """The path can be changed."""
        self.site = self.make({"root": "/manage"})
        self.assertEqual(self.status(path="/manage"), 200)
        self.assertEqual(self.status(path="/mi"), 404)

    def test_a_dispatcher_that_fails(self) -> None:
        """500, and the failure is logged."""

        @implementer(IManagement)
        class Broken:
            async def handle(self, text: bytes) -> bytes | None:
                raise ValueError("broken")

        self.site = self.make({}, Broken())
        self.assertEqual(self.status(), 500)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_body_of_a_megabyte(self) -> None:
        """Is taken; more is 413."""
        text = "x" * ((1 << 20) - 100)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "echo", "params": [text]}).encode()
        status, _, _ = self.answer(body)
        self.assertEqual((status, self.called), (200, [text]))
        self.assertEqual(self.status(body + b" " * 100), 413)

    def test_slow_commands(self) -> None:
        """The answer comes when it is there."""
        transport = self.send(b'{"jsonrpc":"2.0","id":1,"method":"slow"}')
        self.assertEqual(transport.value(), b"")
        self.slow.callback("done")
        self.assertEqual(json.loads(self.parsed(transport)[2])["result"], "done")

    def test_client_that_does_not_wait(self) -> None:
        """The command ends, and nothing is written to nobody."""
        transport = self.send(b'{"jsonrpc":"2.0","id":1,"method":"slow"}')
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.slow.callback("done")
        self.assertEqual(transport.value(), b"")


class AccessTests(MIHTTPTestCase):
    def test_loopback_only(self) -> None:
        """Without settings nobody from elsewhere may do anything (O21)."""
        for host, status in (("127.0.0.1", 200), ("127.9.9.9", 200), ("192.0.2.7", 403)):
            self.assertEqual(self.status(peer=IPv4Address("TCP", host, 1)), status, host)
        for host, status in (
            ("::1", 200),
            ("::ffff:127.0.0.1", 200),
            ("::ffff:192.0.2.7", 403),
            ("2001:db8::1", 403),
            ("fe80::1%eth0", 403),
        ):
            self.assertEqual(self.status(peer=IPv6Address("TCP", host, 1)), status, host)
        self.assertEqual(self.called, ["a"] * 4)

    def test_token(self) -> None:
        """Opens the interface to other hosts; a wrong one does not."""
        self.site = self.make({"token_file": "token"})
        for value, status in (
            (f"Bearer {TOKEN}", 200),
            (f"bearer  {TOKEN}", 200),
            (f"Basic {TOKEN}", 403),
            (f"Bearer {TOKEN}x", 403),
            (f"Bearer {TOKEN[:-1]}", 403),
            ("Bearer", 403),
            ("Bearer \xe9", 403),
            ("", 403),
        ):
            found = self.status(CALL, ("Authorization", value), peer=OTHER)
            self.assertEqual(found, status, value)
        self.assertEqual(self.status(peer=OTHER), 403)
        self.assertEqual(self.status(peer=LOOPBACK), 200)

    def test_no_token_opens_nothing(self) -> None:
        """An empty one is not the token of a PBX that has none."""
        for value in ("Bearer", "Bearer ", "bearer"):
            self.assertEqual(self.status(CALL, ("Authorization", value), peer=OTHER), 403)

    def test_networks(self) -> None:
        """Those on the list need no token."""
        self.site = self.make({"allow": ["192.0.2.0/24", "2001:db8::/64"]})
        self.assertEqual(self.status(peer=OTHER), 200)
        for host, status in (("::ffff:192.0.2.9", 200), ("2001:db8::9", 200), ("2001:db9::", 403)):
            self.assertEqual(self.status(peer=IPv6Address("TCP", host, 1)), status, host)
        self.assertEqual(self.status(peer=IPv4Address("TCP", "192.0.3.1", 1)), 403)

    def test_through_a_proxy(self) -> None:
        """The proxy is on this host, who asks is not: only the token counts."""
        self.site = self.make({"token_file": "token", "allow": ["10.0.0.0/8"]})
        for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
            self.assertEqual(self.status(CALL, (name, "10.0.0.1")), 403, name)
            token = ("Authorization", f"Bearer {TOKEN}")
            self.assertEqual(self.status(CALL, (name, "10.0.0.1"), token), 200, name)

    def test_pages_of_other_sites(self) -> None:
        """What a browser sends for a page must come from one of ours, in JSON."""
        for origin, host, status in (
            ("http://127.0.0.1:8888", "127.0.0.1:8888", 200),
            ("http://localhost:8888", "localhost:8888", 200),
            ("https://[::1]:8443", "[::1]:8443", 200),
            ("https://PBX.test:8443", "pbx.test:8443", 200),
            ("http://evil.test", "127.0.0.1:8888", 403),
            ("http://127.0.0.1:9999", "127.0.0.1:8888", 403),
            ("null", "127.0.0.1:8888", 403),
            ("", "127.0.0.1:8888", 403),
            ("http://[", "127.0.0.1:8888", 403),
            ("http://[", "[", 403),
        ):
            found = self.status(CALL, JSON, ("Origin", origin), host=host)
            self.assertEqual(found, status, (origin, host))

    def test_name_that_was_made_to_point_here(self) -> None:
        """DNS rebinding: Origin and Host agree on a name that is not ours."""
        found = self.status(CALL, JSON, ("Origin", "http://evil.test:8888"), host="evil.test:8888")
        self.assertEqual((found, self.called), (403, []))

    def test_forms(self) -> None:
        """A browser sends these without asking first."""
        own = ("Origin", "http://127.0.0.1:8888")
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
            self.assertEqual(self.status(CALL, ("Content-Type", kind), own), 403, kind)
        self.assertEqual(self.status(CALL, own), 403)
        charset = ("Content-Type", "Application/JSON; charset=utf-8")
        self.assertEqual(self.status(CALL, charset, own), 200)
        # Programs name no origin and may send any type.
        self.assertEqual(self.status(CALL, ("Content-Type", "text/plain")), 200)


class SettingsTests(MIHTTPTestCase):
    def test_plugin_is_found(self) -> None:
        found = {plugin.name: plugin for plugin in getPlugins(IPBXPlugin, plugins)}
        self.assertIn("mi_http", found)

    def test_faults(self) -> None:
        """Each says which key is wrong."""
        (self.folder / "short").write_text("123\n")
        for table, text in (
            ({"root": "/"}, "[mi_http] root: "),
            ({"root": "a/b"}, "[mi_http] root: "),
            ({"allow": ["192.0.2.1/24"]}, "[mi_http] allow: "),
            ({"allow": ["here"]}, "[mi_http] allow: "),
            ({"token_file": "missing"}, "missing: No such file"),
            ({"token_file": "short"}, "at least 16 characters"),
            ({"token": "x"}, "[mi_http] token: unknown; did you mean token_file?"),
        ):
            with self.assertRaises(ConfigError) as caught:
                self.make(table)
            self.assertIn(text, str(caught.exception))
