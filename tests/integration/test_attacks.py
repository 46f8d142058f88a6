"""What strangers and liars get: the answer of the policy, and nothing else happens."""

from __future__ import annotations

import re

from pbx.sip.message import Request, Response
from tests.integration.harness import PBXTestCase
from tests.integration.phone import SDP, Phone, exchange


class AttackTests(PBXTestCase):
    """Bob is registered; ``nothing_happened`` is checked after every attack."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.pbx(users=("alice", "bob"))
        self.bob = self.registered(self.server, "bob")
        self.sent = self.server.statistic("core:fwd_requests")
        self.addCleanup(self.nothing_happened)

    def nothing_happened(self) -> None:
        """No packet to a phone, no row, no dialog, no binding but bob's."""
        self.assertTrue(self.bob.silent(0.4), self.bob.history())
        self.assertEqual(self.server.statistic("core:fwd_requests"), self.sent)
        self.assertEqual(self.server.statistic("usrloc:location-contacts"), 1)
        for name in ("dialog:active_dialogs", "dialog:early_dialogs"):
            self.assertEqual(self.server.statistic(name), 0)
        for table in ("acc", "missed_calls", "pbx_cdr", "dialog"):
            self.assertEqual(self.server.sql(f"SELECT * FROM {table}"), [], table)
        users = [user for (user,) in self.server.sql("SELECT username FROM location")]
        self.assertEqual(users, ["bob"])

    def refused(self, phone: Phone, request: Request, status: int) -> Response:
        """Send it; the refusal, acknowledged."""
        phone.send(request)
        response = phone.response(status)
        if request.method == "INVITE":
            phone.acknowledge(request, response)
        return response

    def register_request(self, phone: Phone, user: str = "") -> Request:
        """A REGISTER for a user, of the phone's own when it is not said."""
        aor = f"sip:{user or phone.user}@pbx.test"
        headers = [("Contact", f"<{phone.contact}>"), ("Expires", "600")]
        request = phone.make("REGISTER", "sip:pbx.test", to=aor, headers=headers)
        request.set("from", f"<{aor}>;tag=1")
        return request

    def anatomy(self, response: Response) -> list[str]:
        """A response with what is random in it taken out."""
        text = bytes(response).decode()
        text = re.sub(r'nonce="[^"]*"|tag=[^\s;]*|branch=[^\s;]*|port=\d+|:\d{4,5}', "", text)
        text = re.sub(r"(?m)^(Call-ID|From|To): .*$", r"\1", text)
        return sorted(text.split("\r\n"))

    def test_wrong_password_and_unknown_user(self) -> None:
        """Both are challenged again, and nobody can tell them apart."""
        anatomies: list[list[str]] = []
        for user, password in (("alice", "wrong"), ("mallory", "secret")):
            phone = self.phone(self.server, user, password=password)
            request = self.register_request(phone)
            second = phone.again(request, self.refused(phone, request, 401))
            refused = self.refused(phone, second, 401)
            self.assertNotIn("stale", refused.get("www-authenticate") or "")
            anatomies.append(self.anatomy(refused))
        self.assertEqual(anatomies[0], anatomies[1])

    def test_calls_with_a_wrong_password_and_of_an_unknown_user(self) -> None:
        for user, password in (("alice", "wrong"), ("mallory", "secret")):
            phone = self.phone(self.server, user, password=password)
            request = phone.make("INVITE", "sip:bob@pbx.test", body=SDP)
            second = phone.again(request, self.refused(phone, request, 407))
            self.refused(phone, second, 407)

    def test_foreign_domain(self) -> None:
        """A stranger reaches nobody: neither our users nor, through us, anybody else."""
        phone = self.phone(self.server, "mallory")
        phone.domain = "evil.example"
        for uri in ("sip:bob@pbx.test", "sip:someone@elsewhere.example"):
            for method in ("INVITE", "MESSAGE", "OPTIONS", "SUBSCRIBE"):
                self.refused(phone, phone.make(method, uri), 403)
        self.refused(phone, phone.make("REGISTER", "sip:evil.example", to=phone.aor), 403)

    def test_forged_from(self) -> None:
        """Alice's password is good for alice's name only."""
        alice = self.phone(self.server, "alice")
        request = alice.make("INVITE", "sip:bob@pbx.test", body=SDP)
        request.set("from", "<sip:bob@pbx.test>;tag=1")
        second = alice.again(request, self.refused(alice, request, 407))
        refused = self.refused(alice, second, 403)
        self.assertEqual(refused.reason, "Forbidden auth ID")

    def test_register_for_somebody_else(self) -> None:
        """R14.2."""
        alice = self.phone(self.server, "alice")
        request = self.register_request(alice, "bob")
        second = alice.again(request, self.refused(alice, request, 401))
        refused = self.refused(alice, second, 403)
        self.assertEqual(refused.reason, "Forbidden auth ID")
        shown = self.server.mi("ul_show_contact", "location", "bob@pbx.test")
        (contact,) = shown["Contacts"]
        self.assertEqual(contact["Contact"], self.bob.contact)

    def test_preloaded_route(self) -> None:
        """R8: who is known may not send a request wherever he likes through us either."""
        alice = self.phone(self.server, "alice")
        own = f"<sip:127.0.0.1:{self.server.ports['udp']};lr>"
        routes = [("Route", own), ("Route", f"<sip:{self.bob.way.place};lr>")]
        request = alice.make("INVITE", "sip:bob@pbx.test", headers=routes, body=SDP)
        second = alice.again(request, self.refused(alice, request, 407))
        self.assertEqual(self.refused(alice, second, 403).reason, "Preload Route denied")

    def test_route_without_a_dialog(self) -> None:
        """R4: a To tag alone is no pass."""
        alice = self.phone(self.server, "alice")
        request = alice.make("BYE", f"sip:bob@{self.bob.way.place}")
        request.set("to", "<sip:bob@pbx.test>;tag=none")
        self.refused(alice, request, 404)

    def test_replayed_nonce(self) -> None:
        """The same credentials twice: stale=true, and a new nonce (O35)."""
        alice = self.phone(self.server, "alice")
        request = alice.make("OPTIONS", "sip:nobody@pbx.test")
        first = alice.again(request, self.refused(alice, request, 407))
        self.refused(alice, first, 404)
        replayed = first.copy()
        replayed.set("via", alice.via())
        replayed.set("cseq", "3 OPTIONS")
        refused = self.refused(alice, replayed, 407)
        self.assertIn("stale=true", refused.get("proxy-authenticate") or "")

    def test_stray_cancel(self) -> None:
        """481 (O30)."""
        phone = self.phone(self.server, "mallory")
        phone.cancel(phone.make("INVITE", "sip:bob@pbx.test"))
        phone.response(481)

    def test_stray_ack_and_responses(self) -> None:
        """Never an answer to an ACK or to a response."""
        phone = self.phone(self.server, "mallory")
        ack = phone.make("ACK", f"sip:bob@{self.bob.way.place}")
        phone.send(ack)
        ack.set("to", "<sip:bob@pbx.test>;tag=none")
        phone.send(ack)
        own = f"SIP/2.0/UDP 127.0.0.1:{self.server.ports['udp']};branch=z9hG4bKnone"
        request = phone.make("INVITE", "sip:bob@pbx.test")
        request.prepend("via", own)
        phone.respond(request, 200)
        self.assertTrue(phone.silent())


class HijackTests(PBXTestCase):
    def test_bye_of_a_stranger(self) -> None:
        """A BYE with the right Call-ID and wrong tags does not end somebody else's call."""
        server = self.pbx(users=("alice", "bob"))
        alice = self.registered(server, "alice")
        bob = self.registered(server, "bob")
        invite = alice.invite("bob")
        called = bob.answer(bob.request("INVITE"))
        calling = alice.called(invite, alice.response(200))
        bob.request("ACK")
        mallory = self.phone(server, "mallory")
        bye = mallory.make("BYE", calling.target, call_id=calling.call_id)
        bye.set("to", "<sip:bob@pbx.test>;tag=guess")
        mallory.send(bye)
        mallory.response(404)
        self.assertEqual(server.statistic("dialog:active_dialogs"), 1)
        exchange(bob, called, alice, "BYE")
