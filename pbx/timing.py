"""Time: one wheel for everything that is due later, and periodic work.

All of it runs on the `IReactorTime` that is handed in; `clock.seconds()` is now.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import ClassVar, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import classImplements

from pbx.interfaces import ITimer, ITimers

#: Width of a slot of the wheel in seconds.
GRANULARITY: Final = 0.01
_PER_SECOND: Final = 100
#: Rounds a time up to its slot; 10 us beyond a slot still belong to it, as sums of floats do.
_UP: Final = 0.999


class Timer:
    """One entry of the wheel: ``call(*args)`` once, within 10 ms after ``due``."""

    __slots__ = ("args", "call", "due")

    def __init__(self, due: float, call: Callable[..., object], args: tuple[object, ...]) -> None:
        self.due = due
        self.call: Callable[..., object] | None = call
        self.args = args

    def cancel(self) -> None:
        """Do not fire. Safe at any time."""
        self.call = None
        self.args = ()

    @property
    def active(self) -> bool:
        """Whether it is still going to fire."""
        return self.call is not None


classImplements(Timer, ITimer)


class TimerWheel:
    """Many timers behind one reactor call: slots of 10 ms in a dict, due slots in a heap.

    Setting and cancelling cost a few hundred nanoseconds each; a cancelled entry stays in its slot
    until the slot is due. A call that raises is logged and harms no other.
    """

    log: ClassVar = Logger(__name__)

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._slots: dict[int, list[Timer]] = {}
        self._due: list[int] = []
        self._wakeup: IDelayedCall | None = None
        self._wakeup_slot = 0

    def call_later(self, seconds: float, call: Callable[..., object], *args: object) -> Timer:
        """Call after so many seconds."""
        return self.call_at(self._clock.seconds() + seconds, call, *args)

    def call_at(self, due: float, call: Callable[..., object], *args: object) -> Timer:
        """Call at a time of the clock; a time past means at the next turn."""
        timer = Timer(due, call, args)
        slot = int(due * _PER_SECOND + _UP)
        entries = self._slots.get(slot)
        if entries is not None:
            entries.append(timer)
            return timer
        self._slots[slot] = [timer]
        heapq.heappush(self._due, slot)
        if self._wakeup is None or slot < self._wakeup_slot:
            self._sleep()
        return timer

    def __len__(self) -> int:
        """How many timers are going to fire."""
        return sum(timer.active for entries in self._slots.values() for timer in entries)

    def stop(self) -> None:
        """Forget every timer."""
        self._slots.clear()
        self._due.clear()
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = None

    def _sleep(self) -> None:
        if self._wakeup is not None:
            self._wakeup.cancel()
        self._wakeup_slot = self._due[0]
        delay = self._wakeup_slot * GRANULARITY - self._clock.seconds()
        self._wakeup = self._clock.callLater(max(delay, 0.0), self._turn)

    def _turn(self) -> None:
        self._wakeup = None
        now = int(self._clock.seconds() * _PER_SECOND + 1e-3)
        due = self._due
        while due and due[0] <= now:
            for timer in self._slots.pop(heapq.heappop(due)):
                call = timer.call
                if call is not None:
                    args = timer.args
                    timer.cancel()
                    try:
                        call(*args)
                    except Exception:
                        self.log.failure("a timer failed: {call}", call=call)
        self._sleep_again()

    def _sleep_again(self) -> None:
        # A timer that fired may have set another one, and the wake-up for it.
        if self._wakeup is not None:
            return
        due, slots = self._due, self._slots
        while due and not any(timer.call is not None for timer in slots[due[0]]):
            # Most retransmissions are cancelled within milliseconds: nobody wakes up for them.
            del slots[heapq.heappop(due)]
        if due:
            self._sleep()


classImplements(TimerWheel, ITimers)


class Periodic:
    """Do some work every so many seconds; a failure is logged and the next turn comes."""

    log: ClassVar = Logger(__name__)

    def __init__(self, clock: IReactorTime, seconds: float, work: Callable[[], object]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._work = work
        self._pending: IDelayedCall | None = None

    def start(self) -> None:
        """First turn after one period."""
        if self._pending is None:
            self._pending = self._clock.callLater(self._seconds, self._turn)

    def stop(self) -> None:
        """No further turn."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None

    def _turn(self) -> None:
        self._pending = self._clock.callLater(self._seconds, self._turn)
        try:
            self._work()
        except Exception:
            self.log.failure("periodic work failed: {work}", work=self._work)
