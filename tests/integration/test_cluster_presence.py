"""Presence, busy lamps and messages across the nodes of a cluster."""

from __future__ import annotations

import signal

from defusedxml.ElementTree import fromstring

from pbx.sip.message import Request
from tests.integration.cluster_case import ClusterCase, Node
from tests.integration.harness import until
from tests.integration.phone import Datagrams, Phone, exchange
from tests.integration.test_xcap import RULE, RULES, RULESET, Curl
from tests.integration.watching import NS, next_notify

PIDF = (
    '<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:bob@pbx.test"><tuple id="a">'
    "<status><basic>open</basic></status></tuple></presence>"
)


class ClusterPresenceTests(ClusterCase):
    def watch(self, phone: Phone, package: str) -> Request:
        """Subscribe to bob; the first NOTIFY."""
        asked = phone.make("SUBSCRIBE", "sip:bob@pbx.test", headers=[("Event", package)])
        phone.authenticated(asked)
        phone.response(200)
        return self.notified(phone)

    def notified(self, phone: Phone) -> Request:
        return next_notify(phone, 15)

    def publish(self, node: Node) -> None:
        """bob says that he is there."""
        bob = self.phone_at(node, "bob")
        asked = bob.make("PUBLISH", bob.aor, headers=[("Event", "presence")])
        asked.set_body(PIDF.encode(), "application/pidf+xml")
        bob.authenticated(asked)
        bob.response(200)

    def until_lamp(self, phone: Phone, state: str) -> None:
        """The last call that is shown is so."""
        while True:
            states = [one.text for one in fromstring(self.notified(phone).body).iter(f"{NS}state")]
            if state in states:
                return

    def test_presence_and_lamps(self) -> None:
        """Whoever watches at node a sees what happens at node b."""
        a, b = self.two("alice", "bob", "carol")
        carol, lamp = self.phone_at(a, "carol"), self.phone_at(a, "carol", "ws")
        self.assertEqual(self.watch(carol, "presence").body, b"")
        self.watch(lamp, "dialog")
        self.publish(b)
        self.assertEqual(self.notified(carol).body.decode(), PIDF)
        alice, bob = self.registered_at(b, "alice"), self.registered_at(b, "bob")
        called = alice.invite("bob")
        invite = bob.request("INVITE")
        bob.ring(invite)
        alice.response(180)
        self.until_lamp(lamp, "early")
        bobs = bob.answer(invite)
        alice.called(called, alice.response(200))
        bob.request("ACK")
        self.until_lamp(lamp, "confirmed")
        exchange(bob, bobs, alice, "BYE")
        self.until_lamp(lamp, "terminated")

    def test_node_dies(self) -> None:
        """Its watchers hear of what happens afterwards."""
        a, b = self.two("bob", "carol")
        carol = self.phone_at(b, "carol")
        self.watch(carol, "presence")
        query = "SELECT sharing_tag FROM active_watchers"
        until(lambda: a.sql(query) == [("b",)], "the row is written", 10)
        b.process.stop(signal.SIGKILL)  # type: ignore[union-attr]
        # Her answers go to who asks from now on.
        assert isinstance(carol.way, Datagrams)
        carol.way.peer = (a.host, a.ports["udp"])
        until(lambda: a.mi("presence_subscriptions")["Subscriptions"], "taken over", 20)
        self.assertIn(b"closed", self.notified(carol).body)
        self.publish(a)
        self.assertEqual(self.notified(carol).body.decode(), PIDF)

    def test_message(self) -> None:
        """Stored at one node, delivered once by the other that bob comes back to."""
        a, b = self.two("alice", "bob")
        alice = self.phone_at(a, "alice")
        asked = alice.make("MESSAGE", "sip:bob@pbx.test")
        asked.set_body(b"hello", "text/plain")
        alice.authenticated(asked)
        alice.response(202)
        bob = self.registered_at(b, "bob")
        bob.respond(bob.request("MESSAGE", 15), 200)
        until(lambda: a.sql("SELECT count(*) FROM silo") == [("0",)], "the row is gone", 10)
        self.assertTrue(bob.silent(3), bob.history())

    def test_rules(self) -> None:
        """Edited at one node, in PostgreSQL, and a watcher at the other hears of it."""
        a, b = self.two("bob", "carol", presence={"force_active": False})
        carol = self.phone_at(b, "carol")
        asked = carol.make("SUBSCRIBE", "sip:bob@pbx.test", headers=[("Event", "presence")])
        carol.authenticated(asked)
        carol.response(202)
        self.assertEqual(self.notified(carol).get("subscription-state"), "pending;expires=3600")
        index = "pres-rules/users/sip:bob@pbx.test/index"
        document = RULESET.format(RULE.format("carol", "allow"))
        bob = Curl(a, "bob", self.folder)
        self.assertEqual(bob.put(index, document, RULES), 201)
        state = self.notified(carol).get("subscription-state") or ""
        self.assertTrue(state.startswith("active"), state)
        other = Curl(b, "bob", self.folder)
        self.assertEqual((other.get(index), other.body.decode()), (200, document))
        self.assertEqual(
            other.ask("DELETE", index, b"", "-H", f"If-Match: {bob.headers['etag']}"), 200
        )
        state = self.notified(carol).get("subscription-state") or ""
        self.assertTrue(state.startswith("pending"), state)
        until(lambda: bob.get(index) == 404, "gone at the first node as well", 15)
