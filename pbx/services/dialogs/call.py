"""A call that we relay: its two sides and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from zope.interface import classImplements

from pbx.interfaces import IDialog, IFlow
from pbx.sip.address import Address
from pbx.sip.dialog import (
    Dialog,
    route_set_of_request,
    target_of,
)
from pbx.sip.message import Message, Request, Response
from pbx.sip.nat import repair_contact

#: States as the ``state`` column writes them; plain numbers, for every call passes here.
UNCONFIRMED, EARLY, NO_ACK, CONFIRMED, ENDED = 1, 2, 3, 4, 5


class Leg:
    """One side of a call: where its requests go, and the last CSeq it used.

    ``target`` is its Contact URI, ``route_set`` the proxies between it and us, nearest first.
    """

    __slots__ = (
        "cseq",
        "ended",
        "failures",
        "flow",
        "invite_cseq",
        "new_target",
        "peer",
        "local",
        "route_set",
        "tag",
        "target",
    )

    def __init__(self, tag: str, cseq: int = 0) -> None:
        self.tag = tag
        self.cseq = cseq
        self.invite_cseq = cseq
        self.target = ""
        self.new_target = ""
        self.route_set: tuple[str, ...] = ()
        self.flow: IFlow | None = None
        self.peer: Address | None = None
        self.local: Address | None = None
        self.ended = False
        self.failures = 0

    def over(self, flow: IFlow) -> None:
        """It is reached over this flow."""
        self.flow = flow
        self.peer = flow.peer
        self.local = flow.local

    @property
    def socket(self) -> str:
        """Our own end, as the ``socket`` columns write it."""
        return "" if self.local is None else self.local.socket


#: The headers of an INVITE that say where its caller is.
_OF_THE_CALLER: Final = frozenset(("contact", "record-route"))


class Call:
    """One INVITE that we relayed, and the dialogs that came of it; see `IDialog`."""

    __slots__ = (
        "_behind_nat",
        "_invite",
        "accounted",
        "answered",
        "bye_by",
        "bye_tag",
        "call_id",
        "callee",
        "callees",
        "caller",
        "caller_leg",
        "cancel",
        "correlation",
        "created",
        "did",
        "end_reason",
        "ended",
        "ended_by",
        "from_display",
        "from_tag",
        "from_uri",
        "node",
        "number",
        "profiles",
        "request_uri",
        "saved",
        "sip_code",
        "sip_reason",
        "state",
        "timeout",
        "to_tag",
        "to_uri",
        "variables",
    )

    def __init__(self, did: str, call_id: str, from_tag: str, caller: Address) -> None:
        self.did = did
        self.call_id = call_id
        self.from_tag = from_tag
        self.caller = caller
        self.to_tag = self.from_uri = self.to_uri = self.request_uri = self.from_display = ""
        self.correlation = did
        self.callee: Address | None = None
        self.created = self.answered = self.ended = 0.0
        self.timeout = 0
        self.state = UNCONFIRMED
        self.accounted = False
        self.profiles: dict[str, str] = {}
        self.variables: dict[str, str | int] = {}
        self.ended_by = self.end_reason = self.sip_reason = ""
        self.sip_code = 0
        self.bye_by = self.bye_tag = ""
        self.caller_leg = Leg(from_tag)
        self.callees: list[Leg] = []
        self.cancel: Callable[[str], object] | None = None
        self.number = 0
        #: The node of a cluster that wrote the row; "" when there is none.
        self.node = ""
        self.saved = False
        self._invite: Request | None = None
        self._behind_nat = False

    @classmethod
    def begun(cls, did: str, request: Request, caller: Address, behind_nat: bool) -> Call:
        """From an INVITE. Raises MalformedMessage."""
        from_ = request.from_
        call = cls(did, request.call_id, from_.tag or "", caller)
        call.from_uri = from_.uri_text
        call.from_display = from_.display
        call.to_uri = request.to.uri_text
        call.request_uri = request.uri_text
        leg = call.caller_leg
        leg.cseq = leg.invite_cseq = request.cseq.number
        # They are read when they are needed: most calls just end.
        call._invite = request.excerpt(_OF_THE_CALLER)
        call._behind_nat = behind_nat
        return call

    def caller_side(self) -> Leg:
        """The calling side, complete."""
        invite = self._invite
        if invite is not None:
            self._invite = None
            leg = self.caller_leg
            if not leg.target:
                leg.target = repaired_target(invite, self.caller if self._behind_nat else None)
            leg.route_set = route_set_of_request(invite)
        return self.caller_leg

    def leg(self, tag: str) -> Leg | None:
        """The called side with this tag."""
        for leg in self.callees:
            if leg.tag == tag:
                return leg
        return None

    def callee_side(self) -> Leg | None:
        """The called side that the call is with: the first that answered and has not hung up."""
        for leg in self.callees:
            if leg.tag == self.to_tag:
                return leg
        return self.callees[0] if self.callees else None

    def add_callee(self, response: Response, flow: IFlow) -> Leg:
        """The called side of a 2xx."""
        leg = Leg(response.to.tag or "")
        leg.over(flow)
        leg.target = target_of(response)
        leg.route_set = self._beyond_us(response)
        self.callees.append(leg)
        return leg

    def _beyond_us(self, response: Response) -> tuple[str, ...]:
        """The route set from us to the called side: Record-Route above ours, reversed (12.1.2)."""
        if "record-route" not in response.names:
            return ()
        mark = f"did={self.did}"
        first = response.lines[response.names.index("record-route")]
        if mark in first.partition(",")[0]:
            return ()
        values = response.get_list("record-route")
        for at, value in enumerate(values):
            if mark in value:
                return tuple(reversed(values[:at]))
        beneath = len(self.caller_side().route_set)
        return tuple(reversed(values[: max(len(values) - beneath, 0)]))

    def towards_caller(self, callee: Leg) -> Dialog:
        """To speak to the calling side as this called one (12.2.1.1)."""
        return self._between(callee, self.to_uri, self.caller_side(), self.from_uri)

    def towards_callee(self, callee: Leg) -> Dialog:
        """To speak to a called side as the calling one (12.2.1.1)."""
        return self._between(self.caller_side(), self.from_uri, callee, self.to_uri)

    def _between(self, local: Leg, local_uri: str, remote: Leg, remote_uri: str) -> Dialog:
        return Dialog(
            call_id=self.call_id,
            local=_address(local_uri, local.tag),
            remote=_address(remote_uri, remote.tag),
            local_tag=local.tag,
            remote_tag=remote.tag,
            target=remote.target,
            local_cseq=local.cseq,
            route_set=remote.route_set,
        )


classImplements(Call, IDialog)


def _address(uri: str, tag: str) -> str:
    return f"<{uri}>;tag={tag}" if tag else f"<{uri}>"


def repaired_target(message: Message, peer: Address | None) -> str:
    """The Contact URI as the other side got to see it: pointing to ``peer`` when that is given."""
    if peer is None:
        return target_of(message)
    value = message.get("contact")
    if value is None:
        return ""
    copy = Request("INVITE", "", ["contact"], [f"Contact: {value}"])
    repair_contact(copy, peer)
    return target_of(copy)
