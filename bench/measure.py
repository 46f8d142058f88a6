"""What processes cost: CPU seconds and memory from /proc, children included."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> Iterator[int]:
    """A process and all its living descendants."""
    yield pid
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from tree(int(child))
    except OSError:
        return


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time so far of these processes, descendants and reaped children included."""
    total = 0
    for root in pids:
        for pid in tree(root):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            except OSError:
                continue
            total += sum(map(int, fields[11:15]))
    return total / TICKS


class Stolen:
    """What a hypervisor gave to others since this was made, when it says so."""

    def __init__(self, path: Path = Path("/proc/stat")) -> None:
        self._path = path
        self._before = self._read()

    def _read(self) -> tuple[int, int]:
        """Ticks that were stolen, and those in which we ran or would have."""
        fields = self._path.read_text().partition("\n")[0].split()[1:9]
        user, nice, system, _, _, irq, softirq, stolen = map(int, fields)
        return stolen, user + nice + system + irq + softirq + stolen

    def share(self) -> float:
        """Of the time in which somebody here wanted to run; 0 to 1."""
        now = self._read()
        busy = now[1] - self._before[1]
        return (now[0] - self._before[0]) / busy if busy > 0 else 0.0

    def __str__(self) -> str:
        return f"The hypervisor gave {100 * self.share():.1f} % of our time to others"


def pss_bytes(pid: int) -> int:
    """Proportional set size of a process and its descendants."""
    total = 0
    for one in tree(pid):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total
