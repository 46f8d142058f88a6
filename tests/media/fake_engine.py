"""An engine that does nothing, but says what it was asked."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from pbx.errors import MediaFailed
from pbx.interfaces import IMediaEngine, IMediaUser
from pbx.legs import LegKind, MediaLeg, MediaSession, MediaStatistics, StreamStatistics

_STREAM = StreamStatistics(packets=100, octets=17200, lost=1, jitter=0.002)
HEARD = MediaStatistics(_STREAM, _STREAM)


@implementer(IMediaEngine)
class FakeEngine:
    """Makes ``offered N`` and ``answered N`` of descriptions.

    With ``slow`` everything waits until `go`; ``refuse`` is a text in a body that it fails on.
    """

    name = "fake"
    outlives_us = False

    def __init__(self) -> None:
        self.user: IMediaUser | None = None
        self.asked: list[tuple[str, MediaSession, MediaLeg, MediaLeg]] = []
        self.sessions: dict[MediaSession, int] = {}
        self.deleted: list[MediaSession] = []
        self.slow = False
        self.refuse = b"refused"
        self._waiting: list[Deferred[None]] = []

    def use(self, user: IMediaUser) -> None:
        self.user = user

    def bridges(self, one: LegKind, other: LegKind) -> bool:
        return True

    async def offer(
        self, session: MediaSession, sdp: bytes, source: MediaLeg, target: MediaLeg
    ) -> bytes:
        return await self._do("offer", session, sdp, source, target)

    async def answer(
        self, session: MediaSession, sdp: bytes, source: MediaLeg, target: MediaLeg
    ) -> bytes:
        return await self._do("answer", session, sdp, source, target)

    async def _do(
        self, what: str, session: MediaSession, sdp: bytes, source: MediaLeg, target: MediaLeg
    ) -> bytes:
        self.asked.append((what, session, source, target))
        self.sessions[session] = self.sessions.get(session, 0) + 1
        if self.slow:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting
        if self.refuse in sdp:
            raise MediaFailed("No Common Codec", warning=305)
        return f"{what}ed {len(self.asked)} for {target.kind.value}".encode()

    def go(self) -> None:
        """Finish the oldest thing that waits."""
        self._waiting.pop(0).callback(None)

    async def delete(self, session: MediaSession) -> MediaStatistics | None:
        if self.sessions.pop(session, None) is None:
            return None
        self.deleted.append(session)
        return HEARD

    async def query(self, session: MediaSession) -> MediaStatistics | None:
        return HEARD if session in self.sessions else None

    async def start(self) -> None:
        return None

    async def stop(self) -> None:
        return None
