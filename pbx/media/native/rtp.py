"""What the relay reads in RTP packets: counters (RFC 3550) and keys (RFC 4733). No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pbx.legs import StreamStatistics

#: Sequence numbers that jump further than this begin a new stretch (RFC 3550 appendix A.1).
_MAX_DROPOUT = 3000
_DIGITS = "0123456789*#ABCD"
#: Sent three times; when all are lost, the next key ends this one.
_EVENT_END = 0x80


def is_rtcp(packet: bytes) -> bool:
    """On one port for both (RFC 5761 section 4)."""
    return 192 <= packet[1] <= 223


def payload_start(packet: bytes) -> int:
    """Where the payload begins, behind CSRCs and header extension; 0 for a broken packet."""
    start = 12 + 4 * (packet[0] & 15)
    if packet[0] & 16:
        if len(packet) < start + 4:
            return 0
        start += 4 + 4 * int.from_bytes(packet[start + 2 : start + 4], "big")
    return start if start <= len(packet) else 0


class Stream:
    """Counts what comes from one side, whatever number of SSRCs it uses one after the other."""

    __slots__ = (
        "_base",
        "_clock",
        "_expected_before",
        "_highest",
        "_jitter",
        "_jitter_clock",
        "_ssrc",
        "_transit",
        "octets",
        "packets",
        "quiet",
    )

    def __init__(self) -> None:
        self.packets = 0
        self.octets = 0
        #: Payload numbers whose timestamps stand still: keys do not count for the jitter.
        self.quiet: frozenset[int] = frozenset()
        self._clock: Mapping[int, int] = {}
        self._ssrc = b""
        self._base = self._highest = 0
        self._expected_before = 0
        self._transit: float | None = None
        self._jitter = 0.0
        self._jitter_clock = 8000

    def describe(self, clocks: Mapping[int, int], quiet: frozenset[int]) -> None:
        """Clock rates by payload number, and which of them are keys."""
        self._clock = clocks
        self.quiet = quiet

    def received(self, packet: bytes, now: float) -> None:
        """One RTP packet of at least 12 bytes."""
        self.packets += 1
        self.octets += len(packet)
        number = packet[2] << 8 | packet[3]
        ssrc = packet[8:12]
        if ssrc != self._ssrc:
            self._restart(number, ssrc)
        else:
            step = (number - self._highest) & 0xFFFF
            if step < _MAX_DROPOUT:
                self._highest += step
            elif step < 0x10000 - 100:
                # A jump, or the old SSRC with a new count.
                self._restart(number, ssrc)
            else:
                return  # late or doubled
        payload = packet[1] & 127
        if payload in self.quiet:
            return
        clock = self._clock.get(payload, 8000)
        if clock != self._jitter_clock:
            self._jitter *= clock / self._jitter_clock
            self._jitter_clock = clock
            self._transit = None
        # RFC 3550 section 6.4.1; only differences count, so the wrap is cut off.
        transit = (now * clock - int.from_bytes(packet[4:8], "big")) % 4294967296.0
        if self._transit is not None:
            change = abs(transit - self._transit)
            if change < clock:
                self._jitter += (change - self._jitter) / 16.0
        self._transit = transit

    def _restart(self, number: int, ssrc: bytes) -> None:
        if self._ssrc:
            self._expected_before += self._highest - self._base + 1
        self._ssrc = ssrc
        self._base = self._highest = number
        self._transit = None

    def statistics(self) -> StreamStatistics:
        """As it is now."""
        expected = self._expected_before + (self._highest - self._base + 1 if self._ssrc else 0)
        return StreamStatistics(
            packets=self.packets,
            octets=self.octets,
            lost=max(expected - self.packets, 0),
            jitter=self._jitter / self._jitter_clock,
        )


class Keys:
    """Tells each key once, at its end (RFC 4733 section 2.5)."""

    __slots__ = ("_clock", "_down", "_duration", "_last", "_pressed")

    def __init__(self, pressed: Callable[[str, int], object]) -> None:
        self._pressed = pressed
        #: SSRC, timestamp and event of the key that is down, None between keys.
        self._down: tuple[bytes, bytes, int] | None = None
        self._last: tuple[bytes, bytes, int] | None = None
        self._duration = 0
        self._clock = 8000

    def received(self, packet: bytes, clock: int) -> None:
        """One packet with an event payload."""
        start = payload_start(packet)
        if not start or len(packet) < start + 4:
            return
        event = packet[start]
        key = (packet[8:12], packet[4:8], event)
        if event >= len(_DIGITS) or key == self._last:
            return  # a flash, a tone; or the end once more
        if key != self._down:
            self._end()
            self._down = key
            self._clock = clock
        duration = packet[start + 2] << 8 | packet[start + 3]
        self._duration = max(self._duration, duration)
        if packet[start + 1] & _EVENT_END:
            self._end()

    def _end(self) -> None:
        key, duration = self._down, self._duration
        self._down, self._duration = None, 0
        if key is not None:
            self._last = key
            self._pressed(_DIGITS[key[2]], duration * 1000 // self._clock)
