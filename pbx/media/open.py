"""Name to engine: the only table of media engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbx.media.settings import MediaSettings

if TYPE_CHECKING:
    from pbx.interfaces import IMediaEngine, ITimers


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParts:
    """What an engine may be made of.

    ``source_towards`` tells which address of this machine a peer sees ("" for no route),
    ``local_addresses`` all of them. ``folder`` is for sockets and files of the running process.
    """

    settings: MediaSettings
    advertise: str
    reactor: Any
    timers: ITimers
    source_towards: Callable[[str], str]
    local_addresses: Callable[[], frozenset[str]]
    folder: Path


def _native(rest: str, parts: EngineParts) -> IMediaEngine:
    if rest:
        raise ValueError(f"native takes no address: {rest!r}")
    from pbx.media.native import NativeEngine
    from pbx.media.native.addresses import Addresses
    from pbx.media.native.port import PortRange

    public = parts.settings.address or parts.advertise
    addresses = Addresses(public, parts.source_towards, parts.local_addresses)
    ports = PortRange(parts.settings.port_min, parts.settings.port_max, parts.reactor)
    return NativeEngine(parts.settings, addresses, ports, parts.reactor, parts.timers)


def _rtpengine(rest: str, parts: EngineParts) -> IMediaEngine:
    from pbx.media.cookies import CookieChannel
    from pbx.media.rtpengine import Rtpengine

    host, port = _udp(rest)
    channel = CookieChannel("rtpengine", host, port, parts.timers)
    codecs, timeout = parts.settings.phone_codecs, parts.settings.timeout
    return Rtpengine(channel, parts.reactor, parts.timers, codecs, timeout)


def _rtpproxy(rest: str, parts: EngineParts) -> IMediaEngine:
    from pbx.media.rtpproxy.engine import Rtpproxy

    settings = parts.settings
    if rest != "embedded":
        from pbx.media.cookies import CookieChannel
        from pbx.media.rtpproxy.external import ExternalChannel

        host, port = _udp(rest)
        external = ExternalChannel(CookieChannel("rtpproxy", host, port, parts.timers))
        return Rtpproxy(external, parts.reactor, parts.timers, settings.phone_codecs, None)
    from pbx.media.native.addresses import Addresses
    from pbx.media.rtpproxy.embedded import EmbeddedChannel

    public = settings.address or parts.advertise
    addresses = Addresses(public, parts.source_towards, parts.local_addresses)
    channel = EmbeddedChannel(
        (settings.port_min, settings.port_max), settings.timeout, parts.timers
    )
    engine = Rtpproxy(channel, parts.reactor, parts.timers, settings.phone_codecs, addresses.single)
    channel.notified = engine.notified
    return engine


def _udp(rest: str) -> tuple[str, int]:
    """The address in ``udp:HOST:PORT``, IPv6 in brackets."""
    kind, _, place = rest.partition(":")
    host, _, port = place.rpartition(":")
    host = host.strip("[]")
    try:
        ip_address(host)
    except ValueError:
        host = ""
    if kind != "udp" or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{rest!r}: expected udp:ADDRESS:PORT, as in udp:127.0.0.1:22222")
    return host, int(port)


#: Engines by the first word of the setting; each gets the rest of it (after the colon) and raises
#: ValueError when that makes no sense.
ENGINES: dict[str, Callable[[str, EngineParts], IMediaEngine]] = {
    "native": _native,
    "rtpproxy": _rtpproxy,
    "rtpengine": _rtpengine,
}


def open_engine(parts: EngineParts) -> IMediaEngine | None:
    """The engine of the setting, None for ``none``. Raises ValueError for a bad setting."""
    name, _, rest = parts.settings.engine.partition(":")
    if name == "none" and not rest:
        return None
    engine = ENGINES.get(name)
    if engine is None:
        known = ", ".join(["none", *ENGINES])
        raise ValueError(f"{parts.settings.engine!r}: not a media engine; known: {known}")
    return engine(rest, parts)
