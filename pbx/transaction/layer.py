"""The transaction layer: which transaction does a message belong to (RFC 3261 section 17)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from secrets import token_hex
from typing import ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import classImplements

from pbx.interfaces import (
    IClientTransaction,
    IClientUser,
    IFlow,
    IFlows,
    IMetrics,
    IServerTransaction,
    IStatistics,
    ITransactions,
    ITransactionUser,
    ITransportUser,
)
from pbx.metrics import Kind, Metric
from pbx.sip.address import Address
from pbx.sip.errors import MalformedMessage, SIPError, TransportFailed
from pbx.sip.message import Message, Request, Response, response_to
from pbx.sip.transactions import Event, State
from pbx.timing import TimerWheel
from pbx.transaction.client import ClientTransaction
from pbx.transaction.counters import Counters
from pbx.transaction.finished import Finished, restored
from pbx.transaction.nobody import NOBODY
from pbx.transaction.server import ServerTransaction
from pbx.transaction.timers import Timers

_COOKIE = "z9hG4bK"
#: Of a hash that differs in every process.
_TAG_BITS: Final = 0xFFFFFFFFFFFF


class TransactionLayer:
    """Between listeners and the proxy core: absorbs repeats, sends them, and nothing else.

    ``flows`` may be set to open a new connection for responses whose connection was lost
    (18.2.2); without it such responses are dropped.
    """

    log: ClassVar = Logger(__name__)

    def __init__(self, timers: Timers, clock: IReactorTime, wheel: TimerWheel) -> None:
        self.timers = timers
        self.clock = clock
        self.wheel = wheel
        self.flows: IFlows | None = None
        self.user: ITransactionUser = NOBODY
        self.counters = Counters()
        self.seconds_reliable = timers.seconds(reliable=True)
        self.seconds_unreliable = timers.seconds(reliable=False)
        self._servers: dict[str, ServerTransaction] = {}
        self._clients: dict[str, ClientTransaction] = {}
        self._by_flow: dict[IFlow, set[ClientTransaction]] = {}
        linger = 64 * timers.t1
        bounds = timers.max_finished, timers.max_finished_bytes
        self._done_servers = Finished(wheel, linger, *bounds)
        self._done_clients = Finished(wheel, timers.t4, *bounds)
        self._seen = Finished(wheel, linger, *bounds)
        # To tags of stateless answers begin with it, so that ACKs for them are recognised.
        self._stateless = token_hex(6)
        self._delivering = False

    def deliver_to(self, user: ITransactionUser) -> None:
        """Connect the proxy core."""
        self.user = user

    # From the listeners

    def message_received(self, message: Message, flow: IFlow) -> None:
        """A message came in; ``received`` and ``rport`` are stamped already."""
        if isinstance(message, Request):
            try:
                key = server_key(message)
            except SIPError as error:
                self._refuse(message, error, flow)
                return
            self._request_received(message, flow, key)
        elif isinstance(message, Response):
            self._response_received(message, flow)

    def malformed_received(self, error: MalformedMessage, flow: IFlow) -> None:
        """Bytes came in that are no good message: answered statelessly if they can be."""
        if error.request is not None:
            self._refuse(error.request, error, flow)

    def flow_closed(self, flow: IFlow) -> None:
        """A connection is gone: what was sent on it fails with 503 (17.1.4).

        Server transactions go on: the response may find another way.
        """
        for client in tuple(self._by_flow.pop(flow, ())):
            client.flow_closed()
        self.user.flow_closed(flow)

    def _request_received(self, request: Request, flow: IFlow, key: str) -> None:
        method = request.method
        if method == "ACK":
            self._ack_received(request, flow, key)
            return
        known = self._servers.get(key)
        if known is not None:
            known.request_received(flow)
            return
        done = self._done_servers.find(key)
        if done is not None:
            self.counters.absorbed_requests += 1
            answer = restored(request, done) if done else b""
            if answer:
                self.counters.sent_retransmissions += 1
                self._send_stateless(request, answer, flow)
            return
        if len(self._servers) >= self.timers.max_transactions:
            self._refuse(request, _overload(self.timers.retry_after), flow)
            return
        self.counters.server += 1
        transaction = self._servers[key] = ServerTransaction(self, request, flow, key)
        if method == "CANCEL":
            invite = self._servers.get(key[:-6] + "INVITE")
            self.user.cancel_received(transaction, invite)
        else:
            self.user.request_received(transaction)
        if transaction.status == 0 and transaction.state is not State.TERMINATED:
            self._unanswered(transaction)

    def _unanswered(self, transaction: ServerTransaction) -> None:
        if not transaction.is_invite or self.timers.auto_100:
            transaction.happened(Event.UNANSWERED)

    def _ack_received(self, ack: Request, flow: IFlow, key: str) -> None:
        invite = self._servers.get(key)
        if invite is not None and invite.acknowledged_by(ack):
            invite.happened(Event.ACK, ack)
            return
        try:
            tag = ack.to.tag
        except MalformedMessage:
            return
        if tag is None or not tag.startswith(self._stateless):
            self.user.ack_received(ack, flow)
        else:
            self.counters.stateless_acks += 1

    def _response_received(self, response: Response, flow: IFlow) -> None:
        counters = self.counters
        counters.received += 1
        if not 100 <= response.status < 700:
            counters.stray += 1
            return
        try:
            key = response.via.branch + response.cseq.method
        except SIPError:
            counters.stray += 1
            return
        client = self._clients.get(key)
        if client is not None:
            client.response_received(response)
        elif self._done_clients.find(key) is not None:
            counters.late_responses += 1
        else:
            counters.stray += 1
            self.user.stray_response(response, flow)

    # From the proxy core

    def send(
        self, request: Request, flow: IFlow, user: IClientUser, timeout: float | None = None
    ) -> IClientTransaction:
        """Send a request whose topmost Via is ours. ``timeout`` replaces timers B and F."""
        client = ClientTransaction(self, request, flow, request.via.branch + request.method, user)
        self._clients[client.key] = client
        self.counters.client += 1
        if flow.reliable:
            self._by_flow.setdefault(flow, set()).add(client)
        client.send(timeout)
        return client

    def send_ack(self, ack: Request, flow: IFlow) -> None:
        """Send an ACK for a 2xx: no transaction. A transport failure is nobody's business."""
        try:
            flow.send(ack.encoded())
        except TransportFailed:
            self.counters.transport_errors += 1

    def merged(self, request: Request) -> bool:
        """Whether a new request came before, along another path (8.2.2.2).

        To be asked once per request, by who answers it like a user agent server: 482 then. Raises
        MalformedMessage.
        """
        if request.to.tag:
            return False
        cseq = request.cseq
        name = f"{request.call_id} {cseq.number} {cseq.method} {request.from_.tag}"
        key = server_key(request).encode("utf-8", "surrogateescape")
        known = self._seen.find(name)
        if known is None:
            self._seen.add(name, key)
            return False
        return known != key

    def waiting(self, name: str) -> IServerTransaction | None:
        """A request without final response yet, by topmost branch or Call-ID."""
        for transaction in self._servers.values():
            if transaction.status >= 200:
                continue
            request = transaction.request
            if name in (request.via.branch, request.call_id):
                return transaction
        return None

    def counts(self) -> Mapping[str, int]:
        """Gauges and counters by name."""
        counts = self.counters.named()
        counts["inuse_transactions"] = len(self._servers) + len(self._clients)
        counts["server_transactions"] = len(self._servers)
        counts["client_transactions"] = len(self._clients)
        counts["finished_transactions"] = len(self._done_servers) + len(self._done_clients)
        counts["finished_bytes"] = self._done_servers.bytes
        return counts

    def statistics(self) -> Mapping[str, int]:
        """The same as ``tm:name``, and the stateless answers as ``sl:name``."""
        found = {f"tm:{name}": count for name, count in self.counts().items()}
        for of_class in range(1, 7):
            found[f"sl:{of_class}xx_replies"] = self.counters.stateless[of_class]
        found["sl:received_ACKs"] = self.counters.stateless_acks
        return found

    def metrics(self) -> Iterable[Metric]:
        """Final responses by method and class."""
        yield Metric(
            "pbx_sip_final_responses_total",
            Kind.COUNTER,
            "Final responses sent, by method of the request and class of the status.",
            ("method", "class"),
            [
                ((method, f"{of_class}xx"), count)
                for method, of_class, count in self.counters.by_method()
            ],
        )

    # From the transactions

    def deliver(self, client: ClientTransaction, user: IClientUser, response: Response) -> None:
        """Give a response to who sent the request; what is answered meanwhile counts as relayed."""
        counters = self.counters
        before = counters.replies
        outer, self._delivering = self._delivering, True
        try:
            user.response_received(client, response)
        finally:
            self._delivering = outer
            if not outer:
                counters.relayed += counters.replies - before

    def send_cancel(self, cancel: Request, flow: IFlow) -> None:
        """Send a CANCEL; nobody waits for its response."""
        self.send(cancel, flow, NOBODY)

    def send_elsewhere(self, message: Message, data: bytes) -> bool:
        """Send a response on a new connection to where it, or its request, says that the request
        came from (18.2.2); False when that cannot even be tried.
        """
        flows = self.flows
        if flows is None:
            return False
        via = message.via
        if via.transport not in ("TCP", "TLS"):
            return False
        host = via.params.get("received") or via.host
        port = via.port or (5061 if via.transport == "TLS" else 5060)
        address = Address(via.transport, host, port)
        flow = flows.find(address)
        try:
            if flow is not None:
                flow.send(data)
                return True
        except TransportFailed:
            return False
        Deferred.fromCoroutine(_connect_and_send(flows, address, data))
        return True

    def finish_server(self, key: str, response: bytes) -> None:
        """Timer J: from now on only what the response says beyond the request is kept."""
        self._servers.pop(key, None)
        self._done_servers.add(key, response)

    def finish_client(self, client: ClientTransaction) -> None:
        """Timer K: from now on repeated responses are only absorbed."""
        self.forget_client(client)
        self._done_clients.add(client.key, b"")

    def forget_server(self, key: str) -> None:
        """The transaction is over."""
        self._servers.pop(key, None)

    def forget_client(self, client: ClientTransaction) -> None:
        """The transaction is over."""
        self._clients.pop(client.key, None)
        flow = client.flow
        if flow.reliable:
            sharing = self._by_flow.get(flow)
            if sharing is not None:
                sharing.discard(client)
                if not sharing:
                    del self._by_flow[flow]

    # Without a transaction

    def stateless_tag(self, request: Request) -> str:
        """The To tag of a stateless answer, the same when the request comes again (8.2.7)."""
        return self._stateless + str(hash(request.get("via")) & _TAG_BITS)

    def _refuse(self, request: Request, error: SIPError, flow: IFlow) -> None:
        if request.method == "ACK" or not request.has("via"):
            return
        self.counters.refused += 1
        self.counters.stateless[error.status // 100] += 1
        tag = self.stateless_tag(request)
        try:
            response = response_to(request, error.status, error.reason, error.headers, to_tag=tag)
        except SIPError:
            # The To that would get the tag is what is wrong.
            response = response_to(request, error.status, error.reason, error.headers)
        self._send_stateless(request, bytes(response), flow)

    def _send_stateless(self, request: Request, data: bytes, flow: IFlow) -> None:
        try:
            flow.send_soon(data)
        except TransportFailed:
            self.log.debug("{peer} went away before its answer", peer=flow.peer)


classImplements(TransactionLayer, ITransportUser, ITransactions, IStatistics, IMetrics)


def server_key(request: Request) -> str:
    """What identifies the server transaction of a request (17.2.3); the method comes last, INVITE
    for ACK. Raises MalformedMessage.

    Without the magic cookie it is the RFC 2543 tuple, in which the To tag is left out: an ACK has
    another one than its INVITE.
    """
    via = request.via
    branch = via.branch
    method = request.method
    if method == "ACK":
        method = "INVITE"
    if len(branch) > 7 and (branch[:7] == _COOKIE or branch[:7].lower() == "z9hg4bk"):
        return f"{branch} {via.host}:{via.port or 5060} {method}"
    return (
        f"2543 {request.uri_text} {request.call_id} {request.from_.tag} {request.cseq.number} "
        f"{via} {method}"
    )


def _overload(seconds: int) -> SIPError:
    return SIPError(status=503, headers=(("Retry-After", str(seconds)),))


async def _connect_and_send(flows: IFlows, address: Address, data: bytes) -> None:
    try:
        flow = await flows.connect(address)
        flow.send(data)
    except TransportFailed:
        return
