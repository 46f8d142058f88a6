"""Run one SIPp scenario and read what came of it."""

from __future__ import annotations

import csv
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCENARIOS = Path(__file__).parent / "scenarios"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Totals of one run; ``rate`` is what was reached, operations per second."""

    done: int
    failed: int
    retransmitted: int
    rate: float

    @property
    def clean(self) -> bool:
        """Everything worked at the first try."""
        return self.failed == 0 and self.retransmitted == 0


def users_file(path: Path, users: int, domain: str, password: str, reached_at: str) -> None:
    """Fields for the scenarios: user, domain, authentication, callee, where it is reached."""
    lines = ["SEQUENTIAL"]
    for at in range(users):
        user, callee = f"u{at:06d}", f"u{(at + users // 2) % users:06d}"
        auth = f"[authentication username={user} password={password}]"
        lines.append(f"{user};{domain};{auth};{callee};{reached_at}")
    path.write_text("\n".join(lines) + "\n")


def command(scenario: str, remote: str, local_port: int, folder: Path, *more: str) -> list[str]:
    """The SIPp command line for a scenario."""
    return [
        shutil.which("sipp") or "sipp",
        remote,
        "-sf",
        str(SCENARIOS / f"{scenario}.xml"),
        "-i",
        "127.0.0.1",
        "-p",
        str(local_port),
        "-nostdin",
        "-timeout_error",
        "-trace_stat",
        "-stf",
        str(folder / f"{scenario}-{local_port}.csv"),
        "-fd",
        "1",
        *more,
    ]


def run(
    scenario: str,
    remote: str,
    local_port: int,
    folder: Path,
    fields: Path,
    *,
    rate: float,
    seconds: float,
    pause: float = 0.0,
) -> Outcome:
    """Offer ``rate`` operations per second for so long and wait for the last to end."""
    statistics = folder / f"{scenario}-{local_port}.csv"
    statistics.unlink(missing_ok=True)
    count = max(1, int(rate * seconds))
    subprocess.run(
        command(
            scenario,
            remote,
            local_port,
            folder,
            "-inf",
            str(fields),
            "-r",
            str(max(1, int(rate))),
            "-m",
            str(count),
            "-l",
            str(int(rate * (pause + 10)) + 100),
            "-d",
            str(int(pause * 1000)),
            "-recv_timeout",
            "8000",
            "-timeout",
            f"{int(seconds + pause + 30)}s",
        ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        check=False,
    )
    return read(statistics, count)


def read(path: Path, expected: int) -> Outcome:
    """What the statistics of a run say of so many operations."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    if not rows:
        return Outcome(done=0, failed=expected, retransmitted=0, rate=0.0)
    last = rows[-1]
    done = int(last["SuccessfulCall(C)"])
    busiest = max((float(row["CallRate(P)"]) for row in rows), default=0.0)
    return Outcome(
        done=done,
        failed=expected - done,
        retransmitted=int(last["Retransmissions(C)"]),
        rate=busiest,
    )
