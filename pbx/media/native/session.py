"""One bridged call: two legs, what they told each other, and the paths between them."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pbx.errors import MediaFailed
from pbx.legs import (
    LegKind,
    MediaLeg,
    MediaSession,
    MediaStatistics,
    Side,
    StreamStatistics,
)
from pbx.media.bridging import (
    Payloads,
    audio_of,
    bridged_answer,
    bridged_offer,
    direction_of,
    text_of,
)
from pbx.media.native.leg import Leg, Path
from pbx.media.sdp import Codec, SessionDescription, parse

Pressed = Callable[[Side, str, int], object]


class Caller:
    """The caller's leg, shared by the branches of its call; ``active`` is who it talks to."""

    __slots__ = ("active", "branches", "leg")

    def __init__(self) -> None:
        self.leg: Leg | None = None
        self.branches = 0
        self.active: NativeSession | None = None


class NativeSession:
    """What is between a caller and one branch."""

    def __init__(
        self,
        name: MediaSession,
        caller: Caller,
        make_leg: Callable[[NativeSession, MediaLeg, SessionDescription | None], Leg],
        phone_codecs: Collection[str],
        pressed: Pressed,
    ) -> None:
        self.name = name
        self.caller = caller
        self.callee: Leg | None = None
        self._make_leg = make_leg
        self._phone_codecs = phone_codecs
        self._pressed = pressed
        self._offers: dict[Side, tuple[SessionDescription, MediaLeg]] = {}
        self._paths: dict[Side, Path] = {}
        self.answered = False
        self.reported = 0.0
        caller.branches += 1

    def leg(self, side: Side) -> Leg | None:
        """The leg of a side, None before it was needed."""
        return self.caller.leg if side is Side.CALLER else self.callee

    def legs(self) -> list[tuple[Side, Leg]]:
        """Those that there are."""
        found = [(side, self.leg(side)) for side in Side]
        return [(side, leg) for side, leg in found if leg is not None]

    def _need(self, peer: MediaLeg, description: SessionDescription | None) -> Leg:
        leg = self.leg(peer.side)
        if leg is None:
            leg = self._make_leg(self, peer, description)
            if peer.side is Side.CALLER:
                self.caller.leg = leg
            else:
                self.callee = leg
        elif leg.kind is not peer.kind:
            raise MediaFailed("A Leg Cannot Change Its Kind", warning=302)
        return leg

    # Offer and answer

    def offer(self, sdp: bytes, source: MediaLeg, target: MediaLeg) -> bytes:
        """Nothing of it is in force before it is answered."""
        description = parse(sdp)
        if description.kind is not source.kind:
            raise MediaFailed("Not The Media That Was Expected", warning=302)
        self._need(source, description).check(description)
        towards = self._need(target, None)
        known = towards.description
        layout = () if known is None else known.media
        made = bridged_offer(description, towards.endpoint(None), self._phone_codecs, layout)
        self._offers[source.side] = (description, source)
        return text_of(made, towards.endpoint(None))

    def answer(self, sdp: bytes, source: MediaLeg, target: MediaLeg) -> bytes:
        """Both descriptions are in force from here on."""
        known = self._offers.get(target.side)
        answerer, offerer = self.leg(source.side), self.leg(target.side)
        if known is None or answerer is None or offerer is None:
            raise MediaFailed("An Answer Without Offer")
        offer, offering = known
        description = parse(sdp)
        if description.kind is not answerer.kind:
            raise MediaFailed("Not The Media That Was Expected", warning=302)
        answerer.check(description)
        endpoint = offerer.endpoint(offer)
        made = bridged_answer(description, offer, endpoint)
        offerer.describe(offer, offering)
        answerer.describe(description, source)
        self._connect(offer, description, target.side)
        return text_of(made, endpoint)

    def _connect(
        self, offer: SessionDescription, answer: SessionDescription, offering: Side
    ) -> None:
        self.answered = True
        caller, callee = self.caller.leg, self.callee
        assert caller is not None
        assert callee is not None
        if not self._paths:
            self._paths[Side.CALLER] = Path(callee, self._pressed_by(Side.CALLER))
            self._paths[Side.CALLEE] = Path(caller, self._pressed_by(Side.CALLEE))
        audio, other = audio_of(offer), audio_of(answer)
        offered, answered = audio.codecs, other.codecs
        down = up = None
        if offer.kind is not answer.kind:
            numbers = Payloads(offered, answered)
            down, up = numbers.to_answerer, numbers.to_offerer
        secret = offer.kind is LegKind.RTP and audio.secure
        events = {} if secret else _event_clocks([*offered, *answered])
        self._paths[offering].describe(down, events)
        self._paths[offering.other].describe(up, events)
        clocks = {codec.payload: codec.clock for codec in [*answered, *offered]}
        payloads = frozenset(int(one) for one in (*audio.formats, *other.formats))
        for leg in (caller, callee):
            leg.stream.describe(clocks, frozenset(events))
            leg.payloads = payloads
        self._activate(caller, callee)

    def _activate(self, caller: Leg, callee: Leg) -> None:
        """The branch that answered last is the one that is heard (early media of several)."""
        former = self.caller.active
        if former is not None and former is not self and former.callee is not None:
            former.callee.sink = None
        self.caller.active = self
        caller.sink = self._paths[Side.CALLER]
        callee.sink = self._paths[Side.CALLEE]

    def _pressed_by(self, side: Side) -> Callable[[str, int], object]:
        def pressed(digit: str, milliseconds: int) -> None:
            self._pressed(side, digit, milliseconds)

        return pressed

    # How it does

    @property
    def held(self) -> bool:
        """Whether one side wants silence: then nobody has to be heard."""
        for _, leg in self.legs():
            description = leg.description
            if description is not None and direction_of(description) != "sendrecv":
                return True
        return False

    def statistics(self) -> MediaStatistics:
        """What came from both sides so far."""
        streams = {side: leg.stream.statistics() for side, leg in self.legs()}
        return MediaStatistics(
            streams.get(Side.CALLER, _NOTHING), streams.get(Side.CALLEE, _NOTHING)
        )

    def close(self) -> None:
        """Free the callee's ports, and the caller's with the last branch."""
        caller = self.caller
        caller.branches -= 1
        if caller.active is self:
            caller.active = None
            if caller.leg is not None:
                caller.leg.sink = None
        if self.callee is not None:
            self.callee.close()
        if not caller.branches and caller.leg is not None:
            caller.leg.close()


_NOTHING = StreamStatistics()


def _event_clocks(codecs: Collection[Codec]) -> dict[int, int]:
    return {codec.payload: codec.clock for codec in codecs if codec.is_event}
