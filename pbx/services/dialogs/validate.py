"""Does a request fit the dialog that it claims (the old ``validate_dialog``)?"""

from __future__ import annotations

from pbx.services.dialogs.call import ENDED, NO_ACK, Call, Leg
from pbx.sip.errors import SIPError
from pbx.sip.fields import NameAddr
from pbx.sip.message import Request
from pbx.sip.uri import URI

CSEQ, TARGET, ROUTE, OTHER = -1, -2, -3, -4


def fault(call: Call, leg: Leg | None, request: Request, from_caller: bool) -> int:
    """0 when it fits; -1 CSeq, -2 remote target, -3 route set, -4 anything else.

    ``leg`` is the called side that it names, None when there is no such side. Raises
    MalformedMessage.
    """
    if call.state == ENDED:
        return 0
    if leg is None:
        return OTHER if call.callees else 0
    sender, receiver = (call.caller_leg, leg) if from_caller else (leg, call.caller_leg)
    number = request.cseq.number
    if request.method == "ACK":
        if number != sender.invite_cseq:
            return CSEQ
    elif number <= sender.cseq and not (number == 0 and sender.cseq == 0):
        return CSEQ
    if call.state < NO_ACK:
        return 0
    if not from_caller:
        receiver = call.caller_side()
    if receiver.target and not _same(request.uri_text, receiver.target):
        return TARGET
    if receiver.route_set or "route" in request.names:
        return _route_fault(request, receiver)
    return 0


def _route_fault(request: Request, receiver: Leg) -> int:
    try:
        routes = [NameAddr.parse(value).uri for value in request.get_list("route")]
        expected = [NameAddr.parse(value).uri for value in receiver.route_set]
    except SIPError:
        return OTHER
    return 0 if routes == expected else ROUTE


def _same(one: str, other: str) -> bool:
    """Whether two URIs in text are equivalent (19.1.4)."""
    if one == other:
        return True
    try:
        return URI.parse(one) == URI.parse(other)
    except SIPError:
        return False
