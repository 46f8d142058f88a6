"""How long a live PBX does nothing else, on PostgreSQL and Redis with many bindings.

The plugin ``heartbeat`` measures from within; SIPp registers as fast as was clean.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.highest import Verdict, verdict
from bench.measure import Stolen
from bench.servers import ask
from bench.sides import REGISTER, USERS, Side
from bench.sipp import Outcome
from bench.stored import STORED, store

PORT = 27130
#: Share of the rate that was not clean which is tried next, and what is too little to go on.
LESS, LEAST = 0.75, 400.0
#: REGISTERs per second of the first round, which makes the bindings; seconds until all is written.
FIRST, WRITTEN = 800.0, 3.0


def pauses(site: Path | None, rate: float, seconds: float) -> str:
    """Start, register, measure at the first rate from ``rate`` downwards that is clean."""
    folder = Path(tempfile.mkdtemp(prefix="pbx-bench-"))
    folder.chmod(0o755)
    side = Side("pbx", folder / "pbx", PORT)
    unclean: list[str] = []
    try:
        side.prepare("postgres")
        store(side.url, STORED - USERS)
        side.serve(site, {"plugins": {"enabled": ["heartbeat"]}})
        side.offer(REGISTER, FIRST, USERS / FIRST)
        while True:
            side.settle(10.0)
            ask(side.folder, "heartbeat", 1)
            stolen = Stolen()
            outcome = side.offer(REGISTER, rate, seconds)
            time.sleep(WRITTEN)
            found = ask(side.folder, "heartbeat")
            if verdict(outcome, rate) is Verdict.CLEAN or rate * LESS < LEAST:
                text = report(rate, seconds, outcome, side.rows("location"), found, unclean)
                return f"{text}\n\n{stolen} meanwhile."
            unclean.append(f"{rate:.0f}/s")
            rate = float(int(rate * LESS))
    finally:
        side.stop()
        shutil.rmtree(folder, ignore_errors=True)


def report(
    rate: float,
    seconds: float,
    outcome: Outcome,
    rows: int,
    found: Mapping[str, Any],
    unclean: Sequence[str],
) -> str:
    """A table of what the heart said."""
    clean = verdict(outcome, rate) is Verdict.CLEAN
    how = "clean" if clean else f"{outcome.failed} failed, {outcome.retransmitted} retransmitted"
    shares = list(found["Late"])
    lines = [
        f"Live, {rate:.0f} REGISTER/s for {seconds:.0f} s, {how}, with {rows} bindings, written "
        f"behind to PostgreSQL; {found['Beats']} beats, due every 5 ms"
        + (f" (not clean: {', '.join(unclean)})" if unclean else ""),
        "",
        f"| milliseconds | {' | '.join(shares)} |",
        "|" + "---|" * (len(shares) + 1),
    ]
    for title, key in (
        ("a beat was late", "Late"),
        ("of that at most its own CPU", "CPU"),
        ("of that waiting for a core that others had", "Waited"),
    ):
        cells = " | ".join(f"{found[key][share]:.1f}" for share in shares)
        lines.append(f"| {title} | {cells} |")
    return "\n".join(lines)
