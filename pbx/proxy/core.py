"""Request in, policy asked, verdict done (RFC 3261 section 16).

What is protocol and not policy happens here: malformed and looping requests, Max-Forwards, our own
Route headers, CANCEL, end-to-end ACKs. A policy never sees those.
"""

from __future__ import annotations

from dataclasses import replace
from os import urandom
from typing import ClassVar

from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from pbx.events import FlowClosed
from pbx.interfaces import (
    ICluster,
    IDialogs,
    IFlow,
    IFlows,
    IRoutingPolicy,
    IServerTransaction,
    IStatistics,
    ITransactionUser,
)
from pbx.proxy.coroutines import run
from pbx.proxy.forward import Forwarder
from pbx.proxy.relay import RelayedRequest, Relayer
from pbx.sip.errors import LoopDetected, SIPError
from pbx.sip.forking import DEFAULT_BREADTH
from pbx.sip.message import Request, Response
from pbx.sip.nat import behind_nat
from pbx.sip.route import strip_own
from pbx.sip.status import reason_phrase
from pbx.sip.uri import URI
from pbx.sip.validate import validate
from pbx.sip.via import find_loop
from pbx.verdicts import Arrival, Drop, Relay, Reply, Target, Verdict


class ProxyCore:
    """The transaction user that owns no state but the INVITEs that may still be cancelled."""

    log: ClassVar = Logger(__name__)

    def __init__(
        self, relayer: Relayer, policy: IRoutingPolicy, cluster: ICluster | None = None
    ) -> None:
        self._relayer = relayer
        self._cluster = cluster
        self._flows: IFlows = relayer.flows
        self._dialogs: IDialogs | None = relayer.dialogs
        self._policy = policy
        self._replier = relayer.replier
        self._invites: dict[IServerTransaction, PendingInvite] = {}
        self.forwarded = 0
        self.dropped = 0
        self.failed = 0

    # ITransactionUser

    def request_received(self, transaction: IServerTransaction) -> None:
        """Ask the policy what becomes of it."""
        request = transaction.request
        try:
            validate(request)
            self._refuse_loops(request)
            arrived, arrival, forwarded = self._arrival(request, transaction.flow)
            did = self._dialog(arrived, arrival)
        except SIPError as error:
            self._replier.respond(transaction, Reply(error.status, error.reason, error.headers))
            return
        pending: PendingInvite | None = None
        if request.method == "INVITE":
            pending = self._invites[transaction] = PendingInvite()
        if forwarded is not None:
            self._execute(transaction, arrived, arrival, "", forwarded, pending)
            return

        def decided(verdict: object) -> None:
            self._execute(transaction, arrived, arrival, did, verdict, pending)

        def failed(error: BaseException) -> None:
            self._invites.pop(transaction, None)
            self._replier.respond(transaction, self._reply_to_error(error, request))

        run(self._policy.route_request(arrived, arrival), decided, failed)  # type: ignore[arg-type]

    def _refuse_loops(self, request: Request) -> None:
        """RFC 3261 section 16.3, step 4."""
        if find_loop(request, self._flows.is_own_host):
            raise LoopDetected

    def _arrival(self, request: Request, flow: IFlow) -> tuple[Request, Arrival, Verdict | None]:
        """The request and how it came; with a verdict when another node made the decision."""
        arrived, own_route = strip_own(request, self._flows.is_own)
        initial = not request.in_dialog
        from_node = False
        forwarded: Verdict | None = None
        if self._cluster is not None:
            from_node = self._cluster.is_node(flow.peer)
            if initial and own_route is not None:
                forwarded = self._cluster.forwarded(own_route.uri, flow.peer)
        arrival = Arrival(
            flow=flow,
            peer=flow.peer,
            own_route=None if initial else own_route,
            # What passed another node has been repaired there.
            behind_nat=not from_node and behind_nat(request, flow.peer),
            preloaded=initial and "route" in arrived.names,
            call=_new_call()
            if initial and forwarded is None and request.method == "INVITE"
            else "",
            from_node=from_node,
        )
        return arrived, arrival, forwarded

    def _dialog(self, request: Request, arrival: Arrival) -> str:
        """The call that a request within a dialog belongs to."""
        if arrival.own_route is None or self._dialogs is None:
            return ""
        return self._dialogs.within(request, arrival)

    def _execute(
        self,
        transaction: IServerTransaction,
        request: Request,
        arrival: Arrival,
        did: str,
        verdict: object,
        pending: PendingInvite | None,
    ) -> None:
        if isinstance(verdict, Relay):
            if arrival.own_route is not None:
                verdict = self._along_flow(verdict, request, arrival)
                if verdict.account and arrival.own_route.get("node") is not None:
                    # The node that made the call accounts for it.
                    verdict = replace(verdict, account=False)
            if pending is not None and pending.cancelled:
                self._invites.pop(transaction, None)
                self._replier.respond(transaction, Reply(487))
                return
            self.forwarded += 1
            if self._dialogs is not None and arrival.call:
                did = self._dialogs.begin(request, arrival, verdict.account)
            invites = self._invites

            def finished() -> None:
                invites.pop(transaction, None)

            relay = RelayedRequest(self._relayer, transaction, request, arrival, did, finished)
            if pending is not None:
                pending.relay = relay
                if self._dialogs is not None and arrival.call:
                    self._dialogs.cancel_with(did, relay.cancel)
            relay.start(verdict)
            return
        self._invites.pop(transaction, None)
        if isinstance(verdict, Reply):
            if verdict.account and request.method == "INVITE" and self._dialogs is not None:
                did = self._dialogs.begin(request, arrival, True)
                reason = verdict.reason or reason_phrase(verdict.status)
                self._dialogs.failed(did, verdict.status, reason, False)
            self._replier.respond(transaction, verdict)
        elif isinstance(verdict, Drop):
            self.dropped += 1
        else:
            self.log.error("the policy returned no verdict but {verdict!r}", verdict=verdict)
            self._replier.respond(transaction, Reply(500))

    def _along_flow(self, verdict: Relay, request: Request, arrival: Arrival) -> Relay:
        """The connection that the dialog began with, if it still stands (RFC 5626 section 5.3)."""
        flow = self._flow_along(request, arrival)
        if flow is None:
            return verdict
        targets = [
            target if target.flow is not None else replace(target, flow=flow)
            for target in verdict.targets
        ]
        return replace(verdict, targets=targets)

    def _flow_along(self, request: Request, arrival: Arrival) -> IFlow | None:
        route = arrival.own_route
        if route is None or not any(route.flow_tokens):
            return None
        if self._dialogs is not None and (did := route.get("did")):
            # Where the phone is now: it may have connected again since.
            tags = request.from_.tag or "", request.to.tag or ""
            flow = self._dialogs.flow_towards(did, *tags)
            if flow is not None and flow.token:
                return flow
        for token in route.flow_tokens:
            if token and token != arrival.flow.token:
                flow = self._flows.by_token(token)
                if flow is not None and not flow.closed:
                    return flow
        return None

    def _reply_to_error(self, error: BaseException, request: Request) -> Reply:
        """What a policy raises is answered with the error's status, or 500."""
        if isinstance(error, SIPError):
            return Reply(error.status, error.reason, error.headers)
        self.failed += 1
        self.log.failure(
            "the policy failed on {method} {uri} ({call_id})",
            failure=Failure(error),  # type: ignore[no-untyped-call]
            method=request.method,
            uri=request.uri_text,
            call_id=request.get("call-id"),
        )
        return Reply(500)

    def cancel_received(
        self, cancel: IServerTransaction, invite: IServerTransaction | None
    ) -> None:
        """RFC 3261 sections 9.2 and 16.10; 481 when nothing matches (O30)."""
        if invite is None:
            self._replier.respond(cancel, Reply(481))
            return
        self._replier.respond(cancel, Reply(200))
        pending = self._invites.get(invite)
        if pending is None:
            return
        pending.cancelled = True
        if pending.relay is not None:
            pending.relay.cancel(cancel.request.get("reason") or "")

    def ack_received(self, ack: Request, flow: IFlow) -> None:
        """An ACK for a 2xx goes along its route; any other is not for us."""
        try:
            validate(ack)
            arrived, arrival, _ = self._arrival(ack, flow)
            if arrival.own_route is None:
                return
            did = self._dialog(arrived, arrival)
            base = self._relayer.forwarder.base(arrived, arrival, _ALONG)
        except SIPError:
            return
        media = self._relayer.media
        if ack.body and media is not None:
            work = media.ack(did, arrived)
            if work is not None:

                def described(body: bytes) -> None:
                    base.set_body(body)
                    self._forward_ack(base, arrived, arrival)

                def failed(error: BaseException) -> None:
                    # The callee needs it all the same, and then hears that the call is over.
                    self._forward_ack(base, arrived, arrival)
                    if self._dialogs is not None:
                        self._dialogs.end(did, "pbx", f"Not Acceptable Here: {error}")

                run(work, described, failed)  # type: ignore[arg-type]
                return
        self._forward_ack(base, arrived, arrival)

    def _forward_ack(self, base: Request, arrived: Request, arrival: Arrival) -> None:
        flow = arrival.flow
        try:
            copy, uri = Forwarder.branch(base, Target(arrived.uri), DEFAULT_BREADTH)
            way = self._flow_along(arrived, arrival)
            if way is not None:
                self._send_ack(copy, way, flow)
                return
            if self._flows.is_own(uri):
                return
            addresses = self._flows.locate(uri)
            if addresses:
                way = self._flows.find(addresses[0])
                if way is not None:
                    self._send_ack(copy, way, flow)
                    return
        except SIPError:
            return
        if addresses is None or addresses:
            run(self._ack_later(copy, uri, flow), _ignore, _ignore)

    async def _ack_later(self, ack: Request, uri: URI, flow: IFlow) -> None:
        addresses = await self._flows.resolve(uri)
        if addresses:
            way = self._flows.find(addresses[0]) or await self._flows.connect(addresses[0])
            self._send_ack(ack, way, flow)

    def _send_ack(self, ack: Request, way: IFlow, upstream: IFlow) -> None:
        Forwarder.stamp(ack, way, upstream, None, "")
        self._relayer.transactions.send_ack(ack, way)

    def stray_response(self, response: Response, flow: IFlow) -> None:
        """Dropped: whatever we forwarded has a transaction as long as answers may come
        (RFC 6026 section 7.3).
        """
        self.dropped += 1

    def acknowledged(self, transaction: IServerTransaction) -> None:
        """Nothing is left to do for a refused INVITE."""

    def flow_closed(self, flow: IFlow) -> None:
        """Tell everybody who holds bindings on it."""
        self._relayer.events.publish(FlowClosed(flow))

    # IStatistics

    def statistics(self) -> dict[str, int]:
        """Counters of the core."""
        return {
            "core:fwd_requests": self.forwarded,
            "core:drop_requests": self.dropped,
            "core:err_requests": self.failed,
            "sl:sent_replies": self._replier.sent,
            "pbx:pending_invites": len(self._invites),
        }


classImplements(ProxyCore, ITransactionUser, IStatistics)


class PendingInvite:
    """An INVITE without final response."""

    __slots__ = ("cancelled", "relay")

    def __init__(self) -> None:
        self.cancelled = False
        self.relay: RelayedRequest | None = None


_ALONG = Relay(())


def _new_call() -> str:
    number = int.from_bytes(urandom(6), "big")
    return f"{number & 0xFFF:x}.{number >> 16:08x}"


def _ignore(outcome: object) -> None:
    """An ACK has no answer, and so no error either."""
