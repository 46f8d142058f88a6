"""``make bench``: this PBX and Debian's kamailio on the same work in one run, as tables.

Both use PostgreSQL and Redis (each an own one) and digest on everything; SIPp offers the load from
the same machine. CPU is that of the server, its database and its cache together, with what was
written behind counted (`bench.compare`). A window is clean when nothing failed, nothing was
retransmitted, SIPp offered the rate and all rows were written: only clean ones make figures.

    run.py [PART ...] [--quick] [--rounds N] [--rates low|high|both] [--only SCENARIO ...]
           [--database sqlite|postgres] [--no-peer] [--no-highest] [--pure] [--port N] [--accept]

Parts: compare (the tables beside the peer), presence, media, guard (`bench.guard`), and those of
`bench.scale`; all of them unless some are named.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import guard, machine, media, presence, scale
from bench.compare import Contest
from bench.measure import Stolen
from bench.servers import PROJECT
from bench.sides import CHILDREN, REGISTER, SCENARIOS, Scenario, sides
from bench.tables import report
from tools import compiled

PARTS = ("compare", "presence", "media", "guard", *scale.PARTS)
#: Rounds, seconds of load in a window, and of idleness that is measured.
ROUNDS, SECONDS, IDLE = 3, 8.0, 20.0
QUICK_SECONDS, QUICK_IDLE, QUICK_FILL = 4.0, 5.0, 800.0
PORT = 27100


def main() -> int:
    """Exit status 0 when nothing failed."""
    parser = argparse.ArgumentParser(description="Compare the PBX with kamailio.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="short, one round, no highest rates")
    parser.add_argument("--rounds", type=int, help=f"of each window; {ROUNDS} unless quick")
    parser.add_argument("--rates", choices=["low", "high", "both"], help="both unless quick")
    parser.add_argument("--only", nargs="*", choices=[one.name for one in SCENARIOS])
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="postgres")
    parser.add_argument("--no-peer", action="store_true", help="only this PBX")
    parser.add_argument("--no-highest", action="store_true", help="no search for highest rates")
    parser.add_argument("--pure", action="store_true", help="not compiled")
    parser.add_argument(
        "--accept", action="store_true", help="guard: compiled and pure figures become the norm"
    )
    parser.add_argument("--port", type=int, default=PORT, help="the first of those of compare")
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"no such part: {unknown[0]}")
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds: at least 1")
    parts = arguments.parts or PARTS
    site = None if arguments.pure else build_site()
    print(f"{machine.description(site is not None, CHILDREN)}\n", flush=True)
    began = time.monotonic()
    status, rate = compare(arguments, site) if "compare" in parts else (0, scale.RATE)
    if "presence" in parts:
        size = (1000, 200) if arguments.quick else (5000, 500)
        print(flush=True)
        status |= presence.measure(*size, arguments.database, site)
    if "media" in parts:
        print(flush=True)
        status |= media.measure(50, 10.0 if arguments.quick else 30.0)
    if "guard" in parts:
        print(f"\n{guard.of_build(site, arguments.accept)}", flush=True)
        if site is not None and arguments.accept:
            print(f"\n{guard.of_build(None, True)}", flush=True)
    for part in scale.PARTS:
        if part in parts:
            chosen = scale.Chosen(site, arguments.quick, rate)
            print(f"\n{scale.of_build(part, chosen)}", flush=True)
    print(f"measured in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return status


def build_site() -> Path | None:
    """The compiled build that `make run` would use, None where there is no compiler."""
    site = PROJECT / ".venv" / "compiled"
    return None if compiled.build(site) else site


def say(text: str) -> None:
    """How far it is, beside the tables."""
    print(text, file=sys.stderr, flush=True)


def rates(scenario: Scenario, chosen: str) -> Sequence[float]:
    """At which the scenario is run."""
    if chosen == "both":
        return scenario.low, scenario.high
    return (scenario.low if chosen == "low" else scenario.high,)


def compare(arguments: argparse.Namespace, site: Path | None) -> tuple[int, float]:
    """The tables beside the peer; 1 when something failed at a low rate, which both must bear.

    And the highest clean rate of our REGISTER, the usual one when nobody looked for it.
    """
    quick = arguments.quick
    scenarios = [one for one in SCENARIOS if not arguments.only or one.name in arguments.only]
    folder = Path(tempfile.mkdtemp(prefix="pbx-bench-"))
    folder.chmod(0o755)
    compared = sides(folder, arguments.port, not arguments.no_peer)
    contest = Contest(compared, say)
    stolen = Stolen()
    try:
        for side in compared:
            side.start(arguments.database, site)
        contest.fill(QUICK_IDLE, QUICK_FILL) if quick else contest.fill(IDLE)
        for scenario in scenarios:
            for rate in rates(scenario, arguments.rates or ("low" if quick else "both")):
                rounds = arguments.rounds or (1 if quick else ROUNDS)
                contest.compare(scenario, rate, rounds, QUICK_SECONDS if quick else SECONDS)
        contest.close()
        if not (quick or arguments.no_highest):
            for scenario in scenarios:
                contest.highest(scenario)
    finally:
        for side in compared:
            side.stop()
        shutil.rmtree(folder, ignore_errors=True)
        print(f"{report(contest.results)} {stolen}.", flush=True)
    low = {(one.name, one.low) for one in SCENARIOS}
    found = contest.results.rounds.items()
    windows = [
        one for key, rounds in found if key in low for each in rounds for one in each.values()
    ]
    highest = contest.results.highest.get((REGISTER.name, compared[0].name))
    rate = highest.rate if highest is not None and highest.rate else scale.RATE
    return int(any(window.failed for window in windows)), rate


if __name__ == "__main__":
    sys.exit(main())
