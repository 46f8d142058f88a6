"""What sleeping costs: the same operation by a process that never rests, and after a pause.

While a process sleeps, others use the caches and the kernel of the host may give the core away. No
network and no database are involved: the difference is memory that has to be fetched again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.driver import driver

PAUSES = (0.0, 0.0005, 0.002, 0.005)
#: Operations at a time, and how often: the least of several is the least disturbed.
OPERATIONS, TIMES = 200, 3
USERS = 10_000


def pauses_between(settled: Callable[[], None]) -> str:
    """Microseconds of CPU per operation by the pause before it; ``settled`` after the filling."""
    lines = [
        "| pause before each | " + " | ".join(f"{pause * 1e3:g} ms" for pause in PAUSES) + " |"
    ]
    lines.append("|---" * (1 + len(PAUSES)) + "|")
    with driver(USERS) as made:
        settled()
        for name, operation in made.operations().items():
            for _ in range(OPERATIONS):
                operation()
            costs = [f"{_least(operation, pause) * 1e6:.0f}" for pause in PAUSES]
            lines.append(f"| {name} | " + " | ".join(costs) + " |")
    return "\n".join(lines)


def _least(operation: Callable[[], None], pause: float) -> float:
    """CPU seconds of one."""
    found = []
    for _ in range(TIMES):
        cpu = 0.0
        for _ in range(OPERATIONS):
            if pause:
                time.sleep(pause)
            began = time.process_time()
            operation()
            cpu += time.process_time() - began
        found.append(cpu / OPERATIONS)
    return min(found)
