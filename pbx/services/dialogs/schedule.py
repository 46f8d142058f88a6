"""When answered calls expire and when they are pinged."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping

from pbx.services.dialogs.call import ENDED, Call


class Schedule:
    """Due times of the ``active`` calls."""

    def __init__(self, active: Mapping[str, Call], ping_interval: float) -> None:
        self._active = active
        self._ping_interval = ping_interval
        self._due: list[tuple[int, str]] = []
        self._pings: deque[tuple[float, Call]] = deque()

    def add(self, call: Call, now: float) -> None:
        """An answered call, or one whose time-out has changed."""
        heapq.heappush(self._due, (call.timeout, call.did))
        if self._ping_interval > 0:
            self._pings.append((now + self._ping_interval, call))

    def expired(self, now: float) -> Iterator[Call]:
        """Calls whose time is up, each once."""
        due = self._due
        while due and due[0][0] <= now:
            timeout, did = heapq.heappop(due)
            call = self._active.get(did)
            if call is not None and call.timeout <= timeout:
                yield call
        if len(due) > 2 * len(self._active) + 1000:
            # Entries of calls that ended before their time.
            due[:] = [(call.timeout, did) for did, call in self._active.items()]
            heapq.heapify(due)

    def to_ping(self, now: float) -> Iterator[Call]:
        """Calls to look after now; they come again after the interval."""
        pings = self._pings
        while pings and pings[0][0] <= now:
            _, call = pings.popleft()
            if call.state != ENDED:
                pings.append((now + self._ping_interval, call))
                yield call
