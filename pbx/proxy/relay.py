"""One relayed request: branches, responses, CANCEL, timer C (RFC 3261 sections 16.7 to 16.10)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from twisted.logger import Logger

from pbx.events import TransactionCompleted
from pbx.interfaces import (
    IDialogs,
    IEvents,
    IFlow,
    IFlows,
    IMedia,
    IServerTransaction,
    ITimers,
    ITransactions,
)
from pbx.proxy.branch import BranchClient
from pbx.proxy.coroutines import run
from pbx.proxy.forward import Forwarder
from pbx.proxy.replies import Replier
from pbx.proxy.settings import ProxySettings
from pbx.sip.errors import SIPError
from pbx.sip.fields import parse_number
from pbx.sip.forking import DEFAULT_BREADTH, Branch, ResponseContext, Step
from pbx.sip.message import Request, Response, response_to
from pbx.sip.params import Params
from pbx.sip.uri import URI
from pbx.sip.via import loop_token
from pbx.verdicts import Arrival, Drop, Relay, Reply, Target, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Relayer:
    """What every relayed request needs."""

    transactions: ITransactions
    flows: IFlows
    forwarder: Forwarder
    dialogs: IDialogs | None
    events: IEvents
    timers: ITimers
    settings: ProxySettings
    replier: Replier
    media: IMedia | None = None


class RelayedRequest:
    """A request on its way to its targets. ``finished`` is called once, when it needs no CANCEL."""

    log: ClassVar = Logger(__name__)

    __slots__ = (
        "_answered",
        "_breadth",
        "_finished",
        "_loop_token",
        "_verdict",
        "arrival",
        "base",
        "context",
        "did",
        "relayer",
        "request",
        "transaction",
    )

    def __init__(
        self,
        relayer: Relayer,
        transaction: IServerTransaction,
        request: Request,
        arrival: Arrival,
        did: str,
        finished: Callable[[], object],
    ) -> None:
        self.relayer = relayer
        self.transaction = transaction
        self.request = request
        self.arrival = arrival
        self.did = did
        self._finished = finished
        self._answered = False
        self._loop_token = loop_token(request)
        self._breadth = DEFAULT_BREADTH

    def start(self, verdict: Relay) -> None:
        """Send it on. Again after ``on_failure`` said where else."""
        self._verdict = verdict
        try:
            breadth = self.request.get("max-breadth")
            if breadth is not None:
                self._breadth = parse_number(breadth, "Max-Breadth")
            self.base = self.relayer.forwarder.base(self.request, self.arrival, verdict)
        except SIPError as error:
            self._reply(Reply(error.status, error.reason, error.headers))
            return
        self.context = ResponseContext(
            verdict.targets, self.request.method == "INVITE", self._breadth
        )
        started = self.context.start()
        if not started:
            self._reply(Reply(480) if not verdict.targets else Reply(440))
            return
        self._start(started)

    def _start(self, branches: Sequence[Branch]) -> None:
        for branch in branches:
            if not branch.done:
                client = BranchClient(self, branch)
                branch.transaction = client
                client.start()

    def send_copy(self, branch: Branch) -> tuple[Request, URI]:
        """A fresh copy for a branch, and where it should go."""
        target = branch.target
        assert isinstance(target, Target)
        return Forwarder.branch(self.base, target, branch.breadth)

    def stamp(self, copy: Request, flow: IFlow, target: Target) -> None:
        """Record-Route and Via for the flow it leaves by."""
        params: Params | None = None
        if self.arrival.own_route is None and copy.method != "REGISTER":
            nat = self.arrival.behind_nat or target.behind_nat
            items: list[tuple[str, str | None]] = [("nat", "yes")] if nat else []
            if self.did:
                items.append(("did", self.did))
            elif self.arrival.from_node:
                items.append(("node", "yes"))
            params = Params(items)
        Forwarder.stamp(copy, flow, self.arrival.flow, params, self._loop_token)

    @property
    def limit(self) -> float | None:
        """Seconds that the policy gives a branch of a request other than INVITE."""
        return None if self.request.method == "INVITE" else self._verdict.timeout

    @property
    def timeout(self) -> float:
        """Seconds for an INVITE to get its final response."""
        limit = self._verdict.timeout
        return self.relayer.settings.fr_inv_timeout if limit is None else limit

    # What branches report

    def branch_response(self, client: BranchClient, response: Response) -> None:
        """A response of a branch, our Via removed."""
        branch = client.branch
        step = self.context.received(branch, response)
        if branch.done:
            # Nobody cancels it any more: no reference cycle stays behind.
            branch.transaction = None
        if step.forward is not None:
            self._forward(client, step.forward)
        self._do(step)
        if self._answered and self.request.method == "INVITE" and response.status < 300:
            self._settle(client)

    def _settle(self, client: BranchClient) -> None:
        """Let go of all this, unless branches have yet to end."""
        if not self.context.pending:
            initial = self.did and self.arrival.own_route is None
            client.settle(self.relayer.dialogs if initial else None)

    def _do(self, step: Step) -> None:
        for branch in step.cancel:
            client = branch.transaction
            if isinstance(client, BranchClient):
                client.cancel(step.reason)
        if step.start:
            self._start(step.start)
        if step.best is not None:
            self._all_failed(step.best)

    def _forward(self, client: BranchClient, response: Response) -> None:
        if self.transaction.status >= 300:
            # The callee answered after the caller was told that nobody would.
            return
        dialogs = self.relayer.dialogs
        if dialogs is not None and self.request.method == "INVITE" and self.did:
            if response.status < 200:
                dialogs.provisional(self.did, response)
            elif client.flow is not None and self.arrival.own_route is None:
                dialogs.answered(self.did, response, self.arrival.flow, client.flow)
        self.transaction.respond(response)
        if response.status >= 200 and not self._answered:
            self._answered = True
            self._complete(response)

    def _all_failed(self, best: Response) -> None:
        on_failure = self._verdict.on_failure
        if on_failure is None or self.context.cancelled:
            self._finish(best)
            return

        def decided(verdict: Verdict | None) -> None:
            if self.context.cancelled:
                self._reply(Reply(487))
            elif verdict is None:
                self._finish(best)
            elif isinstance(verdict, Relay):
                self.start(verdict)
            elif isinstance(verdict, Drop):
                self._finished()
            else:
                self._reply(verdict)

        def failed(error: BaseException) -> None:
            self.log.error(
                "the policy failed after a failure: {error!r} ({call_id})",
                error=error,
                call_id=self.request.get("call-id"),
            )
            self._reply(Reply(500))

        coroutine = on_failure(self.request, best)
        run(coroutine, decided, failed)  # type: ignore[arg-type]

    def _finish(self, best: Response) -> None:
        """The best negative response goes upstream."""
        status = best.status
        if status == 430 and not self.arrival.from_node:
            # Between proxies and the device (RFC 5626); callers only learn that nobody is there.
            self._reply(Reply(480))
            return
        if best.local:
            warnings = tuple(("Warning", text) for text in best.get_all("warning"))
            self._reply(Reply(status, "", warnings))
            return
        if status == 503:
            # The next 503 may not follow: what one node lacks, the whole PBX does not (16.7).
            best = best.copy()
            best.status, best.reason = 500, "Server Internal Error"
            best.remove("retry-after")
        self.transaction.respond(best)
        self._complete(best)

    def _reply(self, reply: Reply) -> None:
        self.relayer.replier.respond(self.transaction, reply)
        self._complete(response_to(self.request, reply.status, reply.reason))

    def _complete(self, response: Response) -> None:
        self._finished()
        relayer = self.relayer
        request = self.request
        if relayer.dialogs is not None and self.did:
            if self.arrival.own_route is not None:
                relayer.dialogs.completed(self.did, request, response)
            elif request.method == "INVITE" and response.status >= 300:
                relayer.dialogs.failed(
                    self.did, response.status, response.reason, self.context.cancelled
                )
        if self._verdict.account:
            relayer.events.publish(
                TransactionCompleted(
                    request,
                    response,
                    self.arrival.peer,
                    self.transaction.arrived,
                    self.did,
                )
            )

    def cancel(self, reason: str) -> None:
        """The caller gave up, or somebody ends the call before it is answered (16.10)."""
        if self.transaction.status >= 200 or self.context.cancelled:
            return
        # With nothing pending the policy is thinking, and `_all_failed` will see the flag.
        for branch in self.context.cancel():
            client = branch.transaction
            if isinstance(client, BranchClient):
                client.cancel(reason)
