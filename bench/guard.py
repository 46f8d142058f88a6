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
from pathlib import Path
from types import FrameType
from typing import Any

import pbx
from bench.driver import driver
from bench.servers import run_with

ACCEPTED = Path(__file__).with_name("guard.json")
OPERATIONS = ("options", "register", "message", "call")
USERS, WARM, COUNTED = 20, 40, 100
#: More than this over the accepted figure is worth a look.
TOLERANCE = 1.03
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
    base = _counted_by(valgrind, "none")
    return {name: round((_counted_by(valgrind, name) - base) / COUNTED) for name in OPERATIONS}


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
    """Figures compare only between the same Python, compiled or not."""
    compiled = not (sys.modules["pbx.sip.parser"].__file__ or "").endswith(".py")
    version = ".".join(platform.python_version_tuple()[:2])
    return f"{version} {'compiled' if compiled else 'pure'}"


def report(accept: bool = False) -> tuple[str, bool]:
    """A table of the counts beside those last accepted, and whether none has grown."""
    counts = {"instructions": instructions(), "bytecodes": opcodes()}
    known = json.loads(ACCEPTED.read_text()) if ACCEPTED.exists() else {}
    before = known.get(key(), {})
    lines = [f"| per operation ({key()}) | counted | last accepted | |", "|---|---|---|---|"]
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
        known[key()] = {kind: found for kind, found in counts.items() if found}
        ACCEPTED.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return "\n".join(lines), good


def of_build(site: Path | None) -> str:
    """The report of a compiled build, or of the checkout."""
    return run_with(site, "bench.guard")


def main() -> int:
    """Exit status 1 when something has grown."""
    parser = argparse.ArgumentParser(description="Count the work of one operation.")
    parser.add_argument("--accept", action="store_true", help="the figures of now are the norm")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work)
        return 0
    text, good = report(arguments.accept)
    print(text)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
