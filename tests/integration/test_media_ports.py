"""The engine's sockets: ranges, exhaustion, IPv6, lost handshakes, hostile packets. Loopback only."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, TestCase

from pbx.errors import MediaFailed
from pbx.legs import LegKind, MediaLeg, MediaSession, Side
from pbx.media.native import NativeEngine
from pbx.media.native.addresses import Addresses
from pbx.media.native.port import MediaPort, PortRange
from pbx.media.settings import MediaSettings
from pbx.sip.address import Address
from pbx.timing import TimerWheel
from pbx.transport.hosts import source_towards
from tests.integration.harness import free_block
from tests.integration.media import RTPPhone
from tests.media.browser import Browser
from tests.media.native.engine_case import User, media_port

CLOCK: Any = reactor


async def later(seconds: float) -> None:
    """Some time passes."""
    await deferLater(CLOCK, seconds)


class PortRangeTests(TestCase):
    def setUp(self) -> None:
        self.first = free_block(8)
        self.ports = PortRange(self.first, self.first + 7, CLOCK)

    def hear(self, data: bytes, source: tuple[Any, ...]) -> None:
        """Nobody listens."""

    def test_pairs_until_none_is_left(self) -> None:
        """Four pairs in eight ports; then 503; what is closed can be taken again."""
        taken = [self.ports.pair("127.0.0.1", self.hear, self.hear) for _ in range(4)]
        self.assertEqual(
            sorted(one.port for pair in taken for one in pair),
            list(range(self.first, self.first + 8)),
        )
        for rtp, rtcp in taken:
            self.assertEqual((rtp.port % 2, rtcp.port), (0, rtp.port + 1))
        error = self.assertRaises(MediaFailed, self.ports.pair, "127.0.0.1", self.hear, self.hear)
        self.assertEqual(error.status, 503)
        for one in taken[2]:
            one.close()
        again = self.ports.single("127.0.0.1", self.hear)
        self.assertEqual(again.port, taken[2][0].port)
        again.close()
        for pair in taken:
            for one in pair:
                one.close()

    def test_half_a_pair_is_not_kept(self) -> None:
        """Where only the odd port is taken by others, the even one stays free."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", self.first + 1))
            taken = [self.ports.pair("127.0.0.1", self.hear, self.hear) for _ in range(3)]
            self.assertRaises(MediaFailed, self.ports.pair, "127.0.0.1", self.hear, self.hear)
            single = self.ports.single("127.0.0.1", self.hear)
            self.assertEqual(single.port, self.first)
        for one in (single, *(one for pair in taken for one in pair)):
            one.close()

    def test_an_address_that_is_not_ours(self) -> None:
        """503, at once."""
        error = self.assertRaises(MediaFailed, self.ports.single, "192.0.2.77", self.hear)
        self.assertEqual(error.status, 503)

    def test_unreachable_targets(self) -> None:
        """What cannot be sent is counted and lost; nothing is raised."""
        port = self.ports.single("127.0.0.1", self.hear)
        assert isinstance(port, MediaPort)
        for target in (("127.0.0.1", 0), ("255.255.255.255", 9), ("::1", 9)):
            port.send(b"x" * 20, target)
        port.send(b"x" * 70000, ("127.0.0.1", 9))
        self.assertEqual(port.send_failures, 4)
        port.close()
        port.close()


class EngineCase(TestCase):
    host = "127.0.0.1"

    def setUp(self) -> None:
        first = free_block(40)
        settings = MediaSettings(port_min=first, port_max=first + 39)
        self.user = User()
        self.timers = TimerWheel(CLOCK)
        self.engine = NativeEngine(
            settings,
            Addresses("", source_towards, lambda: frozenset((self.host,))),
            PortRange(first, first + 39, CLOCK),
            CLOCK,
            self.timers,
        )
        self.engine.use(self.user)
        self.addCleanup(self.stop)
        self.session = MediaSession("call", "1")

    def stop(self) -> Deferred[None]:
        self.timers.call_later(0, lambda: None)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self.engine.stop()
        self.timers.stop()

    def leg(self, side: Side, kind: LegKind) -> MediaLeg:
        return MediaLeg(side=side, kind=kind, peer=Address("UDP", self.host, 5060))

    async def until(self, condition: Any) -> None:
        for _ in range(200):
            if condition():
                return
            await later(0.05)
        raise AssertionError("not within 10 s")


class SocketBrowser:
    """A browser on a socket of the reactor; ``lose`` so many of the datagrams that come."""

    def __init__(self, lose: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.peer = Browser(self.socket.sendto)
        self.lose = lose
        self.dropped = 0

    def read(self) -> None:
        """What has come."""
        while True:
            try:
                data, source = self.socket.recvfrom(2048)
            except OSError:
                return
            if data[0] >= 20 and self.dropped < self.lose:
                self.dropped += 1
            else:
                self.peer.received(data, source)


class HandshakeTests(EngineCase):
    async def connected(self, browser: SocketBrowser, setup: str) -> None:
        caller = self.leg(Side.CALLER, LegKind.WEBRTC)
        callee = self.leg(Side.CALLEE, LegKind.RTP)
        phone = RTPPhone()
        for one in phone.sockets:
            self.addCleanup(one.close)
        self.addCleanup(browser.socket.close)
        offer = browser.peer.description(setup)
        await self.engine.offer(self.session, offer, caller, callee)
        answer = phone.description().encode()
        browser.peer.accept(await self.engine.answer(self.session, answer, callee, caller))
        browser.peer.check()
        if browser.peer.role == "active":
            browser.peer.handshake()
        for _ in range(400):
            browser.read()
            if browser.peer.connected:
                return
            browser.peer.again()
            await later(0.05)
        raise AssertionError("never connected")

    async def test_lost_flights(self) -> None:
        """Ours are sent again until the browser has them, in both roles (RFC 6347 4.2.4)."""
        for at, setup in enumerate(("actpass", "passive")):
            self.session = MediaSession("call", str(at))
            browser = SocketBrowser(lose=2)
            await self.connected(browser, setup)
            self.assertEqual(browser.dropped, 2)
            await self.engine.delete(self.session)

    async def test_garbage_in_the_handshake(self) -> None:
        """DTLS noise from the browser's own address does not break it."""
        browser = SocketBrowser()
        send = browser.peer._send

        def noisy(data: bytes, target: Any) -> None:
            if data[0] >= 20:
                send(b"\x16\xfe\xfd" + os.urandom(60), target)
                send(b"\x14\xfe\xfd" + bytes(10), target)
                send(data[:13], target)
            send(data, target)

        browser.peer._send = noisy
        await self.connected(browser, "actpass")


class HostileTests(EngineCase):
    async def test_noise_gets_no_answer(self) -> None:
        """Strangers on a media port: not a byte comes back, whatever they send."""
        browser = Browser(lambda data, target: None)
        caller = self.leg(Side.CALLER, LegKind.WEBRTC)
        callee = self.leg(Side.CALLEE, LegKind.RTP)
        seen = await self.engine.offer(self.session, browser.offer(), caller, callee)
        answer = RTPPhone()
        for one in answer.sockets:
            self.addCleanup(one.close)
        sdp = answer.description().encode()
        got = await self.engine.answer(self.session, sdp, callee, caller)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.1", 0))
            stranger.setblocking(False)
            hello = b"\x16\xfe\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10" + bytes(16)
            binding = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)
            for port in (media_port(got), media_port(seen), media_port(seen) + 1):
                for size in (0, 1, 11, 12, 20, 200, 1400, 9000):
                    for first in (0, 1, 22, 64, 128, 144, 255):
                        # As RTP it has a number that nobody agreed on.
                        data = bytes((first, 77)) + os.urandom(size)
                        stranger.sendto(data[:9000], ("127.0.0.1", port))
                    await later(0)
                stranger.sendto(hello, ("127.0.0.1", port))
                stranger.sendto(binding, ("127.0.0.1", port))
            await later(0.3)
            self.assertRaises(BlockingIOError, stranger.recv, 100)
        self.assertEqual(self.user.told, [])


class IPv6Tests(EngineCase):
    host = "::1"

    async def test_phones(self) -> None:
        """Both sides in IPv6, through the relay."""
        try:
            one, other = RTPPhone(400, "::1"), RTPPhone(1000, "::1")
        except OSError as error:
            raise SkipTest("no IPv6") from error
        caller = self.leg(Side.CALLER, LegKind.RTP)
        callee = self.leg(Side.CALLEE, LegKind.RTP)
        for peer in (one, other):
            for bound in peer.sockets:
                bound.setblocking(False)
                self.addCleanup(bound.close)
        seen = await self.engine.offer(self.session, one.description().encode(), caller, callee)
        self.assertIn(b"c=IN IP6 ::1\r\n", seen)
        other.accept(seen)
        sdp = other.description().encode()
        one.accept(await self.engine.answer(self.session, sdp, callee, caller))
        for _ in range(3):
            one.step()
            other.step()
        await self.until(lambda: self.count(one) + self.count(other) >= 6)
        found = await self.engine.delete(self.session)
        assert found is not None
        self.assertEqual((found.caller.packets, found.callee.packets), (3, 3))

    def count(self, peer: RTPPhone) -> int:
        for bound, received in peer.sockets.items():
            try:
                data, source = bound.recvfrom(2048)
            except OSError:
                continue
            received(data, source)
        return len(peer.packets)
