"""What is left of finished non-INVITE transactions: key and response bytes (timers J and K).

Thousands end per second, so they share one timer of one second and their number is bounded.
"""

from __future__ import annotations

from collections import deque
from math import ceil

from pbx.timing import Timer, TimerWheel


class Finished:
    """Bytes by key, each for ``seconds`` (up to 1 s more), the oldest going first when full."""

    __slots__ = ("_limit", "_now", "_order", "_past", "_periods", "_timer", "_wheel", "entries")

    def __init__(self, wheel: TimerWheel, seconds: float, limit: int) -> None:
        self._wheel = wheel
        self._periods = ceil(seconds) + 1
        self._limit = limit
        #: The live table; only to be read.
        self.entries: dict[str, bytes] = {}
        self._order: deque[str] = deque()
        # How many keys of ``_order`` came in each past second, and in this one.
        self._past: deque[int] = deque()
        self._now = 0
        self._timer: Timer | None = None

    def add(self, key: str, data: bytes) -> None:
        """Keep an entry."""
        if len(self._order) >= self._limit:
            self._drop_oldest()
        if key in self.entries:
            self.entries[key] = data
            return
        self.entries[key] = data
        self._order.append(key)
        self._now += 1
        if self._timer is None:
            self._timer = self._wheel.call_later(1.0, self._second_passed)

    def _drop_oldest(self) -> None:
        del self.entries[self._order.popleft()]
        past = self._past
        for at, count in enumerate(past):
            if count:
                past[at] = count - 1
                return
        self._now -= 1

    def _second_passed(self) -> None:
        past = self._past
        past.append(self._now)
        self._now = 0
        if len(past) >= self._periods:
            for _ in range(past.popleft()):
                del self.entries[self._order.popleft()]
        self._timer = None
        if self._order:
            self._timer = self._wheel.call_later(1.0, self._second_passed)
        else:
            past.clear()
