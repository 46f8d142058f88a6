"""Which hosts may see what is not for everybody."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from twisted.web.server import Request

Network = IPv4Network | IPv6Network

#: Headers that a proxy before us adds: the peer that we see is not who asks.
FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks and single addresses. Raises ValueError."""
    return tuple(ip_network(text) for text in texts)


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


def source_of(host: str) -> str:
    """What counts as one source: an IPv4 address, the /64 of an IPv6 address."""
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        network = int(found) >> 64 << 64
        return f"{IPv6Address(network)}/64"
    return str(found)
