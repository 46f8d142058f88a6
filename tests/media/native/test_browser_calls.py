"""A browser calls: sound, keys, changes, and what it takes to be heard."""

from __future__ import annotations

from zope.interface.verify import verifyObject

from pbx.interfaces import IMediaEngine
from pbx.legs import LegKind, MediaLeg, Side
from tests.media.browser import Browser, Certificate
from tests.media.native.engine_case import (
    BROWSER,
    BROWSER_AT,
    PHONE,
    PHONE_AT,
    SESSION,
    EngineTestCase,
    Phone,
    media_port,
    phone_sdp,
    value,
)


class BrowserCallsTests(EngineTestCase):
    def test_interface(self) -> None:
        """It is an engine."""
        verifyObject(IMediaEngine, self.engine)

    def test_sound_both_ways(self) -> None:
        """What one side says the other hears, byte for byte and in the clear at the phone."""
        browser, phone = self.browser(), Phone(self.network)
        seen, got = self.browser_calls(browser)
        self.assertTrue(browser.connected)
        self.assertEqual(value(got, "setup"), "passive")
        sound = bytes(range(160))
        browser.send_rtp(0, sound)
        self.assertEqual([one[12:] for one in phone.rtp], [sound])
        self.assertEqual(phone.rtp[0][0], 0x80)
        sent = phone.send(media_port(seen))
        self.assertEqual(browser.rtp, [sent])
        self.assertEqual(self.user.told, [("connected", Side.CALLER), ("connected", Side.CALLEE)])
        self.delete()
        self.assertNothingLeft()

    def test_the_active_role(self) -> None:
        """A browser that insists on waiting gets our ClientHello."""
        browser, phone = self.browser(), Phone(self.network)
        self.offer(browser.description("passive"), BROWSER, PHONE)
        got = self.answer(phone_sdp(), PHONE, BROWSER)
        self.assertEqual(value(got, "setup"), "active")
        browser.accept(got)
        self.assertEqual(browser.role, "passive")
        browser.check()
        self.assertTrue(browser.connected)
        browser.send_rtp(0, b"\x11" * 160)
        self.assertEqual(len(phone.rtp), 1)

    def test_rtcp_both_ways(self) -> None:
        """One port at the browser, the odd one at the phone."""
        browser, phone = self.browser(), Phone(self.network)
        seen, _ = self.browser_calls(browser)
        report = b"\x80\xc8\x00\x06SSRC" + bytes(20)
        browser.send_rtcp(report)
        self.assertEqual(phone.rtcp, [report])
        self.network.send((PHONE_AT[0], PHONE_AT[1] + 1), report, ("", media_port(seen) + 1))
        self.assertEqual(browser.rtcp, [report])

    def test_wrong_certificate(self) -> None:
        """The fingerprint is the authentication: without it nothing passes, and the call ends."""
        browser, phone = self.browser(certificate=Certificate()), Phone(self.network)
        browser.announced = "00" + browser.announced[2:]
        seen, _ = self.browser_calls(browser)
        browser.send_rtp(0, b"\x11" * 160)
        phone.send(media_port(seen))
        self.assertEqual((phone.rtp, browser.rtp), ([], []))
        self.assertIn(("timeout", Side.CALLER), self.user.told)

    def test_no_media_without_ice(self) -> None:
        """Nothing goes to an address that did not prove to know the password, whatever the
        description says.
        """
        browser, phone = self.browser(), Phone(self.network)
        seen = self.offer(browser.offer(), BROWSER, PHONE)
        browser.accept(self.answer(phone_sdp(), PHONE, BROWSER))
        browser.handshake()
        browser.check(password="wrong")
        phone.send(media_port(seen))
        self.assertEqual((browser.stun_answers, browser.rtp, self.network.lost), ([], [], []))
        self.assertFalse(browser.connected)

    def test_the_peer_may_move(self) -> None:
        """A later nomination from another address takes the stream along (roaming)."""
        browser, phone = self.browser(), Phone(self.network)
        seen, _ = self.browser_calls(browser)
        elsewhere = ("203.0.113.99", 1234)
        self.network.peers[elsewhere] = browser.received
        browser._send = self.network.sender(elsewhere)
        browser.send_rtp(0, b"\x11" * 160)
        self.assertEqual(phone.rtp, [], "not checked yet")
        browser.check()
        browser.send_rtp(0, b"\x11" * 160)
        self.assertEqual(len(phone.rtp), 1)
        del self.network.peers[BROWSER_AT]
        phone.send(media_port(seen))
        self.assertEqual(len(browser.rtp), 1)

    def test_garbage(self) -> None:
        """Noise of every kind on a media port: no answer, and the call goes on."""
        browser, phone = self.browser(), Phone(self.network)
        seen, got = self.browser_calls(browser)
        stranger = ("203.0.113.5", 666)
        heard: list[bytes] = []
        self.network.peers[stranger] = lambda data, source: heard.append(data)
        noise = [bytes((first,)) + bytes(range(40)) for first in range(256)]
        noise += [b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)]
        noise += [b"\x00\x01\x00\x08\x21\x12\xa4\x42" + bytes(12) + b"\x00\x06\xff\xff" + bytes(4)]
        for source in (stranger, BROWSER_AT):
            for data in noise:
                self.network.send(source, data, ("", media_port(got)))
                self.network.send(source, data, ("", media_port(seen)))
                self.network.send(source, data, ("", media_port(seen) + 1))
        self.assertEqual(heard, [])
        self.assertEqual(phone.rtp, [])
        browser.send_rtp(0, b"\x22" * 160)
        self.assertEqual(len(phone.rtp), 1)

    def test_a_browser_that_never_checks_is_noticed(self) -> None:
        """30 seconds without consent end the call (RFC 7675)."""
        browser = self.browser()
        self.offer(browser.offer(), BROWSER, PHONE)
        self.answer(phone_sdp(), PHONE, BROWSER)
        self.clock.pump([1.0] * 32)
        self.assertEqual(self.user.told, [("timeout", Side.CALLER)])

    def test_a_closed_tab_is_noticed_at_once(self) -> None:
        """Its DTLS says goodbye; two seconds later the call is reported dead, unless the browser
        has come back.
        """
        browser = self.browser()
        self.browser_calls(browser)
        browser.goodbye()
        self.clock.pump([0.5] * 3)
        self.assertEqual(self.user.told, [("connected", Side.CALLER)])
        self.clock.pump([0.5] * 3)
        self.assertEqual(self.user.told[1:], [("timeout", Side.CALLER)])
        self.delete()
        self.assertNothingLeft()

    def test_a_reloaded_tab_goes_on(self) -> None:
        """A re-INVITE with another certificate in time."""
        browser = self.browser()
        self.browser_calls(browser)
        browser.goodbye()
        self.clock.advance(1.0)
        second = self.browser(("198.51.100.7", 41000), certificate=Certificate())
        self.offer(second.offer(), BROWSER, PHONE)
        second.accept(self.answer(phone_sdp(), PHONE, BROWSER))
        second.connect()
        self.clock.pump([0.5] * 10)
        self.assertTrue(second.connected)
        self.assertNotIn(("timeout", Side.CALLER), self.user.told)

    def test_consent_lasts_while_checks_come(self) -> None:
        """Hold does not end it: a browser on hold goes on checking."""
        browser = self.browser()
        self.browser_calls(browser, phone_sdp(direction="inactive"))
        for _ in range(40):
            self.clock.pump([1.0] * 5)
            browser.check()
        self.assertEqual(self.user.told, [("connected", Side.CALLER)])

    def test_silent_phone(self) -> None:
        """A phone of which nothing is heard for the time-out is dead."""
        browser, phone = self.browser(), Phone(self.network)
        seen, _ = self.browser_calls(browser)
        for _ in range(15):
            phone.send(media_port(seen))
            browser.check()
            self.clock.pump([1.0] * 5)
        self.assertNotIn(("timeout", Side.CALLEE), self.user.told)
        for _ in range(12):
            browser.check()
            self.clock.pump([1.0] * 5)
        self.assertEqual(self.user.told.count(("timeout", Side.CALLEE)), 1)

    def test_keys_are_told_once(self) -> None:
        """RFC 4733 events of both sides, with their duration; they also reach the other side."""
        browser, phone = self.browser(), Phone(self.network)
        seen, _ = self.browser_calls(browser)
        browser.send_key(126, "5", 100)
        browser.send_key(126, "5", 120)
        browser.send_key(126, "#", 60)
        told = [one for one in self.user.told if one[1] is Side.CALLER and one[0] != "connected"]
        self.assertEqual(
            told,
            [("5", Side.CALLER, 100), ("5", Side.CALLER, 120), ("#", Side.CALLER, 60)],
        )
        self.assertEqual(len(phone.rtp), 12)
        event = b"\x0b\x8a\x03\x20"
        for _ in range(3):
            phone.send(media_port(seen), 101, event)
        self.assertEqual(self.user.told[-1][:2], ("#", Side.CALLEE))

    def test_payload_numbers(self) -> None:
        """The phone chose 101 for keys, the browser knows them as 126: each gets its own."""
        browser, phone = self.browser(), Phone(self.network)
        seen, got = self.browser_calls(browser, phone_sdp(event=101))
        self.assertIn(b"a=rtpmap:126 telephone-event/8000", seen)
        self.assertIn(b"a=rtpmap:126 telephone-event/8000", got)
        browser.send_key(126, "1")
        self.assertEqual({one[1] & 127 for one in phone.rtp}, {101})
        phone.send(media_port(seen), 101, b"\x01\x8a\x03\x20")
        phone.send(media_port(seen), 126, b"\x02\x8a\x03\x20")
        self.assertEqual([one[1] & 127 for one in browser.rtp], [126, 126])

    def test_a_count_that_begins_anew(self) -> None:
        """A phone that restarts its sequence with the old SSRC is still heard through SRTP."""
        browser, phone = self.browser(), Phone(self.network)
        seen, _ = self.browser_calls(browser)
        phone._number = 20000
        phone.send(media_port(seen))
        phone._number = 10
        phone.send(media_port(seen))
        phone.send(media_port(seen))
        self.assertEqual(
            [int.from_bytes(one[2:4], "big") for one in browser.rtp], [20001, 20002, 20003]
        )

    def test_statistics(self) -> None:
        """Packets, and what was lost, of each side."""
        browser, phone = self.browser(), Phone(self.network)
        seen, _ = self.browser_calls(browser)
        for at in range(100):
            self.clock.advance(0.02)
            phone._number += at % 10 == 9
            phone.send(media_port(seen))
            browser.send_rtp(0, b"\x11" * 160)
        found = self.delete()
        assert found is not None
        self.assertEqual((found.caller.packets, found.caller.lost), (100, 0))
        self.assertEqual((found.callee.packets, found.callee.lost), (100, 10))
        self.assertTrue(found.callee.jitter < 0.003, found.callee.jitter)
        self.assertTrue(2.5 < found.mos < 4.0, found.mos)

    def test_ice_restart(self) -> None:
        """New credentials of the browser get new ones of ours; the old hold until then, and the
        keys stay.
        """
        browser, phone = self.browser(), Phone(self.network)
        _, got = self.browser_calls(browser)
        browser.restart()
        self.offer(browser.offer(), BROWSER, PHONE)
        browser.check()
        self.assertEqual(len(browser.stun_answers), 2, "the old ones still hold")
        again = self.answer(phone_sdp(), PHONE, BROWSER)
        self.assertNotEqual(value(got, "ice-ufrag"), value(again, "ice-ufrag"))
        self.assertEqual(value(got, "fingerprint"), value(again, "fingerprint"))
        self.assertEqual(media_port(got), media_port(again))
        repeated = self.answer(phone_sdp(), PHONE, BROWSER)
        self.assertEqual(value(again, "ice-ufrag"), value(repeated, "ice-ufrag"))
        browser.accept(again)
        browser.check()
        self.assertEqual(len(browser.stun_answers), 3)
        browser.send_rtp(0, b"\x11" * 160)
        self.assertEqual(len(phone.rtp), 1)

    def test_hold_and_resume(self) -> None:
        """The direction passes, and nothing else changes."""
        browser, phone = self.browser(), Phone(self.network)
        self.browser_calls(browser)
        browser.direction = "sendonly"
        held = self.offer(browser.offer(), BROWSER, PHONE)
        self.assertIn(b"a=sendonly", held)
        answered = self.answer(phone_sdp(direction="recvonly"), PHONE, BROWSER)
        self.assertIn(b"a=recvonly", answered)
        for _ in range(30):
            browser.check()
            self.clock.pump([1.0] * 5)
        self.assertNotIn(("timeout", Side.CALLEE), self.user.told)
        browser.direction = "sendrecv"
        self.offer(browser.offer(), BROWSER, PHONE)
        browser.accept(self.answer(phone_sdp(), PHONE, BROWSER))
        browser.send_rtp(0, b"\x11" * 160)
        self.assertEqual(len(phone.rtp), 1)

    def test_refused_change(self) -> None:
        """An offer that is never answered changes nothing."""
        browser, phone = self.browser(), Phone(self.network)
        seen, _ = self.browser_calls(browser)
        caller = MediaLeg(side=Side.CALLER, kind=LegKind.WEBRTC, peer=BROWSER.peer)
        self.offer(phone_sdp(host="198.51.100.20", port=31000), PHONE, caller)
        sent = phone.send(media_port(seen))
        self.assertEqual(browser.rtp, [sent])
        browser.send_rtp(0, b"\x11" * 160)
        self.assertEqual(len(phone.rtp), 1)

    def test_another_browser_takes_over(self) -> None:
        """Another certificate in a re-INVITE begins another handshake."""
        browser, phone = self.browser(), Phone(self.network)
        seen, _ = self.browser_calls(browser)
        second = self.browser(("198.51.100.7", 41000), certificate=Certificate())
        self.offer(second.offer(), BROWSER, PHONE)
        second.accept(self.answer(phone_sdp(), PHONE, BROWSER))
        second.connect()
        self.assertTrue(second.connected)
        second.send_rtp(0, b"\x33" * 160)
        self.assertEqual(phone.rtp[-1][12:], b"\x33" * 160)
        sent = phone.send(media_port(seen))
        self.assertEqual(second.rtp, [sent])


class PhoneCallsTests(EngineTestCase):
    """The phone calls the browser."""

    caller = MediaLeg(side=Side.CALLER, kind=LegKind.RTP, peer=PHONE.peer, tag="b")
    callee = MediaLeg(side=Side.CALLEE, kind=LegKind.WEBRTC, peer=BROWSER.peer, tag="a")

    def call(self, setup: str = "active") -> tuple[Browser, Phone, int]:
        browser, phone = self.browser(), Phone(self.network)
        seen = self.offer(phone_sdp("0 8 18 101"), self.caller, self.callee)
        self.assertEqual(value(seen, "setup"), "actpass")
        browser.accept(seen, setup)
        browser.check()
        got = self.answer(browser.answer(setup), self.callee, self.caller)
        if setup == "active":
            browser.handshake()
        return browser, phone, media_port(got)

    def test_both_roles(self) -> None:
        """The browser chooses; checks that come before its answer count already."""
        for setup in ("active", "passive"):
            browser, phone, port = self.call(setup)
            self.assertTrue(browser.connected, setup)
            sent = phone.send(port)
            self.assertEqual(browser.rtp, [sent])
            browser.send_rtp(0, b"\x44" * 160)
            self.assertEqual(len(phone.rtp), 1)
            self.delete()
        self.assertNothingLeft()

    def test_codecs_that_browsers_lack(self) -> None:
        """They do not see G.729, and with nothing else the call is refused (305)."""
        seen = self.offer(phone_sdp("18 0 101"), self.caller, self.callee)
        self.assertIn(b"m=audio 20002 UDP/TLS/RTP/SAVPF 0 101\r\n", seen)
        self.delete()
        error = self.refusal(
            self.engine.offer(SESSION, phone_sdp("18 101"), self.caller, self.callee)
        )
        self.assertEqual((error.status, error.warning), (488, 305))
        self.assertNothingLeft()
