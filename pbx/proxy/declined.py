"""What a callee hears who accepted a call that cannot be: ACK, then BYE (RFC 3261 13.2.2.4)."""

from __future__ import annotations

from pbx.interfaces import IFlow, ITransactions
from pbx.proxy.forward import Forwarder
from pbx.sip.dialog import Dialog
from pbx.sip.errors import SIPError
from pbx.sip.message import Request, Response
from pbx.transaction.nobody import NOBODY


def reason_value(status: int, text: str) -> str:
    """The value of a Reason header (RFC 3326)."""
    quoted = text.replace("\\", "").replace('"', "'")
    return f'SIP;cause={status};text="{quoted}"'


def give_up(
    transactions: ITransactions, invite: Request, response: Response, flow: IFlow, end: bool
) -> None:
    """Acknowledge a 2xx to an INVITE that we sent over ``flow``, as its sender would have; with
    ``end`` also hang up.
    """
    try:
        dialog = Dialog.uac(invite, response)
        dialog.route_set = _beyond(invite, response) if end else _routes(invite)
        ack = dialog.request("ACK", cseq=invite.cseq.number)
        Forwarder.stamp(ack, flow, flow, None, "")
        transactions.send_ack(ack, flow)
        if end:
            reason = reason_value(488, "Not Acceptable Here")
            bye = dialog.request("BYE", (("Reason", reason),))
            Forwarder.stamp(bye, flow, flow, None, "")
            transactions.send(bye, flow, NOBODY)
    except SIPError:
        # A callee that cannot be spoken to gives up by itself when no ACK comes (13.3.1.4).
        return


def _routes(request: Request) -> tuple[str, ...]:
    return tuple(request.get_list("route"))


def _beyond(invite: Request, response: Response) -> tuple[str, ...]:
    """The proxies between us and the callee: what was put on top of our own Record-Route."""
    ours = len(invite.get_list("record-route"))
    values = response.get_list("record-route")
    return tuple(reversed(values[: max(len(values) - ours, 0)]))
