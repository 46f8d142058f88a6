"""Client transactions: one request sent and its responses (RFC 3261 section 17.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import classImplements

from pbx.interfaces import IClientTransaction, IClientUser, IFlow
from pbx.sip.errors import TransportFailed
from pbx.sip.message import Message, Request, Response
from pbx.sip.transactions import (
    INVITE_CLIENT,
    NON_INVITE_CLIENT,
    Do,
    Event,
    State,
    event_of,
)
from pbx.sip.transactions import Timer as Letter
from pbx.transaction.machine import FORGOTTEN, Transaction
from pbx.transaction.nobody import NOBODY

if TYPE_CHECKING:
    from pbx.transaction.layer import TransactionLayer

_DELIVER = Do.DELIVER
_RESEND = Do.RESEND
_ACK = Do.ACK
_TIMEOUT = Do.TIMEOUT
_CALLING = State.CALLING
_PROCEEDING = State.PROCEEDING
_ACCEPTED = State.ACCEPTED
_COMPLETED = State.COMPLETED
_TRANSPORT_ERROR = Event.TRANSPORT_ERROR


class ClientTransaction(Transaction):
    """One request that we sent."""

    __slots__ = ("_ack", "_cancel", "_cancelled", "_data", "_user", "request", "status")

    def __init__(
        self,
        layer: TransactionLayer,
        request: Request,
        flow: IFlow,
        key: str,
        user: IClientUser,
    ) -> None:
        machine = INVITE_CLIENT if request.method == "INVITE" else NON_INVITE_CLIENT
        super().__init__(layer, flow, key, machine.first, machine.rows)
        self.request = request
        self.status = 0
        self._user = user
        self._data = request.encoded()
        self._ack = b""
        # The Reason of a CANCEL that waits for a provisional response.
        self._cancel: str | None = None
        self._cancelled = False

    def send(self, timeout: float | None) -> None:
        """Send the request for the first time; a transport failure is told at the next turn."""
        layer = self._layer
        try:
            self.flow.send(self._data)
        except TransportFailed:
            self._timer = layer.wheel.call_later(0.0, self._send_failed)
            return
        if self.request.method == "INVITE":
            repeat, end = Letter.A, Letter.B
        else:
            repeat, end = Letter.E, Letter.F
        self.start_both(repeat, end, self._seconds[end] if timeout is None else timeout)

    def response_received(self, response: Response) -> None:
        """Let the state machine see a response."""
        status = response.status
        if self.state <= _PROCEEDING:
            self.status = status
            if self.state is _CALLING:
                # Any response stops retransmissions of an INVITE.
                self._data = b""
        self.happened(event_of(status), response)
        if self._cancel is not None and self.state is _PROCEEDING:
            self._send_cancel(self._cancel)

    def cancel(self, reason: str = "") -> None:
        """Send CANCEL as soon as a provisional response allows it (9.1)."""
        if self._cancelled or self.request.method != "INVITE":
            return
        self._cancelled = True
        if self.state is _CALLING:
            self._cancel = reason
        elif self.state is _PROCEEDING:
            self._send_cancel(reason)

    def hand_over(self, user: IClientUser) -> None:
        """An INVITE has its 2xx: repeats are told to ``user``, and the request is forgotten."""
        if self.state is _ACCEPTED:
            self._user = user
            self.request = FORGOTTEN

    def abandon(self) -> None:
        """Stop retransmitting and forget; the user hears nothing more."""
        if self.state is not State.TERMINATED:
            self.end()
            self._user = NOBODY

    def happened(self, event: Event, message: Message | None = None) -> None:
        """As always. Who has heard the end, and may hold us, is let go: no cycle stays behind."""
        super().happened(event, message)
        if self.state >= _COMPLETED:
            self._user = NOBODY

    def flow_closed(self) -> None:
        """The connection is gone."""
        self.happened(_TRANSPORT_ERROR)

    def _do(self, action: Do, message: Message | None) -> None:
        if action is _DELIVER:
            assert isinstance(message, Response)
            self._layer.deliver(self, self._user, message)
        elif action is _RESEND:
            self._layer.counters.sent_retransmissions += 1
            try:
                self.flow.send(self._data)
            except TransportFailed:
                self.happened(_TRANSPORT_ERROR)
        elif action is _ACK:
            assert isinstance(message, Response)
            self._acknowledge(message)
        else:
            status = 408 if action is _TIMEOUT else 503
            self._layer.counters.failed(status)
            self._user.transaction_failed(self, status)

    def _acknowledge(self, response: Response) -> None:
        if not self._ack:
            self._ack = bytes(hop_by_hop(self.request, "ACK", to=response.get("to") or ""))
        try:
            self.flow.send(self._ack)
        except TransportFailed:
            # The user gets the response that it waits for; the peer gives up by timer H.
            return

    def _send_cancel(self, reason: str) -> None:
        self._cancel = None
        request = hop_by_hop(self.request, "CANCEL", to=self.request.get("to") or "")
        if reason:
            request.append("reason", reason)
        self._layer.send_cancel(request, self.flow)
        self.start_end(Letter.B, 64 * self._layer.timers.t1)

    def _send_failed(self) -> None:
        self._timer = None
        self.happened(_TRANSPORT_ERROR)

    def _linger(self) -> None:
        self._layer.finish_client(self)
        self.state = State.TERMINATED

    def _forget(self) -> None:
        self._layer.forget_client(self)


classImplements(ClientTransaction, IClientTransaction)


def hop_by_hop(invite: Request, method: str, to: str) -> Request:
    """ACK for a negative final response, or CANCEL (17.1.1.3, 9.1): the topmost Via, Route and
    the identifying headers of the INVITE.
    """
    headers = [("Via", str(invite.via))]
    headers.extend(("Route", value) for value in invite.get_all("route"))
    headers.extend(
        (
            ("From", invite.get("from") or ""),
            ("To", to),
            ("Call-ID", invite.get("call-id") or ""),
            ("CSeq", f"{invite.cseq.number} {method}"),
            ("Max-Forwards", "70"),
        )
    )
    return Request.make(method, invite.uri_text, headers)
