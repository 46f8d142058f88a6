"""The user that is not there."""

from __future__ import annotations

from zope.interface import implementer

from pbx.interfaces import (
    IClientTransaction,
    IClientUser,
    IFlow,
    IServerTransaction,
    ITransactionUser,
)
from pbx.sip.message import Request, Response


@implementer(ITransactionUser, IClientUser)
class Nobody:
    """The user of a CANCEL, and of a layer that is not connected yet: everything is ignored."""

    def request_received(self, transaction: IServerTransaction) -> None:
        """Ignored."""

    def cancel_received(
        self, cancel: IServerTransaction, invite: IServerTransaction | None
    ) -> None:
        """Ignored."""

    def ack_received(self, ack: Request, flow: IFlow) -> None:
        """Ignored."""

    def stray_response(self, response: Response, flow: IFlow) -> None:
        """Ignored."""

    def acknowledged(self, transaction: IServerTransaction) -> None:
        """Ignored."""

    def flow_closed(self, flow: IFlow) -> None:
        """Ignored."""

    def response_received(self, transaction: IClientTransaction, response: Response) -> None:
        """Ignored."""

    def transaction_failed(self, transaction: IClientTransaction, status: int) -> None:
        """Ignored."""


NOBODY = Nobody()
