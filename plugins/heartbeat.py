"""How late the reactor comes back to its work: for who measures pauses of a live PBX.

A heart beats every few milliseconds. A beat that comes late waited for something: for a turn of
the reactor that took long, which is ours, or for a core that others had. The kernel tells both: the
CPU of the reactor's thread, and the time for which that was ready to run and did not. What a
hypervisor takes away is in neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.plugin import IPlugin
from zope.interface import Interface, implementer

from pbx.config import settings
from pbx.interfaces import ICommands, IPBXPlugin, IRegistry, IStartable

#: Seconds of a bucket, and how many there are: what is later is in the last one.
BUCKET: Final = 0.0001
BUCKETS: Final = 2000
#: Nanoseconds on a core, nanoseconds of waiting for one, and how often.
SCHEDULED: Final = "/proc/thread-self/schedstat"
SHARES: Final = (50.0, 99.0, 99.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatSettings:
    """The ``[heartbeat]`` table."""

    interval: float = 0.005
    """Seconds between two beats; each costs some 20 microseconds of CPU."""

    def __post_init__(self) -> None:
        if not 0.001 <= self.interval <= 1:
            raise ValueError("interval: expected 0.001 to 1 second")


class Spread:
    """Many durations in fixed memory, to a tenth of a millisecond."""

    __slots__ = ("_counts", "count", "longest")

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self.count = 0
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        """One more; what is negative is none at all."""
        self._counts[min(max(int(seconds / BUCKET), 0), BUCKETS - 1)] += 1
        self.count += 1
        self.longest = max(self.longest, seconds)

    def within(self, share: float) -> float:
        """Seconds that ``share`` per cent of them do not exceed."""
        left = self.count * share / 100
        for at, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return self.longest if at == BUCKETS - 1 else min((at + 1) * BUCKET, self.longest)
        return self.longest

    def milliseconds(self) -> dict[str, float]:
        """Percentiles and the longest."""
        found = {f"{share:g}%": round(self.within(share) * 1e3, 1) for share in SHARES}
        return {**found, "longest": round(self.longest * 1e3, 1)}


class Waiting:
    """Seconds for which this thread was ready to run and others ran; 0 where nobody says."""

    def __init__(self, path: str = SCHEDULED) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def __call__(self) -> float:
        """Since the thread began."""
        try:
            # The thread that asks first is the one; the file stays open, it is asked often.
            if self._file is None:
                self._file = open(self._path, "rb", buffering=0)  # noqa: SIM115
            self._file.seek(0)
            return int(self._file.read().split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0

    def close(self) -> None:
        """No more questions."""
        if self._file is not None:
            self._file.close()
            self._file = None


class IHeartbeat(Interface):
    """The heart."""


@implementer(IHeartbeat, IStartable, ICommands)
class Heartbeat:
    """Beats, and notes how late."""

    def __init__(
        self,
        found: HeartbeatSettings,
        reactor: IReactorTime,
        wall: Callable[[], float] = time.perf_counter,
        cpu: Callable[[], float] = time.thread_time,
        waiting: Waiting | None = None,
    ) -> None:
        self._interval = found.interval
        self._reactor = reactor
        self._wall = wall
        self._cpu = cpu
        self._waiting = waiting or Waiting()
        self._call: IDelayedCall | None = None
        self._last = (0.0, 0.0, 0.0)
        self._forget()

    def _forget(self) -> None:
        self.late, self.own, self.waited = Spread(), Spread(), Spread()

    async def start(self) -> None:
        """From now on."""
        self._next()

    async def stop(self) -> None:
        """No more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._waiting.close()

    def _next(self) -> None:
        self._last = self._wall(), self._cpu(), self._waiting()
        self._call = self._reactor.callLater(self._interval, self._beat)

    def _beat(self) -> None:
        wall, cpu, waited = self._last
        late = max(self._wall() - wall - self._interval, 0.0)
        self.late.add(late)
        # Of work since the last beat not all was in the way of this one: at most so much of it.
        self.own.add(min(self._cpu() - cpu, late))
        self.waited.add(min(self._waiting() - waited, late))
        self._next()

    # Management

    def commands(self) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """``heartbeat``."""
        return (("heartbeat", ((), ("reset",)), self.report),)

    def report(self, reset: object = None) -> object:
        """How late beats were in milliseconds, since the start or the last ``reset``."""
        answer = {
            "Beats": self.late.count,
            "Late": self.late.milliseconds(),
            "CPU": self.own.milliseconds(),
            "Waited": self.waited.milliseconds(),
        }
        if reset is not None and str(reset) != "0":
            self._forget()
        return answer


@implementer(IPlugin, IPBXPlugin)
class HeartbeatPlugin:
    """Announces the heart."""

    name = "heartbeat"
    settings = HeartbeatSettings

    def provide(self, registry: IRegistry, clock: IReactorTime, table: Mapping[str, Any]) -> None:
        """Build the heart."""
        found = settings(HeartbeatSettings, table, self.name)
        registry.provide(IHeartbeat, Heartbeat(found, clock))


heartbeat = HeartbeatPlugin()
