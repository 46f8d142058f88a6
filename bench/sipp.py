"""Run one SIPp scenario and read what came of it."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SCENARIOS = Path(__file__).parent / "scenarios"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Totals of one run; ``rate`` is what was reached, operations per second."""

    done: int
    failed: int
    retransmitted: int
    #: Failed by what SIPp says itself, while it runs.
    given_up: int
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
        # A crowd of answers waits for SIPp, too.
        "-buff_size",
        "1048576",
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
    until_fault: bool = False,
) -> Outcome:
    """Offer ``rate`` operations per second for so long and wait for the last to end.

    With ``until_fault`` no more of them begin once one has failed or was retransmitted.
    """
    statistics = folder / f"{scenario}-{local_port}.csv"
    statistics.unlink(missing_ok=True)
    count = max(1, int(rate * seconds))
    process = subprocess.Popen(
        command(
            scenario,
            remote,
            local_port,
            folder,
            *("-inf", str(fields), "-r", str(max(1, int(rate))), "-m", str(count)),
            *("-l", str(int(rate * (pause + 10)) + 100), "-d", str(int(pause * 1000))),
            *("-recv_timeout", "8000", "-timeout", f"{int(seconds + pause + 30)}s"),
        ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        while until_fault and process.poll() is None:
            if _faulty(read(statistics, 0)):
                # SIPp lets those that have begun come to their end.
                process.send_signal(signal.SIGUSR1)
                break
            time.sleep(0.5)
        process.wait(seconds + pause + 60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return read(statistics, count)


def _faulty(outcome: Outcome) -> bool:
    return outcome.retransmitted > 0 or outcome.given_up > 0


def read(path: Path, expected: int) -> Outcome:
    """What the statistics of a run say of so many operations."""
    rows: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="") as file:
            # The last line may not be whole while SIPp runs.
            rows = [row for row in csv.DictReader(file, delimiter=";") if None not in row.values()]
    if not rows:
        return Outcome(done=0, failed=expected, retransmitted=0, given_up=0, rate=0.0)
    last = rows[-1]
    done = int(last["SuccessfulCall(C)"])
    return Outcome(
        done=done,
        failed=expected - done,
        retransmitted=int(last["Retransmissions(C)"]),
        given_up=int(last["FailedCall(C)"]),
        rate=_rate(rows),
    )


def _rate(rows: Sequence[Mapping[str, str]]) -> float:
    """Operations begun per second, while there were still some to begin."""
    total = int(rows[-1]["TotalCallCreated"])
    beginning = [row for row in rows if int(row["TotalCallCreated"]) < total] or rows[:1]
    last = beginning[-1]
    seconds = _epoch(last["CurrentTime"]) - _epoch(last["StartTime"])
    return int(last["TotalCallCreated"]) / seconds if seconds > 0 else 0.0


def _epoch(moment: str) -> float:
    """Date, time and the same as a number, between tabs."""
    return float(moment.split("\t")[2])
