"""What is read in RTP packets."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pbx.media.native.rtp import Keys, Stream, payload_start
from tests.media.browser import packet


class StreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stream = Stream()
        self.stream.describe({0: 8000, 111: 48000}, frozenset((101,)))

    def hear(self, *numbers: int, ssrc: bytes = b"SSRC") -> None:
        for number in numbers:
            self.stream.received(packet(0, number, number * 160, ssrc), number * 0.02)

    def lost(self) -> int:
        return self.stream.statistics().lost

    def test_none_lost(self) -> None:
        """Also where the count wraps."""
        self.hear(*range(65500, 65600))
        self.assertEqual(self.lost(), 0)
        self.assertEqual(self.stream.statistics().packets, 100)
        self.assertEqual(self.stream.statistics().octets, 17200)

    def test_lost(self) -> None:
        """Gaps count, also across the wrap; late packets close them."""
        self.hear(10, 11, 14, 15)
        self.assertEqual(self.lost(), 2)
        self.hear(13)
        self.assertEqual(self.lost(), 1)
        stream = Stream()
        for number in (65534, 65535, 2, 3):
            stream.received(packet(0, number, 0), 0.0)
        self.assertEqual(stream.statistics().lost, 2)

    def test_doubled(self) -> None:
        """A packet that comes twice is not fewer than none lost."""
        self.hear(1, 1, 2, 2)
        self.assertEqual(self.lost(), 0)

    def test_another_source(self) -> None:
        """Where a gateway changes its SSRC nothing is lost, nor where the count jumps."""
        self.hear(1, 2, 3)
        self.hear(40000, 40001, ssrc=b"NEXT")
        self.hear(5, 6, ssrc=b"NEXT")
        self.assertEqual(self.lost(), 0)
        self.hear(8, ssrc=b"NEXT")
        self.assertEqual(self.lost(), 1)

    def test_jitter(self) -> None:
        """RFC 3550 section 6.4.1: steady is none, 10 ms to and fro comes near 10 ms."""
        self.hear(*range(100))
        self.assertAlmostEqual(self.stream.statistics().jitter, 0.0, places=4)
        for number in range(100, 300):
            late = 0.01 * (number % 2)
            self.stream.received(packet(0, number, number * 160), number * 0.02 + late)
        self.assertAlmostEqual(self.stream.statistics().jitter, 0.01, places=3)

    def test_keys_do_not_count_for_the_jitter(self) -> None:
        """Their timestamps stand still."""
        self.hear(*range(10))
        for number in range(10, 30):
            self.stream.received(packet(101, number, 1600, body=bytes(4)), number * 0.02)
        self.assertAlmostEqual(self.stream.statistics().jitter, 0.0, places=4)
        self.assertEqual(self.lost(), 0)

    def test_clock_rates(self) -> None:
        """Opus ticks at 48 kHz."""
        for number in range(50):
            self.stream.received(packet(111, number, number * 960), number * 0.02)
        self.assertAlmostEqual(self.stream.statistics().jitter, 0.0, places=4)


class KeysTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pressed: list[tuple[str, int]] = []
        self.keys = Keys(lambda digit, milliseconds: self.pressed.append((digit, milliseconds)))

    def event(self, timestamp: int, event: int, duration: int, end: bool) -> None:
        body = bytes((event, (0x80 if end else 0) | 10)) + duration.to_bytes(2, "big")
        self.keys.received(packet(101, 1, timestamp, body=body), 8000)

    def test_one_key(self) -> None:
        """Told at the end, once, however often the end is sent."""
        for duration in (160, 320, 480):
            self.event(1000, 7, duration, False)
        self.assertEqual(self.pressed, [])
        for _ in range(3):
            self.event(1000, 7, 640, True)
        self.assertEqual(self.pressed, [("7", 80)])

    def test_the_same_key_again(self) -> None:
        """Another timestamp is another press."""
        self.event(1000, 10, 400, True)
        self.event(2000, 10, 400, True)
        self.assertEqual(self.pressed, [("*", 50), ("*", 50)])

    def test_lost_end(self) -> None:
        """The next key ends it."""
        self.event(1000, 1, 400, False)
        self.event(2000, 2, 400, True)
        self.assertEqual(self.pressed, [("1", 50), ("2", 50)])

    def test_no_keys(self) -> None:
        """Flash and tones are none; nor is a packet without payload."""
        self.event(1000, 16, 400, True)
        self.event(1000, 36, 400, True)
        self.keys.received(packet(101, 1, 3000, body=b"\x01\x80"), 8000)
        self.assertEqual(self.pressed, [])

    def test_behind_csrcs_and_extension(self) -> None:
        """The payload begins where the header says."""
        plain = packet(101, 1, 1000, body=b"\x05\x80\x01\x90")
        long = (
            bytes((0x80 | 0x10 | 2,)) + plain[1:12] + b"CSR1CSR2" + b"\xbe\xde\x00\x01" + bytes(4)
        )
        self.keys.received(long + plain[12:], 8000)
        self.assertEqual(self.pressed, [("5", 50)])

    @settings(deadline=None)
    @given(st.binary(min_size=12, max_size=80))
    def test_anything(self, data: bytes) -> None:
        """No packet breaks it."""
        self.assertTrue(0 <= payload_start(data) <= len(data))
        self.keys.received(data, 8000)
        Stream().received(data, 1.0)
