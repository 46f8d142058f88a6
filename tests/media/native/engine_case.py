"""The engine on a network in memory, with a browser and phones around it."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pbx.errors import MediaFailed
from pbx.interfaces import IMediaUser
from pbx.legs import LegKind, MediaLeg, MediaSession, MediaStatistics, Side
from pbx.media.native import NativeEngine
from pbx.media.native.addresses import Addresses
from pbx.media.settings import MediaSettings
from pbx.sip.address import Address
from pbx.timing import TimerWheel
from tests.media.browser import Browser, packet
from tests.media.native.network import Network

BROWSER_AT = ("198.51.100.7", 40000)
PHONE_AT = ("198.51.100.20", 30000)
BROWSER = MediaLeg(
    side=Side.CALLER, kind=LegKind.WEBRTC, peer=Address("WS", BROWSER_AT[0], 50000), tag="a"
)
PHONE = MediaLeg(
    side=Side.CALLEE, kind=LegKind.RTP, peer=Address("UDP", PHONE_AT[0], 5060), tag="b"
)
#: A phone behind a NAT.
INSIDE = MediaLeg(
    side=Side.CALLER, kind=LegKind.RTP, peer=Address("UDP", "203.0.113.4", 61000), behind_nat=True
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
