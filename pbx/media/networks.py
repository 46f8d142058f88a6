"""Who can send media to whom: what addresses tell about the networks of two phones."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, ip_address

from pbx.sip.nat import is_private, same_host

INSIDE = "inside"
OUTSIDE = "outside"


@lru_cache(maxsize=4096)
def is_inside(host: str) -> bool:
    """Whether an address is on a private network (RFC 1918, 6598, 4193), link-local or loopback."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if address.is_loopback or address.is_link_local:
        return True
    if isinstance(address, IPv4Address):
        return is_private(host)
    return address.packed[0] & 0xFE == 0xFC


def is_behind_nat(claimed: str, peer: str, at_home: bool) -> bool:
    """Whether a phone does not know its own address: it claims a private one that its packets do
    not come from.

    ``at_home`` says that it means itself, as its Contact shows; otherwise a private address beside
    a private one may be a media server of its own.
    """
    return not same_host(claimed, peer) and is_inside(claimed) and (at_home or not is_inside(peer))


def zone(claimed: str, peer: str, behind_nat: bool) -> str:
    """Phones of one zone can send to each other: that behind a NAT, this side of it, the world."""
    if behind_nat:
        return peer
    return INSIDE if is_inside(claimed or peer) else OUTSIDE


def connection_host(body: bytes) -> str:
    """The address in the first ``c=`` line of a session description, without reading the rest."""
    at = body.find(b"\nc=IN IP")
    if at < 0:
        return ""
    end = body.find(b"\n", at + 10)
    words = body[at + 10 : end if end > 0 else len(body)].split()
    return words[0].partition(b"/")[0].decode("ascii", "replace") if words else ""
