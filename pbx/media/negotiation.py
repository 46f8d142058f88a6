"""Offer and answer for engines whose packets somebody else relays: opening their ends is one thing,
what the descriptions say another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pbx.errors import MediaFailed
from pbx.legs import MediaLeg, MediaSession, Side
from pbx.media.bridging import (
    Endpoint,
    audio_of,
    bridged_answer,
    bridged_offer,
    direction_of,
    text_of,
)
from pbx.media.sdp import Media, SessionDescription, parse

_SENDS_AND_LISTENS = {
    "sendrecv": (True, True),
    "sendonly": (True, False),
    "recvonly": (False, True),
    "inactive": (False, False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Passing:
    """A description on its way: what an engine must know to open its end towards ``target``.

    ``answers`` is the offer that it answers, None when it is an offer itself.
    """

    session: MediaSession
    sdp: bytes
    description: SessionDescription
    source: MediaLeg
    target: MediaLeg
    answers: SessionDescription | None = None


#: Opens or changes the end of a session towards the target. Raises MediaFailed.
OpenEnd = Callable[[Passing], Awaitable[Endpoint]]


class Negotiation:
    """The open offer, and the m-lines that each side knows (RFC 3264 section 8)."""

    __slots__ = ("_known", "_sends", "offer", "offerer")

    def __init__(self) -> None:
        self.offer: SessionDescription | None = None
        self.offerer = Side.CALLER
        self._known: dict[Side, Sequence[Media]] = {}
        self._sends: dict[Side, bool] = {}

    def offered(self, side: Side, offer: SessionDescription) -> Sequence[Media]:
        """An offer of a side; gives the m-lines that the other one knows so far."""
        self.offer, self.offerer = offer, side
        self._known[side] = offer.media
        return self._known.get(side.other, ())

    def answered(self, side: Side, answer: SessionDescription) -> SessionDescription:
        """An answer of a side; gives the offer. Raises MediaFailed when there was none."""
        if self.offer is None or self.offerer is side:
            raise MediaFailed("Answer Without An Offer")
        self._known[side] = answer.media
        sends, listens = _SENDS_AND_LISTENS[direction_of(answer)]
        wanted, heard = _SENDS_AND_LISTENS[direction_of(self.offer)]
        self._sends = {side: sends and heard, side.other: wanted and listens}
        return self.offer

    @property
    def was_answered(self) -> bool:
        """Whether any offer has been answered so far."""
        return bool(self._sends)

    def shown(self, side: Side, description: SessionDescription) -> None:
        """What a side got to see."""
        self._known[side] = description.media

    def should_be_heard(self) -> list[Side]:
        """The sides that agreed to send: of a call on hold, none or one."""
        return [side for side, sends in self._sends.items() if sends]


class Negotiations:
    """The sessions of an engine."""

    def __init__(self, open_end: OpenEnd, phone_codecs: Collection[str]) -> None:
        self._open_end = open_end
        self._phone_codecs = frozenset(name.lower() for name in phone_codecs)
        self._sessions: dict[MediaSession, Negotiation] = {}
        self.opened = self.failed = self.timeouts = self.digits = 0

    def __iter__(self) -> Iterator[MediaSession]:
        return iter(tuple(self._sessions))

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, session: MediaSession) -> Negotiation | None:
        """None for a session that does not exist."""
        return self._sessions.get(session)

    def counts(self) -> Mapping[str, int]:
        """Statistics by the names of every engine."""
        return {
            "media:sessions": len(self._sessions),
            "media:opened": self.opened,
            "media:failed": self.failed,
            "media:timeouts": self.timeouts,
            "media:digits": self.digits,
        }

    def forget(self, session: MediaSession) -> Negotiation | None:
        """It is gone."""
        return self._sessions.pop(session, None)

    async def offer(
        self, session: MediaSession, sdp: bytes, source: MediaLeg, target: MediaLeg
    ) -> bytes:
        """As `IMediaEngine`."""
        offer = parse(sdp)
        audio_of(offer)
        known = self._sessions.get(session)
        if known is None:
            known = self._sessions[session] = Negotiation()
            self.opened += 1
        layout = known.offered(source.side, offer)
        endpoint = await self._opened(
            Passing(session=session, sdp=sdp, description=offer, source=source, target=target)
        )
        shown = bridged_offer(offer, endpoint, self._phone_codecs, layout)
        known.shown(target.side, shown)
        return text_of(shown, endpoint)

    async def answer(
        self, session: MediaSession, sdp: bytes, source: MediaLeg, target: MediaLeg
    ) -> bytes:
        """As `IMediaEngine`."""
        answer = parse(sdp)
        known = self._sessions.get(session)
        if known is None:
            raise MediaFailed("Answer Without An Offer")
        offer = known.answered(source.side, answer)
        answer = _in_offered_numbers(answer, offer)
        endpoint = await self._opened(
            Passing(
                session=session,
                sdp=sdp,
                description=answer,
                source=source,
                target=target,
                answers=offer,
            )
        )
        shown = bridged_answer(answer, offer, endpoint)
        known.shown(target.side, shown)
        return text_of(shown, endpoint)

    async def _opened(self, passing: Passing) -> Endpoint:
        try:
            return await self._open_end(passing)
        except MediaFailed:
            self.failed += 1
            raise


def _in_offered_numbers(
    answer: SessionDescription, offer: SessionDescription
) -> SessionDescription:
    """The answer without codecs under another number than offered: nobody renumbers packets."""
    offered = {codec.key: codec.payload for codec in audio_of(offer).codecs}
    at = answer.audio_at
    audio = audio_of(answer)
    moved = {
        str(codec.payload)
        for codec in audio.codecs
        if offered.get(codec.key, codec.payload) != codec.payload
    }
    if not moved:
        return answer
    formats = tuple(one for one in audio.formats if one not in moved)
    media = list(answer.media)
    media[at] = replace(audio, formats=formats)
    return replace(answer, media=tuple(media))
