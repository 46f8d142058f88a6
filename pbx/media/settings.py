"""The ``[media]`` table."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaSettings:
    """The ``[media]`` table."""

    engine: str = "native"
    """What bridges browsers and phones: none, native (in this process), rtpproxy:embedded,
    rtpproxy:udp:HOST:PORT or rtpengine:udp:HOST:PORT."""
    address: str = ""
    """Public IP address to write into session descriptions for peers outside, when it differs from
    this machine's own (a 1:1 NAT); empty for [sip] advertise if that is an address, else the real
    one."""
    port_min: int = 20000
    """First UDP port for media. A browser takes one, a phone two."""
    port_max: int = 29999
    """Last UDP port for media."""
    relay_phones: Literal["auto", "always", "never"] = "auto"
    """When calls between phones go through the engine: auto for phones in different networks
    (behind a NAT, or one inside and one outside), always, or never."""
    phone_codecs: tuple[str, ...] = ("PCMU", "PCMA", "G722")
    """What phones get to see of a browser's codecs; add "opus" when they know it. Nothing is
    transcoded."""
    timeout: float = 60.0
    """Seconds without any packet of a phone after which its bridged call is ended, not counting
    time on hold; 0 for never. A browser that is gone is noticed within 30 seconds in any case."""

    def __post_init__(self) -> None:
        if not 1024 <= self.port_min < self.port_max <= 65535:
            raise ValueError("port_min, port_max: expected 1024 <= port_min < port_max <= 65535")
        if self.address:
            try:
                ip_address(self.address)
            except ValueError:
                raise ValueError(f"address: {self.address!r} is no IP address") from None
