"""What watchers cost: 5,000 subscriptions begun, refreshed, notified of changes and ended.

    python -m bench.presence [--subscriptions N] [--rate N] [--database sqlite|postgres]

SIPp plays the watchers, 50 to a presentity, and the presentities, which publish twice each. CPU is
that of the PBX (and of PostgreSQL when it is used) within each phase. A run is clean when nothing
failed and nothing was retransmitted.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import sipp
from bench.databases import PostgreSQL, fill_pbx
from bench.measure import cpu_seconds, pss_bytes
from bench.servers import DOMAIN, PASSWORD, PBX, PROJECT, ask

PORT, PORT_WATCHERS, PORT_PUBLISHERS, PORT_NODE = 27071, 27072, 27073, 27074
CROWD = 50
#: Seconds between two phases, for the last answers and the rows.
GAP = 4.0


@dataclass(frozen=True, slots=True)
class Phase:
    """One kind of work: how often, in how many seconds, for how much CPU."""

    title: str
    count: int
    seconds: float
    cpu: float

    def row(self) -> str:
        """A line of the table."""
        each = self.cpu * 1e6 / max(self.count, 1)
        return (
            f"| {self.title} | {self.count} | {self.count / self.seconds:.0f}/s | {each:.0f} us | "
            f"{100 * self.cpu / self.seconds:.0f} % |"
        )


class Watchers:
    """A PBX with a crowd that watches."""

    def __init__(self, pids: Sequence[int], folder: Path, subscriptions: int, rate: int) -> None:
        self._pids = pids
        self._folder = folder
        self._subscriptions = subscriptions
        self._rate = rate
        self._began = 0.0
        self.phases: list[Phase] = []

    @property
    def _seconds(self) -> float:
        """How long it takes until all of them have done one thing."""
        return self._subscriptions / self._rate

    def statistic(self, name: str) -> int:
        """A counter of the PBX."""
        return int(ask(self._folder, "get_statistics", [name])[name])

    def run(self) -> tuple[int, int]:
        """Failed and retransmitted of all watchers and publishers together."""
        presentities = self._subscriptions // CROWD
        pause = self._seconds + GAP
        statistics = self._folder / f"watch-{PORT_WATCHERS}.csv"
        watchers = subprocess.Popen(
            sipp.command(
                "watch",
                f"127.0.0.1:{PORT}",
                PORT_WATCHERS,
                self._folder,
                *("-inf", str(self._folder / "watchers.csv"), "-r", str(self._rate)),
                *("-m", str(self._subscriptions), "-l", str(self._subscriptions + 100)),
                *("-d", str(int(pause * 1000)), "-recv_timeout", "20000", "-timeout", "300s"),
            ),
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._began = time.monotonic()
            self._measure("SUBSCRIBE: 407, 200, NOTIFY", pause, lambda: self._subscriptions)
            self._measure("refresh: 200, NOTIFY", pause, lambda: self._subscriptions)
            before = self.statistic("presence:notifies_sent")
            published = self._publish(
                "NOTIFY of a change (PUBLISH included)",
                2 * presentities,
                lambda: self.statistic("presence:notifies_sent") - before,
            )
            watchers.wait(pause + self._seconds + 60)
        finally:
            if watchers.poll() is None:
                watchers.terminate()
                watchers.wait()
        outcome = sipp.read(statistics, self._subscriptions)
        return (
            outcome.failed + published.failed,
            outcome.retransmitted + published.retransmitted,
        )

    def _measure(self, title: str, until: float, count: Callable[[], int]) -> None:
        """What the PBX does by itself within a phase of the watchers."""
        cpu = cpu_seconds(self._pids)
        self._began += until
        time.sleep(max(self._began - time.monotonic(), 0))
        self.phases.append(Phase(title, count(), self._seconds, cpu_seconds(self._pids) - cpu))

    def _publish(self, title: str, count: int, notified: Callable[[], int]) -> sipp.Outcome:
        cpu = cpu_seconds(self._pids)
        # As many NOTIFYs per second as there were subscriptions before, twice as many at most.
        rate = max(2 * self._rate // CROWD, 1)
        outcome = sipp.run(
            "publish",
            f"127.0.0.1:{PORT}",
            PORT_PUBLISHERS,
            self._folder,
            self._folder / "publishers.csv",
            rate=rate,
            seconds=count / rate,
        )
        time.sleep(GAP)
        self.phases.append(Phase(title, notified(), count / rate, cpu_seconds(self._pids) - cpu))
        return outcome


def fields(path: Path, users: range, presentities: int) -> None:
    """Users with their passwords, and whom each of them watches."""
    lines = ["SEQUENTIAL"]
    for at in users:
        auth = f"[authentication username=u{at:06d} password={PASSWORD}]"
        lines.append(f"u{at:06d};{DOMAIN};{auth};u{at % presentities:06d}")
    path.write_text("\n".join(lines) + "\n")


def measure(subscriptions: int, rate: int, database: str, site: Path | None = None) -> int:
    """Print the table; exit status 0 when the run was clean."""
    folder = Path(tempfile.mkdtemp(prefix="pbx-bench-"))
    folder.chmod(0o755)
    presentities = max(subscriptions // CROWD, 1)
    users = presentities + subscriptions
    fields(folder / "publishers.csv", range(presentities), presentities)
    fields(folder / "watchers.csv", range(presentities, users), presentities)
    postgres = PostgreSQL(folder) if database == "postgres" else None
    try:
        url = postgres.create("pbx") if postgres else f"sqlite:{folder}/pbx.db"
        fill_pbx(PROJECT, url, users, DOMAIN, PASSWORD, PORT_NODE)
        server = PBX(folder, PORT, url, PORT_NODE, site=site)
        server.start()
        try:
            before = pss_bytes(server.pids()[0])
            pids = [*server.pids(), *([postgres.pid] if postgres else [])]
            watchers = Watchers(pids, folder, subscriptions, rate)
            failed, retransmitted = watchers.run()
            memory = (pss_bytes(server.pids()[0]) - before) / 1e6
        finally:
            server.stop()
    finally:
        if postgres:
            postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"| presence, {subscriptions} subscriptions | number | rate | CPU each | of one core |")
    print("|---|---|---|---|---|")
    for phase in watchers.phases:
        print(phase.row())
    print(f"\n{failed} failed, {retransmitted} retransmitted, {memory:.1f} MB more at the end")
    return int(failed > 0)


def main() -> int:
    """Exit status 0 when the run was clean."""
    parser = argparse.ArgumentParser(description="What watchers cost.")
    parser.add_argument("--subscriptions", type=int, default=5000)
    parser.add_argument("--rate", type=int, default=500, help="SUBSCRIBEs per second")
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    arguments = parser.parse_args()
    return measure(arguments.subscriptions, arguments.rate, arguments.database)


if __name__ == "__main__":
    sys.exit(main())
