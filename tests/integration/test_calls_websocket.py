"""A WebSocket client (RFC 7118) and a UDP phone call each other."""

from __future__ import annotations

from tests.integration.harness import PBXTestCase, until
from tests.integration.phone import exchange

INSTANCE = '+sip.instance="<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>"'


class WebSocketTests(PBXTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.server = self.pbx(users=("alice", "bob"))

    def bindings(self) -> list[str]:
        """Contacts of alice, as the PBX knows them."""
        try:
            shown = self.server.mi("ul_show_contact", "location", "alice@pbx.test")
        except ValueError:
            return []
        return [contact["Contact"] for contact in shown["Contacts"]]

    def test_browser_calls_a_phone(self) -> None:
        """Via and Contact in .invalid reach nobody; ACK, re-INVITE and BYE pass all the same."""
        alice = self.registered(self.server, "alice", "ws")
        bob = self.registered(self.server, "bob")
        invite = alice.invite("bob")
        arrived = bob.request("INVITE")
        self.assertNotIn(".invalid", arrived.contacts[0].uri_text)
        bob.ring(arrived)
        alice.response(180)
        called = bob.answer(arrived)
        calling = alice.called(invite, alice.response(200))
        bob.request("ACK")
        exchange(bob, called, alice, "INVITE")
        exchange(alice, calling, bob, "INFO")
        exchange(bob, called, alice, "BYE")
        until(lambda: self.server.sql("SELECT 1 FROM cdr"), "the cdr", 5)
        query = "SELECT caller, callee, disposition, ended_by FROM cdr"
        self.assertEqual(self.server.sql(query), [("alice", "bob", "answered", "callee")])

    def test_phone_calls_a_browser(self) -> None:
        """O10: the 200 of a browser has a Contact that ACK and BYE can use."""
        alice = self.registered(self.server, "alice", "ws")
        bob = self.registered(self.server, "bob")
        invite = bob.invite("alice")
        arrived = alice.request("INVITE")
        self.assertEqual(arrived.uri.host, alice.way.place)
        called = alice.answer(arrived)
        answered = bob.response(200)
        self.assertNotIn(".invalid", answered.contacts[0].uri_text)
        calling = bob.called(invite, answered)
        alice.request("ACK")
        exchange(alice, called, bob, "INVITE")
        exchange(bob, calling, alice, "BYE")

    def test_closing_the_socket_removes_the_binding(self) -> None:
        """RFC 5626 section 5.3: the flow is gone, and so is the way to the phone (O9)."""
        alice = self.registered(self.server, "alice", "ws")
        bob = self.registered(self.server, "bob")
        self.assertEqual(len(self.bindings()), 1)
        alice.close()
        until(lambda: not self.bindings(), "the binding is gone", 5)
        invite = bob.invite("alice")
        bob.acknowledge(invite, bob.response(480))
        until(lambda: len(self.server.sql("SELECT 1 FROM location")) == 1, "its row too", 5)

    def test_reload_replaces_the_binding(self) -> None:
        """The same instance on a new connection: one binding, the new one."""
        first = self.registered(self.server, "alice", "ws", f";{INSTANCE};reg-id=1")
        second = self.registered(self.server, "alice", "ws", f";{INSTANCE};reg-id=1")
        (contact,) = self.bindings()
        self.assertIn(second.way.place, contact)
        first.close()
        bob = self.registered(self.server, "bob")
        bob.invite("alice")
        second.request("INVITE")
        self.assertEqual(len(self.bindings()), 1)
