"""How much work one operation is, counted and not timed: the same number on a busy machine.

Counts what `bench.driver` does: bytes in, parsed, routed, answered, bytes out. Instructions of the
processor by valgrind where that is installed, bytecodes of our own modules everywhere. The figures
that were last accepted are in guard.json; ``--accept`` writes the present ones there.

    guard.py [--accept]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pbx
from bench.driver import driver
from bench.machine import distribution
from bench.servers import run_with

ACCEPTED = Path(__file__).with_name("guard.json")
OPERATIONS = ("options", "register", "message", "call")
USERS, WARM, COUNTED = 20, 40, 100
#: More than this over the accepted figure is worth a look.
TOLERANCE = 1.03
#: By kind and operation; None for a kind that cannot be counted here.
Counts = dict[str, dict[str, float] | None]
_REFERENCES = re.compile(r"I\s+refs:\s+([\d,]+)")
#: Modules whose bytecodes count: the PBX and the policy, not the driver.
_OURS = (str(Path(pbx.__file__).parent), str(Path(pbx.__file__).parent.parent / "etc"))


def work(more: str = "") -> None:
    """Every operation some times, and one of them more often."""
    with driver(USERS) as made:
        for name, operation in made.operations().items():
            for _ in range(WARM + (COUNTED if name == more else 0)):
                operation()


def instructions() -> dict[str, float] | None:
    """Instructions by operation, those of the driver included; None without valgrind."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        return None
    # Not counted: whoever comes first after a build writes its bytecode to disk.
    subprocess.run([sys.executable, "-m", "bench.guard", "--work", "none"], check=True)
    # Side by side: what is counted does not depend on what else runs.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        base, *found = pool.map(partial(_counted_by, valgrind), ("none", *OPERATIONS))
    return {
        name: round((count - base) / COUNTED) for name, count in zip(OPERATIONS, found, strict=True)
    }


def _counted_by(valgrind: str, more: str) -> int:
    done = subprocess.run(
        [
            *(valgrind, "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"),
            *(sys.executable, "-m", "bench.guard", "--work", more),
        ],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = _REFERENCES.search(done.stderr)
    assert found is not None, done.stderr
    return int(found[1].replace(",", ""))


def opcodes() -> dict[str, float]:
    """Bytecodes of our modules by operation."""
    found: dict[str, float] = {}
    with driver(USERS) as made:
        for name, operation in made.operations().items():
            for _ in range(WARM):
                operation()
            found[name] = round(_traced(operation) / COUNTED)
    return found


def _traced(operation: Callable[[], None]) -> int:
    count = 0

    def step(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "opcode"
        return step

    def entered(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_OURS):
            return None
        frame.f_trace_opcodes = True
        return step

    sys.settrace(entered)
    try:
        for _ in range(COUNTED):
            operation()
    finally:
        sys.settrace(None)
    return count


def key() -> str:
    """Figures compare only between the same Python of the same build, compiled or not."""
    compiled = not (sys.modules["pbx.sip.parser"].__file__ or "").endswith(".py")
    word = "compiled" if compiled else "pure"
    return f"{platform.python_version()} {distribution()} {word}"


def counted() -> Counts:
    """Everything that can be counted here."""
    return {"instructions": instructions(), "bytecodes": opcodes()}


def report(counts: Counts, build: str, file: Path, accept: bool = False) -> tuple[str, bool]:
    """A table of the counts beside those last accepted, and whether none has grown.

    ``accept`` makes them the accepted ones; what was not counted stays as it is.
    """
    known = json.loads(file.read_text()) if file.exists() else {}
    before = known.get(build, {})
    lines = [f"| per operation ({build}) | counted | last accepted | |", "|---|---|---|---|"]
    good = True
    for kind, found in counts.items():
        for name, count in (found or {}).items():
            accepted = before.get(kind, {}).get(name)
            word = "new"
            if accepted:
                ratio = count / accepted
                word = f"{ratio:.3f}"
                if ratio > TOLERANCE:
                    good = False
                    word += " MORE"
            lines.append(f"| {name}, {kind} | {count:.0f} | {accepted or '-'} | {word} |")
    if accept:
        known[build] = before | {kind: found for kind, found in counts.items() if found}
        file.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return "\n".join(lines), good


def of_build(site: Path | None, accept: bool = False) -> str:
    """The report of a compiled build, or of the checkout."""
    return run_with(site, "bench.guard", *(["--accept"] if accept else []))


def main() -> int:
    """Exit status 1 when something has grown."""
    parser = argparse.ArgumentParser(description="Count the work of one operation.")
    parser.add_argument("--accept", action="store_true", help="the figures of now are the norm")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work)
        return 0
    text, good = report(counted(), key(), ACCEPTED, arguments.accept)
    print(text)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
