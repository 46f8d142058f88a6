"""Offers and answers that pass through an engine (RFC 3264, RFC 8829). No I/O.

One audio m-line is bridged; every other one is refused with port 0. The functions here turn what
one side wrote into what the other side may see; what they know of an engine is its `Endpoint`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from pbx.errors import MediaFailed
from pbx.legs import LegKind
from pbx.media.sdp import (
    DIRECTIONS,
    Attribute,
    Codec,
    Media,
    SessionDescription,
    codec_attributes,
    write,
)

#: What browsers can do (RFC 7874), and what they get to see of a phone.
BROWSER_CODECS = frozenset(("opus", "g722", "pcmu", "pcma"))
#: Attributes of a plain m-line that tell of an address or a transport: they are never passed on.
_TRANSPORT = frozenset(
    (
        *("candidate", "end-of-candidates", "remote-candidates", "ice-ufrag", "ice-pwd"),
        *("ice-options", "ice-lite", "rtcp", "rtcp-mux", "rtcp-mux-only", "rtcp-rsize", "mid"),
        *("rtcp-fb", "rtcp-xr", "extmap", "msid", "ssrc", "ssrc-group", "fingerprint", "setup"),
    )
)
WEBRTC_PROTO = "UDP/TLS/RTP/SAVPF"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The engine's own end towards one side: what stands in the description that it gets."""

    kind: LegKind
    host: str
    port: int
    rtcp_port: int = 0
    ufrag: str = ""
    password: str = ""
    fingerprint: str = ""
    setup: str = ""
    candidates: tuple[str, ...] = ()
    lite: bool = True


class Payloads:
    """Which payload number becomes which when a packet changes sides; None when all stay."""

    __slots__ = ("to_answerer", "to_offerer")

    def __init__(self, offered: Sequence[Codec], answered: Sequence[Codec]) -> None:
        offers = {codec.key: codec.payload for codec in reversed(offered)}
        theirs = {codec.payload for codec in offered}
        down: dict[int, int] = {}
        up: dict[int, int] = {}
        for codec in answered:
            number = offers.get(codec.key)
            if number is None or number == codec.payload:
                continue
            # The offerer sends by the answer, which we wrote with the offerer's own numbers.
            down[number] = codec.payload
            # The answerer should send by the offer; many use their own numbers both ways.
            if codec.payload not in theirs:
                up[codec.payload] = number
        self.to_answerer: Mapping[int, int] | None = down or None
        self.to_offerer: Mapping[int, int] | None = up or None


def audio_of(description: SessionDescription) -> Media:
    """The m-line that is bridged. Raises MediaFailed."""
    at = description.audio_at
    if at < 0:
        raise MediaFailed("No Audio", warning=304)
    media = description.media[at]
    if "RTP/" not in media.proto:
        raise MediaFailed("Only RTP Can Be Bridged", warning=302)
    return media


def bridged_offer(
    offer: SessionDescription,
    endpoint: Endpoint,
    phone_codecs: Collection[str],
    layout: Sequence[Media] = (),
) -> SessionDescription:
    """What the other side, who speaks as ``endpoint`` does, gets to see of an offer.

    ``layout`` are the m-lines that it knows of this call; none may disappear (RFC 3264 section 8).
    Raises MediaFailed when nothing is left that it could answer.
    """
    audio = audio_of(offer)
    at = max((at for at, one in enumerate(layout) if one.kind == "audio"), default=0)
    mid = (layout[at].get("mid") if layout else None) or "0"
    if offer.kind is endpoint.kind:
        line = _relayed(offer, audio, endpoint)
    else:
        if audio.secure and offer.kind is LegKind.RTP:
            raise MediaFailed("SDES Cannot Be Bridged To Browsers", warning=302)
        known = BROWSER_CODECS if endpoint.kind is LegKind.WEBRTC else phone_codecs
        proto = WEBRTC_PROTO if endpoint.kind is LegKind.WEBRTC else "RTP/AVP"
        codecs = _with_events(audio.codecs, known)
        line = _translated(offer, audio, codecs, proto, endpoint, mid)
    media = [one.rejected() for one in layout] or [line]
    media[at] = line
    return _description(offer, media, endpoint, mid)


def bridged_answer(
    answer: SessionDescription, offer: SessionDescription, endpoint: Endpoint
) -> SessionDescription:
    """What the offerer gets to see of the answer to its offer. Raises MediaFailed."""
    answered = audio_of(answer)
    at = offer.audio_at
    audio = audio_of(offer)
    mid = audio.get("mid") or ""
    if answer.kind is offer.kind:
        line = _relayed(answer, answered, endpoint)
    else:
        codecs = _in_numbers_of(audio.codecs, answered.codecs)
        line = _translated(answer, answered, codecs, audio.proto, endpoint, mid)
    media = [one.rejected() for one in offer.media]
    media[at] = line
    return _description(answer, media, endpoint, mid)


def direction_of(description: SessionDescription) -> str:
    """What the writer wants of the bridged m-line; an address of 0.0.0.0 is the hold of RFC 2543
    (RFC 3264 section 8.4).
    """
    audio = audio_of(description)
    direction = description.direction_of(audio)
    if description.kind is LegKind.RTP and description.host_of(audio) in ("0.0.0.0", "::"):
        return {"sendrecv": "sendonly", "recvonly": "inactive"}.get(direction, direction)
    return direction


def text_of(description: SessionDescription, endpoint: Endpoint) -> bytes:
    """The description as bytes for its body."""
    return write(description, endpoint.host)


def _with_events(codecs: Sequence[Codec], known: Collection[str]) -> list[Codec]:
    """The codecs that both sides may know, with the keys that go with them."""
    sound = [codec for codec in codecs if codec.is_sound and codec.name.lower() in known]
    if not sound:
        raise MediaFailed("No Common Codec", warning=305)
    # Keys must tick with the sound beside them (RFC 4733 section 2.1).
    clocks = {codec.clock for codec in sound}
    wanted = {codec.payload for codec in sound}
    wanted.update(codec.payload for codec in codecs if codec.is_event and codec.clock in clocks)
    return [codec for codec in codecs if codec.payload in wanted]


def _in_numbers_of(offered: Sequence[Codec], answered: Sequence[Codec]) -> list[Codec]:
    """The codecs of an answer by the numbers that the offerer knows them by."""
    known = {codec.key: codec for codec in reversed(offered)}
    common = [
        codec._replace(payload=known[codec.key].payload, name=known[codec.key].name)
        for codec in answered
        if codec.key in known
    ]
    return _with_events(common, {codec.name.lower() for codec in common})


def _relayed(description: SessionDescription, audio: Media, endpoint: Endpoint) -> Media:
    """Between sides of one kind everything stays but the address."""
    attributes = [one for one in audio.attributes if one.name not in _TRANSPORT]
    attributes = [one for one in attributes if one.name not in DIRECTIONS]
    attributes.append(Attribute(direction_of(description)))
    attributes += _rtcp(endpoint)
    return replace(audio, port=endpoint.port, host="", attributes=tuple(attributes))


def _translated(
    description: SessionDescription,
    audio: Media,
    codecs: Sequence[Codec],
    proto: str,
    endpoint: Endpoint,
    mid: str,
) -> Media:
    """Between a browser and a phone only what both understand stays."""
    plain = endpoint.kind is LegKind.RTP
    attributes = _rtcp(endpoint) if plain else _webrtc_attributes(endpoint, mid)
    attributes += codec_attributes(
        codec._replace(fmtp="0-16") if codec.is_event and not codec.fmtp else codec
        for codec in codecs
    )
    attributes += [one for one in audio.attributes if one.name in ("ptime", "maxptime")]
    attributes.append(Attribute(direction_of(description)))
    return Media(
        kind="audio",
        port=endpoint.port,
        proto=proto,
        formats=tuple(str(codec.payload) for codec in codecs),
        attributes=tuple(attributes),
    )


def _rtcp(endpoint: Endpoint) -> list[Attribute]:
    """Only where RTCP is not on the next port (RFC 3605)."""
    if endpoint.rtcp_port in (0, endpoint.port + 1):
        return []
    return [Attribute("rtcp", str(endpoint.rtcp_port))]


def _webrtc_attributes(endpoint: Endpoint, mid: str) -> list[Attribute]:
    family = 6 if ":" in endpoint.host else 4
    found = [
        Attribute("rtcp", f"{endpoint.port} IN IP{family} {endpoint.host}"),
        Attribute("ice-ufrag", endpoint.ufrag),
        Attribute("ice-pwd", endpoint.password),
        Attribute("fingerprint", endpoint.fingerprint),
        Attribute("setup", endpoint.setup),
        *([Attribute("mid", mid)] if mid else []),
        # Browsers put the track into a stream of this name; without, some give no stream at all.
        Attribute("msid", "pbx audio"),
        Attribute("rtcp-mux"),
    ]
    found += [Attribute("candidate", text) for text in endpoint.candidates]
    found.append(Attribute("end-of-candidates"))
    return found


def _description(
    source: SessionDescription, media: Sequence[Media], endpoint: Endpoint, mid: str
) -> SessionDescription:
    attributes: list[Attribute] = []
    if endpoint.kind is LegKind.WEBRTC:
        if endpoint.lite:
            attributes.append(Attribute("ice-lite"))
        if mid:
            attributes.append(Attribute("group", f"BUNDLE {mid}"))
    return replace(
        source, name="-", host=endpoint.host, attributes=tuple(attributes), media=tuple(media)
    )
