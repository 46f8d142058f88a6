"""The sessions of the engine in this process; one turn a second looks for the dead ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from pbx.errors import MediaFailed
from pbx.interfaces import (
    IMediaEngine,
    IMediaUser,
    IStartable,
    IStatistics,
    ITimer,
    ITimers,
)
from pbx.legs import LegKind, MediaLeg, MediaSession, MediaStatistics, Side
from pbx.media.native.addresses import Addresses
from pbx.media.native.leg import Leg
from pbx.media.native.plain import PlainLeg
from pbx.media.native.port import Ports
from pbx.media.native.session import Caller, NativeSession
from pbx.media.sdp import SessionDescription, is_address
from pbx.media.settings import MediaSettings

if TYPE_CHECKING:
    from pbx.media.native.dtls import Identity

#: Packets a second that no codec needs: two calls that were wound up in a circle.
_FLOOD = 2000


@implementer(IMediaEngine, IStartable, IStatistics)
class NativeEngine:
    """See `IMediaEngine`. All of it happens at once; nothing here waits."""

    log = Logger()
    name = "native"
    outlives_us = False

    def __init__(
        self,
        settings: MediaSettings,
        addresses: Addresses,
        ports: Ports,
        clock: IReactorTime,
        timers: ITimers,
    ) -> None:
        self._settings = settings
        self._addresses = addresses
        self._clock = clock
        self._timers = timers
        self._ports = ports
        self._codecs = frozenset(name.lower() for name in settings.phone_codecs)
        self._identity: Identity | None = None
        self._user: IMediaUser | None = None
        self._sessions: dict[MediaSession, NativeSession] = {}
        self._callers: dict[str, Caller] = {}
        self._counted: dict[MediaSession, int] = {}
        self._turn_timer: ITimer | None = None
        self.opened = self.failed = self.timed_out = self.digits = 0

    # IMediaEngine

    def use(self, user: IMediaUser) -> None:
        """Who hears of digits and of dead sessions."""
        self._user = user

    def bridges(self, one: LegKind, other: LegKind) -> bool:
        """Everything."""
        return True

    async def start(self) -> None:
        """Sockets are opened when calls need them."""

    async def stop(self) -> None:
        """Free everything."""
        for name in list(self._sessions):
            self._delete(name)

    async def offer(
        self, session: MediaSession, sdp: bytes, source: MediaLeg, target: MediaLeg
    ) -> bytes:
        """Opens the session when it is the first one."""
        known = self._sessions.get(session)
        if known is not None:
            return known.offer(sdp, source, target)
        opened = self._open(session)
        try:
            return opened.offer(sdp, source, target)
        except MediaFailed:
            self.failed += 1
            self._delete(session)
            raise

    async def answer(
        self, session: MediaSession, sdp: bytes, source: MediaLeg, target: MediaLeg
    ) -> bytes:
        """Sound can flow."""
        known = self._sessions.get(session)
        if known is None:
            raise MediaFailed("No Such Session")
        return known.answer(sdp, source, target)

    async def delete(self, session: MediaSession) -> MediaStatistics | None:
        """Free its ports."""
        return self._delete(session)

    async def query(self, session: MediaSession) -> MediaStatistics | None:
        """How it is heard so far."""
        known = self._sessions.get(session)
        return None if known is None else known.statistics()

    # Sessions

    def _open(self, name: MediaSession) -> NativeSession:
        caller = self._callers.get(name.call)
        if caller is None:
            caller = self._callers[name.call] = Caller()

        def pressed(side: Side, digit: str, milliseconds: int) -> None:
            self.digits += 1
            if self._user is not None:
                self._user.dtmf(name, side, digit, milliseconds)

        opened = NativeSession(name, caller, self._leg, self._codecs, pressed)
        self._sessions[name] = opened
        self.opened += 1
        if self._turn_timer is None:
            self._turn_timer = self._timers.call_later(1.0, self._turn)
        return opened

    def _leg(
        self, session: NativeSession, peer: MediaLeg, description: SessionDescription | None
    ) -> Leg:
        name, side = session.name, peer.side
        now = self._clock.seconds

        def connected() -> None:
            if self._user is not None:
                self._user.connected(self._heard_as(name, side), side)

        def failed() -> None:
            self._report(self._heard_as(name, side), side)

        if peer.kind is LegKind.RTP:
            near = _nearest(peer, description)
            return PlainLeg(self._ports, self._addresses, near, now, connected)
        # With the first browser, in some 10 ms: libsrtp, OpenSSL's wrappers and what they need are
        # 6 MB that a PBX without browsers does not hold.
        from pbx.media.native.dtls import Identity
        from pbx.media.native.webrtc import WebRTCLeg

        if self._identity is None:
            self._identity = Identity()
        return WebRTCLeg(
            self._ports,
            self._addresses,
            self._identity,
            peer.peer.host,
            self._timers,
            now,
            connected,
            failed,
        )

    def _heard_as(self, name: MediaSession, side: Side) -> MediaSession:
        """The branch that a caller talks to, whichever was first to need its leg."""
        if side is Side.CALLER:
            caller = self._callers.get(name.call)
            if caller is not None and caller.active is not None:
                return caller.active.name
        return name

    def _delete(self, name: MediaSession) -> MediaStatistics | None:
        session = self._sessions.pop(name, None)
        if session is None:
            return None
        self._counted.pop(name, None)
        statistics = session.statistics()
        session.close()
        if not session.caller.branches:
            self._callers.pop(name.call, None)
        if not self._sessions and self._turn_timer is not None:
            self._turn_timer.cancel()
            self._turn_timer = None
        return statistics if session.answered else None

    # Dead sessions

    def _turn(self) -> None:
        self._turn_timer = self._timers.call_later(1.0, self._turn)
        now = self._clock.seconds()
        limit = self._settings.timeout
        for name, session in list(self._sessions.items()):
            if not session.answered or session.caller.active is not session:
                continue
            packets = sum(leg.stream.packets for _, leg in session.legs())
            if packets - self._counted.get(name, packets) > 2 * _FLOOD:
                self.log.warn("a call is flooded with media: {call}", call=name.call)
                self._report(name, None)
            self._counted[name] = packets
            held = session.held
            for side, leg in session.legs():
                if leg.kind is LegKind.RTP and (held or limit <= 0):
                    leg.heard = now
                elif leg.silent_since(now, limit):
                    # Told again after as long a time, should nobody end the call.
                    leg.heard = now
                    self._report(name, side)
                    break

    def _report(self, name: MediaSession, side: Side | None) -> None:
        if name in self._sessions:
            self.timed_out += 1
            if self._user is not None:
                self._user.media_timeout(name, side)

    # IStatistics

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters."""
        return {
            "media:sessions": len(self._sessions),
            "media:opened": self.opened,
            "media:failed": self.failed,
            "media:timeouts": self.timed_out,
            "media:digits": self.digits,
        }


def _nearest(peer: MediaLeg, description: SessionDescription | None) -> str:
    """Whom the ports are for: the signalling, unless the media is of the other IP version."""
    near = peer.peer.host
    if description is not None and description.audio_at >= 0:
        host = description.host_of(description.media[description.audio_at])
        if is_address(host) and (":" in host) != (":" in near):
            return host
    return near
