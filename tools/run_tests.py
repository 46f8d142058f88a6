"""Linters, types, layer rules and every test, two jobs at a time; see `make test`.

Each job is a process of its own: a checker, the unit tests of one folder, or one integration
module. The last line is ``N passed, N failed, N skipped``; exit status 1 when anything failed.
A checker counts as one test. With CI=true a skip for a missing program is a failure.
Tests that fail beside another job are run once more with nothing beside them, and that run counts;
what failed first is printed all the same. More than three jobs are not run again.
What listens to sound, in Chromium or at 50 packets a second, is run at the end with nothing beside
it from the start: two cores are just enough for a browser, a PBX and an ear.

    run_tests.py                    everything
    run_tests.py tests.sip ...      only these packages or modules
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

PARALLEL = 2
#: Seconds for one job, and for the whole run. Two idle cores need less than half an hour; a busy
#: machine is given time before a good change is refused.
JOB_LIMIT = 900
RUN_LIMIT = 80 * 60
#: Modules that are run alone.
ALONE = re.compile(r"test_(web_(bridged|calls|engines|https|lamps|phone|windows)|media\w*|nat)$")
#: So many jobs may be run again.
SECOND_TRIES = 3

BIN = Path(sys.executable).parent
TYPED = ("pbx", "plugins", "etc/routing.py", "tests", "bench", "tools", "setup.py")
#: Stands for a folder of its own in the command of a job.
TEMPORARY = "@TEMPORARY@"
TRIAL = (f"--temp-directory={TEMPORARY}", "--reporter=bwverbose")
SUMMARY = re.compile(r"^(?:PASSED|FAILED) ?(?:\((.*)\))?$", re.MULTILINE)
RAN = re.compile(r"^Ran (\d+) tests? in", re.MULTILINE)
SKIP = re.compile(r"^\[SKIPPED\]\n(.*?)(?=^=====|^-----)", re.MULTILINE | re.DOTALL)
#: A skip that a build server may have: the kernel lacks it, no package brings it.
TOLERATED = re.compile(r"IPv6|no network namespaces")


@dataclass(frozen=True)
class Job:
    """One process: ``trial`` output is counted, of others only the exit status."""

    name: str
    command: tuple[str, ...]
    trial: bool = False


@dataclass
class Outcome:
    """Counts of one job and, when something failed, the text to show."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    text: str = ""
    skips: list[str] = field(default_factory=list)
    seconds: float = 0.0


def checks() -> list[Job]:
    """Linters, types and layer rules."""
    code = [
        name
        for name in ("pbx", "plugins", "etc", "tests", "bench", "tools", "setup.py")
        if Path(name).exists()
    ]
    return [
        Job("ruff check", (str(BIN / "ruff"), "check", *code)),
        Job("ruff format", (str(BIN / "ruff"), "format", "--check", *code)),
        Job("lint-imports", (str(BIN / "lint-imports"), "--no-cache")),
        Job("mypy", (str(BIN / "mypy"), *(name for name in TYPED if Path(name).exists()))),
    ]


def tests() -> list[Job]:
    """Integration modules first, they wait most; then a job per folder of unit tests."""
    root = Path("tests")
    jobs = [
        trial_job(f"tests.integration.{path.stem}")
        for path in sorted((root / "integration").glob("test_*.py"))
    ]
    jobs += [
        trial_job(f"tests.{folder.name}")
        for folder in sorted(root.iterdir())
        if folder.name != "integration" and any(folder.rglob("test_*.py"))
    ]
    alone = [f"tests.{path.stem}" for path in sorted(root.glob("test_*.py"))]
    if alone:
        jobs.append(trial_job(*alone, name="tests/*.py"))
    return [*jobs, compiled_job()]


def trial_job(*names: str, name: str = "") -> Job:
    """Trial over some modules or packages."""
    return Job(name or names[0], (str(BIN / "trial"), *TRIAL, *names), trial=True)


def compiled_job() -> Job:
    """The unit tests that reach compiled modules, on the compiled build."""
    names = (
        "tests.sip",
        "tests.transaction",
        "tests.proxy",
        "tests.services",
        "tests.management",
        "tests.test_timing",
    )
    command = (sys.executable, "tools/compiled.py", "trial", *TRIAL, *names, "tests.test_ladders")
    return Job("compiled build", command, trial=True)


class Runner:
    """Runs jobs; `stop` ends what it started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, job: Job) -> Outcome:
        """One job to its end or its limit."""
        if self._stopped:
            return Outcome(failed=1, text="not begun: the run took too long")
        slug = re.sub(r"\W+", "_", job.name)
        command = [word.replace(TEMPORARY, str(self._folder / slug)) for word in job.command]
        log = self._folder / f"{slug}.log"
        began = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            with self._lock:
                self._running.add(process)
            try:
                status: int | None = process.wait(JOB_LIMIT)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                end(process)
                with self._lock:
                    self._running.discard(process)
        outcome = judge(job, status, log.read_text("utf-8", "replace"))
        outcome.seconds = time.monotonic() - began
        return outcome

    def stop(self) -> None:
        """End what runs; what waits is not begun."""
        self._stopped = True
        with self._lock:
            for process in self._running:
                end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and its children: the session that it leads."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def judge(job: Job, status: int | None, text: str) -> Outcome:
    """Counts from the exit status (None: killed at the limit) and the output of a job."""
    if not job.trial:
        return Outcome(passed=1) if status == 0 else Outcome(failed=1, text=text)
    summary, ran = SUMMARY.search(text), RAN.search(text)
    if summary is None or ran is None or status is None:
        why = f"ended with status {status}" if status is not None else "took too long"
        return Outcome(failed=1, text=f"{text}\n{job.name}: {why}, no summary")
    counts = {
        key: int(number)
        for key, _, number in (item.partition("=") for item in (summary[1] or "").split(", "))
        if number.isdigit()
    }
    bad = counts.get("failures", 0) + counts.get("errors", 0) + counts.get("unexpectedSuccesses", 0)
    outcome = Outcome(skipped=counts.get("skips", 0))
    outcome.failed = bad or (1 if status else 0)
    outcome.passed = max(0, int(ran[1]) - outcome.failed - outcome.skipped)
    for found in SKIP.finditer(text):
        reason, *names = [line.strip() for line in found[1].splitlines() if line.strip()]
        outcome.skips += [f"{name}: {reason}" for name in names]
    if os.environ.get("CI") == "true":
        refused = [skip for skip in outcome.skips if not TOLERATED.search(skip)]
        outcome.failed += len(refused)
        outcome.skipped -= len(refused)
        if refused:
            text += "\nskipped, which a build server may not:\n" + "\n".join(refused)
    if outcome.failed:
        outcome.text = text
    return outcome


def worth_another_try(outcomes: Mapping[Job, Outcome]) -> list[Job]:
    """The tests that failed, if they are few."""
    failed = [job for job, outcome in outcomes.items() if outcome.failed and job.trial]
    return failed if len(failed) <= SECOND_TRIES else []


def report(job: Job, outcome: Outcome, how: str = "") -> None:
    """The line of one job."""
    word = "FAILED" if outcome.failed else "ok"
    print(
        f"{how + job.name:<44} {outcome.passed:5d} passed {outcome.failed:3d} failed "
        f"{outcome.skipped:3d} skipped {outcome.seconds:6.1f} s  {word}",
        flush=True,
    )


def show(title: str, text: str) -> None:
    """The output of a job that failed."""
    print(f"\n{'=' * 30} {title} {'=' * 30}\n{text.rstrip()}", flush=True)


def main(names: Sequence[str]) -> int:
    """Exit status: 0 when everything passed, else 1."""
    # Who is started in the background ignores SIGINT, and so would every program that tests stop.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    jobs = [trial_job(name) for name in names] if names else [*checks(), *tests()]
    folder = Path(tempfile.mkdtemp(prefix="pbx-tests-"))
    runner = Runner(folder)
    limit = threading.Timer(RUN_LIMIT, runner.stop)
    limit.daemon = True
    limit.start()
    outcomes: dict[Job, Outcome] = {}
    first_tries: list[tuple[str, str]] = []
    try:
        with ThreadPoolExecutor(PARALLEL) as pool:
            pending = {
                pool.submit(runner.run, job): job for job in jobs if not ALONE.search(job.name)
            }
            for done in as_completed(pending):
                job, outcome = pending[done], done.result()
                outcomes[job] = outcome
                report(job, outcome)
        for job in jobs:
            if ALONE.search(job.name):
                outcomes[job] = runner.run(job)
                report(job, outcomes[job])
        for job in worth_another_try(outcomes):
            first_tries.append((job.name, outcomes[job].text))
            outcomes[job] = runner.run(job)
            report(job, outcomes[job], "again, alone: ")
    except KeyboardInterrupt:
        runner.stop()
        return 1
    finally:
        limit.cancel()
        shutil.rmtree(folder, ignore_errors=True)
    for name, text in first_tries:
        show(f"{name}, first try", text)
    total = Outcome()
    for job, outcome in outcomes.items():
        total.passed += outcome.passed
        total.failed += outcome.failed
        total.skipped += outcome.skipped
        total.skips += outcome.skips
        if outcome.failed:
            show(job.name, outcome.text)
    for name, _ in first_tries:
        print(f"run again: {name}")
    for skip in total.skips:
        print(f"skipped: {skip}")
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped", flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
