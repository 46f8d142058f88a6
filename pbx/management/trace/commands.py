"""Traces for the management interface: calls of late, and messages as they come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from pbx.commands import CommandFailed
from pbx.interfaces import ICommands, IStartable, IStatistics, IWire
from pbx.management.trace.calls import Filter, TracedCall, grouped
from pbx.management.trace.outcome import ended, outcome
from pbx.management.trace.recorder import Recorder
from pbx.management.trace.settings import TraceSettings

#: How long one question for new messages may wait, in seconds.
MAX_WAIT = 25.0
#: How often it is looked whether there are any, and how long several are gathered.
TICK = 0.1
#: Without a new question within this time nobody follows any more.
LEASE = 30.0
#: Messages in one answer.
MAX_MESSAGES = 2000

Recipes = Sequence[Sequence[str]]
_FILTER = ("what", "everything")


@implementer(ICommands, IStartable, IStatistics)
class Tracer:
    """Answers ``trace_calls``, ``trace_messages`` and ``trace_follow``."""

    def __init__(self, settings: TraceSettings, wire: IWire, clock: IReactorTime) -> None:
        self._clock = clock
        self._recorder = Recorder(settings, wire, clock.seconds)
        self._lease: IDelayedCall | None = None

    async def start(self) -> None:
        """IStartable."""
        self._recorder.start()

    async def stop(self) -> None:
        """IStartable."""
        if self._lease is not None:
            self._lease.cancel()
            self._lease_ends()
        self._recorder.stop()

    def commands(self) -> Sequence[tuple[str, Recipes, Callable[..., object]]]:
        """ICommands."""
        asked: Recipes = ((), ("what",), _FILTER)
        follow: Recipes = (
            ("since",),
            ("since", "wait"),
            ("since", "wait", "what"),
            ("since", "wait", *_FILTER),
        )
        return (
            ("trace_calls", asked, self.trace_calls),
            ("trace_messages", asked, self.trace_messages),
            ("trace_follow", follow, self.trace_follow),
        )

    def statistics(self) -> Mapping[str, int]:
        """IStatistics."""
        return {
            "trace:kept_messages": self._recorder.kept,
            "trace:followers": int(self._lease is not None),
        }

    async def trace_calls(self, what: object = "", everything: object = "0") -> object:
        """The calls of late (of a user, an address or a Call-ID); ``everything``: all else too."""
        return {
            "Calls": [
                {
                    "call": call.name,
                    "call_ids": list(call.call_ids),
                    "began": call.messages[0].time,
                    "last": call.messages[-1].time,
                    "messages": len(call.messages),
                    "outcome": outcome(call),
                }
                for call in await self._calls(what, everything)
            ]
        }

    async def trace_messages(self, what: object = "", everything: object = "0") -> object:
        """The messages of these calls, credentials masked, and how each call went."""
        calls = await self._calls(what, everything)
        return self._answer(calls, -1)

    async def trace_follow(
        self, since: object, wait: object = "0", what: object = "", everything: object = "0"
    ) -> object:
        """New messages from number ``since`` on (-1: from now on) within ``wait`` seconds, and the
        number to ask for next.
        """
        first, patience = _number(since, "since"), min(_number(wait, "wait"), MAX_WAIT)
        recorder = self._recorder
        self._follow(LEASE + patience)
        if first < 0 or first > recorder.count:
            first = recorder.count
        start = int(first)
        deadline = self._clock.seconds() + patience
        while True:
            if recorder.count > start:
                calls = await self._calls(what, everything)
                answer = self._answer(calls, start)
                if answer["messages"] or self._clock.seconds() >= deadline:
                    return answer
                start = max(start, recorder.count)
            elif self._clock.seconds() >= deadline:
                return self._answer((), start)
            await self._pause(TICK)

    def _follow(self, seconds: float) -> None:
        if self._lease is None:
            self._recorder.follow()
        else:
            self._lease.cancel()
        self._lease = self._clock.callLater(seconds, self._lease_ends)

    def _lease_ends(self) -> None:
        self._lease = None
        self._recorder.unfollow()

    async def _calls(self, what: object, everything: object) -> Sequence[TracedCall]:
        wanted = Filter(
            what=str(what).strip(), everything=str(everything) not in ("0", "", "no", "false")
        )
        messages = await self._recorder.messages(lambda: self._pause(0.0))
        return [call for call in grouped(messages) if wanted.wants(call)]

    def _answer(self, calls: Sequence[TracedCall], since: int) -> dict[str, object]:
        chosen = sorted(
            (
                (message, call.name)
                for call in calls
                for message in call.messages
                if message.number >= since
            ),
            key=lambda entry: entry[0].number,
        )
        shown = chosen if since >= 0 else chosen[-MAX_MESSAGES:]
        shown = shown[:MAX_MESSAGES]
        oldest = self._recorder.count - self._recorder.kept
        following = self._recorder.count if len(shown) == len(chosen) else shown[-1][0].number + 1
        concerned = {name for _, name in shown}
        return {
            "next": following,
            "lost": max(0, oldest - since) if since >= 0 else len(chosen) - len(shown),
            "messages": [message.as_json(name) for message, name in shown],
            "outcomes": {call.name: outcome(call) for call in calls if call.name in concerned},
            "ended": [call.name for call in calls if call.name in concerned and ended(call)],
        }

    def _pause(self, seconds: float) -> Deferred[object]:
        return deferLater(self._clock, seconds, lambda: None)


def _number(value: object, name: str) -> float:
    try:
        number = float(str(value))
    except ValueError:
        raise CommandFailed(400, f"Bad {name}: expected a number") from None
    if not -1 <= number < 1e15:
        raise CommandFailed(400, f"Bad {name}: expected a number from 0 on")
    return number
