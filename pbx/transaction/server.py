"""Server transactions: one received request and its responses (RFC 3261 section 17.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zope.interface import classImplements

from pbx.interfaces import IFlow, IServerTransaction
from pbx.sip.errors import MalformedMessage, TransportFailed
from pbx.sip.message import Message, Request, Response, response_to
from pbx.sip.transactions import (
    INVITE_SERVER,
    NON_INVITE_SERVER,
    Do,
    Event,
    State,
    event_of,
)
from pbx.transaction.finished import shortened
from pbx.transaction.machine import FORGOTTEN, Transaction

if TYPE_CHECKING:
    from pbx.transaction.layer import TransactionLayer

_SEND = Do.SEND
_RESEND = Do.RESEND
_TRYING = Do.TRYING
_ACCEPTED = State.ACCEPTED
_REQUEST = Event.REQUEST
_TRANSPORT_ERROR = Event.TRANSPORT_ERROR


class ServerTransaction(Transaction):
    """One request that we have to answer; of its responses it keeps the last one as bytes."""

    __slots__ = ("_last", "_old_peer", "arrived", "is_invite", "request", "status", "to_tag")

    def __init__(self, layer: TransactionLayer, request: Request, flow: IFlow, key: str) -> None:
        invite = request.method == "INVITE"
        machine = INVITE_SERVER if invite else NON_INVITE_SERVER
        super().__init__(layer, flow, key, machine.first, machine.rows)
        self.is_invite = invite
        self.request = request
        self.arrived = layer.clock.seconds()
        self.status = 0
        self._old_peer = key.startswith("2543 ")
        #: To tag of the last response; only kept for RFC 2543 peers, see `acknowledged_by`.
        self.to_tag: str | None = None
        self._last = b""

    def respond(self, response: Response) -> None:
        """Send a response and let the state machine see it; 2xx of INVITE may repeat.

        A non-INVITE request never gets 408, nor a provisional response of ours (RFC 4320 section
        4.1); the transaction itself sends the 100 that is due late.
        """
        status = response.status
        if not self.is_invite:
            if status < 200:
                return
            if status == 408:
                self._end_in_silence()
                return
        self.happened(event_of(status), response)

    def respond_statelessly(
        self, status: int, reason: str, headers: Sequence[tuple[str, str]]
    ) -> None:
        """Send a final response without body and forget the request (8.2.7): its repeat is a new
        request, and an ACK is absorbed by its To tag.
        """
        layer = self._layer
        request = self.request
        tag = layer.stateless_tag(request)
        response = response_to(request, status, reason, headers, to_tag=tag)
        if self.status or (self.is_invite and _tag(request) is not None):
            # A 100 made a promise; and an ACK with another tag could not be told from others.
            self.respond(response)
            return
        self.status = status
        layer.counters.answered_statelessly(request.method, status)
        self.end()
        self._put(response.encoded(), response)

    def request_received(self, flow: IFlow) -> None:
        """The request came again, perhaps on another connection."""
        self._layer.counters.absorbed_requests += 1
        self.flow = flow
        self.happened(_REQUEST)

    def acknowledged_by(self, ack: Request) -> bool:
        """Whether an ACK that has our key is for our response: RFC 2543 peers repeat branches, or
        have none, so that the To tag decides (17.2.3).
        """
        if not self._old_peer:
            return True
        try:
            return ack.to.tag == self.to_tag
        except MalformedMessage:
            return False

    def _do(self, action: Do, message: Message | None) -> None:
        if action is _SEND:
            assert isinstance(message, Response)
            self._send(message)
        elif action is _RESEND:
            if self._last:
                self._layer.counters.sent_retransmissions += 1
                self._put(self._last, self.request)
        elif action is _TRYING:
            self._send(response_to(self.request, 100))
        elif self.state is _ACCEPTED:
            assert isinstance(message, Request)
            self._layer.user.ack_received(message, self.flow)
        else:
            self._layer.user.acknowledged(self)

    def _send(self, response: Response) -> None:
        status = response.status
        self.status = status
        if self._old_peer:
            self.to_tag = _tag(response)
        counters = self._layer.counters
        counters.replies += 1
        if status >= 200:
            counters.answered(self.request.method, status)
        data = response.encoded()
        if not self.is_invite and status >= 200:
            # Over: for repeats, which only a datagram can be, the layer keeps this.
            self._last = b"" if self.flow.reliable else shortened(self.request, response, data)
        elif self.state is _ACCEPTED:
            # A 2xx to INVITE is repeated by who sent it, never by the transaction, which needs
            # the request no more.
            self._last = b""
            self.request = FORGOTTEN
        else:
            self._last = data
        self._put(data, response)

    def _put(self, data: bytes, message: Message) -> None:
        try:
            if self.is_invite:
                # A phone waits, and its ACK or its next INVITE comes the sooner.
                self.flow.send(data)
            else:
                self.flow.send_soon(data)
        except TransportFailed:
            if not self._layer.send_elsewhere(message, data):
                self.happened(_TRANSPORT_ERROR)

    def _linger(self) -> None:
        self._layer.finish_server(self.key, self._last)
        self.state = State.TERMINATED

    def _end_in_silence(self) -> None:
        if self.state > State.PROCEEDING:
            return
        self.status = 408
        self._layer.counters.answered(self.request.method, 408)
        self._stop()
        if self.flow.reliable:
            self.end()
        else:
            self._last = b""
            self._linger()

    def _forget(self) -> None:
        self._layer.forget_server(self.key)


classImplements(ServerTransaction, IServerTransaction)


def _tag(message: Message) -> str | None:
    try:
        return message.to.tag
    except MalformedMessage:
        return None
