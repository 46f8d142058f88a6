"""Large pages: which memory they are asked for."""

from __future__ import annotations

import io
import mmap
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pbx.huge_pages import ask_for_huge_pages, heap, in_use

_MAPS = """\
00400000-00a00000 r-xp 00000000 fe:00 1234                               /usr/bin/python3.11
00a00000-00f00000 rw-p 00600000 fe:00 1234                               /usr/bin/python3.11
01f3a000-05000000 rw-p 00000000 00:00 0                                  [heap]
7f0000000000-7f0000400000 rw-p 00000000 00:00 0
7f0000400000-7f0000500000 rw-p 00000000 00:00 0
7f0010000000-7f0010400000 rw-s 00000000 00:01 77                         /dev/zero (deleted)
7f0020000000-7f0020400000 ---p 00000000 00:00 0
7ffd00000000-7ffd00800000 rw-p 00000000 00:00 0                          [stack]
cut
"""


class HugePagesTests(SynchronousTestCase):
    def setting(self, text: str) -> Path:
        path = Path(self.mktemp())
        path.write_text(text)
        return path

    def test_heap(self) -> None:
        """Anonymous, private, writable, and room for one large page; no stack."""
        self.assertEqual(
            heap(_MAPS),
            [(0x01F3A000, 0x05000000), (0x7F0000000000, 0x7F0000400000)],
        )

    def test_in_use(self) -> None:
        """Whole large pages, those that are half empty left out."""
        large, small = 2 << 20, 4096

        def pages(*used: int) -> io.BytesIO:
            """So many of the 512 small pages in each."""
            entries = b"".join(
                b"\1\0\0\0\0\0\0\x81" * count + bytes(8) * (512 - count) for count in used
            )
            return io.BytesIO(entries)

        def found(start: int, end: int, *used: int) -> list[tuple[float, float]]:
            return [(a / large, b / large) for a, b in in_use(pages(*used), start, end)]

        whole = 5 * large
        self.assertEqual(found(0, whole, 512, 300, 255, 0, 256), [(0, 2), (4, 5)])
        self.assertEqual(found(0, whole, 0, 0, 512, 512, 0), [(2, 4)])
        self.assertEqual(found(small, whole - small, 512, 512, 512, 512, 512), [(1, 4)])
        self.assertEqual(found(small, 2 * large - small, 512, 512), [])
        self.assertEqual(found(0, whole, 512, 512), [(0, 2)])
        self.assertEqual(found(0, 33 * large, 0), [(0, 33)])

    def test_asked(self) -> None:
        """The kernel notes it for the memory that there is."""
        held = mmap.mmap(-1, 12 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.addCleanup(held.close)
        for at in range(0, len(held), 4096):
            held[at] = 1
        asked = ask_for_huge_pages(self.setting("always [madvise] never\n"))
        if not Path("/sys/kernel/mm/transparent_hugepage").exists():
            self.assertEqual(asked, 0)
            return
        self.assertGreaterEqual(asked, 8 << 20)
        marked = [
            line for line in Path("/proc/self/smaps").read_text().splitlines() if " hg" in line
        ]
        self.assertTrue(marked)

    def test_not_asked(self) -> None:
        """Where the kernel does so by itself, or never, or knows nothing of it."""
        for text in ("[always] madvise never\n", "always madvise [never]\n"):
            self.assertEqual(ask_for_huge_pages(self.setting(text)), 0)
        missing = Path(self.mktemp())
        self.assertEqual(ask_for_huge_pages(missing), 0)
        asking = self.setting("[madvise]")
        self.assertEqual(ask_for_huge_pages(asking, missing), 0)
        self.assertEqual(ask_for_huge_pages(asking, self.setting(_MAPS), missing), 0)

    def test_memory_that_is_gone(self) -> None:
        """An error of the kernel is no fault."""
        maps = self.setting("00400000-00800000 rw-p 00000000 00:00 0\n")
        pages = Path(self.mktemp())
        pages.write_bytes(b"\xff" * (8 << 10))
        self.assertEqual(ask_for_huge_pages(self.setting("[madvise]"), maps, pages), 0)
