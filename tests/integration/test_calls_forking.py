"""One user with several phones."""

from __future__ import annotations

from tests.integration.harness import PBXTestCase, until
from tests.integration.phone import Phone, exchange


class ForkingTests(PBXTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.server = self.pbx(users=("alice", "bob"))
        self.alice = self.registered(self.server, "alice")

    def phones(self, *parameters: str) -> list[Phone]:
        """Phones of bob, each with its Contact parameters."""
        kinds = ("udp", "tcp", "udp")
        return [
            self.registered(self.server, "bob", kinds[at % 3], more)
            for at, more in enumerate(parameters)
        ]

    def cdr(self) -> list[tuple[object, ...]]:
        """The one row of the call."""
        until(lambda: self.server.sql("SELECT 1 FROM cdr"), "the cdr", 5)
        return self.server.sql("SELECT callee, disposition, ended_by, sip_code FROM cdr")

    def test_one_answers_one_is_busy_one_is_silent(self) -> None:
        """The 200 wins; who still rings gets CANCEL, with the reason (RFC 3326)."""
        answering, busy, silent = self.phones("", "", "")
        invite = self.alice.invite("bob")
        waiting = silent.request("INVITE")
        silent.ring(waiting)
        self.alice.response(180)
        busy.respond(busy.request("INVITE"), 486)
        busy.request("ACK")
        arrived = answering.request("INVITE")
        called = answering.answer(arrived)
        calling = self.alice.called(invite, self.alice.response(200))
        answering.request("ACK")
        cancel = silent.request("CANCEL")
        reason = cancel.get("reason") or ""
        self.assertIn("SIP", reason)
        self.assertIn("cause=200", reason)
        silent.respond(cancel, 200)
        silent.respond(waiting, 487)
        silent.request("ACK")
        self.assertTrue(busy.silent(0.3), busy.history())
        exchange(self.alice, calling, answering, "INFO")
        exchange(answering, called, self.alice, "BYE")
        self.assertEqual(self.cdr(), [("bob", "answered", "callee", 200)])

    def test_all_refuse(self) -> None:
        """The best of the refusals reaches the caller, once (16.7 step 6)."""
        phones = self.phones("", "", "")
        invite = self.alice.invite("bob")
        for phone, status in zip(phones, (480, 486, 500), strict=True):
            phone.respond(phone.request("INVITE"), status)
            phone.request("ACK")
        while True:
            response = self.alice.receive()
            if getattr(response, "status", 100) != 100:
                break
        self.assertIn(getattr(response, "status", 0), (480, 486))
        self.alice.acknowledge(invite, response)  # type: ignore[arg-type]
        self.assertEqual(len(self.cdr()), 1)
        self.assertTrue(self.alice.silent(0.7), self.alice.history())

    def test_declined_everywhere(self) -> None:
        """A 6xx ends the search: the others are cancelled (16.7 step 5)."""
        first, second = self.phones("", "")
        invite = self.alice.invite("bob")
        waiting = second.request("INVITE")
        second.ring(waiting)
        self.alice.response(180)
        first.respond(first.request("INVITE"), 603)
        first.request("ACK")
        second.respond(second.request("CANCEL"), 200)
        second.respond(waiting, 487)
        second.request("ACK")
        self.alice.acknowledge(invite, self.alice.response(603))

    def test_by_preference(self) -> None:
        """q: the preferred phone alone, the next one when it has refused (16.6)."""
        low, high = self.phones(";q=0.2", ";q=0.9")
        self.alice.invite("bob")
        arrived = high.request("INVITE")
        self.assertTrue(low.silent(0.5), low.history())
        high.respond(arrived, 486)
        high.request("ACK")
        called = low.answer(low.request("INVITE"))
        self.alice.response(200)
        self.assertTrue(high.silent(0.3), high.history())
        self.assertIn("bob", called.local)

    def test_caller_gives_up(self) -> None:
        """CANCEL reaches every phone that rings, and the caller gets 487."""
        phones = self.phones("", "", "")
        invite = self.alice.invite("bob")
        ringing = [phone.request("INVITE") for phone in phones]
        for phone, arrived in zip(phones, ringing, strict=True):
            phone.ring(arrived)
            self.alice.response(180)
        self.alice.cancel(invite)
        self.alice.response(200)
        for phone, arrived in zip(phones, ringing, strict=True):
            phone.respond(phone.request("CANCEL"), 200)
            phone.respond(arrived, 487)
            phone.request("ACK")
        self.alice.acknowledge(invite, self.alice.response(487))
        self.assertEqual(self.cdr(), [("bob", "cancelled", "caller", 487)])
