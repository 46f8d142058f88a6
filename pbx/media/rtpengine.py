"""rtpengine as media engine: a daemon of its own, told what to do by the ng protocol.

What it writes is read for its addresses and keys only; the descriptions that leave are made the
same way as for every other engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
from pbx.media.bencode import Readable, Writable, decode, encode
from pbx.media.bridging import Endpoint, audio_of
from pbx.media.cookies import CookieChannel
from pbx.media.negotiation import Negotiations, Passing
from pbx.media.sdp import SessionDescription, parse

#: Seconds between looks at whether sessions are alive.
LOOK = 30.0
#: Attributes of a browser that would only mislead it: it takes the address that packets come from.
_CANDIDATES = (b"a=candidate", b"a=end-of-candidates", b"a=remote-candidates")

#: What an offer is turned into, by the kind of who wrote it and who gets it.
OFFERS: Mapping[tuple[LegKind, LegKind], Mapping[str, Writable]] = {
    (LegKind.WEBRTC, LegKind.RTP): {
        "transport-protocol": "RTP/AVP",
        "ICE": "remove",
        "DTLS": "off",
        "SDES": ["off"],
        "rtcp-mux": ["demux"],
    },
    (LegKind.RTP, LegKind.WEBRTC): {
        "transport-protocol": "UDP/TLS/RTP/SAVPF",
        "ICE": "force",
        "SDES": ["off"],
        "rtcp-mux": ["offer", "require"],
        "flags": ["generate-mid"],
    },
    (LegKind.RTP, LegKind.RTP): {"ICE": "remove", "rtcp-mux": ["demux"]},
    (LegKind.WEBRTC, LegKind.WEBRTC): {
        "ICE": "force",
        "SDES": ["off"],
        "rtcp-mux": ["offer", "require"],
    },
}
_FLAGS = {(LegKind.RTP, LegKind.WEBRTC): ("generate-mid",)}
#: The same for answers.
ANSWERS: Mapping[tuple[LegKind, LegKind], Mapping[str, Writable]] = {
    (LegKind.RTP, LegKind.WEBRTC): {
        "transport-protocol": "UDP/TLS/RTP/SAVPF",
        "ICE": "force",
        "DTLS": "passive",
        "rtcp-mux": ["require"],
    },
    (LegKind.WEBRTC, LegKind.RTP): {
        "transport-protocol": "RTP/AVP",
        "ICE": "remove",
        "DTLS": "off",
        "rtcp-mux": ["demux"],
    },
    (LegKind.RTP, LegKind.RTP): {"ICE": "remove", "rtcp-mux": ["demux"]},
    (LegKind.WEBRTC, LegKind.WEBRTC): {
        "ICE": "force",
        "DTLS": "passive",
        "rtcp-mux": ["require"],
    },
}


@dataclass(slots=True)
class Watch:
    """What was heard of a session at the last look."""

    packets: dict[Side, int]
    quiet: float = 0.0


@implementer(IMediaEngine, IStartable, IHealth, IStatistics)
class Rtpengine:
    """Sessions of an rtpengine daemon. They go on when the PBX is restarted."""

    log = Logger()
    name = "rtpengine"
    outlives_us = True

    def __init__(
        self,
        channel: CookieChannel,
        reactor: Any,
        timers: ITimers,
        phone_codecs: Sequence[str],
        timeout: float,
    ) -> None:
        self._channel = channel
        self._reactor = reactor
        self._timers = timers
        self._timeout = timeout
        self._sessions = Negotiations(self._open_end, phone_codecs)
        self._watches: dict[MediaSession, Watch] = {}
        self._user: IMediaUser | None = None
        self._timer: ITimer | None = None

    # IMediaEngine

    def use(self, user: IMediaUser) -> None:
        """Who hears of dead sessions; of keys the daemon does not tell."""
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
        """As `IMediaEngine`; a daemon that is away forgets sessions by itself."""
        known = self._sessions.forget(session)
        self._watches.pop(session, None)
        if known is None:
            return None
        words = _names(session, known.offerer, "")
        try:
            reply = await self._ask("delete", {**words, "delete-delay": 0})
        except MediaFailed:
            return None
        return _statistics(reply)

    async def query(self, session: MediaSession) -> MediaStatistics | None:
        """As `IMediaEngine`."""
        if self._sessions.get(session) is None:
            return None
        return _statistics(await self._ask("query", {"call-id": _call(session)}))

    # IStartable, IHealth, IStatistics

    async def start(self) -> None:
        """Open the channel. A daemon that is not there yet is no reason not to start."""
        self._channel.open(self._reactor)
        try:
            await self._ask("ping", {})
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
        """Whether the daemon answers."""
        return ("degraded", "rtpengine does not answer") if self._channel.silent else ("ok", "")

    # Commands

    async def _ask(self, command: str, words: Mapping[str, Writable]) -> dict[bytes, Readable]:
        raw = await self._channel.ask(encode({"command": command, **words}))
        try:
            reply = decode(raw)
        except ValueError as error:
            raise MediaFailed(f"rtpengine answers nonsense: {error}", status=500) from None
        if not isinstance(reply, dict):
            raise MediaFailed("rtpengine answers nonsense", status=500)
        if reply.get(b"result") not in (b"ok", b"pong"):
            why = reply.get(b"error-reason", b"")
            text = why.decode("utf-8", "replace") if isinstance(why, bytes) else ""
            raise MediaFailed(f"rtpengine: {text or 'no reason given'}", status=500)
        return reply

    async def _open_end(self, passing: Passing) -> Endpoint:
        """What the daemon opened towards the target."""
        source, target = passing.source, passing.target
        kinds = source.kind, target.kind
        sdp = passing.sdp
        if passing.answers is None:
            command = "offer"
            words = {**OFFERS[kinds], **_names(passing.session, source.side, "")}
        else:
            command = "answer"
            names = _names(passing.session, target.side, source.side.value)
            words = {**ANSWERS[kinds], **names}
        if source.kind is LegKind.WEBRTC:
            sdp = _without_candidates(sdp)
        elif source.behind_nat:
            family = "IP6" if ":" in source.peer.host else "IP4"
            words["flags"] = [*_FLAGS.get(kinds, ()), "SIP-source-address"]
            words["received-from"] = [family, source.peer.host]
        words["replace"] = ["origin"]
        reply = await self._ask(command, {**words, "sdp": sdp})
        written = reply.get(b"sdp")
        if not isinstance(written, bytes):
            raise MediaFailed("rtpengine gave no session description", status=500)
        return endpoint_of(parse(written), target.kind)

    def _look(self) -> None:
        Deferred.fromCoroutine(self._look_at_all())

    async def _look_at_all(self) -> None:
        """Sessions in which nobody who should is heard any more."""
        for session in self._sessions:
            try:
                found = await self.query(session)
            except MediaFailed:
                break
            known = self._sessions.get(session)
            if known is not None and found is not None:
                self._check(session, known.should_be_heard(), found)
        self._timer = self._timers.call_later(LOOK, self._look)

    def _check(
        self, session: MediaSession, expected: Sequence[Side], found: MediaStatistics
    ) -> None:
        heard = {Side.CALLER: found.caller.packets, Side.CALLEE: found.callee.packets}
        watch = self._watches.setdefault(session, Watch({}))
        moved = any(heard[side] != watch.packets.get(side) for side in expected)
        watch.packets = heard
        watch.quiet = watch.quiet + LOOK if expected and not moved else 0.0
        if 0 < self._timeout <= watch.quiet and self._user is not None:
            watch.quiet = 0.0
            self._sessions.timeouts += 1
            self._user.media_timeout(session, None)


def endpoint_of(written: SessionDescription, kind: LegKind) -> Endpoint:
    """The addresses and keys in what the daemon wrote."""
    audio = audio_of(written)
    rtcp = (audio.get("rtcp") or "").split(" ")[0]
    plain = kind is LegKind.RTP
    return Endpoint(
        kind=kind,
        host=written.host_of(audio),
        port=audio.port,
        rtcp_port=int(rtcp) if plain and rtcp.isdigit() else 0,
        ufrag=written.inherited(audio, "ice-ufrag") or "",
        password=written.inherited(audio, "ice-pwd") or "",
        fingerprint=written.inherited(audio, "fingerprint") or "",
        setup=written.inherited(audio, "setup") or "",
        candidates=tuple(audio.get_all("candidate")),
        lite=written.get("ice-lite") is not None,
    )


def _call(session: MediaSession) -> str:
    return f"{session.call}/{session.branch}"


def _names(session: MediaSession, offerer: Side, answerer: str) -> dict[str, Writable]:
    """Sides instead of tags: forks and re-INVITEs of either side stay one session."""
    names: dict[str, Writable] = {"call-id": _call(session), "from-tag": offerer.value}
    if answerer:
        names["to-tag"] = answerer
    return names


def _without_candidates(sdp: bytes) -> bytes:
    return b"\n".join(line for line in sdp.split(b"\n") if not line.startswith(_CANDIDATES))


def _statistics(reply: Mapping[bytes, Readable]) -> MediaStatistics | None:
    """What came from each side."""
    tags = reply.get(b"tags")
    if not isinstance(tags, dict):
        return None
    found = {side: _stream(tags.get(side.value.encode())) for side in Side}
    return MediaStatistics(found[Side.CALLER], found[Side.CALLEE])


def _stream(tag: object) -> StreamStatistics:
    """The first stream of the first medium: RTP. Anything else counts as nothing heard."""
    try:
        stats = tag[b"medias"][0][b"streams"][0][b"stats"]  # type: ignore[index]
        return StreamStatistics(packets=int(stats[b"packets"]), octets=int(stats[b"bytes"]))
    except (KeyError, IndexError, TypeError, ValueError):
        return StreamStatistics()
