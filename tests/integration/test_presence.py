"""Phones that watch each other, on a running PBX over real sockets."""

from __future__ import annotations

from defusedxml.ElementTree import fromstring

from pbx.sip.message import Request, Response
from tests.integration.harness import PBXTestCase, until
from tests.integration.phone import Dialog, Phone, exchange

NS = "{urn:ietf:params:xml:ns:dialog-info}"
PIDF = (
    '<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:2002@pbx.test"><tuple id="a">'
    "<status><basic>{}</basic></status></tuple></presence>"
)


class PresenceTests(PBXTestCase):
    def watch(self, phone: Phone, package: str, expires: int = 600) -> tuple[Dialog, Request]:
        """Subscribe to 2002; the dialog and the first NOTIFY, answered."""
        headers = [("Event", package), ("Expires", str(expires))]
        asked = phone.authenticated(phone.make("SUBSCRIBE", "sip:2002@pbx.test", headers=headers))
        response = phone.response(200)
        dialog = Dialog(
            asked.call_id,
            response.get("from") or "",
            response.get("to") or "",
            response.contacts[0].uri_text,
            (),
        )
        dialog.cseq = asked.cseq.number
        return dialog, self.notified(phone)

    def notified(self, phone: Phone, seconds: float = 5.0) -> Request:
        notify = phone.request("NOTIFY", seconds)
        phone.respond(notify, 200)
        return notify

    def lamp(self, phone: Phone) -> list[str | None]:
        """What the next NOTIFY says."""
        root = fromstring(self.notified(phone).body)
        return [state.text for state in root.iter(f"{NS}state")]

    def publish(self, phone: Phone, body: str, *headers: tuple[str, str]) -> Response:
        asked = phone.make("PUBLISH", phone.aor, headers=[("Event", "presence"), *headers])
        if body:
            asked.set_body(body.encode(), "application/pidf+xml")
        phone.authenticated(asked)
        return phone.response(200)

    def test_busy_lamp_of_a_call(self) -> None:
        """A browser sees a desk phone idle, ringing, talking and idle again."""
        pbx = self.pbx(users=["2001", "2002", "2003"])
        alice, bob = self.registered(pbx, "2001"), self.registered(pbx, "2002", "tcp")
        browser = self.phone(pbx, "2003", "ws")
        dialog, first = self.watch(browser, "dialog")
        self.assertEqual(list(fromstring(first.body)), [])
        called = alice.invite("2002")
        invite = bob.request("INVITE")
        bob.ring(invite)
        alice.response(180)
        self.assertEqual(self.lamp(browser), ["early"])
        bobs = bob.answer(invite)
        alices = alice.called(called, alice.response(200))
        bob.request("ACK")
        self.assertEqual(self.lamp(browser), ["confirmed"])
        exchange(bob, bobs, alice, "BYE")
        self.assertEqual(self.lamp(browser), ["terminated"])
        self.assertEqual(alices.call_id, bobs.call_id)
        # As phones do that have an outbound proxy configured.
        dialog.routes = [f"<sip:{pbx.host}:{pbx.ports['ws']};transport=ws;lr>"]
        leave = browser.within(dialog, "SUBSCRIBE", [("Event", "dialog"), ("Expires", "0")])
        browser.send(leave)
        browser.response(200)
        last = self.notified(browser)
        self.assertEqual(last.get("subscription-state"), "terminated;reason=timeout")

    def test_presence_survives_kill(self) -> None:
        """Subscription, publication and entity tag, over UDP."""
        pbx = self.pbx({"sip": {"listen": ["udp:127.0.0.1:0"]}}, users=["2001", "2002"])
        alice, bob = self.phone(pbx, "2001"), self.phone(pbx, "2002")
        _, first = self.watch(alice, "presence")
        self.assertEqual(first.body, b"")
        tag = self.publish(bob, PIDF.format("open")).get("sip-etag") or ""
        told = self.notified(alice)
        self.assertEqual(told.body.decode(), PIDF.format("open"))
        until(lambda: pbx.sql("SELECT id FROM presentity"), "the rows are written")
        until(lambda: pbx.sql("SELECT id FROM active_watchers"), "the rows are written")
        pbx.kill()
        pbx.tables["sip"]["listen"] = [f"udp:127.0.0.1:{pbx.ports['udp']}"]
        pbx.write_config()
        pbx.start()
        again = self.notified(alice)
        self.assertEqual(again.body.decode(), PIDF.format("open"))
        self.assertGreater(again.cseq.number, told.cseq.number)
        self.publish(bob, PIDF.format("closed"), ("SIP-If-Match", tag))
        self.assertEqual(self.notified(alice).body.decode(), PIDF.format("closed"))

    def test_own_registrations(self) -> None:
        """Event reg, with the real registrar behind."""
        pbx = self.pbx(users=["2002"])
        bob = self.phone(pbx, "2002")
        _, first = self.watch(bob, "reg")
        self.assertIn(b'state="init"', first.body)
        desk = self.registered(pbx, "2002", "tcp")
        self.assertIn(f"<uri>{desk.contact}</uri>".encode(), self.notified(bob).body)
        desk.register(expires=0)
        self.assertIn(b'state="init"', self.notified(bob).body)

    def test_expiry(self) -> None:
        pbx = self.pbx({"presence": {"min_expires": 1}}, users=["2001"])
        alice = self.phone(pbx, "2001")
        self.watch(alice, "message-summary", expires=1)
        self.assertEqual(
            self.notified(alice).get("subscription-state"), "terminated;reason=timeout"
        )

    def test_switched_off(self) -> None:
        """SUBSCRIBE goes to the phone then."""
        pbx = self.pbx({"presence": {"enabled": False}}, users=["2001", "2002"])
        bob = self.registered(pbx, "2002")
        alice = self.phone(pbx, "2001")
        asked = alice.make("SUBSCRIBE", "sip:2002@pbx.test", headers=[("Event", "presence")])
        alice.authenticated(asked)
        self.assertEqual(bob.request("SUBSCRIBE").get("event"), "presence")
