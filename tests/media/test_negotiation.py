"""What is remembered between offer and answer, for relays that renumber nothing."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from pbx.errors import MediaFailed
from pbx.legs import LegKind, MediaLeg, MediaSession, Side
from pbx.media.bridging import Endpoint
from pbx.media.negotiation import Negotiations, Passing
from pbx.sip.address import Address

SESSION = MediaSession("call", "1")
CALLER = MediaLeg(side=Side.CALLER, kind=LegKind.RTP, peer=Address("UDP", "192.0.2.50", 5060))
CALLEE = MediaLeg(side=Side.CALLEE, kind=LegKind.RTP, peer=Address("UDP", "192.0.2.60", 5060))


def sdp(formats: str, maps: str = "", direction: str = "sendrecv") -> bytes:
    return (
        "v=0\r\no=- 1 1 IN IP4 192.0.2.50\r\ns=-\r\nc=IN IP4 192.0.2.50\r\nt=0 0\r\n"
        f"m=audio 4000 RTP/AVP {formats}\r\n{maps}a={direction}\r\n"
    ).encode()


EVENTS_101 = "a=rtpmap:101 telephone-event/8000\r\n"
EVENTS_96 = "a=rtpmap:96 telephone-event/8000\r\n"


class NegotiationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.opened: list[Passing] = []
        self.sessions = Negotiations(self.open_end, ("PCMU",))

    async def open_end(self, passing: Passing) -> Endpoint:
        self.opened.append(passing)
        return Endpoint(kind=passing.target.kind, host="192.0.2.1", port=20000)

    def result(self, coroutine: Any) -> bytes:
        made = self.successResultOf(Deferred.fromCoroutine(coroutine))
        assert isinstance(made, bytes)
        return made

    def test_codec_under_another_number(self) -> None:
        """Left out of the answer: a relay passes packets as they are."""
        self.result(self.sessions.offer(SESSION, sdp("0 101", EVENTS_101), CALLER, CALLEE))
        got = self.result(self.sessions.answer(SESSION, sdp("0 96", EVENTS_96), CALLEE, CALLER))
        self.assertIn(b"m=audio 20000 RTP/AVP 0\r\n", got)
        self.result(self.sessions.offer(SESSION, sdp("0 101", EVENTS_101), CALLER, CALLEE))
        got = self.result(self.sessions.answer(SESSION, sdp("0 101", EVENTS_101), CALLEE, CALLER))
        self.assertIn(b"m=audio 20000 RTP/AVP 0 101\r\n", got)

    def test_who_should_be_heard(self) -> None:
        """RFC 3264 section 6.1: what is offered and what is answered, from both ends."""
        for offered, answered, heard in (
            ("sendrecv", "sendrecv", {Side.CALLER, Side.CALLEE}),
            ("sendonly", "recvonly", {Side.CALLER}),
            ("recvonly", "sendonly", {Side.CALLEE}),
            ("sendrecv", "recvonly", {Side.CALLER}),
            ("inactive", "inactive", set()),
        ):
            offer = sdp("0", direction=offered)
            answer = sdp("0", direction=answered)
            self.result(self.sessions.offer(SESSION, offer, CALLER, CALLEE))
            self.result(self.sessions.answer(SESSION, answer, CALLEE, CALLER))
            known = self.sessions.get(SESSION)
            assert known is not None
            self.assertEqual(set(known.should_be_heard()), heard, offered)

    def test_answers_without_offers(self) -> None:
        """Of nobody, and of who offered it."""
        for _ in range(2):
            self.failureResultOf(
                Deferred.fromCoroutine(self.sessions.answer(SESSION, sdp("0"), CALLEE, CALLER)),
                MediaFailed,
            )
            self.result(self.sessions.offer(SESSION, sdp("0"), CALLEE, CALLER))

    def test_forgotten(self) -> None:
        """Nothing is left of a session."""
        self.result(self.sessions.offer(SESSION, sdp("0"), CALLER, CALLEE))
        self.assertEqual((len(self.sessions), list(self.sessions)), (1, [SESSION]))
        self.sessions.forget(SESSION)
        self.assertEqual((len(self.sessions), self.sessions.get(SESSION)), (0, None))
