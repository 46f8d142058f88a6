"""Failed log-ins per source, so that nobody tries passwords all day."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from pbx.http.networks import source_of
from pbx.http.settings import WebSettings
from pbx.interfaces import ICommands, IGuard

#: Sources remembered at a time; the oldest goes first.
MAX_SOURCES = 10_000


@implementer(ICommands)
class Attempts:
    """The times of the last failures of each source; the guard's bans count as well."""

    def __init__(self, settings: WebSettings, guard: IGuard, clock: IReactorTime) -> None:
        self._guard = guard
        self._settings = settings
        self._clock = clock
        self._failures: dict[str, deque[float]] = {}
        self.failed = self.refused = 0

    def __len__(self) -> int:
        return len(self._failures)

    def wait(self, host: str) -> int:
        """Seconds until this source may try again, 0 for now."""
        if banned := self._guard.banned(host):
            self.refused += 1
            return int(banned) + 1
        times = self._failures.get(source_of(host))
        if times is None or len(times) < self._settings.max_failures:
            return 0
        left = times[0] + self._settings.failure_time - self._clock.seconds()
        if left <= 0:
            return 0
        self.refused += 1
        return int(left) + 1

    def success(self, host: str) -> None:
        """Somebody logged in: the guard is more patient with that source."""
        self._guard.proved(host)

    def failure(self, host: str) -> None:
        """A log-in failed."""
        self.failed += 1
        source = source_of(host)
        times = self._failures.pop(source, None)
        if times is None:
            if len(self._failures) >= MAX_SOURCES:
                self._make_room()
            times = deque(maxlen=self._settings.max_failures)
        times.append(self._clock.seconds())
        # Last in the order of the dictionary: the first is who failed longest ago.
        self._failures[source] = times

    def _make_room(self) -> None:
        old = self._clock.seconds() - self._settings.failure_time
        for source, times in list(self._failures.items()):
            if times[-1] > old:
                break
            del self._failures[source]
        if len(self._failures) >= MAX_SOURCES:
            del self._failures[next(iter(self._failures))]

    def commands(self) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """``web_failures`` and ``web_forgive``."""
        return [
            ("web_failures", [[]], self._shown),
            ("web_forgive", [["source"]], self._forgive),
        ]

    def _shown(self) -> Mapping[str, object]:
        """Sources of failed log-ins to the web pages, and whether they have to wait."""
        old = self._clock.seconds() - self._settings.failure_time
        return {
            "Sources": [
                {
                    "source": source,
                    "failures": sum(time > old for time in times),
                    "wait": self._waits(times),
                }
                for source, times in self._failures.items()
                if times[-1] > old
            ]
        }

    def _waits(self, times: deque[float]) -> int:
        if len(times) < self._settings.max_failures:
            return 0
        return max(0, int(times[0] + self._settings.failure_time - self._clock.seconds()))

    def _forgive(self, source: object) -> str:
        """Forget the failures of a source."""
        self._failures.pop(source_of(str(source).partition("/")[0]), None)
        return "OK"
