"""``make bench``: this PBX and Debian's kamailio on the same work in one run, as a table.

Both use the same PostgreSQL and the same Redis (each a database of its own) and digest on
everything; SIPp offers the load from the same machine. CPU is that of the server, its database and
its cache together, with what was written behind counted: measuring ends when all are quiet, and
the rows and keys that both have written are counted. A run is clean when nothing failed and nothing
was retransmitted.

    run.py [PART ...] [--quick] [--only SCENARIO ...] [--database sqlite|postgres] [--no-peer]
           [--pure]

Parts: compare (the table beside the peer), presence, media, guard (`bench.guard`), and those of
`bench.scale`; all of them unless some are named.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import guard, media, presence, scale, sipp
from bench.caches import PORT as REDIS_PORT
from bench.caches import Redis
from bench.databases import PostgreSQL, count_rows, fill_kamailio, fill_pbx
from bench.measure import cpu_seconds, pss_bytes
from bench.servers import DOMAIN, PASSWORD, PBX, PROJECT, Kamailio, Server
from tools import compiled

USERS = 10_000
SETTLE = 7.0
#: Seconds of idleness that are measured.
IDLE = 20.0
PARTS = ("compare", "presence", "media", "guard", *scale.PARTS)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of work: the rate for CPU figures, and where the search for the highest begins."""

    name: str
    title: str
    rate: float
    first: float
    pause: float = 0.0


SCENARIOS = (
    Scenario("options", "OPTIONS to the server", 2000, 4000),
    Scenario("register", "REGISTER, 401 then 200", 1000, 1500),
    Scenario("message", "MESSAGE, 407 then relayed", 500, 1000),
    Scenario("call", "call INVITE..BYE through a node", 200, 250, 1.0),
)


@dataclass(slots=True)
class Row:
    """What one server did in one scenario."""

    cpu_server: float = 0.0
    cpu_database: float = 0.0
    failed: int = 0
    retransmitted: int = 0
    highest: float = 0.0


@dataclass(slots=True)
class Results:
    """What one server did: rows by scenario, bytes per registration and in all, per cent idle."""

    rows: dict[str, Row]
    memory: float
    whole: float
    idle: float


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
#: Numbers of databases in Redis.
CACHES = {"pbx": 0, "kamailio": 1}


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
) -> Results:
    """All scenarios on one server."""
    rows: dict[str, Row] = {}
    node = uas("answer", PORT_NODE, folder)
    seconds = 5.0 if arguments.quick else 15.0
    server.start()
    try:
        bench = Bench(server, database_pids, folder)
        before = pss_bytes(server.pids()[0])
        registered = bench.register_phones()
        whole = pss_bytes(server.pids()[0])
        memory = (whole - before) / max(registered.done, 1)
        time.sleep(SETTLE)
        idle = cpu_seconds(server.pids())
        time.sleep(IDLE)
        idle = (cpu_seconds(server.pids()) - idle) / IDLE * 100
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
    return Results(rows, memory, whole, idle)


def table(results: dict[str, Results]) -> str:
    """The results side by side; ratios are ours to the peer's."""
    names = list(results)
    lines = [
        "| operation | at | "
        + " | ".join(f"{name}: CPU s per 1000 (server + database and cache)" for name in names)
        + " | ratio | "
        + " | ".join(f"{name}: highest clean rate" for name in names)
        + " |",
        "|---" * (3 + 2 * len(names)) + "|",
    ]
    for scenario in SCENARIOS:
        if scenario.name not in results[names[0]].rows:
            continue
        rows = [results[name].rows[scenario.name] for name in names]
        totals = [row.cpu_server + row.cpu_database for row in rows]
        cells = [
            f"{row.cpu_server + row.cpu_database:.3f} ({row.cpu_server:.3f} + "
            f"{row.cpu_database:.3f})"
            + (f", {row.failed} failed" if row.failed else "")
            + (f", {row.retransmitted} retransmitted" if row.retransmitted else "")
            for row in rows
        ]
        cells.append(_ratio(totals))
        cells += [f"{row.highest:.0f}/s" if row.highest else "-" for row in rows]
        lines.append(f"| {scenario.title} | {scenario.rate:.0f}/s | " + " | ".join(cells) + " |")
    found = list(results.values())
    for title, values, form in (
        ("memory at 10,000 registrations (PSS)", [one.whole / 1e6 for one in found], "MB"),
        ("of that for the registrations", [one.memory * USERS / 1e6 for one in found], "MB"),
        ("CPU while idle", [one.idle for one in found], "%"),
    ):
        shown = " | ".join(f"{value:.1f} {form}" for value in values)
        lines.append(f"| {title} | | {shown} | {_ratio(values)} |" + " |" * len(names))
    return "\n".join(lines)


def _ratio(values: Sequence[float]) -> str:
    return f"{values[0] / values[1]:.2f}" if len(values) > 1 and values[1] else "-"


def main() -> int:
    """Exit status 0 when nothing failed."""
    parser = argparse.ArgumentParser(description="Compare the PBX with kamailio.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="short, without highest rates")
    parser.add_argument("--only", nargs="*", choices=[one.name for one in SCENARIOS])
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="postgres")
    parser.add_argument("--no-peer", action="store_true", help="only this PBX")
    parser.add_argument("--pure", action="store_true", help="not compiled")
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"no such part: {unknown[0]}")
    parts = arguments.parts or PARTS
    site = None if arguments.pure else build_site()
    word = "pure" if site is None else "compiled"
    print(f"Python {platform.python_version()}, {word}, {platform.machine()}, ", end="")
    print(f"{os.cpu_count()} cores shared with SIPp\n", flush=True)
    status = compare(arguments, site) if "compare" in parts else 0
    if "presence" in parts:
        size = (1000, 200) if arguments.quick else (5000, 500)
        status |= presence.measure(*size, arguments.database)
    if "media" in parts:
        print(flush=True)
        status |= media.measure(50, 10.0 if arguments.quick else 30.0)
    if "guard" in parts:
        print(f"\n{guard.of_build(site)}", flush=True)
    for part in scale.PARTS:
        if part in parts:
            print(f"\n{scale.of_build(part, site)}", flush=True)
    return status


def build_site() -> Path | None:
    """The compiled build that `make run` would use, None where there is no compiler."""
    site = PROJECT / ".venv" / "compiled"
    return None if compiled.build(site) else site


def compare(arguments: argparse.Namespace, site: Path | None) -> int:
    """The table beside the peer; 1 when a run was not clean."""
    folder = Path(tempfile.mkdtemp(prefix="pbx-bench-"))
    folder.chmod(0o755)
    sipp.users_file(folder / "users.csv", USERS, DOMAIN, PASSWORD, f"127.0.0.1:{PORT_PHONE}")
    postgres = PostgreSQL(folder)
    redis = Redis(folder)
    results: dict[str, Results] = {}
    try:
        for name, make in _servers(arguments, folder, postgres, redis, site).items():
            server, pids = make()
            results[name] = bench_server(server, pids, folder, arguments)
        print(table(results))
        print("\nWritten: " + "; ".join(_written(name, postgres, redis) for name in results))
    finally:
        redis.stop()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return int(any(row.failed for found in results.values() for row in found.rows.values()))


def _written(name: str, postgres: PostgreSQL, redis: Redis) -> str:
    """Rows and keys at the end, so that nobody saves work by not doing it."""
    rows = count_rows(postgres.url(name), ("location", "acc", "dialog"))
    counts = ", ".join(f"{table} {count}" for table, count in rows.items())
    return f"{name}: {counts}, cache {redis.keys(CACHES[name])}"


def _servers(
    arguments: argparse.Namespace,
    folder: Path,
    postgres: PostgreSQL,
    redis: Redis,
    site: Path | None,
) -> dict[str, Callable[[], tuple[Server, Sequence[int]]]]:
    def pbx() -> tuple[Server, Sequence[int]]:
        if arguments.database == "sqlite":
            url, pids = f"sqlite:{folder}/pbx.db", []
        else:
            url, pids = postgres.create("pbx"), [postgres.pid, redis.pid]
        fill_pbx(PROJECT, url, USERS, DOMAIN, PASSWORD, PORT_NODE)
        cache = redis.url(CACHES["pbx"])
        return PBX(folder, 27051, url, PORT_NODE, cache=cache, site=site), pids

    def kamailio() -> tuple[Server, Sequence[int]]:
        url = postgres.create("kamailio")
        fill_kamailio(url, USERS, DOMAIN, PASSWORD)
        cache = REDIS_PORT, CACHES["kamailio"]
        return Kamailio(folder, 27052, url, PORT_NODE, cache), [postgres.pid, redis.pid]

    return {"pbx": pbx} if arguments.no_peer else {"pbx": pbx, "kamailio": kamailio}


if __name__ == "__main__":
    sys.exit(main())
