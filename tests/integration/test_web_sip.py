"""SIP over WebSocket at /sip of the web site, from the page itself and from others."""

from __future__ import annotations

import http.client
import socket
from typing import Any

from pbx.sip.message import Request
from tests.integration.harness import PBXTestCase, until
from tests.integration.phone import Phone, WebSocket, exchange
from tests.integration.web import port_of


class WebSIPTestCase(PBXTestCase):
    tables: dict[str, dict[str, Any]] = {}

    def setUp(self) -> None:
        super().setUp()
        self.server = self.pbx(self.tables, users=("alice", "bob", "carol"))
        self.port = port_of(self.server)

    def page(self, origin: str = "") -> WebSocket:
        """A browser at /sip."""
        return WebSocket("127.0.0.1", self.port, "/sip", origin=origin)

    def browser(self, user: str) -> Phone:
        """A browser phone that shows our page."""
        phone = Phone(user, self.page(f"http://127.0.0.1:{self.port}"))
        self.addCleanup(phone.close)
        return phone


class WebSIPTests(WebSIPTestCase):
    tables = {"http": {"idle_timeout": 2.0, "request_time": 1.0}}

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

    def test_page_outlives_the_limits_of_http(self) -> None:
        """Idle time and request time are those of SIP from the upgrade on."""
        alice = self.browser("alice")
        alice.register()
        self.assertTrue(alice.silent(4))
        self.assertEqual(self.server.statistic("http:slow_requests"), 0)
        bob = self.registered(self.server, "bob")
        bob.invite("alice")
        alice.request("INVITE")

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


class ColleagueTests(WebSIPTestCase):
    """What the page shows of others: lamps, presence, messages; all at /sip."""

    def watch(self, phone: Phone, user: str, package: str) -> Request:
        """Subscribe; the first NOTIFY, answered."""
        headers = [("Event", package), ("Expires", "600")]
        phone.authenticated(phone.make("SUBSCRIBE", f"sip:{user}@pbx.test", headers=headers))
        phone.response(200)
        return self.notified(phone)

    def notified(self, phone: Phone) -> Request:
        notify = phone.request("NOTIFY")
        phone.respond(notify, 200)
        return notify

    def write(self, sender: Phone, user: str, text: str) -> None:
        """A message, as a browser sends it."""
        asked = sender.make("MESSAGE", f"sip:{user}@pbx.test")
        asked.remove("contact")
        asked.set_body(text.encode(), "text/plain")
        sender.authenticated(asked)

    def test_lamp_of_a_colleague(self) -> None:
        """Idle, ringing, talking and idle again, of a call between a browser and a desk phone."""
        alice, watcher = self.browser("alice"), self.browser("bob")
        alice.register()
        desk = self.registered(self.server, "carol")
        self.assertNotIn(b"<state>", self.watch(watcher, "alice", "dialog").body)
        invite = desk.invite("alice")
        arrived = alice.request("INVITE")
        alice.ring(arrived)
        desk.response(180)
        self.assertIn(b"<state>early</state>", self.notified(watcher).body)
        called = alice.answer(arrived)
        desk.called(invite, desk.response(200))
        alice.request("ACK")
        self.assertIn(b"<state>confirmed</state>", self.notified(watcher).body)
        exchange(alice, called, desk, "BYE")
        self.assertIn(b">terminated</state>", self.notified(watcher).body)

    def test_presence_that_a_page_publishes(self) -> None:
        alice, bob = self.browser("alice"), self.browser("bob")
        self.watch(bob, "alice", "presence")
        body = (
            '<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:alice@pbx.test">'
            '<tuple id="a"><status><basic>open</basic></status></tuple></presence>'
        )
        asked = alice.make("PUBLISH", alice.aor, headers=[("Event", "presence")])
        asked.set_body(body.encode(), "application/pidf+xml")
        alice.authenticated(asked)
        alice.response(200)
        self.assertEqual(self.notified(bob).body.decode(), body)

    def test_message_to_a_page_that_is_open(self) -> None:
        """200 of the reader reaches the writer."""
        alice, bob = self.browser("alice"), self.browser("bob")
        bob.register()
        self.write(alice, "bob", "grüß dich")
        read = bob.request("MESSAGE")
        bob.respond(read, 200)
        alice.response(200)
        self.assertEqual(read.body.decode(), "grüß dich")

    def test_message_to_a_page_that_is_closed(self) -> None:
        """202: kept, and delivered with its date as soon as the page is open and registers."""
        alice, bob = self.browser("alice"), self.browser("bob")
        bob.register()
        bob.close()
        until(lambda: self.server.statistic("usrloc:location-contacts") == 0, "bob is gone", 5)
        self.write(alice, "bob", "later")
        alice.response(202)
        bob = self.browser("bob")
        bob.register()
        read = bob.request("MESSAGE", 10)
        bob.respond(read, 200)
        self.assertEqual(read.body, b"later")
        self.assertTrue((read.get("date") or "").endswith(" GMT"))
        self.assertEqual(read.from_.uri.user, "alice")


class IPv6Tests(WebSIPTestCase):
    tables = {
        "sip": {"listen": ["udp:127.0.0.1:0", "ws:[::1]:0"]},
        "http": {"listen": ["tcp:[::1]:0", "tcp:127.0.0.1:0"]},
    }

    def test_page_by_ipv6(self) -> None:
        """The page is of the address that it connects to; calls cross over to IPv4."""
        web = self.server.mi("status")["web"]
        self.assertTrue(web.startswith("http://[::1]:"), web)
        port = self.port
        with self.assertRaises(ConnectionRefusedError):
            WebSocket("::1", port, "/sip", origin=f"http://127.0.0.1:{port}")
        alice = Phone("alice", WebSocket("::1", port, "/sip", origin=f"http://[::1]:{port}"))
        self.addCleanup(alice.close)
        alice.register()
        bob = self.registered(self.server, "bob")
        invite = bob.invite("alice")
        called = alice.answer(alice.request("INVITE"))
        calling = bob.called(invite, bob.response(200))
        alice.request("ACK")
        exchange(alice, called, bob, "INVITE")
        exchange(bob, calling, alice, "BYE")


class LimitTests(WebSIPTestCase):
    tables = {"transport": {"max_connections_per_source": 3}}

    def test_too_many_pages(self) -> None:
        """Those beyond the limit of SIP connections are refused; one that closes makes room."""
        pages = [self.page() for _ in range(3)]
        with self.assertRaises(ConnectionRefusedError) as caught:
            self.page()
        self.assertIn("503", str(caught.exception))
        pages.pop().close()
        until(lambda: self.server.statistic("net:ws_connections") == 2, "one is gone")
        self.page().close()
        for page in pages:
            page.close()


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
