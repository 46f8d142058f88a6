"""Captures: packets, correlation, and a capture server that is slow or away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opensipscli.modules.trace import HEPpacket
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from pbx.config import ConfigError, settings
from pbx.events import CallStarted, Events
from pbx.hep import packet
from pbx.sip.address import Address
from pbx.transport.delivery import Delivery
from plugins.hep import Captures, HEPSettings, Stream, call_id_of, parse_target, read_key
from tests.fakes import LOCAL, PEER, FakeFlow
from tests.transport.parts import OPTIONS


class Chunks(HEPpacket):  # type: ignore[misc]
    """As opensips-cli reads a packet."""

    def __init__(self, data: bytes) -> None:
        assert data[:4] == b"HEP3"
        assert int.from_bytes(data[4:6], "big") == len(data)
        super().__init__(data[6:])
        self.type = ""
        self.key = b""
        self.parse()

    def push_chunk(self, vendor: int, kind: int, value: bytes) -> None:
        # The one that it does not know.
        if kind == 14:
            self.key = value
        else:
            super().push_chunk(vendor, kind, value)


class PacketTests(SynchronousTestCase):
    def test_four(self) -> None:
        found = Chunks(packet(1700000000.25, PEER, LOCAL, OPTIONS, "call-9", 7))
        self.assertEqual((found.family, found.protocol, found.type), (2, "UDP", "SIP"))
        self.assertEqual((found.src_addr, found.src_port), (bytes((192, 0, 2, 50)), 5060))
        self.assertEqual((found.dst_addr, found.dst_port), (bytes((192, 0, 2, 1)), 5060))
        self.assertEqual((found.ts, found.tms), (1700000000, 250000))
        self.assertEqual((found.data, found.correlation), (OPTIONS, b"call-9"))

    def test_six(self) -> None:
        """Also when our side is only known as a wildcard or a name."""
        peer = Address("WSS", "2001:db8::7", 40000)
        found = Chunks(packet(1.0, peer, Address("WSS", "0.0.0.0", 5063), b"x", ""))
        self.assertEqual((found.family, found.protocol), (10, "TCP"))
        self.assertEqual(found.src_addr[:4], bytes.fromhex("20010db8"))
        self.assertEqual(found.dst_addr, bytes(16))
        self.assertIsNone(found.correlation)
        found = Chunks(packet(1.0, PEER, Address("UDP", "pbx.example", 5060), b"x", ""))
        self.assertEqual(found.dst_addr, bytes(4))

    def test_limits(self) -> None:
        """Lengths have 16 bits, whatever there is to say."""
        data = packet(1.0, PEER, LOCAL, b"x" * 70_000, "c" * 70_000, key=b"k" * 70_000)
        self.assertLess(len(data), 65_536)
        self.assertEqual(len(Chunks(data).data), 64_000)

    def test_call_id(self) -> None:
        """Also of messages that are no good otherwise."""
        for data, expected in (
            (OPTIONS, "call-1"),
            (b"nonsense\r\nI : a b\r\n\r\n", "a b"),
            (b"X\r\n\r\nCall-ID: in the body", ""),
            (b"\xff\xfe", ""),
            (b"X\r\nCall-ID: \xff\r\n\r\n", "\udcff"),
        ):
            self.assertEqual(call_id_of(data), expected)


class FakeOutlet:
    def __init__(self) -> None:
        self.ready = True
        self.sent: list[bytes] = []

    def start(self) -> None:
        """At once."""

    def stop(self) -> None:
        self.ready = False

    def send(self, packets: Sequence[bytes]) -> None:
        assert self.ready
        self.sent += packets


class Dialog:
    def __init__(self, call_id: str, did: str, correlation: str) -> None:
        self.call_id, self.did, self.correlation = call_id, did, correlation


class CaptureTestCase(SynchronousTestCase):
    options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.events = Events()
        self.wire = Delivery()
        self.outlet = FakeOutlet()
        self.captures = Captures(
            settings(HEPSettings, self.options, "hep"),
            b"secret",
            self.wire,
            self.events,
            self.outlet,
            self.clock,
        )
        self.done(self.captures.start())
        self.flow = FakeFlow()

    def done(self, work: Any) -> None:
        self.successResultOf(Deferred.fromCoroutine(work))

    def see(self, call_id: str = "call-1", sent: bool = False, data: bytes = OPTIONS) -> None:
        assert self.wire.watch is not None
        self.wire.watch(sent, self.flow, data.replace(b"call-1", call_id.encode()))

    def found(self) -> list[Chunks]:
        self.clock.advance(0.1)
        packets, self.outlet.sent = self.outlet.sent, []
        return [Chunks(data) for data in packets]


class CaptureTests(CaptureTestCase):
    def test_directions(self) -> None:
        self.see()
        self.see(sent=True)
        received, sent = self.found()
        self.assertEqual((received.src_addr, received.dst_addr), (sent.dst_addr, sent.src_addr))
        self.assertEqual((received.ts, received.key), (1000, b"secret"))

    def test_correlation(self) -> None:
        """Both legs carry the first Call-ID, also the INVITE that came before the call was known."""
        self.see("leg-a")
        self.events.publish(CallStarted(Dialog("leg-a", "d1", "d1")))  # type: ignore[arg-type]
        self.see("leg-b")
        self.events.publish(CallStarted(Dialog("leg-b", "d2", "d1")))  # type: ignore[arg-type]
        self.see("other")
        self.assertEqual(
            [found.correlation for found in self.found()], [b"leg-a", b"leg-a", b"other"]
        )
        self.see("leg-b", sent=True)
        self.assertEqual(self.found()[0].correlation, b"leg-a")

    def test_secrets(self) -> None:
        """What proves a password does not leave; the setting lets it."""
        data = OPTIONS.replace(b"CSeq", b'Authorization: Digest response="abc"\r\nCSeq')
        self.see(data=data)
        self.assertIn(b'response="***"', self.found()[0].data)

    def test_rest(self) -> None:
        """Nothing taps when it is over; what waited is sent."""
        self.see()
        self.done(self.captures.stop())
        self.assertEqual(len(self.outlet.sent), 1)
        self.assertIsNone(self.wire.watch)

    def test_broken_message(self) -> None:
        """Whatever came is captured as it came."""
        self.see(data=b"\x00\xff nonsense")
        self.assertEqual(self.found()[0].data, b"\x00\xff nonsense")


class PlainTests(CaptureTestCase):
    options = {"mask": False}

    def test_secrets(self) -> None:
        data = OPTIONS.replace(b"CSeq", b'Authorization: Digest response="abc"\r\nCSeq')
        self.see(data=data)
        self.assertEqual(self.found()[0].data, data)


class SlowServerTests(CaptureTestCase):
    options = {"queue": 1000}

    def test_bounded(self) -> None:
        """The newest are lost, counted, and /health says so; then it goes on."""
        self.outlet.ready = False
        for _ in range(1500):
            self.see()
        self.assertEqual(self.found(), [])
        self.assertEqual(self.captures.statistics()["hep:dropped"], 500)
        self.assertEqual(self.captures.health()[0], "degraded")
        self.outlet.ready = True
        self.clock.pump([0.05] * 5)
        self.assertEqual(len(self.found()), 1000)
        self.assertEqual(self.captures.health()[0], "ok")
        self.assertEqual(self.captures.statistics()["hep:queued"], 0)


class StreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.stream = Stream("192.0.2.9", 9061, self.reactor)
        self.stream.start()

    def connect(self) -> tuple[Any, StringTransport]:
        protocol = self.stream.buildProtocol(IPv4Address("TCP", "192.0.2.9", 9061))
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def test_back_pressure(self) -> None:
        """A server that does not read stops us, not the PBX's memory."""
        self.assertFalse(self.stream.ready)
        protocol, transport = self.connect()
        self.stream.send([b"one", b"two"])
        self.assertEqual(transport.value(), b"onetwo")
        protocol.pauseProducing()
        self.assertFalse(self.stream.ready)
        protocol.resumeProducing()
        self.assertTrue(self.stream.ready)

    def test_reconnects(self) -> None:
        """It tries again, with pauses that grow up to half a minute."""
        self.assertEqual(len(self.reactor.tcpClients), 1)
        for _ in range(20):
            self.reactor.connectors[0].connect = self.count
            self.tries = 0
            self.stream.clientConnectionFailed(self.reactor.connectors[0], None)
            self.reactor.advance(60)
            self.assertEqual(self.tries, 1)

    def count(self) -> None:
        self.tries += 1


class SettingsTests(SynchronousTestCase):
    def test_targets(self) -> None:
        self.assertEqual(parse_target("udp:192.0.2.1:9060"), ("udp", "192.0.2.1", 9060))
        self.assertEqual(parse_target("tcp:[::1]:9061"), ("tcp", "::1", 9061))

    def test_faults(self) -> None:
        for options in (
            {"target": "192.0.2.1:9060"},
            {"target": "tls:192.0.2.1:9060"},
            {"target": "udp:::1:9060"},
            {"target": "udp:host:0"},
            {"target": "udp:host:65536"},
            {"capture_id": -1},
            {"queue": 0},
        ):
            with self.assertRaises(ConfigError):
                settings(HEPSettings, options, "hep")

    def test_key(self) -> None:
        path = Path(self.mktemp())
        with self.assertRaises(ConfigError):
            read_key(path)
        path.write_text("\n")
        with self.assertRaises(ConfigError):
            read_key(path)
        path.write_text("a key\n")
        self.assertEqual(read_key(path), b"a key")
