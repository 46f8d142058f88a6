"""Large pages for the heap (madvise(2), Linux).

A process that sleeps a millisecond finds the translations of its addresses gone. With pages of 2 MB
it needs few of them, which saves some 8 % of its time (docs/performance.md). Where the kernel hands
them out only to who asks (`madvise` in /sys/kernel/mm/transparent_hugepage/enabled), this asks.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Final

_MADV_HUGEPAGE: Final = 14
#: The size of a large page on all that Debian runs on, in bytes; it cannot lie in less.
_LARGE: Final = 2 << 20
_SYSTEM: Final = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_PROCESS: Final = Path("/proc/self/maps")


def ask_for_huge_pages(system: Path = _SYSTEM, maps: Path = _PROCESS) -> int:
    """Ask for the anonymous memory that there is now; bytes asked for, 0 where it is no use.

    The kernel moves the memory by and by. To be asked again when the heap has grown: what is new
    does not join what was asked for.
    """
    try:
        if "[madvise]" not in system.read_text():
            return 0
        regions = maps.read_text()
    except OSError:
        return 0
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    asked = 0
    for start, end in heap(regions):
        if madvise(start, end - start, _MADV_HUGEPAGE) == 0:
            asked += end - start
    return asked


def heap(maps: str) -> list[tuple[int, int]]:
    """First address and the one behind the last of each large anonymous region that can be written
    to, as in /proc/PID/maps.
    """
    found: list[tuple[int, int]] = []
    for line in maps.splitlines():
        fields = line.split()
        if len(fields) < 5 or fields[1] != "rw-p" or fields[4] != "0":
            continue
        if len(fields) > 5 and fields[5] != "[heap]":
            continue
        first, _, behind = fields[0].partition("-")
        start, end = int(first, 16), int(behind, 16)
        if end - start >= _LARGE:
            found.append((start, end))
    return found
