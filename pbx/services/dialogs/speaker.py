"""What we say within calls ourselves: BYE to both sides, and OPTIONS to see who is still there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pbx.interfaces import IFlow, IFlows, IUserAgent
from pbx.services.dialogs.call import Call, Leg
from pbx.sip.dialog import Dialog
from pbx.sip.errors import SIPError
from pbx.sip.message import Request, Response

#: What the sender of a request hears: its final status.
Done = Callable[[int], object]


class Speaker:
    """Sends requests within calls that we only relay."""

    log = Logger()

    def __init__(self, user_agent: IUserAgent | None, flows: IFlows | None) -> None:
        self.user_agent = user_agent
        self._flows = flows

    def hang_up(self, call: Call, reason: str, extra: tuple[tuple[str, str], ...] = ()) -> None:
        """BYE to both sides, the calling one first; ``reason`` is the value of a Reason header.

        Each with the last CSeq of the other side plus one, Route set and Contact of its own side.
        """
        headers = (("Reason", reason), *extra) if reason else extra
        callee = call.callee_side()
        if callee is None:
            return
        if not call.caller_leg.ended:
            self._send(call.towards_caller(callee), "BYE", headers, call.caller_leg, None)
        callee.cseq += 1
        for leg in call.callees:
            if not leg.ended:
                self._send(call.towards_callee(leg), "BYE", headers, leg, None)
        call.caller_leg.cseq += 1

    def ping_caller(self, call: Call, done: Done) -> None:
        """OPTIONS to the calling side (RFC 5057 section 5.3)."""
        callee = call.callee_side()
        if callee is not None:
            self._ping(call.towards_caller(callee), call.caller_leg, done)

    def ping_callee(self, call: Call, done: Done) -> None:
        """OPTIONS to the called side."""
        callee = call.callee_side()
        if callee is not None:
            self._ping(call.towards_callee(callee), callee, done)

    async def say(
        self,
        call: Call,
        to_caller: bool,
        method: str,
        headers: tuple[tuple[str, str], ...],
        body: bytes,
    ) -> Response:
        """The final response of one side to a request of ours. Raises SIPError."""
        callee = call.callee_side()
        if callee is None or self.user_agent is None:
            raise SIPError("No Such Side", 404)
        leg = call.caller_leg if to_caller else callee
        dialog = call.towards_caller(callee) if to_caller else call.towards_callee(callee)
        # As for pings.
        dialog.local_cseq = max(dialog.local_cseq - 1, 0)
        request = dialog.request(method, headers, body)
        flow = self._flow(leg)
        hop = None if flow is not None else dialog.next_hop()
        return await self.user_agent.send(request, hop, flow)

    def _ping(self, dialog: Dialog, leg: Leg, done: Done) -> None:
        # The CSeq is used a second time: a higher one would make the next request of the real
        # peer look out of order (12.2.2), and even a refusal of this one shows a live dialog.
        dialog.local_cseq = max(dialog.local_cseq - 1, 0)
        self._send(dialog, "OPTIONS", (("Accept", "application/sdp"),), leg, done)

    def _send(
        self,
        dialog: Dialog,
        method: str,
        headers: tuple[tuple[str, str], ...],
        leg: Leg,
        done: Done | None,
    ) -> None:
        agent = self.user_agent
        if agent is None or not dialog.target:
            return
        try:
            request = dialog.request(method, headers)
            flow = self._flow(leg)
            next_hop = None if flow is not None else dialog.next_hop()
            answer = agent.send(request, next_hop, flow)
        except SIPError as error:
            self.log.warn(
                "cannot send {method} within a call: {reason}",
                method=method,
                reason=error.reason,
                call_id=dialog.call_id,
            )
            return
        Deferred.fromCoroutine(self._wait(answer, request, done))

    def _flow(self, leg: Leg) -> IFlow | None:
        """The way the side was last reached, unless it is behind other proxies."""
        if leg.route_set:
            return None
        if leg.flow is not None and not leg.flow.closed:
            return leg.flow
        if leg.peer is None or self._flows is None:
            return None
        # A call that was read back from the database.
        return self._flows.find(leg.peer)

    async def _wait(self, answer: Awaitable[Response], request: Request, done: Done | None) -> None:
        try:
            status = (await answer).status
        except SIPError as error:
            status = error.status
        self.log.debug(
            "{method} within a call: {status}",
            method=request.method,
            status=status,
            call_id=request.get("call-id"),
        )
        if done is not None:
            done(status)
