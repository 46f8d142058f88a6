"""What the C library's malloc keeps of what was freed: as little as costs nothing."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

#: Parameters of mallopt(3), which glibc otherwise raises to the size of what was freed. Then tables
#: that grow and shrink, the answers of the last half minute above all, are cut out of the heap and
#: leave holes in it: 3 MB after 10,000 registrations. What is at the top goes back from 1 MB on, so
#: that a datagram never asks the kernel for its buffer.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
SETTINGS = ((MMAP_THRESHOLD, 128 * 1024), (TRIM_THRESHOLD, 1024 * 1024))


def keep_dense() -> None:
    """Large pieces come from the kernel and go back to it, for as long as the process lives."""
    for option, value in SETTINGS:
        _call("mallopt", option, value)


def give_back() -> None:
    """The holes that loading has left, once."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    function: Callable[..., Any] | None = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        # Not there in other C libraries.
        function(*arguments)
