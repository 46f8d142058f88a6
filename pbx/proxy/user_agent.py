"""Requests of our own: probes, NOTIFY, MESSAGE, BYE (RFC 3261 section 8.1)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from pbx.interfaces import IClientTransaction, IClientUser, IFlow, IFlows, ITransactions, IUserAgent
from pbx.proxy.forward import Forwarder, size
from pbx.sip.address import Address
from pbx.sip.dialog import Dialog
from pbx.sip.errors import SIPError, TransportFailed
from pbx.sip.message import Request, Response, response_to
from pbx.sip.route import next_hop
from pbx.sip.uri import URI


@implementer(IUserAgent)
class UserAgent:
    """Sends requests that nobody sent us."""

    def __init__(self, transactions: ITransactions, flows: IFlows) -> None:
        self._transactions = transactions
        self._flows = flows

    async def send(
        self,
        request: Request,
        uri: URI | None = None,
        flow: IFlow | None = None,
        timeout: float | None = None,
    ) -> Response:
        """The final response; 408 and 503 are made up when none comes."""
        _complete(request)
        try:
            if flow is not None:
                if flow.closed:
                    return _made_up(request, 430)
                return await self._send(request.copy(), flow, timeout)
            copy = request.copy()
            return await self._send_to(copy, uri or next_hop(copy), timeout)
        except TransportFailed as error:
            return _made_up(request, 503, error.reason)
        except SIPError as error:
            return _made_up(request, error.status, error.reason)

    async def _send_to(self, request: Request, uri: URI, timeout: float | None) -> Response:
        addresses: Sequence[Address] | None = self._flows.locate(uri)
        if addresses is None:
            addresses = await self._flows.resolve(uri)
        response = _made_up(request, 503, "No Way To Next Hop")
        for address in self._with_streams(request, uri, addresses):
            try:
                flow = self._flows.find(address) or await self._flows.connect(address)
            except TransportFailed:
                continue
            response = await self._send(request.copy(), flow, timeout)
            if not (response.local or response.status == 503):
                break
        return response

    def _with_streams(
        self, request: Request, uri: URI, addresses: Sequence[Address]
    ) -> Iterator[Address]:
        """TCP before UDP for what is large, unless the URI names a transport (18.1.1)."""
        for address in addresses:
            if not uri.transport and self._flows.prefers_stream(address, size(request)):
                yield address._replace(transport="TCP")
            yield address

    def _send(self, request: Request, flow: IFlow, timeout: float | None) -> Deferred[Response]:
        Forwarder.stamp(request, flow, flow, None, "")
        waiting = _Waiting(self._answered)
        waiting.transaction = self._transactions.send(request, flow, waiting, timeout)
        return waiting.response

    def _answered(self, invite: IClientTransaction, response: Response, wanted: bool) -> None:
        """Confirm a 2xx to an INVITE of ours (13.2.2.4), and end what nobody waits for."""
        try:
            dialog = Dialog.uac(invite.request, response)
            self._within(dialog, "ACK", dialog.local_cseq, invite.flow)
            if not wanted:
                self._within(dialog, "BYE", None, invite.flow)
        except SIPError:
            # Nothing that could be confirmed: the other side gives up by itself.
            return

    def _within(self, dialog: Dialog, method: str, cseq: int | None, flow: IFlow) -> None:
        request = dialog.request(method, cseq=cseq)
        addresses = self._flows.locate(dialog.next_hop())
        found = self._flows.find(addresses[0], flow.local) if addresses else None
        Forwarder.stamp(request, found or flow, found or flow, None, "")
        if method == "ACK":
            self._transactions.send_ack(request, found or flow)
        else:
            self._transactions.send(request, found or flow, _Waiting(self._answered))


@implementer(IClientUser)
class _Waiting:
    """The final response of one transaction."""

    __slots__ = ("_answered", "_wanted", "response", "transaction")

    def __init__(self, answered: Callable[[IClientTransaction, Response, bool], None]) -> None:
        self._answered = answered
        self._wanted = True
        self.response: Deferred[Response] = Deferred(self._give_up)
        self.transaction: IClientTransaction | None = None

    def _give_up(self, response: Deferred[Response]) -> None:
        self._wanted = False
        if self.transaction is None:
            return
        if self.transaction.request.method == "INVITE":
            self.transaction.cancel()
        else:
            self.transaction.abandon()

    def response_received(self, transaction: IClientTransaction, response: Response) -> None:
        if transaction.request.method == "INVITE" and 200 <= response.status < 300:
            self._answered(transaction, response, self._wanted)
        if response.status >= 200 and not self.response.called:
            self.response.callback(response)

    def transaction_failed(self, transaction: IClientTransaction, status: int) -> None:
        if not self.response.called:
            self.response.callback(_made_up(transaction.request, status))


def _complete(request: Request) -> None:
    """Fill in what every request needs (8.1.1)."""
    if "max-forwards" not in request.names:
        request.append("max-forwards", "70")
    if "call-id" not in request.names:
        request.append("call-id", secrets.token_hex(16))
    if "cseq" not in request.names:
        request.append("cseq", f"1 {request.method}")
    if request.from_.tag is None:
        request.set("from", f"{request.from_};tag={secrets.token_hex(8)}")


def _made_up(request: Request, status: int, reason: str = "") -> Response:
    response = response_to(request, status, reason)
    response.local = True
    return response
