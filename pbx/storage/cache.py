"""A cache in this process's memory."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from pbx.interfaces import ICache, IHealth, IStartable, IStatistics

#: How many keys may be added before those that expired are swept out.
SWEEP_EVERY = 1000


@implementer(ICache, IHealth, IStartable, IStatistics)
class MemoryCache:
    """A dict with expiry, for at most ``limit`` keys: beyond it the oldest go."""

    def __init__(self, clock: IReactorTime, limit: int = 500_000) -> None:
        self.url = "memory:"
        self._clock = clock
        self._limit = limit
        self._entries: dict[str, tuple[str, float | None]] = {}
        self._until_sweep = SWEEP_EVERY

    def set(self, key: str, value: str, ttl: float | None = None) -> None:
        """Keep for ``ttl`` seconds, for ever when None."""
        due = None if ttl is None else self._clock.seconds() + ttl
        self._entries[key] = (value, due)
        self._until_sweep -= 1
        if self._until_sweep <= 0:
            self._sweep()

    def delete(self, key: str) -> None:
        """Forget."""
        self._entries.pop(key, None)

    def get(self, key: str) -> Deferred[str | None]:
        """None when absent or expired."""
        value, due = self._entries.get(key, (None, None))
        if due is not None and due <= self._clock.seconds():
            del self._entries[key]
            value = None
        return succeed(value)

    def __len__(self) -> int:
        return len(self._entries)

    def start(self) -> Deferred[None]:
        """Nothing to connect."""
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """Forget everything."""
        self._entries.clear()
        return succeed(None)

    def health(self) -> tuple[str, str]:
        """It cannot fail."""
        return "ok", ""

    def statistics(self) -> Mapping[str, int]:
        """Gauges by name."""
        # Nobody is asked, so nobody is slow.
        return {
            "cdb:available": 1,
            "cdb:keys": len(self._entries),
            "cdb:queries": 0,
            "cdb:slow_queries": 0,
        }

    def _sweep(self) -> None:
        now = self._clock.seconds()
        live = {
            key: item for key, item in self._entries.items() if item[1] is None or item[1] > now
        }
        for key in list(live)[: max(len(live) - self._limit, 0)]:
            del live[key]
        self._entries = live
        self._until_sweep = max(SWEEP_EVERY, len(live) // 4)
