"""Messages to users who are away arrive once, in order, whatever happens to the PBX meanwhile."""

from __future__ import annotations

import time
from typing import Any

from pbx.sip.message import Request
from tests.integration.harness import PBX, PROJECT, PBXTestCase, until
from tests.integration.phone import Phone

QUICK = {"retry_interval": 1.0, "check_time": 1.0}


class OfflineMessagesTestCase(PBXTestCase):
    settings: dict[str, Any] = QUICK

    def setUp(self) -> None:
        super().setUp()
        self.server = self.pbx({"msilo": self.settings}, users=("alice", "bob"))

    def message(
        self, sender: Phone, text: bytes = b"hello", kind: str = "text/plain", status: int = 202
    ) -> None:
        """From a phone to bob, which the PBX answers so."""
        asked = sender.make("MESSAGE", "sip:bob@pbx.test")
        asked.remove("contact")
        asked.set_body(text, kind)
        sender.authenticated(asked)
        sender.response(status, 25)

    def delivered(self, phone: Phone, status: int = 200) -> Request:
        """The next message, answered so."""
        request = phone.request("MESSAGE")
        phone.respond(request, status)
        return request

    def stored(self) -> int:
        return int(self.server.sql("SELECT COUNT(*) FROM silo")[0][0])

    def nothing_left(self, *phones: Phone) -> None:
        """No second copy comes, and the table is empty."""
        until(lambda: self.stored() == 0, "the rows are gone", 5)
        for phone in phones:
            self.assertTrue(phone.silent(2), phone.history())


def restart(pbx: PBX) -> None:
    """kill -9 and start on the same ports."""
    pbx.tables["sip"]["listen"] = [f"{kind}:127.0.0.1:{port}" for kind, port in pbx.ports.items()]
    pbx.write_config()
    pbx.kill()
    pbx.start()


class DeliveryTests(OfflineMessagesTestCase):
    def exactly_once(self, sender: str, kind: str, noise: bytes = bytes(range(256))) -> None:
        """As it was sent, after the 200 of the registration, in order."""
        alice = self.phone(self.server, "alice", sender)
        self.message(alice, "grüß dich".encode(), "text/plain;charset=UTF-8")
        self.message(alice, noise, "application/octet-stream")
        self.assertEqual(self.stored(), 2)
        bob = self.registered(self.server, "bob", kind)
        first, second = self.delivered(bob), self.delivered(bob)
        self.assertEqual(
            [(one.body, one.get("content-type")) for one in (first, second)],
            [
                ("grüß dich".encode(), "text/plain;charset=UTF-8"),
                (noise, "application/octet-stream"),
            ],
        )
        self.assertEqual((first.from_.uri_text, first.to.uri_text), (alice.aor, "sip:bob@pbx.test"))
        self.assertTrue((first.get("date") or "").endswith(" GMT"))
        self.nothing_left(bob)
        bob.register()
        self.nothing_left(bob)
        self.assertEqual(self.server.statistic("msilo:dumped_messages"), 2)

    def test_udp(self) -> None:
        self.exactly_once("udp", "udp")

    def test_tcp(self) -> None:
        self.exactly_once("tcp", "tcp")

    def test_websocket(self) -> None:
        self.exactly_once("ws", "ws", b"text frames carry text")

    def test_noise_to_a_browser(self) -> None:
        """RFC 7118 section 5: a body that is no UTF-8 goes in a binary frame."""
        self.exactly_once("udp", "ws")

    def test_phone_fails_first(self) -> None:
        """Kept and tried again."""
        self.message(self.phone(self.server, "alice"))
        bob = self.registered(self.server, "bob")
        self.delivered(bob, 480)
        self.assertEqual(self.delivered(bob).body, b"hello")
        self.nothing_left(bob)

    def test_phone_that_lost_its_connection(self) -> None:
        """430 of the dead flow: stored, delivered over the next connection."""
        first = self.registered(self.server, "bob", "ws")
        first.close()
        alice = self.phone(self.server, "alice")
        self.message(alice)
        second = self.registered(self.server, "bob", "ws")
        self.assertEqual(self.delivered(second).body, b"hello")
        self.nothing_left(second)

    def test_silent_phone(self) -> None:
        """The sender hears 202 before it gives up; the phone gets it when it is awake again."""
        bob = self.registered(self.server, "bob")
        alice = self.phone(self.server, "alice")
        self.message(alice)
        self.assertEqual(self.stored(), 1)
        while not bob.silent(0.3):
            pass
        bob.register()
        self.assertEqual(self.delivered(bob).body, b"hello")
        self.nothing_left(bob)

    def test_stranger(self) -> None:
        """Nothing is kept for users who do not exist."""
        alice = self.phone(self.server, "alice")
        asked = alice.make("MESSAGE", "sip:nobody@pbx.test", body="x")
        alice.authenticated(asked)
        alice.response(404)
        self.assertEqual(self.stored(), 0)

    def test_row_of_another_program(self) -> None:
        """Found and delivered to a user who is registered."""
        bob = self.registered(self.server, "bob")
        self.server.sql(
            "INSERT INTO silo (src_addr, dst_addr, username, domain, inc_time, exp_time, ctype,"
            " body) VALUES ('sip:crm@pbx.test', 'sip:bob@pbx.test', 'bob', 'pbx.test', 1, 0,"
            " 'text/plain', 'call back')"
        )
        self.assertEqual(self.delivered(bob).body, b"call back")
        self.nothing_left(bob)


class CrashTests(OfflineMessagesTestCase):
    def survives(self, kind: str) -> None:
        """kill -9 right after the 202."""
        alice = self.phone(self.server, "alice", kind)
        for number in range(3):
            self.message(alice, b"%d" % number)
        restart(self.server)
        bob = self.registered(self.server, "bob", kind)
        self.assertEqual([self.delivered(bob).body for _ in range(3)], [b"0", b"1", b"2"])
        self.nothing_left(bob)

    def test_killed_after_the_202_udp(self) -> None:
        self.survives("udp")

    def test_killed_after_the_202_tcp(self) -> None:
        self.survives("tcp")

    def test_killed_after_the_202_websocket(self) -> None:
        self.survives("ws")

    def test_killed_while_messages_pour_in(self) -> None:
        """Everything that was answered 202 arrives, once and in order."""
        alice = self.phone(self.server, "alice", "tcp")
        opening = alice.make("MESSAGE", "sip:bob@pbx.test", body="first")
        alice.send(opening)
        challenge = alice.response(407).get("proxy-authenticate") or ""
        for number in range(100):
            asked = alice.make("MESSAGE", "sip:bob@pbx.test", call_id=f"burst-{number}")
            asked.append("proxy-authorization", alice.credentials(challenge, asked, number + 1))
            asked.set_body(b"%d" % number, "text/plain")
            alice.send(asked)
        accepted = {alice.response(202).call_id for _ in range(30)}
        restart(self.server)
        waiting = self.stored()
        bob = self.registered(self.server, "bob")
        bodies = [int(self.delivered(bob).body) for _ in range(waiting)]
        self.nothing_left(bob)
        self.assertEqual(bodies, sorted(set(bodies)))
        self.assertLessEqual(accepted, {f"burst-{number}" for number in bodies})

    def test_killed_between_two_deliveries(self) -> None:
        """What the phone confirmed does not come again, the rest does, without registering."""
        alice = self.phone(self.server, "alice")
        for number in range(2):
            self.message(alice, b"%d" % number)
        bob = self.registered(self.server, "bob")
        self.assertEqual(self.delivered(bob).body, b"0")
        # The second one comes only after the first one's row is gone.
        self.assertEqual(bob.request("MESSAGE").body, b"1")
        until(lambda: self.server.sql("SELECT 1 FROM location"), "the binding is written", 5)
        restart(self.server)
        while (again := bob.request("MESSAGE", 10)).body != b"1":
            self.fail(f"{again.body!r} came twice")
        bob.respond(again, 200)
        until(lambda: self.stored() == 0, "the row is gone", 10)


class LimitTests(OfflineMessagesTestCase):
    settings = {**QUICK, "max_messages": 2}

    def test_quota(self) -> None:
        alice = self.phone(self.server, "alice")
        for status in (202, 202, 480):
            self.message(alice, status=status)
        self.assertEqual(self.stored(), 2)


class OffTests(OfflineMessagesTestCase):
    settings = {"enabled": False}

    def test_not_stored(self) -> None:
        self.message(self.phone(self.server, "alice"), status=480)
        self.assertEqual(self.stored(), 0)


class PolicyTests(OfflineMessagesTestCase):
    """What an operator's policy can do with the silo: keep for later, and ask for delivery."""

    def setUp(self) -> None:
        PBXTestCase.setUp(self)
        text = (PROJECT / "etc" / "routing.py").read_text()
        plain = "return await self.silo.store(request, arrival, uri)"
        assert text.count(plain) == 2
        later = 'float(request.get("x-send-at") or 0)'
        policy = self.folder / "routing.py"
        policy.write_text(
            text.replace(plain, f"return await self.silo.store(request, arrival, uri, {later})")
        )
        tables: dict[str, dict[str, Any]] = {
            "msilo": QUICK,
            "routing": {"policy": str(policy)},
        }
        self.server = self.pbx(tables, users=("alice", "bob"))

    def test_reminder(self) -> None:
        """snd_time: bob is there before, and gets it when its time has come."""
        alice = self.phone(self.server, "alice")
        due = int(time.time()) + 12
        asked = alice.make("MESSAGE", "sip:bob@pbx.test", headers=[("X-Send-At", str(due))])
        asked.set_body(b"stand up", "text/plain")
        alice.authenticated(asked)
        alice.response(202)
        self.assertEqual(self.server.sql("SELECT snd_time FROM silo"), [(due,)])
        bob = self.registered(self.server, "bob")
        message = bob.request("MESSAGE", 40)
        self.assertGreaterEqual(time.time(), due)
        self.assertEqual(message.body, b"stand up")
        bob.respond(message, 200)
        self.nothing_left(bob)
        self.assertEqual(self.server.statistic("msilo:dumped_reminders"), 1)
