"""Session descriptions: parse and write (RFC 8866). No I/O.

Strict about what could hurt (sizes, numbers, how many of what), tolerant about what phones get
wrong without harm: line ends, blank lines, the order of lines, unknown lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import NamedTuple

from pbx.errors import MediaFailed
from pbx.legs import LegKind

#: What a description may have: far more than any phone or browser writes.
MAX_SIZE = 32768
MAX_LINE = 2048
MAX_LINES = 1000
MAX_MEDIA = 16
MAX_FORMATS = 64

DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")

#: RFC 3551 section 6: encodings that need no rtpmap.
STATIC = {
    "0": ("PCMU", 8000),
    "3": ("GSM", 8000),
    "4": ("G723", 8000),
    "5": ("DVI4", 8000),
    "6": ("DVI4", 16000),
    "7": ("LPC", 8000),
    "8": ("PCMA", 8000),
    "9": ("G722", 8000),
    "10": ("L16", 44100),
    "11": ("L16", 44100),
    "12": ("QCELP", 8000),
    "13": ("CN", 8000),
    "15": ("G728", 8000),
    "16": ("DVI4", 11025),
    "17": ("DVI4", 22050),
    "18": ("G729", 8000),
}


class Attribute(NamedTuple):
    """An ``a=`` line; ``value`` is None for a property without colon."""

    name: str
    value: str | None = None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}:{self.value}"


class Codec(NamedTuple):
    """One format of an m-line. ``channels`` is the text after the clock rate ("" for one)."""

    payload: int
    name: str
    clock: int
    channels: str = ""
    fmtp: str = ""

    @property
    def key(self) -> tuple[str, int, str]:
        """What is the same codec under any number (RFC 4855: names ignore case)."""
        return self.name.lower(), self.clock, "" if self.channels == "1" else self.channels

    @property
    def is_event(self) -> bool:
        """Keys and not sound (RFC 4733)."""
        return self.name.lower() == "telephone-event"

    @property
    def is_sound(self) -> bool:
        """A codec that a conversation can be held with."""
        return self.name.lower() not in ("telephone-event", "cn", "red", "ulpfec", "flexfec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """An m-line with what belongs to it. ``host`` is that of its own ``c=``, "" for none."""

    kind: str
    port: int
    proto: str
    formats: tuple[str, ...]
    host: str = ""
    attributes: tuple[Attribute, ...] = ()

    def get(self, name: str) -> str | None:
        """The value of the first attribute of that name, "" for a property, None when absent."""
        return _get(self.attributes, name)

    def get_all(self, name: str) -> list[str]:
        """The values of all attributes of that name."""
        return [one.value or "" for one in self.attributes if one.name == name]

    @property
    def codecs(self) -> list[Codec]:
        """The formats of an RTP m-line in order; unknown dynamic ones are left out."""
        maps = dict(_numbered(self.get_all("rtpmap")))
        fmtps = dict(_numbered(self.get_all("fmtp")))
        found: list[Codec] = []
        for text in self.formats:
            codec = _codec(text, maps.get(text, ""), fmtps.get(text, ""))
            if codec is not None:
                found.append(codec)
        return found

    @property
    def secure(self) -> bool:
        """Whether its RTP is encrypted."""
        return "SAVP" in self.proto

    def rejected(self) -> Media:
        """The same with port 0 (RFC 3264 section 6); only ``mid`` stays."""
        mids = tuple(one for one in self.attributes if one.name == "mid")
        inactive = (*mids, Attribute("inactive"))
        return replace(self, port=0, formats=self.formats[:1], host="", attributes=inactive)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDescription:
    """A parsed description. ``origin`` is user, id and version of the ``o=`` line."""

    origin: tuple[str, str, str]
    name: str = "-"
    host: str = ""
    attributes: tuple[Attribute, ...] = ()
    media: tuple[Media, ...]

    def get(self, name: str) -> str | None:
        """A session-level attribute, as `Media.get`."""
        return _get(self.attributes, name)

    def inherited(self, media: Media, name: str) -> str | None:
        """An attribute of an m-line, or of the session when the m-line has none."""
        found = media.get(name)
        return self.get(name) if found is None else found

    def host_of(self, media: Media) -> str:
        """Where its packets are wanted: an IP literal, or whatever stands there."""
        return media.host or self.host

    def direction_of(self, media: Media) -> str:
        """One of `DIRECTIONS`, as seen by who wrote the description (RFC 8866 section 6.7)."""
        for attributes in (media.attributes, self.attributes):
            for one in attributes:
                if one.name in DIRECTIONS:
                    return one.name
        return "sendrecv"

    @property
    def audio_at(self) -> int:
        """The position of the m-line that is bridged, -1 when there is none.

        Phones offer SDES and plain RTP as two lines: the plain one can be bridged everywhere.
        """
        audio = [at for at, one in enumerate(self.media) if one.kind == "audio" and one.port]
        plain = [at for at in audio if not self.media[at].secure]
        return next(iter(plain or audio), -1)

    @property
    def kind(self) -> LegKind:
        """Who wrote this: browsers speak SAVPF (RFC 8829 section 5.1.2)."""
        for media in self.media:
            if media.proto.endswith("SAVPF") or "TLS/RTP" in media.proto:
                return LegKind.WEBRTC
        return LegKind.RTP


def parse(data: bytes) -> SessionDescription:
    """Raises MediaFailed for what is no session description, or too much of one."""
    if len(data) > MAX_SIZE:
        raise MediaFailed("Session Description Too Large")
    lines = data.decode("utf-8", "surrogateescape").replace("\r\n", "\n").split("\n")
    if len(lines) > MAX_LINES:
        raise MediaFailed("Session Description With Too Many Lines")
    if lines[0].strip() != "v=0":
        raise MediaFailed("No Session Description")
    origin = ("-", "0", "0")
    name = "-"
    host = ""
    attributes: list[Attribute] = []
    media: list[Media] = []
    here: list[Attribute] = attributes
    for line in lines[1:]:
        if not line or line.isspace():
            continue
        if len(line) > MAX_LINE or "\r" in line or "\0" in line or line[1:2] != "=":
            raise MediaFailed("Bad Line In Session Description")
        kind, value = line[0], line[2:].strip()
        if kind == "a":
            here.append(_attribute(value))
        elif kind == "m":
            if len(media) == MAX_MEDIA:
                raise MediaFailed("Session Description With Too Many Media")
            if media:
                media[-1] = replace(media[-1], attributes=tuple(here))
            media.append(_media(value))
            here = []
        elif kind == "c":
            if media:
                media[-1] = replace(media[-1], host=_connection(value))
            else:
                host = _connection(value)
        elif kind == "o":
            origin = _origin(value)
        elif kind == "s":
            name = value or "-"
    if media:
        media[-1] = replace(media[-1], attributes=tuple(here))
    return SessionDescription(
        origin=origin, name=name, host=host, attributes=tuple(attributes), media=tuple(media)
    )


def write(description: SessionDescription, host: str) -> bytes:
    """The text; ``host`` stands in ``o=`` and, for the whole session, in ``c=``."""
    where = f"IN IP{6 if ':' in host else 4} {host}"
    lines = [
        "v=0",
        f"o={' '.join(description.origin)} {where}",
        f"s={description.name}",
        f"c={where}",
        "t=0 0",
        *(f"a={one}" for one in description.attributes),
    ]
    for media in description.media:
        lines.append(f"m={media.kind} {media.port} {media.proto} {' '.join(media.formats)}")
        lines.extend(f"a={one}" for one in media.attributes)
    return ("\r\n".join(lines) + "\r\n").encode("utf-8", "surrogateescape")


def codec_attributes(codecs: Iterable[Codec]) -> list[Attribute]:
    """``rtpmap`` and ``fmtp`` lines."""
    found: list[Attribute] = []
    for codec in codecs:
        channels = f"/{codec.channels}" if codec.channels else ""
        rate = f"{codec.name}/{codec.clock}{channels}"
        found.append(Attribute("rtpmap", f"{codec.payload} {rate}"))
        if codec.fmtp:
            found.append(Attribute("fmtp", f"{codec.payload} {codec.fmtp}"))
    return found


def is_address(host: str) -> bool:
    """Whether packets can be sent there at all: a unicast address that is not 0.0.0.0 or ::."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_multicast or host == "255.255.255.255")


def _get(attributes: Sequence[Attribute], name: str) -> str | None:
    for one in attributes:
        if one.name == name:
            return one.value or ""
    return None


def _attribute(text: str) -> Attribute:
    name, colon, value = text.partition(":")
    return Attribute(name.strip(), value.strip() if colon else None)


def _number(text: str, limit: int, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10) or int(text) > limit:
        raise MediaFailed(f"Bad {what} In Session Description")
    return int(text)


def _media(value: str) -> Media:
    words = value.split()
    if len(words) < 4:
        raise MediaFailed("Bad m= Line In Session Description")
    kind, port, proto, *formats = words
    if len(formats) > MAX_FORMATS:
        raise MediaFailed("Too Many Formats In Session Description")
    if "RTP/" in proto:
        for one in formats:
            _number(one, 127, "Payload Type")
    number = _number(port.partition("/")[0], 65535, "Port")
    return Media(kind=kind.lower(), port=number, proto=proto, formats=tuple(dict.fromkeys(formats)))


def _connection(value: str) -> str:
    words = value.split()
    if len(words) != 3 or words[0] != "IN" or words[1] not in ("IP4", "IP6"):
        raise MediaFailed("Bad c= Line In Session Description", warning=301)
    return words[2].partition("/")[0]


def _origin(value: str) -> tuple[str, str, str]:
    words = value.split()
    if len(words) != 6:
        raise MediaFailed("Bad o= Line In Session Description")
    return words[0], words[1], words[2]


def _numbered(values: Iterable[str]) -> Iterable[tuple[str, str]]:
    for value in values:
        number, _, rest = value.partition(" ")
        yield number, rest.strip()


def _codec(text: str, rtpmap: str, fmtp: str) -> Codec | None:
    if not (text.isascii() and text.isdigit()):
        return None
    name, _, rate = rtpmap.partition("/")
    if not name:
        known = STATIC.get(text)
        return None if known is None else Codec(int(text), *known, "", fmtp)
    clock, _, channels = rate.partition("/")
    if not (clock.isascii() and clock.isdigit() and 0 < len(clock) <= 7):
        return None
    return Codec(int(text), name, int(clock), channels, fmtp)
