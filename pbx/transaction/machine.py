"""A table of `pbx.sip.transactions` with a clock: what server and client transactions share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pbx.interfaces import IFlow
from pbx.sip.message import Message, Request
from pbx.sip.transactions import (
    REPEATING,
    Do,
    Event,
    Row,
    State,
    next_interval,
)
from pbx.sip.transactions import Timer as Letter
from pbx.timing import Timer

if TYPE_CHECKING:
    from pbx.transaction.layer import TransactionLayer

_EVENTS: tuple[Event, ...] = tuple(Event)
_NEVER = math.inf
_TERMINATED = State.TERMINATED
_STOP = Do.STOP
#: In place of an INVITE that was answered with 2xx: for 32 s nothing but repeats can come, and
#: nobody asks what it said.
FORGOTTEN: Final = Request("INVITE", "", [], [])
_J = Letter.J
_K = Letter.K


class Transaction:
    """A state, at most one pending entry in the wheel, and the two times it stands for: when to
    send again and when the state ends.
    """

    __slots__ = (
        "_end_at",
        "_end_event",
        "_interval",
        "_layer",
        "_repeat_at",
        "_repeat_event",
        "_rows",
        "_seconds",
        "_timer",
        "flow",
        "key",
        "state",
    )

    def __init__(
        self,
        layer: TransactionLayer,
        flow: IFlow,
        key: str,
        first: State,
        rows: Sequence[Sequence[Row | None]],
    ) -> None:
        self._layer = layer
        self.flow = flow
        self.key = key
        self.state = first
        self._rows = rows
        self._seconds = layer.seconds_reliable if flow.reliable else layer.seconds_unreliable
        self._timer: Timer | None = None
        self._repeat_at = _NEVER
        self._end_at = _NEVER
        self._interval = 0.0
        self._repeat_event = Event.A_FIRED
        self._end_event = Event.B_FIRED

    def happened(self, event: Event, message: Message | None = None) -> None:
        """Let the table decide what an event leads to."""
        row = self._rows[self.state][event]
        if row is None:
            return
        state, actions, timers = row
        self.state = state
        if state is _TERMINATED:
            self.end()
        try:
            for action in actions:
                if action is _STOP:
                    self._stop()
                else:
                    self._do(action, message)
        finally:
            # Unless the user, or a failing transport, led elsewhere in the meantime.
            if self.state is state:
                for timer in timers:
                    self.start(timer)

    def start(self, timer: Letter) -> None:
        """Start a timer, in place of the one of its kind; one that lasts 0 s fires at once."""
        seconds = self._seconds[timer]
        if timer is _J or timer is _K:
            self._stop()
            if seconds == 0.0:
                self.end()
            else:
                self._linger()
            return
        event = _EVENTS[timer]
        if timer in REPEATING:
            if self._interval:
                seconds = next_interval(timer, self._interval, self.state, self._layer.timers.t2)
            self._interval = seconds
            self._repeat_event = event
            self._repeat_at = self._layer.clock.seconds() + seconds
        elif seconds == 0.0:
            self._stop()
            self.happened(event)
            return
        else:
            self._end_event = event
            self._end_at = self._layer.clock.seconds() + seconds
        self._arm()

    def start_both(self, repeat: Letter, end: Letter, seconds: float) -> None:
        """Start the timers of a request that was just sent."""
        now = self._layer.clock.seconds()
        self._interval = self._seconds[repeat]
        self._repeat_event = _EVENTS[repeat]
        self._repeat_at = now + self._interval
        self._end_event = _EVENTS[end]
        self._end_at = now + seconds
        self._arm()

    def start_end(self, timer: Letter, seconds: float) -> None:
        """Start a timer that ends a state with a duration of its own."""
        self._end_event = _EVENTS[timer]
        self._end_at = self._layer.clock.seconds() + seconds
        self._arm()

    def end(self) -> None:
        """Stop the clock and be forgotten."""
        self.state = _TERMINATED
        self._stop()
        self._forget()

    def _do(self, action: Do, message: Message | None) -> None:
        raise AssertionError("a transaction is a server or a client")

    def _forget(self) -> None:
        raise AssertionError("a transaction is a server or a client")

    def _linger(self) -> None:
        # Timers J and K: from here on only the key and the last response are needed.
        raise AssertionError("a transaction is a server or a client")

    def _arm(self) -> None:
        due = self._repeat_at if self._repeat_at < self._end_at else self._end_at
        timer = self._timer
        if timer is not None:
            if timer.due == due:
                return
            timer.cancel()
            self._timer = None
        if due != _NEVER:
            self._timer = self._layer.wheel.call_at(due, self._alarm)

    def _stop(self) -> None:
        self._repeat_at = self._end_at = _NEVER
        self._interval = 0.0
        timer = self._timer
        if timer is not None:
            timer.cancel()
            self._timer = None

    def _alarm(self) -> None:
        self._timer = None
        if self._end_at <= self._repeat_at:
            self._end_at = _NEVER
            self.happened(self._end_event)
        else:
            self._repeat_at = _NEVER
            self.happened(self._repeat_event)
        self._arm_again()

    def _arm_again(self) -> None:
        # What happened may have started timers, or ended everything.
        if self._timer is None and self.state is not _TERMINATED:
            self._arm()
