"""Hosts by network, as the settings name them and as limits count them."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks and single addresses. Raises ValueError."""
    return tuple(ip_network(text) for text in texts)


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
