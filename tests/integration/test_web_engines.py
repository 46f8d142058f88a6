"""The same call between a web phone in Chromium and a desk phone, through each media engine."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.integration.browser import WebCase, WebPhone
from tests.integration.harness import free_block, until
from tests.integration.media import Lab, RTPPhone, hears
from tests.integration.phone import Dialog, Phone
from tests.integration.relays import Relay, RtpengineServer, RtpproxyServer

MEDIA_PORTS = 40
VOICE, DESK_VOICE = 440, 1000


def event_number(offer: bytes) -> int:
    """The payload number of keys in an offer: phones answer with the same, relays renumber none."""
    found = re.search(rb"a=rtpmap:(\d+) telephone-event/8000", offer)
    assert found is not None, offer
    return int(found[1])


class EngineCase(WebCase):
    """alice has the web phone, bob a desk phone."""

    def setUp(self) -> None:
        super().setUp()
        self.low = free_block(MEDIA_PORTS)
        self.lab = Lab()
        self.addCleanup(self.lab.close)
        self.desk = RTPPhone(DESK_VOICE)
        self.lab.add(self.desk)

    def relay(self, kind: type[Relay]) -> int:
        """A relay of its own; where it listens."""
        server = kind(range(self.low, self.low + MEDIA_PORTS))
        self.addCleanup(server.remove)
        server.start()
        return server.port

    def call(self, engine: str) -> None:
        """Both ways, with keys, hold and resume; the desk phone hangs up."""
        media = {
            "engine": engine,
            "port_min": self.low,
            "port_max": self.low + MEDIA_PORTS - 1,
        }
        server = self.pbx({"media": media}, users=("alice", "bob"))
        bob = self.registered(server, "bob")
        alice = self.signed_in(server, "alice", VOICE)
        self.web_phone_calls(server.statistic, alice, bob)
        self.desk_phone_calls(alice, bob)
        query = "SELECT caller, callee, disposition, ended_by FROM cdr ORDER BY started"
        until(lambda: len(server.sql(query)) == 2, "both calls are recorded", 10)
        self.assertEqual(
            server.sql(query),
            [("alice", "bob", "answered", "callee"), ("bob", "alice", "answered", "caller")],
        )
        self.assertEqual(server.statistic("media:sessions"), 0)

    def web_phone_calls(self, statistic: Callable[[str], int], alice: WebPhone, bob: Phone) -> None:
        alice.dial("bob")
        invite = bob.request("INVITE", 20)
        self.assertIn(b"RTP/AVP", invite.body)
        self.desk.event = event_number(invite.body)
        dialog = bob.answer(invite, self.desk.description())
        self.lab.do(lambda: self.desk.accept(invite.body))
        bob.request("ACK", 20)
        alice.is_talking()
        self.both_hear(alice)
        self.assertEqual(statistic("media:sessions"), 1)
        alice.button("Keypad").click()
        alice.button("5").click()
        until(lambda: 5 in self.keys(), "the key arrives", 10)
        alice.button("Hold").click()
        self.answer_again(bob, "recvonly")
        alice.says("On hold")
        alice.button("Resume").click()
        self.answer_again(bob, "sendrecv")
        alice.hears_tone(DESK_VOICE)
        self.hang_up(bob, dialog)
        alice.is_idle()

    def desk_phone_calls(self, alice: WebPhone, bob: Phone) -> None:
        invite = bob.invite("alice", body=self.desk.description())
        bob.response(180, 20)
        alice.answer()
        answered = bob.response(200, 20)
        dialog = bob.called(invite, answered)
        self.lab.do(lambda: self.desk.accept(answered.body))
        alice.is_talking()
        self.both_hear(alice)
        self.hang_up(bob, dialog)
        alice.is_idle()

    def both_hear(self, alice: WebPhone) -> None:
        self.lab.do(self.desk.packets.clear)
        alice.hears_tone(DESK_VOICE)
        until(lambda: hears(self.desk, VOICE), "the desk phone hears the web phone", 15)
        alice.packets_flow()

    def keys(self) -> set[int]:
        """The keys that came to the desk phone; browsers number the events themselves."""
        return {one[12] for one in list(self.desk.packets) if one[1] & 127 not in (0, 8, 9)}

    def answer_again(self, bob: Phone, direction: str) -> None:
        """The answer to a re-INVITE."""
        again = bob.request("INVITE", 20)
        self.lab.do(lambda: self.desk.accept(again.body))
        bob.respond(again, 200, body=self.desk.description(direction))
        bob.request("ACK", 20)

    def hang_up(self, bob: Phone, dialog: Dialog) -> None:
        bob.send(bob.within(dialog, "BYE"))
        bob.response(200, 20)


class EngineTests(EngineCase):
    def test_native(self) -> None:
        self.call("native")

    def test_embedded_rtpproxy(self) -> None:
        self.call("rtpproxy:embedded")

    def test_external_rtpproxy(self) -> None:
        self.call(f"rtpproxy:udp:127.0.0.1:{self.relay(RtpproxyServer)}")

    def test_rtpengine(self) -> None:
        self.call(f"rtpengine:udp:127.0.0.1:{self.relay(RtpengineServer)}")
