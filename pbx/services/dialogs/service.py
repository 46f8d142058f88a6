"""The calls in progress: matching, states, time-outs and what others hear of them.

The table of calls is bounded by the calls themselves: an entry lives from the INVITE until a short
while after the call has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.internet.interfaces import IReactorTime
from zope.interface import classImplements

from pbx.events import (
    BalancerCounted,
    CallAnswered,
    CallEnded,
    CallFailed,
    CallRestored,
    CallRinging,
    CallStarted,
    MediaBridged,
)
from pbx.interfaces import (
    ICluster,
    ICommands,
    IDatabase,
    IDialogs,
    IEvents,
    IFlow,
    IFlows,
    IStartable,
    IStatistics,
    ITimer,
    ITimers,
    IUserAgent,
    IWriteBehind,
)
from pbx.services.dialogs.call import (
    EARLY,
    ENDED,
    NO_ACK,
    UNCONFIRMED,
    Call,
    Leg,
)
from pbx.services.dialogs.commands import DialogCommands
from pbx.services.dialogs.connections import Connections
from pbx.services.dialogs.requests import InDialogRequests
from pbx.services.dialogs.schedule import Schedule
from pbx.services.dialogs.settings import DialogSettings
from pbx.services.dialogs.sharing import Ownership
from pbx.services.dialogs.speaker import Speaker
from pbx.services.dialogs.store import CallStore
from pbx.services.dialogs.table import CallTable
from pbx.sip.dialog import new_cookie
from pbx.sip.message import Request, Response
from pbx.verdicts import Arrival

#: Most calls that were counted by the balancer before they began.
_MAX_COUNTED = 10000
#: Seconds after a restart that browsers have to come back to their calls.
_COME_BACK = 60.0


class Dialogs:
    """Every INVITE that is relayed, until it failed or its call has ended."""

    def __init__(
        self,
        settings: DialogSettings,
        database: IDatabase | None,
        write_behind: IWriteBehind | None,
        user_agent: IUserAgent | None,
        flows: IFlows | None,
        events: IEvents,
        clock: IReactorTime,
        timers: ITimers,
        cluster: ICluster | None = None,
    ) -> None:
        self._settings = settings
        self._events = events
        self._clock = clock
        self._timers = timers
        self._turn_timer: ITimer | None = None
        self._ownership = None if cluster is None else Ownership(cluster, self, events)
        own_name = "" if cluster is None else cluster.name
        self._store = CallStore(settings, database, write_behind, own_name)
        self.speaker = Speaker(user_agent, flows)
        self._commands = DialogCommands(self, settings)
        self._table = CallTable(settings.dlg_match_mode, settings.delete_delay)
        self._calls = self._table.calls
        self._early = self._table.early
        self._active = self._table.active
        self._schedule = Schedule(self._active, settings.ping_interval)
        self._connections = Connections(settings.lost_after, events, timers, self._lost)
        self._counted: dict[str, dict[str, str]] = {}
        self._requests = InDialogRequests(settings, self._table, self._store)
        self.processed = self.expired = self.failures = self.untracked = 0
        events.subscribe(BalancerCounted, self._balancer_counted)
        events.subscribe(MediaBridged, self._media_bridged)

    # Start and stop

    async def start(self) -> None:
        """Read back the calls of the last run, then keep time."""
        await self.restore()
        self._turn_timer = self._timers.call_later(1.0, self._turn)

    async def stop(self) -> None:
        """Write what is not written yet."""
        if self._turn_timer is not None:
            self._turn_timer.cancel()
            self._turn_timer = None
        await self._store.flush(self._active.values())

    async def restore(self, node: str = "") -> int:
        """Read calls from the database that are not in memory; how many there were.

        In a cluster only our own, or those of a dead ``node``, which are ours from now on.
        """
        restored = 0
        for call in await self._store.load():
            if call.did in self._calls:
                continue
            if self._ownership is not None and not self._ownership.takes(call, node):
                continue
            self._table.add(call, self._active)
            self._schedule.add(call, self._clock.seconds())
            for leg in (call.caller_leg, *call.callees):
                self._connections.expect(call, leg, _COME_BACK)
            self._events.publish(CallRestored(call))
            if node:
                self._store.save(call)
            restored += 1
        return restored

    def ended_elsewhere(self, did: str, call_id: str, from_tag: str) -> None:
        """The BYE of this call went by way of another node."""
        call = self._active.get(did)
        if call is not None and call.call_id == call_id:
            self._end(call, "caller" if from_tag == call.from_tag else "callee")

    # What the core reports

    def begin(self, request: Request, arrival: Arrival, account: bool) -> str:
        """An INVITE is going to be relayed: the ``did`` for Record-Route ("" when not tracked)."""
        did = arrival.call or new_cookie()
        known = self._calls.get(did)
        if known is not None:
            if known.call_id != request.call_id:
                return ""
            known.accounted = known.accounted or account
            return did
        if len(self._early) >= self._settings.max_early:
            self.untracked += 1
            self._counted.pop(did, None)
            return ""
        call = Call.begun(did, request, arrival.peer, arrival.behind_nat)
        call.created = self._clock.seconds()
        call.accounted = account
        call.caller_leg.over(arrival.flow)
        self._connections.follow(call, call.caller_leg)
        if self._counted:
            call.profiles = self._counted.pop(did, {})
        if "x-pbx-call" in request.names:
            self._correlate(call, request)
        self._table.add(call, self._early)
        self.processed += 1
        if self._events.wanted(CallStarted):
            self._events.publish(CallStarted(call))
        return did

    def _correlate(self, call: Call, request: Request) -> None:
        """Join a call that FreeSWITCH bridged to the one it got from us (spec 50, section 2).

        Only to a call that we know, and not for who made that call: the joined CDR would hide it.
        """
        main = self._calls.get(request.get("x-pbx-call") or "")
        if main is not None and main.caller != call.caller:
            call.correlation = main.correlation

    def cancel_with(self, did: str, cancel: Callable[[str], object]) -> None:
        """How to cancel the INVITE of this call while it is unanswered."""
        call = self._early.get(did)
        if call is not None:
            call.cancel = cancel

    def provisional(self, did: str, response: Response) -> None:
        """A 101 to 199 response goes back to the caller."""
        call = self._early.get(did)
        if call is None or call.state != UNCONFIRMED:
            return
        tag = response.to.tag
        if not tag:
            return
        call.state = EARLY
        call.to_tag = tag
        if self._events.wanted(CallRinging):
            self._events.publish(CallRinging(call))

    def answered(self, did: str, response: Response, upstream: IFlow, downstream: IFlow) -> None:
        """A 2xx goes back to the caller; repeats and forks come again."""
        call = self._calls.get(did)
        if call is None:
            return
        tag = response.to.tag or ""
        if call.callees and call.leg(tag) is not None:
            return
        leg = call.add_callee(response, downstream)
        self._connections.follow(call, leg)
        if call.answered and call.state != ENDED:
            return
        if call.state == ENDED and (call.answered or call.bye_by):
            # The caller ends this branch of its own accord (13.2.2.4).
            leg.ended = True
            return
        self._early.pop(did, None)
        self._active[did] = call
        call.state = NO_ACK
        call.answered = self._clock.seconds()
        call.ended = 0.0
        call.ended_by = ""
        call.to_tag = tag
        call.callee = downstream.peer
        call.cancel = None
        call.sip_code = response.status
        call.sip_reason = response.reason
        if upstream is not call.caller_leg.flow:
            call.caller_leg.over(upstream)
            self._connections.follow(call, call.caller_leg)
        call.timeout = int(call.answered) + self._settings.default_timeout
        self._schedule.add(call, call.answered)
        if self._events.wanted(CallAnswered):
            self._events.publish(CallAnswered(call))
        if call.bye_by and call.bye_tag == tag:
            # Its BYE crossed the answer (RFC 5407 section 3.1.2).
            self._end(call, call.bye_by)
        else:
            self._store.save(call)

    def failed(self, did: str, status: int, reason: str, cancelled: bool) -> None:
        """The INVITE gets its negative final response."""
        call = self._early.pop(did, None)
        if call is None:
            return
        call.state = ENDED
        call.ended = self._clock.seconds()
        call.sip_code = status
        call.sip_reason = reason
        if not call.ended_by:
            if cancelled or call.bye_by:
                call.ended_by = call.bye_by or "caller"
            else:
                call.ended_by = "timeout" if status == 408 else "callee"
        self.failures += 1
        call.cancel = None
        self._table.leave(call)
        if self._events.wanted(CallFailed):
            self._events.publish(CallFailed(call, status, reason, cancelled))

    def within(self, request: Request, arrival: Arrival) -> str:
        """A request along our route: "" when its dialog is unknown, else its ``did``.

        Raises SIPError 481 in strict mode, MalformedMessage.
        """
        call, ended_by = self._requests.received(request, arrival)
        if call is None:
            if self._ownership is not None and request.method == "BYE":
                self._ownership.bye_passed(request, arrival)
            return ""
        if ended_by:
            self._end(call, ended_by)
        return call.did

    def completed(self, did: str, request: Request, response: Response) -> None:
        """A request within a dialog got its final response: its Contacts count now (12.2)."""
        if request.method in ("INVITE", "UPDATE") and 200 <= response.status < 300:
            call = self._calls.get(did)
            if call is not None:
                self._requests.refresh(call, request, response)

    # Look-up

    def find(self, did: str) -> Call | None:
        """By cookie."""
        return self._calls.get(did)

    def find_by_tags(self, call_id: str, from_tag: str, to_tag: str) -> Call | None:
        """By the SIP identifiers, either direction."""
        return self._table.by_tags(call_id, from_tag, to_tag)

    def flow_towards(self, did: str, from_tag: str, to_tag: str) -> IFlow | None:
        """The connection by which the side with ``to_tag`` is reached now, None when by none."""
        call = self._calls.get(did)
        if call is None:
            return None
        leg = call.leg(to_tag) if from_tag == call.from_tag else call.caller_leg
        return None if leg is None or leg.flow is None or leg.flow.closed else leg.flow

    def all(self) -> Sequence[Call]:
        """Every call that has not ended."""
        return [*self._early.values(), *self._active.values()]

    def listed(self) -> Sequence[Call]:
        """Every call that is kept, ended ones included."""
        return list(self._calls.values())

    # The end

    def end(
        self,
        did: str,
        by: str = "admin",
        reason: str = "",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> bool:
        """BYE to both sides (CANCEL before answer); False when there is no such call."""
        text = reason or "Call ended"
        call = self._active.get(did)
        if call is not None:
            call.end_reason = text
            self.speaker.hang_up(call, _reason(200, text), headers)
            self._end(call, by)
            return True
        call = self._early.get(did)
        if call is None or call.cancel is None:
            return False
        call.ended_by = by
        call.end_reason = text
        cancel, call.cancel = call.cancel, None
        cancel(_reason(200, text))
        return True

    def _lost(self, call: Call, leg: Leg) -> None:
        """The browser of a side is gone."""
        leg.ended = True
        self.end(call.did, "caller" if leg is call.caller_leg else "callee", "Connection lost")

    def _expire(self, call: Call) -> None:
        self.expired += 1
        call.end_reason = "Dialog Timeout"
        if self._settings.bye_on_timeout:
            self.speaker.hang_up(call, _reason(408, "Dialog Timeout"))
        self._end(call, "timeout")

    def _end(self, call: Call, by: str) -> None:
        del self._active[call.did]
        call.state = ENDED
        call.ended = self._clock.seconds()
        call.ended_by = by
        self._store.remove(call)
        call.cancel = None
        self._table.leave(call)
        if self._events.wanted(CallEnded):
            self._events.publish(CallEnded(call, by))

    # Once a second

    def _turn(self) -> None:
        self._turn_timer = self._timers.call_later(1.0, self._turn)
        now = self._clock.seconds()
        self._requests.faults_logged = 0
        self._table.forget_due(now)
        for call in self._schedule.expired(now):
            self._expire(call)
        for call in self._table.lost(now - self._settings.max_early_seconds):
            self.failed(call.did, 408, "Request Timeout", False)
        for call in self._schedule.to_ping(now):
            self._ping(call)

    def _ping(self, call: Call) -> None:
        if self._settings.ping_caller:
            self.speaker.ping_caller(call, self._pinged(call, call.caller_leg))
        callee = call.callee_side()
        if self._settings.ping_callee and callee is not None:
            self.speaker.ping_callee(call, self._pinged(call, callee))

    def _pinged(self, call: Call, leg: Leg) -> Callable[[int], None]:
        def done(status: int) -> None:
            if status in (408, 481):
                leg.failures = 3
            elif status in (430, 503):
                leg.failures += 1
            else:
                leg.failures = 0
            if leg.failures >= 3 and call.did in self._active:
                self.end(call.did, "pbx", "No answer to ping")

        return done

    # The balancer's counts

    def _balancer_counted(self, event: BalancerCounted) -> None:
        """Keep with the call what it is counted on, so that a restart can count again."""
        call = self._calls.get(event.call)
        if call is None:
            if len(self._counted) >= _MAX_COUNTED:
                # An INVITE that was counted and then never relayed.
                del self._counted[next(iter(self._counted))]
            profiles = self._counted.setdefault(event.call, {})
        else:
            profiles = call.profiles
        for resource in event.resources:
            profiles[f"lb{event.group}:{resource}"] = str(event.destination)
        if call is not None:
            self._store.save(call)

    def _media_bridged(self, event: MediaBridged) -> None:
        """Keep with the call that its media depends on an engine, for the time after a restart."""
        call = self._calls.get(event.call)
        if call is not None:
            call.profiles["media"] = event.words
            if call.answered:
                self._store.save(call)

    def changed(self, call: Call) -> None:
        """Variables or profiles of a call were changed."""
        self._store.save(call)

    async def sync(self) -> None:
        """Write every change now."""
        await self._store.flush(self._active.values())

    # Management

    def commands(self) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """The ``dlg_*`` and ``profile_*`` commands."""
        return self._commands.commands()

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters by name."""
        return {
            "dialog:active_dialogs": len(self._active),
            "dialog:early_dialogs": len(self._early),
            "dialog:processed_dialogs": self.processed,
            "dialog:expired_dialogs": self.expired,
            "dialog:failed_dialogs": self.failures,
            "pbx:untracked_calls": self.untracked,
            "pbx:dialog_faults": self._requests.faults,
            "pbx:kept_calls": len(self._calls),
            **self._connections.statistics(),
        }


classImplements(Dialogs, IDialogs, IStartable, ICommands, IStatistics)


def _reason(cause: int, text: str) -> str:
    """The value of a Reason header (RFC 3326)."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'SIP;cause={cause};text="{quoted}"'
