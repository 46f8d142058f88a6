"""One branch of a relayed request: find a flow, send, try the next address (RFC 3263 4.3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from zope.interface import classImplements

from pbx.events import BranchFailed
from pbx.interfaces import IClientTransaction, IClientUser, IDialogs, IFlow, ITimer
from pbx.proxy.answered import AnsweredInvite, from_callee, repair_answer
from pbx.proxy.coroutines import run
from pbx.proxy.declined import give_up, reason_value
from pbx.proxy.forward import size
from pbx.sip.address import Address
from pbx.sip.errors import SIPError
from pbx.sip.forking import Branch
from pbx.sip.message import Request, Response, response_to
from pbx.sip.uri import URI
from pbx.verdicts import Target

if TYPE_CHECKING:
    from pbx.proxy.relay import RelayedRequest


class BranchClient:
    """Sends one branch: finds a flow, tries the next address when one fails (RFC 3263 4.3)."""

    __slots__ = (
        "_addresses",
        "_body",
        "_bridged",
        "_cancelled",
        "_failed_status",
        "_held",
        "_pinned",
        "_relay",
        "_sent",
        "_timer_c",
        "branch",
        "flow",
        "target",
        "transaction",
    )

    def __init__(self, relay: RelayedRequest, branch: Branch) -> None:
        self._relay = relay
        self.branch = branch
        target = branch.target
        assert isinstance(target, Target)
        self.target = target
        self.flow: IFlow | None = None
        self.transaction: IClientTransaction | None = None
        self._addresses: list[Address] = []
        self._cancelled = False
        self._pinned = True
        self._failed_status = 408
        self._sent: Address | None = None
        self._timer_c: ITimer | None = None
        #: What to send in place of the body that came, and whether the media engine knows of us.
        self._body: bytes | None = None
        self._bridged = False
        #: Responses behind one that the media engine has not finished.
        self._held: deque[Response] | None = None

    def start(self) -> None:
        """Find where to and send."""
        target = self.target
        try:
            copy, uri = self._relay.send_copy(self.branch)
        except SIPError as error:
            self._fail(error.status)
            return
        if target.flow is not None:
            if not target.flow.closed:
                self._describe(target.flow.peer, copy, self._send_along)
                return
            if target.flow_required:
                self._fail(430)
                return
        flows = self._relay.relayer.flows
        if flows.is_own(uri):
            # Sending it would only bring it back to us (O3).
            self._fail(482)
            return
        addresses = flows.locate(uri)
        self._pinned = target.behind_nat or bool(uri.transport)
        if addresses is None:
            run(self._resolve(uri), self._located, self._unreachable)
        else:
            self._addresses = list(addresses)
            self._try_next(copy)

    async def _resolve(self, uri: URI) -> Sequence[Address]:
        return await self._relay.relayer.flows.resolve(uri)

    def _located(self, addresses: Sequence[Address]) -> None:
        self._addresses = list(addresses)
        self._try_next(None)

    def _unreachable(self, error: BaseException) -> None:
        if not isinstance(error, SIPError):
            self._relay.log.error("cannot find a way: {error!r}", error=error)
        self._failed_status = 503
        self._try_next(None)

    def _try_next(self, copy: Request | None) -> None:
        if self.branch.done:
            return
        if self._cancelled:
            self._fail(487)
            return
        if not self._addresses:
            self._fail(self._failed_status if self._sent or copy is None else 503)
            return
        if copy is None:
            copy = self._fresh_copy()
        self._describe(self._addresses[0], copy, self._send_to_next)

    def _send_to_next(self, copy: Request) -> None:
        address = self._addresses.pop(0)
        flows = self._relay.relayer.flows
        if not self._pinned and flows.prefers_stream(address, size(copy)):
            # Large requests go by TCP; over UDP when nobody listens there (18.1.1).
            self._pinned = True
            self._addresses.insert(0, address)
            address = address._replace(transport="TCP")
        flow = flows.find(address, self.target.socket)
        if flow is None:
            run(self._connect(address), self._connected, self._unreachable)
        else:
            self._send(copy, flow)

    async def _connect(self, address: Address) -> IFlow:
        return await self._relay.relayer.flows.connect(address, self.target.socket)

    def _connected(self, flow: IFlow) -> None:
        if self.branch.done:
            return
        if self._cancelled:
            self._fail(487)
            return
        self._send(self._fresh_copy(), flow)

    def _fresh_copy(self) -> Request:
        copy, _ = self._relay.send_copy(self.branch)
        if self._body is not None:
            copy.set_body(self._body)
        return copy

    def _send_along(self, copy: Request) -> None:
        assert self.target.flow is not None
        self._send(copy, self.target.flow)

    def _describe(self, peer: Address, copy: Request, go: Callable[[Request], None]) -> None:
        """Let the media engine see a session description first, then ``go`` on."""
        relay = self._relay
        media = relay.relayer.media
        if not copy.body or media is None or self._body is not None:
            go(copy)
            return
        try:
            work = media.request(relay.did, self, relay.request, relay.arrival, self.target, peer)
        except SIPError as error:
            self._refuse(error)
            return
        if work is None:
            go(copy)
            return
        self._bridged = True

        def described(body: bytes) -> None:
            if self.branch.done:
                return
            if self._cancelled:
                self._fail(487)
                return
            self._body = body
            copy.set_body(body)
            go(copy)

        run(work, described, self._refuse)  # type: ignore[arg-type]

    def _send(self, copy: Request, flow: IFlow) -> None:
        relay = self._relay
        self.flow = flow
        self._sent = flow.peer
        relay.stamp(copy, flow, self.target)
        relayer = relay.relayer
        limit = relayer.settings.fr_timeout
        if relay.limit is not None:
            limit = min(limit, relay.limit)
        self.transaction = relayer.transactions.send(copy, flow, self, limit)
        if copy.method == "INVITE":
            self._arm_timer_c()

    def _arm_timer_c(self) -> None:
        if self._timer_c is not None:
            self._timer_c.cancel()
        self._timer_c = self._relay.relayer.timers.call_later(
            self._relay.timeout, self._timer_c_fired
        )

    def _timer_c_fired(self) -> None:
        """RFC 3261 section 16.8."""
        if self.branch.done or self.transaction is None:
            return
        self._failed_status = 408
        self._addresses = []
        if self.branch.status:
            self.transaction.cancel('SIP;cause=408;text="Request Timeout"')
        else:
            self.transaction.abandon()
        self._fail(408)

    def cancel(self, reason: str) -> None:
        """CANCEL this branch; one not sent yet is done at once."""
        self._cancelled = True
        if self.transaction is not None:
            self.transaction.cancel(reason)
        elif not self.branch.done:
            self._fail(487)

    # IClientUser

    def response_received(self, transaction: IClientTransaction, response: Response) -> None:
        """Back upstream, without our Via."""
        if transaction is not self.transaction:
            return
        status = response.status
        response.remove_first_value("via")
        if status >= 200:
            if self._timer_c is not None:
                self._timer_c.cancel()
                self._timer_c = None
            if status == 503 and self._addresses and not self.branch.done:
                self._report_failure(503, answered=True)
                self._failed_status = 503
                self._try_next(None)
                return
            if status >= 500 and not self.branch.done:
                self._report_failure(status, answered=True)
        elif status > 100:
            if self._relay.relayer.settings.restart_fr_on_each_reply and self._timer_c:
                self._arm_timer_c()
        elif self.branch.status == 0:
            self.branch.status = 100
        self._pass(response)

    def _pass(self, response: Response) -> None:
        """Upstream, in the order in which responses came, once their bodies are ready."""
        if self._held is not None:
            self._held.append(response)
            return
        relay = self._relay
        media = relay.relayer.media
        if not response.body or media is None or self.flow is None or response.status >= 300:
            self._upstream(response)
            return
        try:
            work = media.response(
                relay.did, self, relay.request, response, relay.arrival, self.flow.peer
            )
        except SIPError as error:
            self._unfit(response, error)
            return
        if work is None:
            self._upstream(response)
            return
        self._bridged = True
        self._held = deque()

        def described(body: bytes) -> None:
            response.set_body(body)
            self._upstream(response)
            self._release()

        def failed(error: BaseException) -> None:
            self._unfit(response, error)
            self._release()

        run(work, described, failed)  # type: ignore[arg-type]

    def _release(self) -> None:
        held, self._held = self._held, None
        while held:
            self._pass(held.popleft())

    def _upstream(self, response: Response) -> None:
        sent = self.transaction
        if sent is not None and self.flow is not None and from_callee(sent.request):
            repair_answer(response, self.flow.peer)
        self._free_media(response.status)
        self._relay.branch_response(self, response)

    def settle(self, dialogs: IDialogs | None) -> None:
        """The INVITE is answered and no branch is pending: keep no more than its repeats need."""
        sent, flow, relay = self.transaction, self.flow, self._relay
        if sent is None or flow is None or self._bridged:
            # The media engine has to see repeats, too.
            return
        way = relay.transaction, dialogs, relay.did, relay.arrival.flow, flow
        sent.hand_over(AnsweredInvite(*way, repairs=from_callee(sent.request)))

    def _free_media(self, status: int) -> None:
        relay = self._relay
        if self._bridged and status >= 300 and relay.arrival.own_route is None:
            media = relay.relayer.media
            if media is not None:
                media.failed(relay.did, self)

    def _refuse(self, error: BaseException) -> None:
        """The media engine does not let the request leave."""
        if not self.branch.done:
            self._local(self._answer_to(error))

    def _answer_to(self, error: BaseException) -> Response:
        request = self._relay.request
        if isinstance(error, SIPError):
            return response_to(request, error.status, error.reason, error.headers)
        self._relay.log.error(
            "the media engine failed: {error!r} ({call_id})",
            error=error,
            call_id=request.get("call-id"),
        )
        return response_to(request, 500)

    def _unfit(self, response: Response, error: BaseException) -> None:
        """What the callee agreed to cannot be bridged: end its branch, tell the caller why."""
        transaction, flow = self.transaction, self.flow
        if self.branch.done or transaction is None or flow is None:
            return
        relay = self._relay
        refusal = self._answer_to(error)
        text = f"{refusal.reason}: {error}"
        if response.status < 200:
            transaction.cancel(reason_value(refusal.status, text))
        elif response.status < 300:
            if transaction.request.method == "INVITE":
                initial = relay.arrival.own_route is None
                give_up(relay.relayer.transactions, transaction.request, response, flow, initial)
            if relay.arrival.own_route is not None and relay.relayer.dialogs is not None:
                # One side has changed its mind and the other cannot follow.
                relay.relayer.dialogs.end(relay.did, "pbx", text)
        self._local(refusal)

    def _local(self, response: Response) -> None:
        if self._timer_c is not None:
            self._timer_c.cancel()
            self._timer_c = None
        response.local = True
        self._free_media(response.status)
        self._relay.branch_response(self, response)

    def transaction_failed(self, transaction: IClientTransaction, status: int) -> None:
        """Nobody there: the next address, or the branch has failed."""
        if transaction is not self.transaction or self.branch.done:
            return
        if status == 503 and self.target.flow is not None:
            # The connection of a device is gone, which is no fault of a server (RFC 5626 5.3).
            status = 430
        self._failed_status = status
        if self._addresses and self.branch.status == 0 and not self._cancelled:
            self._report_failure(status, answered=False)
            self._try_next(None)
        else:
            self._fail(status)

    def _fail(self, status: int) -> None:
        """The branch ends with a response that we make up."""
        if self.branch.done:
            return
        if status != 487:
            self._report_failure(status, answered=False)
        self._local(response_to(self._relay.request, status))

    def _report_failure(self, status: int, *, answered: bool) -> None:
        events = self._relay.relayer.events
        if events.wanted(BranchFailed):
            events.publish(
                BranchFailed(
                    self._relay.request,
                    self._sent,
                    str(self.target.next_hop or self.target.uri),
                    status,
                    answered,
                    self._relay.did,
                    self.branch.status != 0,
                )
            )


classImplements(BranchClient, IClientUser)
