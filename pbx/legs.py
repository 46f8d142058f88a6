"""The words of media: sessions, their two legs, and how well they were heard."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from pbx.sip.address import Address


class LegKind(Enum):
    """How one side of a call speaks."""

    RTP = "rtp"
    """RTP/AVP with RTCP on its own port: desk phones, gateways, FreeSWITCH."""

    WEBRTC = "webrtc"
    """UDP/TLS/RTP/SAVPF with ICE, DTLS-SRTP and everything on one port: browsers."""


class Side(Enum):
    """Who a leg belongs to: the sender of the first INVITE is the caller for the whole call."""

    CALLER = "caller"
    CALLEE = "callee"

    @property
    def other(self) -> Side:
        """The opposite one."""
        return Side.CALLEE if self is Side.CALLER else Side.CALLER


class MediaSession(NamedTuple):
    """Names what is between a caller and one branch of its call.

    The branches of a call share the caller: an engine may give it one address for all of them.
    """

    call: str
    branch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLeg:
    """What is known of one side when a session description passes.

    ``peer`` is where its signalling really comes from; ``tag`` its dialog tag, "" while unknown.
    ``behind_nat``: the addresses in its session descriptions are not where its packets come from.
    """

    side: Side
    kind: LegKind
    peer: Address
    tag: str = ""
    behind_nat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStatistics:
    """What came from one side; ``jitter`` in seconds (RFC 3550 section 6.4.1)."""

    packets: int = 0
    octets: int = 0
    lost: int = 0
    jitter: float = 0.0

    @property
    def loss(self) -> float:
        """The share that was lost, 0 to 1."""
        expected = self.packets + self.lost
        return self.lost / expected if expected > 0 else 0.0

    @property
    def mos(self) -> float:
        """Estimated mean opinion score, 1 to 4.5; 0 without any packet.

        The E-model of ITU-T G.107 for G.711 with loss concealment (Ie 0, Bpl 25.1); the delay is
        taken to be that of a jitter buffer of four times the jitter and 20 ms of packet.
        """
        if not self.packets:
            return 0.0
        delay = 20.0 + 4000.0 * self.jitter
        percent = 100.0 * self.loss
        factor = 93.2 - 0.024 * delay - (0.11 * (delay - 177.3) if delay > 177.3 else 0.0)
        factor -= 95.0 * percent / (percent + 25.1)
        if factor <= 0.0:
            return 1.0
        score = 1.0 + 0.035 * factor + factor * (factor - 60.0) * (100.0 - factor) * 7e-6
        return min(max(score, 1.0), 4.5)


@dataclass(frozen=True, slots=True)
class MediaStatistics:
    """How a session was heard; ``caller`` is what came from the caller."""

    caller: StreamStatistics
    callee: StreamStatistics

    @property
    def packets(self) -> int:
        """Of both sides."""
        return self.caller.packets + self.callee.packets

    @property
    def loss(self) -> float:
        """The share of both streams that was lost, 0 to 1."""
        lost = self.caller.lost + self.callee.lost
        return lost / (self.packets + lost) if self.packets + lost > 0 else 0.0

    @property
    def jitter(self) -> float:
        """Of the worse side, in seconds."""
        return max(self.caller.jitter, self.callee.jitter)

    @property
    def mos(self) -> float:
        """Of the worse side, 0 when nobody was heard."""
        heard = [stream.mos for stream in (self.caller, self.callee) if stream.packets]
        return min(heard, default=0.0)
