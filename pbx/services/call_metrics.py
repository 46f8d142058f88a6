"""How calls go, in numbers: how long callers wait, how long they talk, how calls end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from pbx.events import CallAnswered, CallEnded, CallFailed, CallRinging
from pbx.interfaces import IEvents, IMetrics
from pbx.metrics import TALKING, WAITING, Histogram, Kind, Metric, histogram

#: Who can end a call; all of them are shown from the start, so that rates are right.
ENDERS = ("caller", "callee", "timeout", "admin", "pbx")


@implementer(IMetrics)
class CallMetrics:
    """Hears of calls; a call costs it three events."""

    def __init__(self, events: IEvents, clock: IReactorTime) -> None:
        self._clock = clock
        self._ringing = Histogram(WAITING)
        self._answered = Histogram(WAITING)
        self._lasted = Histogram(TALKING)
        self._ended: Counter[str] = Counter(dict.fromkeys(ENDERS, 0))
        self._failed: Counter[str] = Counter(
            dict.fromkeys(("cancelled", "3xx", "4xx", "5xx", "6xx"), 0)
        )
        events.subscribe(CallRinging, self._call_ringing)
        events.subscribe(CallAnswered, self._call_answered)
        events.subscribe(CallFailed, self._call_failed)
        events.subscribe(CallEnded, self._call_ended)

    def _call_ringing(self, event: CallRinging) -> None:
        self._ringing.observe(self._clock.seconds() - event.dialog.created)

    def _call_answered(self, event: CallAnswered) -> None:
        call = event.dialog
        self._answered.observe(call.answered - call.created)

    def _call_failed(self, event: CallFailed) -> None:
        self._failed["cancelled" if event.cancelled else f"{event.status // 100}xx"] += 1

    def _call_ended(self, event: CallEnded) -> None:
        call = event.dialog
        self._ended[event.by] += 1
        self._lasted.observe(call.ended - call.answered)

    def metrics(self) -> Iterable[Metric]:
        """As of now."""
        yield Metric(
            "pbx_calls_ended_total",
            Kind.COUNTER,
            "Answered calls that are over, by who ended them.",
            ("by",),
            [((by,), count) for by, count in self._ended.items()],
        )
        yield Metric(
            "pbx_calls_unanswered_total",
            Kind.COUNTER,
            "Calls that were not answered: given up by the caller, or the class of the answer.",
            ("outcome",),
            [((outcome,), count) for outcome, count in self._failed.items()],
        )
        yield histogram(
            "pbx_call_ringing_seconds", "From INVITE to the first sign of ringing.", self._ringing
        )
        yield histogram("pbx_call_answer_seconds", "From INVITE to the answer.", self._answered)
        yield histogram("pbx_call_duration_seconds", "From answer to the end.", self._lasted)
