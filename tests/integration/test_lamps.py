"""Busy lamps of real calls: forked, transferred, picked up (RFC 4235, RFC 3891, RFC 5589)."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from defusedxml.ElementTree import fromstring

from pbx.sip.message import Request
from tests.integration.harness import PBX
from tests.integration.phone import Dialog, Phone, exchange
from tests.integration.watching import NS, WatchingTestCase


def dialogs(notify: Request) -> list[Element]:
    """The calls of a document."""
    return list(fromstring(notify.body).iter(f"{NS}dialog"))


def remote(dialog: Element) -> str | None:
    """Who is at the other end."""
    return dialog.findtext(f"{NS}remote/{NS}identity")


class LampTests(WatchingTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.server: PBX = self.pbx(users=["2001", "2002", "2003", "2004", "2005"])

    def lit(self, user: str, by: str = "2005", kind: str = "ws") -> Phone:
        """A phone that watches a user."""
        phone = self.phone(self.server, by, kind)
        _, first = self.watch(phone, "dialog", user=user)
        self.assertEqual(dialogs(first), [])
        return phone

    def call(self, caller: Phone, callee: Phone, user: str) -> tuple[Dialog, Dialog]:
        """Both sides of an answered call."""
        called = caller.invite(user)
        invite = callee.request("INVITE")
        callee.ring(invite)
        caller.response(180)
        answered = callee.answer(invite)
        calling = caller.called(called, caller.response(200))
        callee.request("ACK")
        return calling, answered

    def refer(self, one: Phone, dialog: Dialog, other: Phone, to: str) -> None:
        """REFER within a call, 202, and the NOTIFY that says it went well (RFC 3515)."""
        one.send(one.within(dialog, "REFER", [("Refer-To", to)]))
        asked = other.request("REFER")
        self.assertEqual(asked.get("refer-to"), to)
        other.respond(asked, 202)
        one.response(202)

    def test_forked_call(self) -> None:
        """Two phones ring, the lamp rings once; the one that answers is in the call."""
        desk, soft = (self.registered(self.server, "2002", kind) for kind in ("udp", "tcp"))
        alice, lamp = self.registered(self.server, "2001"), self.lit("2002")
        called = alice.invite("2002")
        invites = [phone.request("INVITE") for phone in (desk, soft)]
        for phone, invite in zip((desk, soft), invites, strict=True):
            phone.ring(invite)
            alice.response(180)
        [ringing] = dialogs(self.lamps(lamp, "early"))
        self.assertEqual(remote(ringing), "sip:2001@pbx.test")
        softs = soft.answer(invites[1])
        answer = alice.response(200)
        alice.called(called, answer)
        desk.respond(desk.request("CANCEL"), 200)
        desk.respond(invites[0], 487)
        desk.request("ACK")
        soft.request("ACK")
        [talking] = dialogs(self.lamps(lamp, "confirmed"))
        # The tag of the phone that answered, not of the one that rang first.
        self.assertEqual(talking.get("local-tag"), answer.to.tag)
        exchange(soft, softs, alice, "BYE")
        self.lamps(lamp)

    def test_blind_transfer(self) -> None:
        """Bob sends Alice to Carol: his lamp goes off, hers goes on."""
        alice, bob, carol = (
            self.registered(self.server, user) for user in ("2001", "2002", "2003")
        )
        bobs_lamp, carols_lamp = self.lit("2002"), self.lit("2003", "2004", "udp")
        _, bobs = self.call(alice, bob, "2002")
        self.lamps(bobs_lamp, "confirmed")
        self.refer(bob, bobs, alice, "<sip:2003@pbx.test>")
        exchange(bob, bobs, alice, "BYE")
        self.lamps(bobs_lamp)
        called = alice.invite("2003")
        invite = carol.request("INVITE")
        carol.ring(invite)
        alice.response(180)
        [ringing] = dialogs(self.lamps(carols_lamp, "early"))
        self.assertEqual(remote(ringing), "sip:2001@pbx.test")
        carols = carol.answer(invite)
        alice.called(called, alice.response(200))
        carol.request("ACK")
        self.lamps(carols_lamp, "confirmed")
        exchange(carol, carols, alice, "BYE")
        self.lamps(carols_lamp)

    def test_attended_transfer(self) -> None:
        """Alice takes Bob's place in his call with Carol (Replaces passes untouched)."""
        alice, bob, carol = (
            self.registered(self.server, user) for user in ("2001", "2002", "2003")
        )
        bobs_lamp, carols_lamp = self.lit("2002"), self.lit("2003", "2004", "udp")
        _, with_alice = self.call(alice, bob, "2002")
        to_carol, carols = self.call(bob, carol, "2003")
        self.lamps(bobs_lamp, "confirmed", "confirmed")
        self.lamps(carols_lamp, "confirmed")
        tags = [value.rpartition("tag=")[2] for value in (to_carol.local, to_carol.remote)]
        replaces = f"{to_carol.call_id};to-tag={tags[1]};from-tag={tags[0]}"
        escaped = replaces.replace(";", "%3B").replace("=", "%3D")
        self.refer(bob, with_alice, alice, f"<sip:2003@pbx.test?Replaces={escaped}>")
        called = alice.invite("2003", [("Replaces", replaces), ("Require", "replaces")])
        invite = carol.request("INVITE")
        self.assertEqual(invite.get("replaces"), replaces)
        again = carol.answer(invite)
        alice.called(called, alice.response(200))
        carol.request("ACK")
        exchange(carol, carols, bob, "BYE")
        exchange(bob, with_alice, alice, "BYE")
        self.lamps(bobs_lamp)
        found = dialogs(self.lamps(carols_lamp, "confirmed"))
        live = [one for one in found if one.findtext(f"{NS}state") == "confirmed"]
        self.assertEqual([remote(one) for one in live], ["sip:2001@pbx.test"])
        exchange(carol, again, alice, "BYE")
        self.lamps(carols_lamp)

    def test_pick_up(self) -> None:
        """Carol's phone sees Bob's ring and takes the call: all she needs is in the document."""
        alice, bob, carol = (
            self.registered(self.server, user) for user in ("2001", "2002", "2003")
        )
        lamp = self.lit("2002")
        called = alice.invite("2002")
        invite = bob.request("INVITE")
        ringing = bob.ring(invite)
        alice.response(180)
        [shown] = dialogs(self.lamps(lamp, "early"))
        target = shown.find(f"{NS}remote/{NS}target")
        assert target is not None
        uri = target.get("uri") or ""
        replaces = (
            f"{shown.get('call-id')};to-tag={shown.get('remote-tag')};"
            f"from-tag={shown.get('local-tag')};early-only"
        )
        asked = carol.authenticated(
            carol.make("INVITE", uri, headers=[("Replaces", replaces)], body="v=0\r\n")
        )
        taken = alice.request("INVITE")
        # It is Alice's own dialog: she began it, so that she is "to" here (RFC 3891 section 3).
        self.assertEqual(
            taken.get("replaces"),
            f"{called.call_id};to-tag={called.from_.tag};from-tag={ringing.to.tag};early-only",
        )
        alices = alice.answer(taken)
        alice.cancel(called)
        alice.response(200)
        bob.respond(bob.request("CANCEL"), 200)
        bob.respond(invite, 487)
        bob.request("ACK")
        alice.acknowledge(called, alice.response(487))
        carol.called(asked, carol.response(200))
        alice.request("ACK")
        self.lamps(lamp)
        exchange(alice, alices, carol, "BYE")
