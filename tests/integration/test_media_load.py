"""Many bridged calls at once, and many one after the other."""

from __future__ import annotations

import time
from pathlib import Path

from tests.integration.harness import PBXTestCase, until
from tests.integration.media import Lab, RTPBrowser, RTPPhone, connect, hears

CALLS = 20
SECONDS = 8.0
ROUNDS = 1000
#: State of a connected socket in /proc/net/unix.
CONNECTED = "03"


class LoadTests(PBXTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.server = self.pbx(
            {"media": {"relay_phones": "always"}, "auth": {"nonce_expire": 300}},
            users=("alice", "bob"),
        )

    def opened(self) -> list[Path]:
        assert self.server.process is not None
        return list(Path(f"/proc/{self.server.process.popen.pid}/fd").iterdir())

    def descriptors(self) -> int:
        """How many files and sockets the PBX has open."""
        return len(self.opened())

    def commanded(self) -> bool:
        """Whether a connection to its management socket is open: one closes a moment after who
        asked has the answer.
        """
        try:
            found = {str(path.readlink()) for path in self.opened()}
        except FileNotFoundError:
            # One was closed meanwhile.
            return True
        rows = (line.split() for line in Path("/proc/net/unix").read_text().splitlines())
        return any(row[5] == CONNECTED and f"socket:[{row[6]}]" in found for row in rows)

    def test_calls_at_once(self) -> None:
        """Browsers and phones in pairs: every packet arrives (the same with 50 calls for 30 s is
        `python -m bench.media`).
        """
        alice = self.registered(self.server, "alice", "ws")
        bob = self.registered(self.server, "bob")
        lab = Lab()
        self.addCleanup(lab.close)
        pairs = [(RTPBrowser(400), RTPPhone(1000)) for _ in range(CALLS)]
        calls = [(one, other, connect(lab, alice, bob, one, other)) for one, other in pairs]
        until(
            lambda: all(hears(desk, 400) and hears(browser, 1000) for browser, desk, _ in calls),
            "everybody hears",
            30,
        )
        before = [(desk.sent, len(desk.packets), browser.sent) for browser, desk, _ in calls]
        time.sleep(SECONDS)

        def pause() -> None:
            for browser, desk, _ in calls:
                browser.talking = desk.talking = False

        lab.do(pause)
        time.sleep(1.0)
        self.assertTrue(before)
        for browser, desk, _ in calls:
            heard = [one for one in browser.peer.rtp if len(one) == 172]
            # The first ones come before the handshake is done.
            numbers = [int.from_bytes(one[2:4], "big") for one in heard]
            self.assertEqual(numbers, list(range(numbers[0], desk._number + 1)), "at the browser")
            self.assertEqual(len(desk.packets), browser.sent, "at the phone")
            self.assertEqual(browser.peer.refused, 0)
        for _, _, dialog in calls:
            alice.send(alice.within(dialog, "BYE"))
            bob.respond(bob.request("BYE"), 200)
            alice.response(200)
        self.assertEqual(self.server.statistic("media:sessions"), 0)
        query = "SELECT COUNT(*), MAX(loss), MIN(mos) FROM cdr WHERE packets > 0"
        until(lambda: self.server.sql(query)[0][0] == CALLS, "the cdrs", 10)
        ((_, loss, mos),) = self.server.sql(query)
        self.assertEqual(loss, 0.0)
        self.assertTrue(mos > 2.0, mos)

    def test_a_thousand_calls_leave_nothing(self) -> None:
        """Set up and torn down, each with ports for both sides: answered, refused, cancelled."""
        alice = self.registered(self.server, "alice")
        bob = self.registered(self.server, "bob")
        until(lambda: not self.commanded(), "the commands of the set-up are over", 10)
        before = self.descriptors()
        invite = alice.make("INVITE", "sip:bob@pbx.test", body=alice.description())
        alice.send(invite)
        refusal = alice.response(407)
        alice.acknowledge(invite, refusal)
        challenge = refusal.get("proxy-authenticate") or ""
        for number in range(ROUNDS):
            call = alice.make("INVITE", "sip:bob@pbx.test", body=alice.description())
            credentials = alice.credentials(challenge, call, number + 1)
            call.append("proxy-authorization", credentials)
            alice.send(call)
            arrived = bob.request("INVITE")
            self.assertNotIn(b"m=audio 40000", arrived.body)
            if number % 4 == 0:
                bob.respond(arrived, 486)
                bob.request("ACK")
                alice.acknowledge(call, alice.response(486))
            elif number % 4 == 1:
                bob.ring(arrived)
                alice.response(180)
                alice.cancel(call)
                alice.response(200)
                bob.respond(bob.request("CANCEL"), 200)
                bob.respond(arrived, 487)
                bob.request("ACK")
                alice.acknowledge(call, alice.response(487))
            else:
                bob.answer(arrived)
                dialog = alice.called(call, alice.response(200))
                bob.request("ACK")
                alice.send(alice.within(dialog, "BYE"))
                bob.respond(bob.request("BYE"), 200)
                alice.response(200)
        self.assertEqual(self.server.statistic("media:sessions"), 0)
        self.assertEqual(self.server.statistic("media:opened"), ROUNDS)
        until(lambda: self.descriptors() == before, "no socket is left", 10)
