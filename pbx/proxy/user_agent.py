"""Requests of our own: probes, NOTIFY, MESSAGE, BYE (RFC 3261 section 8.1)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from pbx.interfaces import IClientTransaction, IClientUser, IFlow, IFlows, ITransactions, IUserAgent
from pbx.proxy.forward import Forwarder, size
from pbx.sip.address import Address
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
        waiting = _Waiting()
        waiting.transaction = self._transactions.send(request, flow, waiting, timeout)
        return waiting.response


@implementer(IClientUser)
class _Waiting:
    """The final response of one transaction."""

    __slots__ = ("response", "transaction")

    def __init__(self) -> None:
        self.response: Deferred[Response] = Deferred()
        self.transaction: IClientTransaction | None = None

    def response_received(self, transaction: IClientTransaction, response: Response) -> None:
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
