"""Phones that watch each other, on a running PBX over real sockets."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time

from defusedxml.ElementTree import fromstring

from pbx.sip.message import Request, Response
from tests.integration.harness import ENVIRONMENT, until
from tests.integration.phone import exchange
from tests.integration.watching import WatchingTestCase

PIDF = (
    '<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:2002@pbx.test"><tuple id="a">'
    "<status><basic>{}</basic></status></tuple></presence>"
)


class PresenceTests(WatchingTestCase):
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
        body = self.notified(bob).body
        self.assertIn(b'state="terminated"', body)
        self.assertIn(b'event="unregistered"', body)

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

    def test_waiting_messages(self) -> None:
        """The lamp of a mail box counts what the silo keeps, until it is delivered."""
        pbx = self.pbx(users=["2001", "2002"])
        alice, lamp = self.phone(pbx, "2001"), self.phone(pbx, "2002", "tcp")
        _, first = self.watch(lamp, "message-summary")
        self.assertIn(b"Messages-Waiting: no", first.body)
        asked = alice.make("MESSAGE", "sip:2002@pbx.test")
        asked.set_body(b"call me", "text/plain")
        alice.authenticated(asked)
        alice.response(202)
        body = self.notified(lamp).body
        self.assertIn(b"Messages-Waiting: yes", body)
        self.assertIn(b"Text-Message: 1/0", body)
        bob = self.registered(pbx, "2002")
        bob.respond(bob.request("MESSAGE"), 200)
        self.assertIn(b"Messages-Waiting: no", self.notified(lamp).body)

    def test_runaway_subscriber(self) -> None:
        """Is told to wait; others are served meanwhile, and quickly."""
        settings = {"watcher_burst": 50, "watcher_rate": 5.0}
        pbx = self.pbx({"presence": settings}, users=["2001", "2002", "2003"])
        mad, alice = self.phone(pbx, "2003", "tcp"), self.phone(pbx, "2001")
        headers = [("Event", "dialog"), ("Expires", "0")]
        mad.send(mad.make("SUBSCRIBE", "sip:2002@pbx.test", headers=headers))
        challenge = mad.response(407).get("proxy-authenticate") or ""
        began = time.monotonic()
        for number in range(500):
            asked = mad.make("SUBSCRIBE", "sip:2002@pbx.test", headers=headers)
            asked.append("proxy-authorization", mad.credentials(challenge, asked, number + 1))
            mad.send(asked)
        self.watch(alice, "presence")
        statuses: list[int] = []
        while len(statuses) < 500:
            message = mad.receive(20)
            if isinstance(message, Response):
                statuses.append(message.status)
                if message.status == 503:
                    self.assertGreaterEqual(int(message.get("retry-after") or 0), 1)
            elif isinstance(message, Request):
                mad.respond(message, 200)
        allowed = 50 + 5 * (time.monotonic() - began)
        self.assertLessEqual(statuses.count(200), allowed + 1)
        self.assertEqual(statuses.count(200) + statuses.count(503), 500)
        self.assertEqual(pbx.statistic("presence:throttled_requests"), statuses.count(503))

    def test_bad_documents(self) -> None:
        """Each a clear 4xx over TCP; what was published before stays."""
        pbx = self.pbx({"presence": {"max_body": 16384}}, users=["2001", "2002"])
        bob, alice = self.phone(pbx, "2002", "tcp"), self.phone(pbx, "2001")
        tag = self.publish(bob, PIDF.format("open")).get("sip-etag") or ""
        many = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
        bomb = f'<!DOCTYPE x [<!ENTITY a0 "boom">{many}]>{PIDF.format("&a9;")}'
        large = PIDF.format("open").replace("</presence>", f"<note>{'x' * 16384}</note></presence>")
        for body, kind, more, status in (
            ("<presence", "application/pidf+xml", (), 400),
            (bomb, "application/pidf+xml", (), 400),
            (PIDF.format("open").replace("ns:pidf", "ns:other"), "application/pidf+xml", (), 400),
            ("<a>" * 5000, "application/pidf+xml", (), 400),
            (large, "application/pidf+xml", (), 413),
            (PIDF.format("open"), "text/plain", (), 415),
            (PIDF.format("open"), "application/pidf+xml", (("SIP-If-Match", "wrong"),), 412),
            ("", "", (("SIP-If-Match", "wrong"),), 412),
            (PIDF.format("open"), "application/pidf+xml", (("Expires", "1"),), 423),
        ):
            asked = bob.make("PUBLISH", bob.aor, headers=[("Event", "presence"), *more])
            if body:
                asked.set_body(body.encode(), kind)
            bob.authenticated(asked)
            bob.response(status)
        _, first = self.watch(alice, "presence")
        self.assertEqual(first.body.decode(), PIDF.format("open"))
        self.publish(bob, PIDF.format("closed"), ("SIP-If-Match", tag))
        self.assertEqual(self.notified(alice).body.decode(), PIDF.format("closed"))

    def test_a_mebibyte(self) -> None:
        """More than any SIP message may be: refused, and the PBX goes on for others."""
        pbx = self.pbx(users=["2001", "2002"])
        bob, alice = self.phone(pbx, "2002", "tcp"), self.phone(pbx, "2001")
        asked = bob.make("PUBLISH", bob.aor, headers=[("Event", "presence")])
        asked.set_body(b"<" * (1 << 20), "application/pidf+xml")
        with contextlib.suppress(OSError):
            bob.send(asked)
        try:
            message = bob.receive(10)
        except (AssertionError, OSError):
            message = None
        if isinstance(message, Response):
            self.assertIn(message.status, (407, 413, 513))
        self.watch(alice, "presence")

    def test_pbxctl(self) -> None:
        """What an operator sees of it, as a table and for programs."""
        pbx = self.pbx(users=["2001", "2002"])
        alice, bob = self.phone(pbx, "2001"), self.phone(pbx, "2002")
        self.watch(alice, "presence")
        note = PIDF.format("open").replace("</presence>", "<note>in a meeting</note></presence>")
        self.publish(bob, note)
        self.notified(alice)

        def pbxctl(*arguments: str) -> str:
            command = [sys.executable, "-m", "pbx.ctl.main", "-c", str(pbx.config), *arguments]
            return subprocess.check_output(command, env=ENVIRONMENT, text=True, timeout=60)

        titles, line = pbxctl("subscriptions").strip().split("\n")
        self.assertEqual(titles.split(), "WATCHER WATCHES EVENT STATE EXPIRES CONTACT".split())
        self.assertEqual(line.split()[:4], ["2001@pbx.test", "2002@pbx.test", "presence", "active"])
        [found] = json.loads(pbxctl("presentities", "--json"))["Presentities"]
        self.assertEqual((found["state"], found["watchers"]), ("open: in a meeting", 1))
        self.assertIn("open: in a meeting", pbxctl("presentities"))
