"""SIP over WebSocket at /sip of the web site, from the page itself and from others."""

from __future__ import annotations

import http.client
import socket
from typing import Any

from tests.integration.harness import PBX, PBXTestCase, until
from tests.integration.phone import Phone, WebSocket, exchange


def web_port(pbx: PBX) -> int:
    """The port of the plain web site."""
    return int(pbx.mi("status")["web"].rstrip("/").rpartition(":")[2])


class WebSIPTestCase(PBXTestCase):
    tables: dict[str, dict[str, Any]] = {}

    def setUp(self) -> None:
        super().setUp()
        self.server = self.pbx(self.tables, users=("alice", "bob"))
        self.port = web_port(self.server)

    def page(self, origin: str = "") -> WebSocket:
        """A browser at /sip."""
        return WebSocket("127.0.0.1", self.port, "/sip", origin=origin)

    def browser(self, user: str) -> Phone:
        """A browser phone that shows our page."""
        phone = Phone(user, self.page(f"http://127.0.0.1:{self.port}"))
        self.addCleanup(phone.close)
        return phone


class WebSIPTests(WebSIPTestCase):
    def bindings(self) -> list[Any]:
        try:
            found = self.server.mi("ul_show_contact", "location", "alice@pbx.test")
        except ValueError:
            return []
        contacts: list[Any] = found["Contacts"]
        return contacts

    def get(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        self.addCleanup(connection.close)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}

    def test_call(self) -> None:
        """Register, call, re-INVITE and BYE over a connection of the web site, both directions."""
        alice = self.browser("alice")
        alice.register()
        bob = self.registered(self.server, "bob")
        invite = alice.invite("bob")
        arrived = bob.request("INVITE")
        called = bob.answer(arrived)
        calling = alice.called(invite, alice.response(200))
        bob.request("ACK")
        exchange(bob, called, alice, "INVITE")
        exchange(alice, calling, bob, "BYE")
        invite = bob.invite("alice")
        called = alice.answer(alice.request("INVITE"))
        calling = bob.called(invite, bob.response(200))
        alice.request("ACK")
        exchange(alice, called, bob, "BYE")

    def test_two_browsers(self) -> None:
        """Both ends behind .invalid names, one on /sip and one on the ws: listener."""
        alice = self.browser("alice")
        alice.register()
        bob = self.registered(self.server, "bob", "ws")
        invite = alice.invite("bob")
        called = bob.answer(bob.request("INVITE"))
        calling = alice.called(invite, alice.response(200))
        bob.request("ACK")
        exchange(alice, calling, bob, "INVITE")
        exchange(bob, called, alice, "BYE")

    def test_closing_the_page_removes_the_binding(self) -> None:
        alice = self.browser("alice")
        alice.register()
        self.assertEqual(len(self.bindings()), 1)
        alice.close()
        until(lambda: not self.bindings(), "the binding is gone", 5)

    def test_reload_replaces_the_flow(self) -> None:
        """The page comes back before its old connection is found dead."""
        parameters = ';+sip.instance="<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>";reg-id=1'
        first, second = self.browser("alice"), self.browser("alice")
        first.register(parameters=parameters)
        second.register(parameters=parameters)
        (contact,) = self.bindings()
        self.assertIn(second.way.place, contact["Contact"])
        bob = self.registered(self.server, "bob")
        bob.invite("alice")
        second.request("INVITE")
        self.assertTrue(first.silent())

    def test_origins(self) -> None:
        """Pages of other sites have no business at /sip; programs name no origin."""
        self.page().close()
        self.page(f"http://127.0.0.1:{self.port}").close()
        for origin in ("https://evil.test", f"http://evil.test:{self.port}", "null"):
            with self.assertRaises(ConnectionRefusedError) as caught:
                self.page(origin)
            self.assertIn("403", str(caught.exception))

    def test_no_upgrade(self) -> None:
        """426 says what is spoken here (RFC 9110 section 15.5.22); below it there is nothing."""
        status, headers = self.get("/sip", {})
        self.assertEqual((status, headers["upgrade"]), (426, "websocket"))
        self.assertEqual(self.get("/sip/x", {"Upgrade": "websocket"})[0], 404)
        # Without the rest of the handshake the protocol itself refuses.
        self.assertEqual(self.get("/sip", {"Upgrade": "websocket"})[0], 400)
        self.assertEqual(self.get("/health", {})[0], 200)

    def test_status_tells_the_listeners_of_the_configuration(self) -> None:
        """Tools take the first ws: for the ws: listener."""
        listeners = [text.partition(":")[0] for text in self.server.mi("status")["listeners"]]
        self.assertEqual(sorted(listeners), ["tcp", "udp", "ws"])

    def test_connections_that_say_nothing(self) -> None:
        """Handshakes that stop half-way and bytes that are none end alone."""
        for data in (b"GET /sip HTTP/1.1\r\nUpgrade: webso", b"\x16\x03\x01garbage\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as stranger:
                stranger.sendall(data)
        self.browser("alice").register()
        until(lambda: self.server.statistic("http:connections_used") == 0, "all are counted off")


class AllowedOriginTests(WebSIPTestCase):
    tables = {"websocket": {"allowed_origins": ["https://pages.test"]}}

    def test_listed_origin(self) -> None:
        """At /sip as at the ws: listener; our own page too, others nowhere."""
        self.page(f"http://127.0.0.1:{self.port}").close()
        self.page("https://pages.test").close()
        ws = self.server.ports["ws"]
        WebSocket("127.0.0.1", ws, origin="https://pages.test").close()
        with self.assertRaises(ConnectionRefusedError):
            WebSocket("127.0.0.1", ws, origin="https://evil.test")
