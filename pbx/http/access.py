"""Which hosts may see what is not for everybody."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from typing import Final

from twisted.web.server import Request

from pbx.http.networks import Network

#: Headers that a proxy before us adds: the peer that we see is not who asks.
FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def is_admitted(request: Request, allowed: Sequence[Network]) -> bool:
    """Whether a request came from this host or one of the networks, and not through a proxy."""
    if any(request.getHeader(name) is not None for name in FORWARDED):
        return False
    try:
        peer = ip_address(str(getattr(request.getClientAddress(), "host", "")).split("%")[0])
    except ValueError:
        return False
    if isinstance(peer, IPv6Address) and peer.ipv4_mapped is not None:
        peer = peer.ipv4_mapped
    return peer.is_loopback or any(peer in network for network in allowed)
