"""Large pages for the heap (madvise(2), Linux).

A process that sleeps a millisecond finds the translations of its addresses gone. With pages of 2 MB
it needs few of them, which saves some 8 % of its time (docs/performance.md). Where the kernel hands
them out only to who asks (`madvise` in /sys/kernel/mm/transparent_hugepage/enabled), this asks, for
memory that is in use: what is mostly empty, as the stacks of threads, would only be filled up.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

_MADV_HUGEPAGE: Final = 14
#: The sizes of a large page and of a small one on all that Debian runs on, in bytes.
_LARGE: Final = 2 << 20
_SMALL: Final = 4096
#: How many of the small pages in place of a large one are in use at least: half.
_ENOUGH: Final = _LARGE // _SMALL // 2
#: Bytes of the largest region in which is looked for what is in use.
_LOOKED_AT: Final = 64 << 20
#: The highest byte of an entry of /proc/PID/pagemap to 1 for a page in use.
_IN_USE: Final = bytes(128) + b"\1" * 128
_SYSTEM: Final = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_PROCESS: Final = Path("/proc/self/maps")
_PAGES: Final = Path("/proc/self/pagemap")


def ask_for_huge_pages(system: Path = _SYSTEM, maps: Path = _PROCESS, pages: Path = _PAGES) -> int:
    """Ask for the anonymous memory that is in use now; bytes asked for, 0 where it is no use.

    The kernel moves the memory by and by. To be asked again when the heap has grown: what is new
    does not join what was asked for.
    """
    try:
        if "[madvise]" not in system.read_text():
            return 0
        regions = maps.read_text()
        with pages.open("rb") as entries:
            found = [piece for region in heap(regions) for piece in in_use(entries, *region)]
    except OSError:
        return 0
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return sum(
        end - start for start, end in found if madvise(start, end - start, _MADV_HUGEPAGE) == 0
    )


def in_use(pages: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int]]:
    """First address and the one behind the last of each piece of a region that large pages suit:
    where one can lie and enough is in use. ``pages`` as /proc/PID/pagemap: 8 bytes a page. A large
    region is the heap, and taken as it is: to look at a gigabyte would take 10 ms.
    """
    if end - start > _LOOKED_AT:
        yield start, end
        return
    first = behind = -(-start // _LARGE) * _LARGE
    while behind + _LARGE <= end:
        pages.seek(behind // _SMALL * 8)
        highest = pages.read(_LARGE // _SMALL * 8)[7::8]
        here, behind = behind, behind + _LARGE
        if highest.translate(_IN_USE).count(1) < _ENOUGH:
            if first < here:
                yield first, here
            first = behind
    if first < behind:
        yield first, behind


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
