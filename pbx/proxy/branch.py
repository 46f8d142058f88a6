"""One branch of a relayed request: find a flow, send, try the next address (RFC 3263 4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zope.interface import implementer

from pbx.events import BranchFailed
from pbx.interfaces import IClientTransaction, IClientUser, IFlow, ITimer
from pbx.proxy.coroutines import run
from pbx.proxy.forward import size
from pbx.sip.address import Address
from pbx.sip.errors import SIPError
from pbx.sip.forking import Branch
from pbx.sip.message import Request, Response, response_to
from pbx.sip.nat import needs_repair_reply, repair_contact
from pbx.sip.uri import URI
from pbx.verdicts import Target

if TYPE_CHECKING:
    from pbx.proxy.relay import RelayedRequest


@implementer(IClientUser)
class BranchClient:
    """Sends one branch: finds a flow, tries the next address when one fails (RFC 3263 4.3)."""

    __slots__ = (
        "_addresses",
        "_cancelled",
        "_failed_status",
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
                self._send(copy, target.flow)
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
            copy, _ = self._relay.send_copy(self.branch)
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
        copy, _ = self._relay.send_copy(self.branch)
        self._send(copy, flow)

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
        # A proxy beyond us, as another node, has repaired it already.
        if "contact" in response.names and "route" not in transaction.request.names:
            assert self.flow is not None
            peer = self.flow.peer
            if needs_repair_reply(response, peer):
                repair_contact(response, peer)
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
        if self._timer_c is not None:
            self._timer_c.cancel()
            self._timer_c = None
        if status != 487:
            self._report_failure(status, answered=False)
        response = response_to(self._relay.request, status)
        response.local = True
        self._relay.branch_response(self, response)

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
