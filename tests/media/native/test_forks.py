"""Several branches of one call, and many calls."""

from __future__ import annotations

from pbx.legs import LegKind, MediaLeg, MediaSession, Side
from pbx.sip.address import Address
from tests.media.native.engine_case import (
    BROWSER,
    INSIDE,
    PHONE,
    EngineTestCase,
    Phone,
    media_port,
    phone_sdp,
    value,
)


class ForkTests(EngineTestCase):
    def test_early_media_of_several_branches(self) -> None:
        """One address at the caller for all branches; who answered last is heard."""
        browser = self.browser()
        first, second = Phone(self.network), Phone(self.network, ("198.51.100.21", 31000))
        other = MediaLeg(
            side=Side.CALLEE, kind=LegKind.RTP, peer=Address("UDP", "198.51.100.21", 5060), tag="c"
        )
        forked = MediaSession("call", "2")
        offer = browser.offer()
        to_first = media_port(self.offer(offer, BROWSER, PHONE))
        to_second = media_port(self.offer(offer, BROWSER, other, forked))
        self.assertNotEqual(to_first, to_second)
        early = self.answer(phone_sdp(), PHONE, BROWSER)
        browser.accept(early)
        browser.connect()
        first.send(to_first)
        self.assertEqual(len(browser.rtp), 1)
        final = self.answer(phone_sdp(host="198.51.100.21", port=31000), other, BROWSER, forked)
        for name in ("ice-ufrag", "ice-pwd", "fingerprint", "setup"):
            self.assertEqual(value(early, name), value(final, name))
        self.assertEqual(media_port(early), media_port(final))
        first.send(to_first)
        self.assertEqual(len(browser.rtp), 1, "the loser is not heard any more")
        second.send(to_second)
        self.assertEqual(len(browser.rtp), 2)
        browser.send_rtp(0, b"\x11" * 160)
        self.assertEqual((len(first.rtp), len(second.rtp)), (0, 1))
        self.delete()
        browser.send_rtp(0, b"\x11" * 160)
        self.assertEqual(len(second.rtp), 2)
        self.delete(forked)
        self.assertNothingLeft()

    def test_a_thousand_calls_leave_nothing(self) -> None:
        """Set up, cancelled, refused: no port, no timer, no entry is left."""
        for at in range(1000):
            session = MediaSession(f"call-{at}", "1")
            browser = self.browser()
            if at % 3 == 0:
                self.refusal(self.engine.offer(session, phone_sdp("99"), BROWSER, PHONE))
                continue
            self.offer(browser.offer(), BROWSER, PHONE, session)
            if at % 3 == 1:
                self.answer(phone_sdp(), PHONE, BROWSER, session)
            self.delete(session)
            self.delete(session)
        self.assertNothingLeft()
        self.assertEqual(self.engine._sessions, {})
        self.assertEqual(self.engine._callers, {})

    def test_stop(self) -> None:
        """Ends every session."""
        self.offer(phone_sdp(), INSIDE, PHONE)
        self.result(self.engine.stop())
        self.assertNothingLeft()
