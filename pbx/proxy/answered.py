"""What is left of a relayed INVITE after its 2xx, for the 32 s of timers L and M (RFC 6026)."""

from __future__ import annotations

from zope.interface import classImplements

from pbx.interfaces import IClientTransaction, IClientUser, IDialogs, IFlow, IServerTransaction
from pbx.sip.address import Address
from pbx.sip.message import Request, Response
from pbx.sip.nat import needs_repair_reply, repair_contact


class AnsweredInvite:
    """The way back for repeats of the 2xx, and for those of more phones, when a proxy beyond us
    forked. A call a second would otherwise keep 32 requests with all that belongs to them.

    ``dialogs`` is None for a re-INVITE; ``repairs``: nobody beyond us corrects Contact.
    """

    __slots__ = ("_dialogs", "_did", "_downstream", "_repairs", "_transaction", "_upstream")

    def __init__(
        self,
        transaction: IServerTransaction,
        dialogs: IDialogs | None,
        did: str,
        upstream: IFlow,
        downstream: IFlow,
        repairs: bool,
    ) -> None:
        self._transaction = transaction
        self._dialogs = dialogs
        self._did = did
        self._upstream = upstream
        self._downstream = downstream
        self._repairs = repairs

    def response_received(self, transaction: IClientTransaction, response: Response) -> None:
        """A 2xx: nothing else is delivered after the first."""
        response.remove_first_value("via")
        if self._repairs:
            repair_answer(response, self._downstream.peer)
        if self._dialogs is not None:
            self._dialogs.answered(self._did, response, self._upstream, self._downstream)
        self._transaction.respond(response)

    def transaction_failed(self, transaction: IClientTransaction, status: int) -> None:
        """It cannot any more."""


classImplements(AnsweredInvite, IClientUser)


def from_callee(request: Request) -> bool:
    """Whether responses to what we sent come from the callee itself: a proxy beyond us, as another
    node, has repaired them already.
    """
    return "route" not in request.names


def repair_answer(response: Response, peer: Address) -> None:
    """Make the Contact of a response from this peer one that the other side can use."""
    if "contact" in response.names and needs_repair_reply(response, peer):
        repair_contact(response, peer)
