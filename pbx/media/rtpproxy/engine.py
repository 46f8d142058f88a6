"""The engine over RTPProxy's commands, wherever it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from pbx.errors import MediaFailed
from pbx.interfaces import (
    IHealth,
    IMediaEngine,
    IMediaUser,
    IStartable,
    IStatistics,
    ITimer,
    ITimers,
)
from pbx.legs import LegKind, MediaLeg, MediaSession, MediaStatistics, Side, StreamStatistics
from pbx.media.bridging import Endpoint, audio_of
from pbx.media.negotiation import Negotiations, Passing
from pbx.media.rtpproxy.words import Digit, Ice, Update, notification, updated
from pbx.media.sdp import Media, SessionDescription, is_address

#: Seconds between looks at whether sessions are alive.
LOOK = 30.0
_GONE = "E50"


class Channel(Protocol):
    """How commands reach an RTPProxy."""

    async def open(self, reactor: Any) -> None:
        """Ready for commands."""

    async def ask(self, command: str) -> str:
        """The reply. Raises MediaFailed."""

    async def close(self) -> None:
        """No more commands."""

    @property
    def notify_socket(self) -> str:
        """Where it can tell of keys and dead sessions, "" for nowhere."""

    @property
    def silent(self) -> bool:
        """Whether it has stopped to answer."""


@implementer(IMediaEngine, IStartable, IHealth, IStatistics)
class Rtpproxy:
    """Sessions of an RTPProxy. ``place`` gives the address to bind and the one to write for a peer;
    without it both are the business of the RTPProxy.
    """

    log = Logger()
    name = "rtpproxy"

    def __init__(
        self,
        channel: Channel,
        reactor: Any,
        timers: ITimers,
        phone_codecs: Sequence[str],
        place: Callable[[str], tuple[str, str]] | None,
    ) -> None:
        self.outlives_us = place is None
        self._channel = channel
        self._reactor = reactor
        self._timers = timers
        self._place = place
        self._sessions = Negotiations(self._open_end, phone_codecs)
        self._prefix = token_hex(4)
        self._opened = 0
        self._names: dict[MediaSession, str] = {}
        self._named: dict[str, MediaSession] = {}
        self._user: IMediaUser | None = None
        self._timer: ITimer | None = None

    # IMediaEngine

    def use(self, user: IMediaUser) -> None:
        """Who hears of keys and dead sessions."""
        self._user = user

    def bridges(self, one: LegKind, other: LegKind) -> bool:
        """Any two."""
        return True

    async def offer(
        self, session: MediaSession, sdp: bytes, source: MediaLeg, target: MediaLeg
    ) -> bytes:
        """As `IMediaEngine`."""
        return await self._sessions.offer(session, sdp, source, target)

    async def answer(
        self, session: MediaSession, sdp: bytes, source: MediaLeg, target: MediaLeg
    ) -> bytes:
        """As `IMediaEngine`."""
        return await self._sessions.answer(session, sdp, source, target)

    async def delete(self, session: MediaSession) -> MediaStatistics | None:
        """As `IMediaEngine`."""
        if self._sessions.get(session) is None:
            return None
        found: MediaStatistics | None = None
        try:
            found = await self.query(session)
            await self._channel.ask(f"D {self._name(session)} {self._offerer(session).value}")
        except MediaFailed as error:
            self.log.warn("{error} ({session})", session=session, error=error.text)
        self._sessions.forget(session)
        self._named.pop(self._names.pop(session, ""), None)
        return found

    async def query(self, session: MediaSession) -> MediaStatistics | None:
        """As `IMediaEngine`: packets only, it counts nothing else."""
        if self._sessions.get(session) is None:
            return None
        first = self._offerer(session)
        reply = await self._look_up(session)
        numbers = reply.split()
        if len(numbers) != 5 or not all(number.isdigit() for number in numbers):
            return None
        streams = {
            first: StreamStatistics(packets=int(numbers[1])),
            first.other: StreamStatistics(packets=int(numbers[2])),
        }
        return MediaStatistics(streams[Side.CALLER], streams[Side.CALLEE])

    # IStartable, IHealth, IStatistics

    async def start(self) -> None:
        """Open the channel."""
        await self._channel.open(self._reactor)
        try:
            await self._channel.ask("V")
        except MediaFailed as error:
            self.log.warn("{error}; calls between browsers and phones fail", error=error.text)
        self._timer = self._timers.call_later(LOOK, self._look)

    async def stop(self) -> None:
        """End every session and close the channel."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._channel.silent:
            for session in self._sessions:
                await self.delete(session)
        await self._channel.close()

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters."""
        return self._sessions.counts()

    def health(self) -> tuple[str, str]:
        """Whether it answers."""
        return ("degraded", "rtpproxy does not answer") if self._channel.silent else ("ok", "")

    # What it tells by itself

    def notified(self, line: str) -> None:
        """A line of its notification channel."""
        told = notification(line)
        kind, side, name = _tag_parts(told.tag if isinstance(told, Digit) else told)
        session = self._named.get(name)
        if self._user is None or session is None:
            return
        if isinstance(told, Digit) and kind == "key" and side in ("caller", "callee"):
            self._sessions.digits += 1
            self._user.dtmf(session, Side(side), told.digit, told.milliseconds)
        elif kind == "quiet":
            self._gone(session)

    def _look(self) -> None:
        Deferred.fromCoroutine(self._look_at_all())

    async def _look_at_all(self) -> None:
        """A session that it has dropped for want of packets is gone: tell, where it cannot."""
        for session in self._sessions:
            try:
                reply = await self._look_up(session)
            except MediaFailed:
                break
            if reply.startswith(_GONE):
                self._gone(session)
        self._timer = self._timers.call_later(LOOK, self._look)

    def _gone(self, session: MediaSession) -> None:
        """It has dropped the session. One on hold is opened again when the call is resumed."""
        known = self._sessions.get(session)
        if known is not None and known.should_be_heard() and self._user is not None:
            self._sessions.timeouts += 1
            self._user.media_timeout(session, None)

    # Commands

    def _name(self, session: MediaSession) -> str:
        """What it knows a session by: one word, whatever is in a Call-ID."""
        name = self._names.get(session)
        if name is None:
            self._opened += 1
            name = self._names[session] = f"{self._prefix}-{self._opened}"
            self._named[name] = session
        return name

    async def _look_up(self, session: MediaSession) -> str:
        first = self._offerer(session)
        return await self._channel.ask(f"Q {self._name(session)} {first.value} {first.other.value}")

    async def _open_end(self, passing: Passing) -> Endpoint:
        local = told = ""
        if self._place is not None:
            local, told = self._place(passing.target.peer.host)
        update = self._update(passing, local)
        letter = "U" if passing.answers is None else "L"
        end = updated(await self._channel.ask(update.text(letter)), update)
        host = told or end.host
        candidates = tuple(_moved(text, end.host, host) for text in end.candidates)
        return Endpoint(
            kind=passing.target.kind,
            host=host,
            port=end.port,
            ufrag=end.ufrag,
            password=end.password,
            fingerprint=end.fingerprint,
            setup=end.setup,
            candidates=candidates,
        )

    def _update(self, passing: Passing, local: str) -> Update:
        description, source = passing.description, passing.source
        audio = audio_of(description)
        host = description.host_of(audio)
        if source.behind_nat or not is_address(host):
            host = source.peer.host
        offerer = source.side if passing.answers is None else passing.target.side
        browser = source.kind is LegKind.WEBRTC
        events = [
            codec.payload
            for codec in sorted(audio.codecs, key=lambda codec: codec.clock)
            if codec.is_event
        ]
        name = self._name(passing.session)
        tag = f"{source.side.value}:{name}"
        told = self._channel.notify_socket
        return Update(
            call=name,
            host=host,
            port=audio.port,
            from_tag=offerer.value,
            to_tag="" if self._is_first(passing) else offerer.other.value,
            payload_types=[codec.payload for codec in audio.codecs],
            ipv6=":" in host,
            fingerprint=_fingerprint(description, audio) if browser else "",
            active=description.inherited(audio, "setup") != "passive",
            ice=_ice(description, audio) if browser else None,
            towards_browser=passing.target.kind is LegKind.WEBRTC,
            digits=(f"key:{tag}", events[0]) if told and events else None,
            notify=(told, f"quiet:{tag}") if told else None,
            local=local,
        )

    def _is_first(self, passing: Passing) -> bool:
        """An offer before any answer: it knows no other tag yet."""
        known = self._sessions.get(passing.session)
        return passing.answers is None and (known is None or not known.was_answered)

    def _offerer(self, session: MediaSession) -> Side:
        known = self._sessions.get(session)
        return Side.CALLER if known is None else known.offerer


def _fingerprint(description: SessionDescription, audio: Media) -> str:
    name, _, digest = (description.inherited(audio, "fingerprint") or "").partition(" ")
    digest = digest.strip().upper()
    if not (_is_word(name, "-") and _is_word(digest, ":")):
        raise MediaFailed("Bad Fingerprint In Session Description")
    return f"{name.upper()} {digest}"


def _ice(description: SessionDescription, audio: Media) -> Ice:
    """Only candidates that it can use: UDP, by address."""
    ufrag = description.inherited(audio, "ice-ufrag") or ""
    password = description.inherited(audio, "ice-pwd") or ""
    if not (_is_word(ufrag, "+/") and _is_word(password, "+/")):
        raise MediaFailed("Bad ICE Credentials In Session Description")
    candidates = [text for text in audio.get_all("candidate") if _usable(text.split())]
    return Ice(ufrag=ufrag, password=password, candidates=candidates)


def _usable(words: list[str]) -> bool:
    if len(words) < 8 or words[2].lower() != "udp" or not is_address(words[4]):
        return False
    return len(words) <= 24 and all(_is_word(one, "+/.:-_") for one in words)


def _is_word(text: str, marks: str) -> bool:
    """Whether a text of the browser is a word of a command and no more than that."""
    plain = text.translate({ord(mark): None for mark in marks})
    return 0 < len(text) <= 256 and (not plain or (plain.isascii() and plain.isalnum()))


def _moved(candidate: str, bound: str, advertised: str) -> str:
    """It always names the address that it bound."""
    if bound == advertised:
        return candidate
    words = candidate.split(" ")
    return " ".join(advertised if at == 4 else one for at, one in enumerate(words))


def _tag_parts(tag: str) -> tuple[str, str, str]:
    """Kind, side and session of a tag of ours."""
    kind, _, rest = tag.partition(":")
    side, _, name = rest.partition(":")
    return kind, side, name
