"""How much of the machine the process takes: groups ``load``, ``shmem`` and ``pkmem``.

There is one process with one memory, so ``shmem`` and ``pkmem:0`` tell the same. Sizes are bytes,
loads per cent of one processor core.
"""

from __future__ import annotations

import os
import resource
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from twisted.internet.interfaces import IReactorTime

from pbx.timing import Periodic

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
#: Seconds between two samples, and how many make ten minutes.
SAMPLE: Final = 1.0
SAMPLES: Final = 601


def processor_time() -> float:
    """Seconds of processor time that this process has taken."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Resources:
    """Samples the processor time once a second; memory is read when somebody asks."""

    def __init__(
        self, clock: IReactorTime, processor: Callable[[], float] = processor_time
    ) -> None:
        self._clock = clock
        self._processor = processor
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES)
        self._ticks = Periodic(clock, SAMPLE, self._sample)

    def start(self) -> None:
        """Begin to sample."""
        self._sample()
        self._ticks.start()

    def stop(self) -> None:
        """No more samples."""
        self._ticks.stop()

    def statistics(self) -> Mapping[str, int]:
        """Amounts by ``group:name``."""
        return {**self._loads(), **_memory()}

    def _sample(self) -> None:
        self._samples.append((self._clock.seconds(), self._processor()))

    def _loads(self) -> dict[str, int]:
        found = {"load:processes_number": 1}
        for name, span in (("load", 1), ("load1m", 60), ("load10m", 600)):
            load = self._load(span)
            # All processes, all but the first of them, and the only one.
            for form in (name, f"{name}-all", f"{name}-proc-0"):
                found[f"load:{form}"] = load
        return found

    def _load(self, span: int) -> int:
        """Per cent of the last ``span`` samples, or of as many as there are."""
        if len(self._samples) < 2:
            return 0
        now, used = self._samples[-1]
        since, before = self._samples[max(-len(self._samples), -1 - span)]
        return round(100 * (used - before) / (now - since)) if now > since else 0


def _memory() -> dict[str, int]:
    total = os.sysconf("SC_PHYS_PAGES") * PAGE
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    try:
        used = int(Path("/proc/self/statm").read_text("ascii").split()[1]) * PAGE
    except (OSError, ValueError, IndexError):
        used = most
    amounts = {
        "total_size": total,
        "used_size": used,
        "real_used_size": used,
        "max_used_size": max(used, most),
        "free_size": max(total - used, 0),
        "fragments": sys.getallocatedblocks(),
    }
    found = {f"shmem:{name}": amount for name, amount in amounts.items()}
    found.update((f"pkmem:0-{name}", amount) for name, amount in amounts.items())
    return found
