"""Which calls need an engine: by who speaks what, and by who can send to whom."""

from __future__ import annotations

from typing import Literal

from pbx.errors import MediaFailed
from pbx.interfaces import IMediaEngine
from pbx.legs import LegKind, MediaLeg, Side
from pbx.media.networks import connection_host, is_behind_nat, zone
from pbx.sip.address import Address
from pbx.sip.errors import SIPError
from pbx.sip.message import Message, Request, Response
from pbx.verdicts import Target

RelayPhones = Literal["auto", "always", "never"]
#: Kinds of caller and callee of a call that is bridged.
Kinds = tuple[LegKind, LegKind]
_WEBSOCKET = ("WS", "WSS")


class Decision:
    """Whoever offers shows what it speaks; whoever is to answer is taken for a browser when it is
    reached over a WebSocket. Both methods give None for media that stays end to end, and raise
    MediaFailed when an engine is needed and there is none.
    """

    def __init__(self, engine: IMediaEngine | None, relay_phones: RelayPhones) -> None:
        self._engine = engine
        self._relay_phones = relay_phones
        self.refused = 0

    def of_request(
        self, request: Request, near: Address, target: Target, far: Address
    ) -> Kinds | None:
        """An INVITE with an offer, from ``near`` to ``target`` at ``far``."""
        if near.transport in _WEBSOCKET and far.transport in _WEBSOCKET:
            return None
        if not has_description(request):
            self._refuse_multipart(request, near, far)
            return None
        body = request.body
        offering, answering = kind_of(body), _expected(far)
        if offering is not answering:
            self._require(offering, answering)
            return offering, answering
        if offering is LegKind.WEBRTC:
            return None
        claimed = connection_host(body)
        here = zone(claimed, near.host, seems_behind_nat(claimed, near, request))
        hidden = target.behind_nat and is_behind_nat(target.uri.host, far.host, True)
        there = zone("", far.host, hidden)
        return (offering, answering) if self._relays(here, there) else None

    def of_response(
        self, request: Request, near: Address, response: Response, far: Address
    ) -> Kinds | None:
        """A response with an offer, to an INVITE without (RFC 3261 section 13.2.1)."""
        if near.transport in _WEBSOCKET and far.transport in _WEBSOCKET:
            return None
        body = response.body
        offering, answering = kind_of(body), _expected(near)
        if offering is not answering:
            self._require(offering, answering)
            return answering, offering
        if offering is LegKind.WEBRTC:
            return None
        claimed = connection_host(body)
        there = zone(claimed, far.host, seems_behind_nat(claimed, far, response))
        hidden = is_behind_nat(contact_host(request), near.host, True)
        here = zone("", near.host, hidden)
        return (answering, offering) if self._relays(here, there) else None

    def _relays(self, one: str, other: str) -> bool:
        """Whether two phones need a relay between them."""
        engine, wish = self._engine, self._relay_phones
        if engine is None or wish == "never" or not engine.bridges(LegKind.RTP, LegKind.RTP):
            return False
        return wish == "always" or one != other

    def _require(self, one: LegKind, other: LegKind) -> None:
        if self._engine is None or not self._engine.bridges(one, other):
            self.refused += 1
            raise MediaFailed("Browsers And Phones Need A Media Engine", warning=302)

    def _refuse_multipart(self, request: Request, near: Address, far: Address) -> None:
        """A description inside of other things would reach the other kind unchanged: silence."""
        kind = (request.get("content-type") or "").lower()
        if kind.startswith("multipart/") and _expected(near) is not _expected(far):
            self.refused += 1
            raise MediaFailed("Multipart Bodies Cannot Be Bridged")


def _expected(peer: Address) -> LegKind:
    return LegKind.WEBRTC if peer.transport in _WEBSOCKET else LegKind.RTP


def has_description(message: Message) -> bool:
    """Whether the body is a session description."""
    if not message.body:
        return False
    kind = (message.get("content-type") or "").partition(";")[0].strip().lower()
    return kind == "application/sdp"


def kind_of(body: bytes) -> LegKind:
    """Who wrote a description, without reading it."""
    return LegKind.WEBRTC if b"/SAVPF" in body or b"TLS/RTP/" in body else LegKind.RTP


def contact_host(message: Message) -> str:
    """The host of the Contact, "" when there is none that can be read."""
    try:
        return message.contacts[0].uri.host if message.contacts else ""
    except SIPError:
        return ""


def seems_behind_nat(claimed: str, peer: Address, message: Message) -> bool:
    """Whether the sender of a message does not know the address that its media comes from."""
    if claimed == peer.host:
        return False
    return is_behind_nat(claimed, peer.host, contact_host(message) == claimed)


def leg_of(side: Side, kind: LegKind, message: Message, peer: Address) -> MediaLeg:
    """Who wrote the description in this message."""
    asked = isinstance(message, Request)
    tag = (message.from_ if asked else message.to).tag or ""
    claimed = connection_host(message.body)
    nat = kind is LegKind.RTP and seems_behind_nat(claimed, peer, message)
    return MediaLeg(side=side, kind=kind, peer=peer, tag=tag, behind_nat=nat)
