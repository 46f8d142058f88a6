"""Peers behind a NAT: the tests of rule R2 and the repair of Contact."""

from __future__ import annotations

from enum import IntFlag
from functools import lru_cache
from ipaddress import IPv6Address

from pbx.sip.address import Address
from pbx.sip.errors import MalformedMessage
from pbx.sip.fields import NameAddr, parse_name_addrs
from pbx.sip.message import Message, Request, Response
from pbx.sip.uri import DEFAULT_PORTS, URI


class NatTest(IntFlag):
    """What may give a NAT away, with the numbers operators know."""

    CONTACT_PRIVATE = 1
    VIA_ADDRESS = 2
    VIA_PRIVATE = 4
    SDP_PRIVATE = 8
    VIA_PORT = 16
    CONTACT_ADDRESS = 32
    CONTACT_PORT = 64
    #: Makes the other tests take 192.0.0.0/29 for private too (RFC 7335).
    CARRIER = 128


#: Test 23 of rule R2.
USUAL = NatTest.CONTACT_PRIVATE | NatTest.VIA_ADDRESS | NatTest.VIA_PRIVATE | NatTest.VIA_PORT


@lru_cache(maxsize=1024)
def is_private(host: str, carrier: bool = False) -> bool:
    """Whether a host is an IPv4 literal of RFC 1918, RFC 6598 or the loopback net."""
    parts = host.split(".")
    if len(parts) != 4:
        return False
    for part in parts:
        if not (part.isascii() and part.isdigit() and len(part) <= 3) or int(part) > 255:
            return False
    first, second = int(parts[0]), int(parts[1])
    if first == 192:
        if second == 168:
            return True
        return carrier and second == 0 and int(parts[2]) == 0 and int(parts[3]) < 8
    return (
        first == 10
        or first == 127
        or (first == 172 and 16 <= second < 32)
        or (first == 100 and 64 <= second < 128)
    )


def behind_nat(request: Request, peer: Address) -> bool:
    """Test 23 (rule R2): any sign in Via or Contact that the sender does not know its address.

    Raises MalformedMessage for a bad Via.
    """
    via = request.via
    if peer.port != (via.port or 5060):
        return True
    host = via.maddr or via.host
    if not same_host(host, peer.host) or is_private(via.host):
        return True
    return any(is_private(uri.host) for uri in _contact_uris(request))


def nat_test(message: Message, peer: Address, tests: int) -> bool:
    """Whether any of these tests holds. Raises MalformedMessage for a bad Via.

    ``received`` in the top Via does not count: we wrote it ourselves.
    """
    carrier = bool(tests & NatTest.CARRIER)
    via = message.via
    if tests & NatTest.VIA_PORT and peer.port != (via.port or 5060):
        return True
    if tests & NatTest.VIA_ADDRESS:
        host = via.maddr or via.host
        if not same_host(host, peer.host):
            return True
    if tests & NatTest.VIA_PRIVATE and is_private(via.host, carrier):
        return True
    if tests & NatTest.SDP_PRIVATE and _private_sdp(message.body, carrier):
        return True
    for uri in _contact_uris(message):
        if tests & NatTest.CONTACT_PRIVATE and is_private(uri.host, carrier):
            return True
        if tests & NatTest.CONTACT_ADDRESS and not same_host(uri.host, peer.host):
            return True
        if tests & NatTest.CONTACT_PORT and peer.port != (uri.port or _default_port(uri)):
            return True
    return False


def needs_repair_reply(response: Response, peer: Address) -> bool:
    """Whether the Contact of a response from this peer is of no use to the other side.

    A private literal is not, nor anything a browser writes (oddity O10).
    """
    if "contact" not in response.names:
        return False
    if peer.transport == "WS" or peer.transport == "WSS":
        return True
    return any(is_private(uri.host) for uri in _contact_uris(response))


def repair_contact(message: Message, peer: Address) -> None:
    """Point every Contact URI of this copy to where it really came from.

    User and URI parameters stay, ``maddr`` goes, ``transport`` becomes that of the peer. A ``*``,
    other schemes and what cannot be parsed stay as they are.
    """
    for at, name in enumerate(message.names):
        if name != "contact":
            continue
        try:
            contacts = parse_name_addrs(message.value_at(at))
            repaired = [_repaired(contact, peer) for contact in contacts]
        except MalformedMessage:
            continue
        if any(new is not old for new, old in zip(repaired, contacts, strict=True)):
            message.set_at(at, ", ".join(map(str, repaired)))


def _repaired(contact: NameAddr, peer: Address) -> NameAddr:
    if contact.uri_text == "*":
        return contact
    uri = contact.uri
    if not uri.is_sip:
        return contact
    params = uri.params.without("maddr") if uri.params else uri.params
    transport = "" if peer.transport == "UDP" else peer.transport.lower()
    if uri.scheme == "sips" and transport == "tls":
        transport = ""
    if transport:
        if (params.get("transport") or "").lower() != transport:
            params = params.with_value("transport", transport)
    elif params and (params.get("transport") or "udp").lower() != "udp":
        params = params.without("transport")
    if params is uri.params and uri.host == peer.host and uri.port == peer.port:
        return contact
    return contact.with_uri(uri.replace(host=peer.host, port=peer.port, params=params))


def same_host(one: str, other: str) -> bool:
    """Whether two hosts are literally the same, however an IPv6 address is written."""
    if one == other:
        return True
    if ":" not in one or ":" not in other:
        return False
    try:
        return IPv6Address(one.strip("[]")) == IPv6Address(other.strip("[]"))
    except ValueError:
        return False


def _contact_uris(message: Message) -> list[URI]:
    """The SIP URIs in Contact that can be read."""
    if "contact" not in message.names:
        return []
    found: list[URI] = []
    try:
        for contact in message.contacts:
            if contact.uri_text != "*" and contact.uri.is_sip:
                found.append(contact.uri)
    except MalformedMessage:
        pass
    return found


def _default_port(uri: URI) -> int:
    transport = uri.transport or ("TLS" if uri.scheme == "sips" else "UDP")
    return DEFAULT_PORTS.get(transport, 5060)


def _private_sdp(body: bytes, carrier: bool) -> bool:
    for line in body.split(b"\n"):
        if line[:2] in (b"c=", b"o="):
            words = line.decode("latin-1").split()
            if words and is_private(words[-1].partition("/")[0], carrier):
                return True
    return False
