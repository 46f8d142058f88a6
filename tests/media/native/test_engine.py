"""Bridged calls on a network in memory: a browser, phones, and who should not be heard."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pbx.errors import MediaFailed
from pbx.interfaces import IMediaEngine, IMediaUser
from pbx.legs import LegKind, MediaLeg, MediaSession, MediaStatistics, Side
from pbx.media.native import NativeEngine
from pbx.media.native.addresses import Addresses
from pbx.media.settings import MediaSettings
from pbx.sip.address import Address
from pbx.timing import TimerWheel
from tests.media.browser import Browser, Certificate, packet
from tests.media.native.network import Network

BROWSER_AT = ("198.51.100.7", 40000)
PHONE_AT = ("198.51.100.20", 30000)
BROWSER = MediaLeg(
    side=Side.CALLER, kind=LegKind.WEBRTC, peer=Address("WS", BROWSER_AT[0], 50000), tag="a"
)
PHONE = MediaLeg(
    side=Side.CALLEE, kind=LegKind.RTP, peer=Address("UDP", PHONE_AT[0], 5060), tag="b"
)
SESSION = MediaSession("call", "1")


def phone_sdp(
    formats: str = "0 101",
    host: str = PHONE_AT[0],
    port: int = PHONE_AT[1],
    direction: str = "sendrecv",
    event: int = 101,
) -> bytes:
    """As a desk phone writes it."""
    return (
        f"v=0\r\no=phone 1 1 IN IP4 {host}\r\ns=call\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP {formats}\r\na=rtpmap:0 PCMU/8000\r\n"
        f"a=rtpmap:{event} telephone-event/8000\r\na=fmtp:{event} 0-15\r\na=ptime:20\r\n"
        f"a={direction}\r\n"
    ).encode()


def media_port(sdp: bytes) -> int:
    """The port of the audio line."""
    found = re.search(rb"m=audio (\d+)", sdp)
    assert found is not None, sdp
    return int(found[1])


def value(sdp: bytes, name: str) -> str:
    """The value of an attribute."""
    found = re.search(rf"a={name}:(.*)\r".encode(), sdp)
    assert found is not None, sdp
    return found[1].decode()


@implementer(IMediaUser)
class User:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def connected(self, session: MediaSession, side: Side) -> None:
        self.told.append(("connected", side))

    def dtmf(self, session: MediaSession, side: Side, digit: str, milliseconds: int) -> None:
        self.told.append((digit, side, milliseconds))

    def media_timeout(self, session: MediaSession, side: Side | None) -> None:
        self.told.append(("timeout", side))


class Phone:
    """A plain RTP peer."""

    def __init__(self, network: Network, at: tuple[str, int] = PHONE_AT) -> None:
        self.at = at
        self.rtp: list[bytes] = []
        self.rtcp: list[bytes] = []
        self._network = network
        network.peers[at] = lambda data, source: self.rtp.append(data)
        network.peers[(at[0], at[1] + 1)] = lambda data, source: self.rtcp.append(data)
        self._number = 0
        self._ssrc = at[1].to_bytes(4, "big")

    def send(self, port: int, payload: int = 0, body: bytes = b"\x55" * 160) -> bytes:
        """One packet of sound."""
        self._number += 1
        sent = packet(payload, self._number, self._number * 160, self._ssrc, body)
        self._network.send(self.at, sent, ("192.0.2.1", port))
        return sent


class EngineTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = 1000.0
        self.network = Network()
        self.user = User()
        self.timers = TimerWheel(self.clock)
        self.engine = NativeEngine(
            MediaSettings(timeout=60.0),
            Addresses("", lambda host: "192.0.2.1", frozenset),
            self.network,
            self.clock,
            self.timers,
        )
        self.engine.use(self.user)

    def result(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def refusal(self, coroutine: Any) -> MediaFailed:
        error = self.failureResultOf(Deferred.fromCoroutine(coroutine), MediaFailed).value
        assert isinstance(error, MediaFailed)
        return error

    def outcome(self, coroutine: Any) -> Any:
        """The result; a refusal is raised."""
        found: list[Any] = []
        Deferred.fromCoroutine(coroutine).addBoth(found.append)
        if isinstance(found[0], Failure):
            found[0].raiseException()
        return found[0]

    def offer(
        self, sdp: bytes, source: MediaLeg, target: MediaLeg, session: Any = SESSION
    ) -> bytes:
        made = self.outcome(self.engine.offer(session, sdp, source, target))
        assert isinstance(made, bytes)
        return made

    def answer(
        self, sdp: bytes, source: MediaLeg, target: MediaLeg, session: Any = SESSION
    ) -> bytes:
        made = self.outcome(self.engine.answer(session, sdp, source, target))
        assert isinstance(made, bytes)
        return made

    def delete(self, session: MediaSession = SESSION) -> MediaStatistics | None:
        found = self.result(self.engine.delete(session))
        assert found is None or isinstance(found, MediaStatistics)
        return found

    def browser(self, at: tuple[str, int] = BROWSER_AT, **named: Any) -> Browser:
        made = Browser(self.network.sender(at), **named)
        self.network.peers[at] = made.received
        return made

    def browser_calls(self, browser: Browser, answer: bytes = b"") -> tuple[bytes, bytes]:
        """Set up from the browser: what the phone saw, and what the browser was answered."""
        seen = self.offer(browser.offer(), BROWSER, PHONE)
        got = self.answer(answer or phone_sdp(), PHONE, BROWSER)
        browser.accept(got)
        browser.connect()
        return seen, got

    def assertNothingLeft(self) -> None:
        self.assertEqual(self.network.ports, {})
        self.assertEqual(len(self.timers), 0)


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


class RelayTests(EngineTestCase):
    """Phone to phone, for one that is behind a NAT."""

    inside = MediaLeg(
        side=Side.CALLER,
        kind=LegKind.RTP,
        peer=Address("UDP", "203.0.113.4", 61000),
        behind_nat=True,
    )

    def call(self) -> tuple[int, int, Phone]:
        """The ports of both sides, and the phone outside."""
        phone = Phone(self.network)
        seen = self.offer(phone_sdp(host="10.0.0.5", port=4000), self.inside, PHONE)
        self.got = self.answer(phone_sdp(), PHONE, self.inside)
        return media_port(self.got), media_port(seen), phone

    def test_learns_where_the_nat_is(self) -> None:
        """Nothing goes to the private address; the first packet from the right host settles it."""
        towards_inside, towards_phone, phone = self.call()
        phone.send(towards_phone)
        self.assertEqual(self.network.lost, [])
        nat = Phone(self.network, ("203.0.113.4", 62000))
        nat.send(towards_inside)
        self.assertEqual(len(phone.rtp), 1)
        phone.send(towards_phone)
        self.assertEqual(len(nat.rtp), 1)

    def test_nobody_else_gets_the_sound(self) -> None:
        """Neither before nor after: strangers are not heard, and hear nothing."""
        towards_inside, towards_phone, phone = self.call()
        thief = Phone(self.network, ("198.51.100.66", 5000))
        thief.send(towards_inside)
        thief.send(towards_phone)
        phone.send(towards_phone)
        self.assertEqual((thief.rtp, phone.rtp), ([], []))
        nat = Phone(self.network, ("203.0.113.4", 62000))
        nat.send(towards_inside)
        other = Phone(self.network, ("203.0.113.4", 62002))
        other.send(towards_inside)
        thief.send(towards_inside)
        phone.send(towards_phone)
        self.assertEqual((thief.rtp, other.rtp), ([], []))
        self.assertEqual(len(phone.rtp), 1)
        self.assertEqual(len(nat.rtp), 1)

    def test_another_address_is_learnt_with_another_description(self) -> None:
        """Once per offer and answer: a new one may come from elsewhere."""
        towards_inside, towards_phone, phone = self.call()
        Phone(self.network, ("203.0.113.4", 62000)).send(towards_inside)
        moved = Phone(self.network, ("203.0.113.4", 63000))
        moved.send(towards_inside)
        phone.send(towards_phone)
        self.assertEqual(moved.rtp, [])
        self.offer(phone_sdp(host="10.0.0.5", port=4002), self.inside, PHONE)
        self.answer(phone_sdp(), PHONE, self.inside)
        moved.send(towards_inside)
        phone.send(towards_phone)
        self.assertEqual(len(moved.rtp), 1)

    def test_a_description_is_no_weapon(self) -> None:
        """An address that only the description vouches for gets a second of sound and no more,
        until a packet comes from there.
        """
        caller = MediaLeg(
            side=Side.CALLER, kind=LegKind.RTP, peer=Address("UDP", "203.0.113.4", 5060)
        )
        phone, victim = Phone(self.network), Phone(self.network, ("198.51.100.80", 7000))
        seen = self.offer(phone_sdp(host="198.51.100.80", port=7000), caller, PHONE)
        got = self.answer(phone_sdp(), PHONE, caller)
        for _ in range(200):
            phone.send(media_port(seen))
        self.assertEqual(len(victim.rtp), 50)
        victim.send(media_port(got))
        phone.send(media_port(seen))
        self.assertEqual(len(victim.rtp), 51)

    def test_this_machine_is_no_target(self) -> None:
        """A phone outside that names loopback, multicast or a name gets what its NAT gets."""
        for host in ("127.0.0.1", "239.1.1.1", "255.255.255.255", "victim.example"):
            caller = MediaLeg(
                side=Side.CALLER, kind=LegKind.RTP, peer=Address("UDP", "203.0.113.4", 5060)
            )
            phone = Phone(self.network)
            seen = self.offer(phone_sdp(host=host, port=5038), caller, PHONE)
            self.answer(phone_sdp(), PHONE, caller)
            phone.send(media_port(seen))
            self.assertEqual(self.network.lost, [], host)
            self.delete()

    def test_the_named_address_wins(self) -> None:
        """Who was quicker on another port of the phone's host loses the stream to the phone; what
        nobody agreed on settles nothing.
        """
        _, towards_phone, phone = self.call()
        quick = Phone(self.network, (PHONE_AT[0], 5555))
        quick.send(towards_phone, 77)
        self.assertFalse(self.user.told)
        quick.send(towards_phone)
        self.assertEqual(self.user.told, [("connected", Side.CALLEE)])
        nat = Phone(self.network, ("203.0.113.4", 62000))
        nat.send(media_port(self.got))
        self.assertEqual((len(quick.rtp), len(phone.rtp)), (1, 0))
        phone.send(towards_phone)
        quick.send(towards_phone)
        nat.send(media_port(self.got))
        self.assertEqual((len(quick.rtp), len(phone.rtp)), (1, 1))
        self.assertEqual(len(nat.rtp), 1)

    def test_everything_but_the_address_stays(self) -> None:
        """Codecs that the PBX has never heard of pass between phones."""
        strange = phone_sdp("98 18 101").replace(
            b"a=ptime:20", b"a=rtpmap:98 EVS/16000\r\na=fmtp:98 br=5.9-24.4\r\na=ptime:20"
        )
        seen = self.offer(strange, self.inside, PHONE)
        self.assertIn(b"RTP/AVP 98 18 101\r\n", seen)
        self.assertIn(b"a=fmtp:98 br=5.9-24.4\r\n", seen)
        self.assertNotIn(b"198.51.100.20", seen)

    def test_circles_end(self) -> None:
        """Two calls wound up in each other do not run away with the machine."""
        towards_inside, towards_phone, phone = self.call()
        nat = Phone(self.network, ("203.0.113.4", 62000))
        nat.send(towards_inside)
        self.clock.advance(1.0)
        for _ in range(5000):
            phone.send(towards_phone)
        self.clock.advance(1.0)
        self.assertIn(("timeout", None), self.user.told)

    def test_no_port_left(self) -> None:
        """503, and nothing half open."""
        self.network.full = True
        error = self.refusal(self.engine.offer(SESSION, phone_sdp(), self.inside, PHONE))
        self.assertEqual(error.status, 503)
        self.assertNothingLeft()

    def test_ip_versions(self) -> None:
        """A phone that answers with the other version would not be heard: 301."""
        self.offer(phone_sdp(), self.inside, PHONE)
        six = phone_sdp().replace(b"c=IN IP4 198.51.100.20", b"c=IN IP6 2001:db8::1")
        error = self.refusal(self.engine.answer(SESSION, six, PHONE, self.inside))
        self.assertEqual(error.warning, 301)


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
        self.offer(phone_sdp(), RelayTests.inside, PHONE)
        self.result(self.engine.stop())
        self.assertNothingLeft()
