"""Requests within the calls: what they change, and when BYE ends one (RFC 3261 section 12.2)."""

from __future__ import annotations

from typing import ClassVar

from twisted.logger import Logger

from pbx.services.dialogs.call import CONFIRMED, ENDED, NO_ACK, Call, Leg, repaired_target
from pbx.services.dialogs.settings import DialogSettings
from pbx.services.dialogs.store import CallStore
from pbx.services.dialogs.table import CallTable
from pbx.services.dialogs.validate import fault
from pbx.sip.dialog import target_of
from pbx.sip.errors import SIPError
from pbx.sip.message import Request, Response
from pbx.verdicts import Arrival

#: These have dialogs of their own, which we do not track, or no answer.
_FOREIGN = frozenset(("SUBSCRIBE", "NOTIFY", "ACK"))
#: Most log lines a second about requests that do not fit.
_MAX_LOGGED = 10


class InDialogRequests:
    """Follows CSeq and remote target of both sides of every call."""

    log: ClassVar = Logger(__name__)

    def __init__(self, settings: DialogSettings, table: CallTable, store: CallStore) -> None:
        self._strict = settings.strict
        self._table = table
        self._store = store
        self.faults = 0
        self.faults_logged = 0

    def received(self, request: Request, arrival: Arrival) -> tuple[Call | None, str]:
        """The call of a request that came along our route, and who ended it with this, or "".

        Raises SIPError 481 in strict mode, MalformedMessage.
        """
        from_tag = request.from_.tag or ""
        to_tag = request.to.tag or ""
        route = arrival.own_route
        did = "" if route is None else route.get("did") or ""
        call = self._table.match(did, request.call_id, from_tag, to_tag)
        if call is None:
            if self._strict and request.method not in _FOREIGN:
                raise SIPError(status=481)
            return None, ""
        from_caller = from_tag == call.from_tag
        leg = call.leg(to_tag if from_caller else from_tag)
        code = fault(call, leg, request, from_caller)
        if code:
            self._fault(call, request, code)
        method = request.method
        if method == "ACK":
            if call.state == NO_ACK and from_caller:
                call.state = CONFIRMED
                self._store.save(call)
            return call, ""
        sender = call.caller_leg if from_caller else leg
        if sender is not None:
            self._follow(call, sender, request, arrival)
        if method == "BYE":
            return call, self._bye(call, leg, to_tag, "caller" if from_caller else "callee")
        return call, ""

    def _follow(self, call: Call, sender: Leg, request: Request, arrival: Arrival) -> None:
        number = request.cseq.number
        if number > sender.cseq:
            sender.cseq = number
            if request.method != "BYE":
                self._store.save(call)
        if request.method == "INVITE" or request.method == "UPDATE":
            if request.method == "INVITE":
                sender.invite_cseq = number
            sender.new_target = repaired_target(
                request, arrival.peer if arrival.behind_nat else None
            )

    def _fault(self, call: Call, request: Request, code: int) -> None:
        self.faults += 1
        if self._strict and request.method not in _FOREIGN:
            raise SIPError(status=481)
        if self.faults_logged < _MAX_LOGGED:
            self.faults_logged += 1
            self.log.warn(
                "{method} does not fit its dialog ({code})",
                method=request.method,
                code=code,
                call_id=call.call_id,
            )

    def _bye(self, call: Call, leg: Leg | None, to_tag: str, by: str) -> str:
        """BYE is seen: the call is over unless another branch of it goes on."""
        if call.state < NO_ACK:
            call.bye_by = by
            call.bye_tag = to_tag if by == "caller" else ""
            return ""
        if call.state == ENDED or leg is None or leg.ended:
            return ""
        leg.ended = True
        for other in call.callees:
            if not other.ended:
                if call.to_tag == leg.tag:
                    call.to_tag = other.tag
                    call.callee = other.peer
                    self._store.save(call)
                return ""
        return by

    def refresh(self, call: Call, request: Request, response: Response) -> None:
        """A re-INVITE or UPDATE was accepted: both Contacts are remote targets now (12.2)."""
        from_caller = (request.from_.tag or "") == call.from_tag
        caller = call.caller_side()
        callee = call.leg((request.to if from_caller else request.from_).tag or "")
        asking, answering = (caller, callee) if from_caller else (callee, caller)
        changed = False
        if asking is not None:
            changed = _refresh(asking, asking.new_target)
            asking.new_target = ""
        if answering is not None:
            changed = _refresh(answering, target_of(response)) or changed
        if changed and call.state != ENDED:
            self._store.save(call)


def _refresh(leg: Leg, target: str) -> bool:
    """The remote target of a side is now this (12.2.1.2); whether that is new."""
    if not target or target == leg.target:
        return False
    leg.target = target
    return True
