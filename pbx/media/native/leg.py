"""What both kinds of legs have in common, and the paths between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from pbx.legs import LegKind, MediaLeg
from pbx.media.bridging import Endpoint
from pbx.media.native.rtp import Keys, Stream
from pbx.media.sdp import SessionDescription

#: A source that restarts its count would be taken for a replay by SRTP (RFC 3711 section 3.3.2).
_RESTART = 1000


class Leg(Protocol):
    """One side's sockets."""

    kind: LegKind
    stream: Stream
    sink: Path | None
    #: Payload numbers that were agreed on, in either side's numbers.
    payloads: frozenset[int]
    heard: float
    connected: bool
    description: SessionDescription | None

    def endpoint(self, offer: SessionDescription | None) -> Endpoint:
        """What to tell the peer: in an answer to its ``offer``, or in an offer of ours (None)."""

    def check(self, description: SessionDescription) -> None:
        """Whether the peer can be heard by this description. Raises MediaFailed."""

    def describe(self, description: SessionDescription, peer: MediaLeg) -> None:
        """The peer's own description, which was checked, is in force now."""

    def send_rtp(self, packet: bytes) -> None:
        """To the peer, as soon as it is known where it is."""

    def send_rtcp(self, packet: bytes) -> None:
        """The same for RTCP."""

    def silent_since(self, now: float, limit: float) -> bool:
        """Whether it should have been heard by now, and was not for ``limit`` seconds."""

    def close(self) -> None:
        """Free its ports."""


class Path:
    """From one leg to another: payload numbers, keys."""

    __slots__ = ("_clocks", "_first", "_last", "_map", "_shift", "_source", "_target", "keys")

    def __init__(self, target: Leg, pressed: Callable[[str, int], object]) -> None:
        self._target = target
        self._map: Mapping[int, int] | None = None
        self._clocks: Mapping[int, int] = {}
        self._source = b""
        self._last = 0
        self._shift = 0
        self._first = target.kind is LegKind.WEBRTC
        self.keys = Keys(pressed)

    def describe(self, renumber: Mapping[int, int] | None, event_clocks: Mapping[int, int]) -> None:
        """Payload numbers that change on the way, and clocks of those that are keys."""
        self._map = renumber
        self._clocks = event_clocks

    def rtp(self, packet: bytes) -> None:
        """One packet of the source."""
        payload = packet[1] & 127
        clock = self._clocks.get(payload)
        if clock is not None:
            self.keys.received(packet, clock)
        if self._map is not None:
            number = self._map.get(payload)
            if number is not None:
                packet = packet[:1] + bytes((packet[1] & 128 | number,)) + packet[2:]
        if self._first:
            packet = self._in_sequence(packet)
        self._target.send_rtp(packet)

    def rtcp(self, packet: bytes) -> None:
        """One compound packet of the source."""
        self._target.send_rtcp(packet)

    def _in_sequence(self, packet: bytes) -> bytes:
        """Continue the count of a source that began it anew: SRTP would refuse what follows."""
        number = packet[2] << 8 | packet[3]
        if packet[8:12] != self._source:
            self._source = packet[8:12]
            self._shift = 0
        else:
            behind = (self._last - number - self._shift) & 0xFFFF
            if _RESTART < behind < 0x8000:
                self._shift = (self._last + 1 - number) & 0xFFFF
        number = (number + self._shift) & 0xFFFF
        self._last = number
        if self._shift:
            return packet[:2] + number.to_bytes(2, "big") + packet[4:]
        return packet
