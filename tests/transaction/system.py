"""A bare transaction layer with a scripted user, for ladders."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.task import Clock
from zope.interface import implementer

from pbx.interfaces import (
    IClientTransaction,
    IClientUser,
    IFlow,
    IServerTransaction,
    ITransactionUser,
)
from pbx.sip.address import Address
from pbx.sip.errors import MalformedMessage, TransportFailed
from pbx.sip.message import Request, Response, response_to
from pbx.sip.parser import parse
from pbx.timing import TimerWheel
from pbx.transaction.layer import TransactionLayer
from pbx.transaction.timers import Timers
from tests.fakes import FakeFlow


class LoggedFlow(FakeFlow):
    """A flow whose packets go to one list in the order of all flows."""

    def __init__(self, peer: Address, log: list[tuple[Address, bytes] | str]) -> None:
        super().__init__(peer)
        self._log = log

    def send(self, data: bytes) -> None:
        if self.closed:
            raise TransportFailed("closed")
        self._log.append((self.peer, data))


@implementer(ITransactionUser, IClientUser)
class LayerSystem:
    """`tests.ladder.System` around a `TransactionLayer`.

    Lines: ``do answer METHOD STATUS`` (at once, from now on), ``do refuse merged`` (with 482),
    ``do respond METHOD STATUS [reason]``, ``do send METHOD uri to ACTOR [timeout]``,
    ``do cancel [reason]``, ``do abandon``, ``do close ACTOR``.
    """

    def __init__(self, actors: dict[str, Address], timers: Timers | None = None) -> None:
        self.clock = Clock()
        self.wheel = TimerWheel(self.clock)
        self.layer = TransactionLayer(timers or Timers(), self.clock, self.wheel)
        self.layer.deliver_to(self)
        self._log: list[tuple[Address, bytes] | str] = []
        self._names = actors
        self._flows = {address: LoggedFlow(address, self._log) for address in actors.values()}
        self._answers: dict[str, int] = {}
        # With the request: nothing of it is left there after a 2xx to INVITE.
        self._servers: dict[str, tuple[IServerTransaction, Request]] = {}
        self._client: IClientTransaction | None = None
        self._count = 0
        self._refuse_merged = False

    # tests.ladder.System

    def deliver(self, source: Address, data: bytes) -> None:
        flow = self._flows[source]
        try:
            message = parse(data)
        except MalformedMessage as error:
            self.layer.malformed_received(error, flow)
            return
        self.layer.message_received(message, flow)

    def sent(self) -> Sequence[tuple[Address, bytes] | str]:
        sent = self._log[:]
        self._log.clear()
        return sent

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def timers_left(self) -> int:
        return len(self.wheel)

    def do(self, words: str) -> None:
        verb, *rest = words.split()
        if verb == "answer":
            self._answers[rest[0]] = int(rest[1])
        elif verb == "refuse":
            self._refuse_merged = True
        elif verb == "respond":
            self._respond(*self._servers[rest[0]], int(rest[1]), " ".join(rest[2:]))
        elif verb == "send":
            self._send(rest[0], rest[1], rest[3], float(rest[4]) if rest[4:] else None)
        elif verb == "close":
            flow = self._flows[self._names[rest[0]]]
            flow.close()
            self.layer.flow_closed(flow)
        else:
            assert self._client is not None
            if verb == "cancel":
                self._client.cancel(" ".join(rest))
            else:
                assert verb == "abandon", words
                self._client.abandon()

    def _respond(
        self, transaction: IServerTransaction, request: Request, status: int, reason: str = ""
    ) -> None:
        transaction.respond(response_to(request, status, reason, to_tag="pbx-tag"))

    def _send(self, method: str, uri: str, actor: str, timeout: float | None) -> None:
        self._count += 1
        peer = self._names[actor]
        request = Request.make(
            method,
            uri,
            [
                ("Via", f"SIP/2.0/{peer.transport} 192.0.2.1;branch=z9hG4bK-pbx-{self._count}"),
                ("Route", "<sip:edge.test;lr>"),
                ("Max-Forwards", "69"),
                ("From", "<sip:1001@pbx.test>;tag=f"),
                ("To", f"<{uri}>"),
                ("Call-ID", f"pbx-call-{self._count}"),
                ("CSeq", f"7 {method}"),
            ],
        )
        self._client = self.layer.send(request, self._flows[peer], self, timeout)

    # The transaction user

    def request_received(self, transaction: IServerTransaction) -> None:
        request = transaction.request
        method = request.method
        self._log.append(f"request {method}")
        self._servers[method] = transaction, request
        if self._refuse_merged and self.layer.merged(request):
            self._respond(transaction, request, 482)
        elif method in self._answers:
            self._respond(transaction, request, self._answers[method])

    def cancel_received(
        self, cancel: IServerTransaction, invite: IServerTransaction | None
    ) -> None:
        self._log.append("cancel" if invite is None else f"cancel of {invite.request.method}")
        self._respond(cancel, cancel.request, 481 if invite is None else 200)

    def ack_received(self, ack: Request, flow: IFlow) -> None:
        self._log.append("ack end to end")

    def stray_response(self, response: Response, flow: IFlow) -> None:
        self._log.append(f"stray {response.status}")

    def acknowledged(self, transaction: IServerTransaction) -> None:
        self._log.append("acknowledged")

    def flow_closed(self, flow: IFlow) -> None:
        self._log.append("flow closed")

    def response_received(self, transaction: IClientTransaction, response: Response) -> None:
        self._log.append(f"response {response.status}")

    def transaction_failed(self, transaction: IClientTransaction, status: int) -> None:
        self._log.append(f"failed {status}")
