"""Two builds of this PBX under the same load at the same time: what a change costs, to about 1 %.

    python -m bench.duel SITE SITE [--seconds N] [--only SCENARIO ...] [--port N]

A machine of others is a third faster in one minute than in the next, and rounds in turn show no
difference below 10 %. Here both run side by side, each with its own SIPp, PostgreSQL and Redis, and
the CPU of both is read every half second: whatever the machine does, it does to both. SITE is a
compiled build, as ``tools/compiled.py build SITE`` makes it in the checkout of each. Rates are half
of the low ones of the comparison, and only the CPU of the PBX itself is counted. Two equal builds
were within 1.7 % of each other.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.compare import FILL
from bench.servers import PBX
from bench.sides import REGISTER, SCENARIOS, USERS, Scenario, Side
from bench.sipp import Outcome

PORT, BETWEEN = 28_000, 100
#: Seconds: of load, before the first reading and after the last, between two readings.
SECONDS, MARGIN, READING = 40.0, 2.0, 0.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """Microseconds per operation of both, and by what share the second costs more, with its
    standard error.
    """

    first: float
    second: float
    more: float
    error: float

    def __str__(self) -> str:
        return (
            f"{self.first:.1f} | {self.second:.1f} | "
            f"{100 * self.more:+.1f} % (+- {100 * self.error:.1f})"
        )


def verdict(readings: Sequence[tuple[float, float]]) -> Verdict:
    """Of the costs of both in each stretch of time; two of these at least."""
    first = statistics.mean(one for one, _ in readings)
    second = statistics.mean(other for _, other in readings)
    spread = statistics.stdev(other - one for one, other in readings)
    return Verdict(first, second, second / first - 1, spread / len(readings) ** 0.5 / first)


def main() -> int:
    """Exit status 1 when a message was lost: then the figures mean little."""
    parser = argparse.ArgumentParser(description="Compare two builds side by side.")
    parser.add_argument("sites", nargs=2, type=Path, metavar="SITE", help="a compiled build")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of load for each scenario")
    parser.add_argument("--only", nargs="*", choices=[one.name for one in SCENARIOS])
    parser.add_argument("--port", type=int, default=PORT)
    arguments = parser.parse_args()
    if arguments.seconds < 2 * MARGIN + 2 * READING:
        parser.error(f"--seconds: at least {2 * MARGIN + 2 * READING:.0f}")
    for site in arguments.sites:
        if not (site / "pbx").is_dir():
            parser.error(f"{site} is no build of this PBX")
    folder = Path(tempfile.mkdtemp(prefix="pbx-duel-"))
    folder.chmod(0o755)
    both = [Side(PBX.name, folder / str(at), arguments.port + BETWEEN * at) for at in range(2)]
    failed = 0
    try:
        for side, site in zip(both, arguments.sites, strict=True):
            side.start("postgres", site.resolve())
            failed += side.offer(REGISTER, FILL, USERS / FILL).failed
            side.settle(10)
        print("| operation | at | first, us | second, us | the second costs |")
        print("|---|---|---|---|---|", flush=True)
        for scenario in SCENARIOS:
            if arguments.only and scenario.name not in arguments.only:
                continue
            rate = scenario.low / 2
            found, lost = _fight(both, scenario, rate, arguments.seconds)
            failed += lost
            print(f"| {scenario.title} | {rate:.0f}/s each | {found} |", flush=True)
    finally:
        for side in both:
            side.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if failed:
        print("Messages were lost or repeated: these figures mean little.", file=sys.stderr)
    return int(failed > 0)


def _fight(
    both: list[Side], scenario: Scenario, rate: float, seconds: float
) -> tuple[Verdict, int]:
    """And what failed or was retransmitted."""
    outcomes: list[Outcome] = []
    with ExitStack() as answering:
        for side in both:
            answering.enter_context(side.answering(scenario))

        def offer(side: Side) -> None:
            outcomes.append(side.offer(scenario, rate, seconds))

        loads = [threading.Thread(target=offer, args=(side,)) for side in both]
        for load in loads:
            load.start()
        readings = _readings(both, rate, seconds)
        for load in loads:
            load.join()
    for side in both:
        side.settle(10)
    return verdict(readings), sum(one.failed + one.retransmitted for one in outcomes)


def _readings(both: list[Side], rate: float, seconds: float) -> list[tuple[float, float]]:
    """Microseconds of each per operation, in one stretch of time after the other."""
    ends = time.monotonic() + seconds - MARGIN
    time.sleep(MARGIN)
    readings: list[tuple[float, float]] = []
    before, since = [_run_time(side) for side in both], time.monotonic()
    while time.monotonic() < ends:
        time.sleep(READING)
        now, at = [_run_time(side) for side in both], time.monotonic()
        operations = rate * (at - since)
        first, second = ((b - a) / operations for a, b in zip(before, now, strict=True))
        readings.append((first, second))
        before, since = now, at
    return readings


def _run_time(side: Side) -> float:
    """Microseconds that the server's main thread ran: finer than the ticks of `bench.measure`."""
    nanoseconds = Path(f"/proc/{side.pid}/schedstat").read_text().split()[0]
    return int(nanoseconds) / 1000


if __name__ == "__main__":
    sys.exit(main())
