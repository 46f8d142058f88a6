"""How fast one user may ask: a token bucket for each."""

from __future__ import annotations

#: Users remembered; a user beyond them pushes out whoever asked least recently.
MAX_BUCKETS = 50_000


class Throttle:
    """Token buckets of ``burst`` tokens that fill up with ``rate`` tokens per second."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._buckets: dict[str, tuple[float, float]] = {}
        self.refused = 0

    def take(self, name: str, now: float) -> int:
        """0 when the user may go on, else after how many seconds it may try again."""
        tokens, since = self._buckets.pop(name, (self._burst, now))
        tokens = min(self._burst, tokens + max(now - since, 0.0) * self._rate)
        if tokens >= 1.0:
            self._keep(name, tokens - 1.0, now)
            return 0
        self._keep(name, tokens, now)
        self.refused += 1
        return max(int((1.0 - tokens) / self._rate + 0.999), 1)

    def _keep(self, name: str, tokens: float, now: float) -> None:
        if len(self._buckets) >= MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[name] = (tokens, now)

    def __len__(self) -> int:
        return len(self._buckets)
