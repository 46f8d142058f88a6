"""``make bench``: this PBX and Debian's kamailio on the same work in one run, as a table.

Both use the same PostgreSQL (each a database of its own) and digest on everything; SIPp offers the
load from the same machine. CPU is that of the server and its database together, with what was
written behind counted: measuring ends when both are quiet. A run is clean when nothing failed and
nothing was retransmitted.

    run.py [--quick] [--only SCENARIO ...] [--database sqlite|postgres] [--no-peer]
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import presence, sipp
from bench.databases import PostgreSQL, fill_kamailio, fill_pbx
from bench.measure import cpu_seconds, pss_bytes
from bench.servers import DOMAIN, PASSWORD, PBX, PROJECT, Kamailio, Server

USERS = 10_000
SETTLE = 7.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of work: the rate for CPU figures, and where the search for the highest begins."""

    name: str
    title: str
    rate: float
    first: float
    pause: float = 0.0


SCENARIOS = (
    Scenario("options", "OPTIONS to the server", 1000, 2000),
    Scenario("register", "REGISTER, 401 then 200", 500, 1000),
    Scenario("message", "MESSAGE, 407 then relayed", 400, 700),
    Scenario("call", "call INVITE..BYE through a node", 100, 150, 1.0),
)


@dataclass(slots=True)
class Row:
    """What one server did in one scenario."""

    cpu_server: float = 0.0
    cpu_database: float = 0.0
    failed: int = 0
    retransmitted: int = 0
    highest: float = 0.0


class Bench:
    """One server under load."""

    def __init__(self, server: Server, database_pids: Sequence[int], folder: Path) -> None:
        self._server = server
        self._database_pids = database_pids
        self._folder = folder
        self._remote = f"127.0.0.1:{server.port}"

    def offer(self, scenario: Scenario, rate: float, seconds: float) -> sipp.Outcome:
        """So many operations per second for so long."""
        return sipp.run(
            scenario.name,
            self._remote,
            PORT_CALLER,
            self._folder,
            self._folder / "users.csv",
            rate=rate,
            seconds=seconds,
            pause=scenario.pause,
        )

    def register_phones(self) -> sipp.Outcome:
        """Every user from the port where messages are taken."""
        return sipp.run(
            "register",
            self._remote,
            PORT_PHONE,
            self._folder,
            self._folder / "users.csv",
            rate=400,
            seconds=USERS / 400,
        )

    def measure(self, scenario: Scenario, seconds: float) -> Row:
        """CPU per 1000 operations at the scenario's rate."""
        server = cpu_seconds(self._server.pids())
        database = cpu_seconds(self._database_pids)
        outcome = self.offer(scenario, scenario.rate, seconds)
        time.sleep(SETTLE)
        done = max(outcome.done, 1) / 1000
        return Row(
            cpu_server=(cpu_seconds(self._server.pids()) - server) / done,
            cpu_database=(cpu_seconds(self._database_pids) - database) / done,
            failed=outcome.failed,
            retransmitted=outcome.retransmitted,
        )

    def highest(self, scenario: Scenario, seconds: float) -> float:
        """The highest clean rate, to about 10 %."""
        good, rate, bad = 0.0, scenario.first, 0.0
        for _ in range(9):
            outcome = self.offer(scenario, rate, seconds)
            time.sleep(1.0)
            if outcome.clean:
                good = rate
                rate = (good + bad) / 2 if bad else rate * 1.6
            else:
                bad = rate
                rate = (good + bad) / 2
            if bad and bad - good < good * 0.1:
                break
        return good


PORT_CALLER, PORT_PHONE, PORT_NODE = 27061, 27062, 27063


def uas(scenario: str, port: int, folder: Path) -> subprocess.Popen[bytes]:
    """A SIPp that answers."""
    return subprocess.Popen(
        sipp.command(scenario, "127.0.0.1", port, folder),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def bench_server(
    server: Server,
    database_pids: Sequence[int],
    folder: Path,
    arguments: argparse.Namespace,
) -> tuple[dict[str, Row], float]:
    """All scenarios on one server: rows by scenario, and bytes per registration."""
    rows: dict[str, Row] = {}
    memory = 0.0
    node = uas("answer", PORT_NODE, folder)
    seconds = 5.0 if arguments.quick else 15.0
    server.start()
    try:
        bench = Bench(server, database_pids, folder)
        before = pss_bytes(server.pids()[0])
        registered = bench.register_phones()
        memory = (pss_bytes(server.pids()[0]) - before) / max(registered.done, 1)
        for scenario in SCENARIOS:
            if arguments.only and scenario.name not in arguments.only:
                continue
            print(f"{server.name}: {scenario.title}", file=sys.stderr, flush=True)
            phone = None
            if scenario.name == "message":
                # Behind NAT or not, messages go to where the last REGISTER came from.
                bench.register_phones()
                phone = uas("take_message", PORT_PHONE, folder)
            try:
                rows[scenario.name] = bench.measure(scenario, seconds)
                if not arguments.quick:
                    rows[scenario.name].highest = bench.highest(scenario, 8.0)
            finally:
                if phone is not None:
                    phone.kill()
                    phone.wait()
    finally:
        server.stop()
        node.kill()
        node.wait()
    return rows, memory


def table(results: dict[str, tuple[dict[str, Row], float]]) -> str:
    """The results side by side."""
    names = list(results)
    lines = [
        "| operation | "
        + " | ".join(f"{name}: CPU s per 1000 (server + database)" for name in names)
        + " | "
        + " | ".join(f"{name}: highest clean rate" for name in names)
        + " |",
        "|---" * (1 + 2 * len(names)) + "|",
    ]
    for scenario in SCENARIOS:
        if scenario.name not in results[names[0]][0]:
            continue
        rows = [results[name][0][scenario.name] for name in names]
        cells = [
            f"{row.cpu_server + row.cpu_database:.3f} ({row.cpu_server:.3f} + "
            f"{row.cpu_database:.3f})"
            + (f", {row.failed} failed" if row.failed else "")
            + (f", {row.retransmitted} retransmitted" if row.retransmitted else "")
            for row in rows
        ]
        cells += [f"{row.highest:.0f}/s" if row.highest else "-" for row in rows]
        lines.append(f"| {scenario.title} | " + " | ".join(cells) + " |")
    memory = " | ".join(f"{results[name][1] * USERS / 1e6:.1f} MB" for name in names)
    lines.append(f"| memory per 10,000 registrations (PSS) | {memory} |" + " |" * len(names))
    return "\n".join(lines)


def main() -> int:
    """Exit status 0 when nothing failed."""
    parser = argparse.ArgumentParser(description="Compare the PBX with kamailio.")
    parser.add_argument("--quick", action="store_true", help="short, without highest rates")
    parser.add_argument("--only", nargs="*", choices=[*(one.name for one in SCENARIOS), "presence"])
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="postgres")
    parser.add_argument("--no-peer", action="store_true", help="only this PBX")
    arguments = parser.parse_args()
    failed = 0
    if arguments.only != ["presence"]:
        failed = compare(arguments)
    if not arguments.only or "presence" in arguments.only:
        size = (1000, 200) if arguments.quick else (5000, 500)
        failed |= presence.measure(*size, arguments.database)
    return failed


def compare(arguments: argparse.Namespace) -> int:
    """The servers side by side; 0 when every fixed-rate run was clean."""
    folder = Path(tempfile.mkdtemp(prefix="pbx-bench-"))
    folder.chmod(0o755)
    sipp.users_file(folder / "users.csv", USERS, DOMAIN, PASSWORD, f"127.0.0.1:{PORT_PHONE}")
    postgres = PostgreSQL(folder)
    results: dict[str, tuple[dict[str, Row], float]] = {}
    try:
        for name, make in _servers(arguments, folder, postgres).items():
            server, pids = make()
            results[name] = bench_server(server, pids, folder, arguments)
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"Python {platform.python_version()}, {platform.machine()}, 2 cores shared with SIPp\n")
    print(table(results) + "\n")
    return int(any(row.failed for rows, _ in results.values() for row in rows.values()))


def _servers(
    arguments: argparse.Namespace, folder: Path, postgres: PostgreSQL
) -> dict[str, Callable[[], tuple[Server, Sequence[int]]]]:
    def pbx() -> tuple[Server, Sequence[int]]:
        if arguments.database == "sqlite":
            url, pids = f"sqlite:{folder}/pbx.db", []
        else:
            url, pids = postgres.create("pbx"), [postgres.pid]
        fill_pbx(PROJECT, url, USERS, DOMAIN, PASSWORD, PORT_NODE)
        return PBX(folder, 27051, url, PORT_NODE), pids

    def kamailio() -> tuple[Server, Sequence[int]]:
        url = postgres.create("kamailio")
        fill_kamailio(url, USERS, DOMAIN, PASSWORD)
        return Kamailio(folder, 27052, url, PORT_NODE), [postgres.pid]

    return {"pbx": pbx} if arguments.no_peer else {"pbx": pbx, "kamailio": kamailio}


if __name__ == "__main__":
    sys.exit(main())
