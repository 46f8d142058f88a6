"""The engines that are other people's programs: a browser and a phone over real sockets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pbx.errors import MediaFailed
from pbx.interfaces import IMediaEngine, IMediaUser
from pbx.legs import LegKind, MediaLeg, MediaSession, Side
from pbx.media.open import EngineParts, open_engine
from pbx.media.settings import MediaSettings
from pbx.sip.address import Address
from pbx.timing import TimerWheel
from tests.integration.harness import free_block, program
from tests.integration.relays import Relay, RtpengineServer, RtpproxyServer
from tests.media.browser import Browser, Certificate, packet

MEDIA_PORTS = 40
SESSION = MediaSession("call 1", "b/1")
BROWSER = MediaLeg(
    side=Side.CALLER, kind=LegKind.WEBRTC, peer=Address("WS", "127.0.0.1", 50000), tag="a"
)
PHONE = MediaLeg(
    side=Side.CALLEE, kind=LegKind.RTP, peer=Address("UDP", "127.0.0.1", 5060), tag="b"
)
CALLING_PHONE = MediaLeg(
    side=Side.CALLER, kind=LegKind.RTP, peer=Address("UDP", "127.0.0.1", 5060), tag="b"
)
CALLED_BROWSER = MediaLeg(
    side=Side.CALLEE, kind=LegKind.WEBRTC, peer=Address("WS", "127.0.0.1", 50000), tag="a"
)
LOUD, QUIET = b"\x80" * 160, b"\xd5" * 160


@implementer(IMediaUser)
class User:
    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def connected(self, session: MediaSession, side: Side) -> None:
        self.told.append(("connected", side))

    def dtmf(self, session: MediaSession, side: Side, digit: str, milliseconds: int) -> None:
        self.told.append((digit, side, milliseconds))

    def media_timeout(self, session: MediaSession, side: Side | None) -> None:
        self.told.append(("timeout", session))


class Socket(DatagramProtocol):
    """A UDP socket that hands on what it gets."""

    def __init__(self, received: Callable[[bytes, Any], object]) -> None:
        self._received = received
        self.listening: Any = reactor.listenUDP(  # type: ignore[attr-defined]
            0, self, interface="127.0.0.1"
        )
        self.port: int = self.listening.getHost().port

    def datagramReceived(self, data: bytes, address: Any) -> None:
        self._received(data, address)

    def send(self, data: bytes, address: Any) -> None:
        assert self.transport is not None
        self.transport.write(data, address)


class RelayTestCase(TestCase):
    """A fresh engine, a browser and a phone. Each subclass names an engine."""

    timeout = 120
    engine: Any = None

    def setting(self) -> str:
        raise NotImplementedError

    async def opened(self, timeout: float = 60.0) -> None:
        """An engine; the same when there is one."""
        if self.engine is not None:
            return
        low = free_block(MEDIA_PORTS)
        settings = MediaSettings(
            engine=self.setting(), port_min=low, port_max=low + MEDIA_PORTS - 1, timeout=timeout
        )
        self.wheel = TimerWheel(reactor)
        self.addCleanup(self.wheel.stop)
        self.engine = open_engine(
            EngineParts(
                settings=settings,
                advertise="",
                reactor=reactor,
                timers=self.wheel,
                source_towards=lambda host: "127.0.0.1",
                local_addresses=lambda: frozenset(("127.0.0.1",)),
                folder=Path(self.mktemp()),
            )
        )
        self.user = User()
        self.engine.use(self.user)
        await self.engine.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.engine.stop()))

    def browser(self, certificate: Certificate | None = None) -> Browser:
        def received(data: bytes, address: Any) -> None:
            browser.received(data, address)

        socket = Socket(received)
        self.addCleanup(socket.listening.stopListening)
        named = {} if certificate is None else {"certificate": certificate}
        browser = Browser(socket.send, **named)
        browser.further = (
            f"a=candidate:2 1 udp 2122194687 127.0.0.1 {socket.port} typ host generation 0\n"
            "a=candidate:3 1 tcp 1518214911 127.0.0.1 9 typ host tcptype active\n"
        )
        return browser

    def phone(self) -> tuple[Socket, list[bytes]]:
        heard: list[bytes] = []
        socket = Socket(lambda data, address: heard.append(data))
        self.addCleanup(socket.listening.stopListening)
        return socket, heard

    def phone_sdp(self, port: int, direction: str = "sendrecv", formats: str = "0 126") -> bytes:
        return (
            "v=0\r\no=phone 1 1 IN IP4 127.0.0.1\r\ns=call\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP {formats}\r\na=rtpmap:0 PCMU/8000\r\n"
            f"a=rtpmap:126 telephone-event/8000\r\na=fmtp:126 0-15\r\na={direction}\r\n"
        ).encode()

    async def pause(self, seconds: float) -> None:
        await deferLater(reactor, seconds, lambda: None)

    async def connected(self, browser: Browser) -> None:
        """Checks and the handshake, repeated as a browser does."""
        browser.connect()
        for _ in range(100):
            await self.pause(0.1)
            if browser.connected:
                return
            browser.check()
            browser.again()
        self.fail("no DTLS")

    async def talk(self, browser: Browser, phone: Socket, heard: list[bytes], port: int) -> None:
        """Both say something until both have heard it."""
        for number in range(100):
            browser.send_rtp(0, LOUD)
            phone.send(packet(0, number, number * 160, body=QUIET), ("127.0.0.1", port))
            await self.pause(0.05)
            said = any(one[12:] == LOUD for one in heard)
            if said and any(one[12:] == QUIET for one in browser.rtp):
                return
        self.fail(f"heard {len(heard)} packets of the browser and {len(browser.rtp)} of the phone")

    async def browser_calls(self) -> tuple[Browser, Socket, list[bytes], int]:
        """Set up and talking; gives the port that the phone sends to."""
        browser = self.browser()
        phone, heard = self.phone()
        seen = await self.engine.offer(SESSION, browser.offer(), BROWSER, PHONE)
        self.assertIn(b"RTP/AVP 9 0 8 126\r\n", seen)
        for word in (b"candidate", b"fingerprint", b"ice-", b"extmap", b"ssrc", b"msid", b"mid:"):
            self.assertNotIn(word, seen)
        got = await self.engine.answer(SESSION, self.phone_sdp(phone.port), PHONE, BROWSER)
        browser.accept(got)
        await self.connected(browser)
        port = int(seen.partition(b"m=audio ")[2].split()[0])
        await self.talk(browser, phone, heard, port)
        return browser, phone, heard, port


class RelayRules:
    """What every engine does."""

    def test_interface(self: Any) -> Any:
        """It is an engine for every pair of sides."""
        return Deferred.fromCoroutine(self._interface())

    async def _interface(self: Any) -> None:
        await self.opened()
        verifyObject(IMediaEngine, self.engine)
        self.assertTrue(all(self.engine.bridges(a, b) for a in LegKind for b in LegKind))
        self.assertEqual(self.engine.health(), ("ok", ""))

    def test_browser_calls_phone(self: Any) -> Any:
        """Sound both ways; on hold and back the addresses stay; statistics; then nothing is left."""
        return Deferred.fromCoroutine(self._browser_calls_phone())

    async def _browser_calls_phone(self: Any) -> None:
        await self.opened()
        browser, phone, heard, port = await self.browser_calls()
        held = await self.engine.offer(
            SESSION, self.phone_sdp(phone.port, "sendonly"), PHONE, BROWSER
        )
        self.assertIn(b"a=sendonly\r\n", held)
        self.assertIn(b"a=mid:0\r\n", held)
        browser.direction = "recvonly"
        back = await self.engine.answer(SESSION, browser.answer(), BROWSER, PHONE)
        self.assertIn(b"a=recvonly\r\n", back)
        self.assertIn(b"m=audio %d RTP/AVP" % port, back)
        browser.direction = "sendrecv"
        offer = await self.engine.offer(SESSION, browser.offer(), BROWSER, PHONE)
        self.assertIn(b"m=audio %d RTP/AVP" % port, offer)
        await self.engine.answer(SESSION, self.phone_sdp(phone.port), PHONE, BROWSER)
        heard.clear()
        browser.rtp.clear()
        await self.talk(browser, phone, heard, port)
        statistics = await self.engine.query(SESSION)
        self.assertGreater(statistics.caller.packets, 0)
        self.assertGreater(statistics.callee.packets, 0)
        ended = await self.engine.delete(SESSION)
        self.assertGreaterEqual(ended.packets, statistics.packets)
        self.assertIsNone(await self.engine.query(SESSION))
        self.assertIsNone(await self.engine.delete(SESSION))

    def test_phone_calls_browser(self: Any) -> Any:
        """The other way round."""
        return Deferred.fromCoroutine(self._phone_calls_browser())

    async def _phone_calls_browser(self: Any) -> None:
        await self.opened()
        browser = self.browser()
        phone, heard = self.phone()
        seen = await self.engine.offer(
            SESSION, self.phone_sdp(phone.port, formats="0 8 126"), CALLING_PHONE, CALLED_BROWSER
        )
        self.assertIn(b"a=setup:actpass\r\n", seen)
        browser.accept(seen, "active")
        got = await self.engine.answer(SESSION, browser.answer(), CALLED_BROWSER, CALLING_PHONE)
        await self.connected(browser)
        port = int(got.partition(b"m=audio ")[2].split()[0])
        await self.talk(browser, phone, heard, port)

    def test_refused(self: Any) -> Any:
        """What cannot be bridged is refused with the reason, and nothing stays open."""
        return Deferred.fromCoroutine(self._refused())

    async def _refused(self: Any) -> None:
        await self.opened()
        phone, _ = self.phone()
        for sdp in (b"", b"v=0\r\n", self.phone_sdp(phone.port).replace(b"m=audio", b"m=video")):
            with self.assertRaises(MediaFailed) as caught:
                await self.engine.offer(SESSION, sdp, PHONE, BROWSER)
            self.assertEqual(caught.exception.status, 488)
        with self.assertRaises(MediaFailed):
            await self.engine.answer(
                MediaSession("none", "1"), self.phone_sdp(phone.port), PHONE, BROWSER
            )

    def test_hostile_words(self: Any) -> Any:
        """A browser that writes commands into its credentials is refused or not understood."""
        return Deferred.fromCoroutine(self._hostile_words())

    async def _hostile_words(self: Any) -> None:
        await self.opened()
        browser, phone, heard, port = await self.browser_calls()
        evil = self.browser()
        other = MediaSession("call 2", "b/2")
        for name in (b"ice-ufrag", b"ice-pwd", b"fingerprint", b"candidate"):
            for words in (b"x && D call%201%2Fb%2F1 caller", b"x\nX", b"&& X", b"e5:e"):
                head, _, tail = evil.offer().partition(b"a=" + name + b":")
                sdp = head + b"a=" + name + b":" + words + b"\r\n" + tail.partition(b"\r\n")[2]
                try:
                    await self.engine.offer(other, sdp, BROWSER, PHONE)
                except MediaFailed:
                    pass
                await self.engine.delete(other)
        heard.clear()
        browser.rtp.clear()
        await self.talk(browser, phone, heard, port)


class EmbeddedTests(RelayTestCase):
    """RTPProxy in this process: one for everything, as in the PBX."""

    def setting(self) -> str:
        return "rtpproxy:embedded"

    def test_everything(self) -> Any:
        """The rules, RFC 4733 keys told once, and a silent session told to be dead."""
        return Deferred.fromCoroutine(self._everything())

    async def _everything(self) -> None:
        await self.opened(timeout=3.0)
        for rule in (
            RelayRules._interface,
            RelayRules._browser_calls_phone,
            RelayRules._phone_calls_browser,
            RelayRules._refused,
            RelayRules._hostile_words,
        ):
            await rule(self)
            await self.engine.delete(SESSION)
        await self.keys()
        await self.engine.delete(SESSION)
        await self.silence()

    async def keys(self) -> None:
        browser, _, _, _ = await self.browser_calls()
        browser.send_key(126, "5", 120)
        browser.send_rtp(0, LOUD)
        await self.until_told()
        self.assertEqual(self.user.told, [("5", Side.CALLER, 120)])

    async def silence(self) -> None:
        self.user.told.clear()
        browser, _, _, _ = await self.browser_calls()
        await self.until_told()
        self.assertEqual(self.user.told, [("timeout", SESSION)])
        offer = await self.engine.offer(SESSION, browser.offer(), BROWSER, PHONE)
        self.assertIn(b"m=audio", offer)

    async def until_told(self) -> None:
        for _ in range(200):
            await self.pause(0.1)
            if self.user.told:
                return


class ExternalTestCase(RelayTestCase):
    """An engine in a process of its own."""

    program: type[Relay]

    async def opened(self, timeout: float = 60.0) -> None:
        low = free_block(MEDIA_PORTS)
        self.server = self.program(range(low, low + MEDIA_PORTS))
        self.addCleanup(self.server.remove)
        self.server.start()
        await super().opened(timeout)


class ExternalRules(RelayRules):
    """What both do when they are gone."""

    def test_gone(self: Any) -> Any:
        """Calls are refused in time and the health says why; when it is back, they work again."""
        return Deferred.fromCoroutine(self._gone())

    async def _gone(self: Any) -> None:
        await self.opened()
        self.server.stop()
        browser = self.browser()
        with self.assertRaises(MediaFailed) as caught:
            await self.engine.offer(SESSION, browser.offer(), BROWSER, PHONE)
        self.assertEqual(caught.exception.status, 500)
        self.assertEqual(self.engine.health()[0], "degraded")
        self.server.start()
        await self.engine.delete(SESSION)
        await self.browser_calls()
        self.assertEqual(self.engine.health(), ("ok", ""))


class ExternalRtpproxyTests(ExternalRules, ExternalTestCase):
    """RTPProxy over UDP."""

    program = RtpproxyServer

    def setting(self) -> str:
        return f"rtpproxy:udp:127.0.0.1:{self.server.port}"


class RtpengineTests(ExternalRules, ExternalTestCase):
    """rtpengine."""

    program = RtpengineServer

    def setUp(self) -> None:
        program("rtpengine")

    def setting(self) -> str:
        return f"rtpengine:udp:127.0.0.1:{self.server.port}"


del RelayTestCase, ExternalTestCase
