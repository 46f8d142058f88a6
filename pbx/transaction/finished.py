"""What is left of finished non-INVITE transactions: key and response (timers J and K).

Thousands end per second, so they share one timer of one second, and their number and size are
bounded. Of a key only its hash is kept, 64 bits that nobody outside can predict: with all 32,768
places taken one request in 500 million million would be taken for a repeat.
"""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import Final

from pbx.sip.message import Request, Response
from pbx.timing import Timer, TimerWheel

#: Which lines of a request are looked for in its response at most (the first 32), and the longest
#: To tag that is kept by itself.
_LINES: Final = (1 << 32) - 1
_TAG: Final = 255
#: In front of a response that is kept as it is.
_WHOLE: Final = bytes(5)


class Finished:
    """Bytes by key, each for ``seconds`` (up to 1 s more), the oldest going first when there are
    more than ``limit`` or they take more than ``byte_limit``.
    """

    __slots__ = (
        "_byte_limit",
        "_entries",
        "_limit",
        "_now",
        "_order",
        "_past",
        "_periods",
        "_timer",
        "_wheel",
        "bytes",
    )

    def __init__(self, wheel: TimerWheel, seconds: float, limit: int, byte_limit: int) -> None:
        self._wheel = wheel
        self._periods = ceil(seconds) + 1
        self._limit = limit
        self._byte_limit = byte_limit
        self._entries: dict[int, bytes] = {}
        self._order: deque[int] = deque()
        # How many keys of ``_order`` came in each past second, and in this one.
        self._past: deque[int] = deque()
        self._now = 0
        self._timer: Timer | None = None
        #: What the entries take, without what keeps them in order.
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._order)

    def find(self, key: str) -> bytes | None:
        """What was kept under a key."""
        return self._entries.get(hash(key))

    def add(self, key: str, data: bytes) -> None:
        """Keep an entry; under a key that is there already it takes the place of the old one."""
        number = hash(key)
        entries = self._entries
        known = entries.get(number)
        entries[number] = data
        if known is not None:
            self.bytes += len(data) - len(known)
            return
        self._order.append(number)
        self._now += 1
        self.bytes += len(data)
        if len(self._order) > self._limit or self.bytes > self._byte_limit:
            self._make_room()
        if self._timer is None:
            self._timer = self._wheel.call_later(1.0, self._second_passed)

    def _make_room(self) -> None:
        past = self._past
        while len(self._order) > self._limit or self.bytes > self._byte_limit:
            self._drop()
            for at, count in enumerate(past):
                if count:
                    past[at] = count - 1
                    break
            else:
                self._now -= 1

    def _drop(self) -> None:
        self.bytes -= len(self._entries.pop(self._order.popleft()))

    def _second_passed(self) -> None:
        past = self._past
        past.append(self._now)
        self._now = 0
        if len(past) >= self._periods:
            for _ in range(past.popleft()):
                self._drop()
        self._timer = None
        if self._order:
            self._timer = self._wheel.call_later(1.0, self._second_passed)
        else:
            past.clear()


def shortened(request: Request, response: Response, data: bytes) -> bytes:
    """What has to be kept of a response, ``data`` in bytes, until its request can come no more.

    Most of a response are lines of its request (8.2.6.2), which a repeat brings along. So that is:
    which lines, the length of the tag that To gets, the tag, and the rest.
    """
    names, lines = response.names, response.lines
    end = len(lines)
    at = size = echoed = 0
    line_bit = 1
    tag = ""
    if end == 0:
        return _WHOLE + data
    found = lines[0]
    for position, line in enumerate(request.lines):
        if found == line:
            pass
        elif names[at] == request.names[position] == "to" and not tag and found.startswith(line):
            tag = found[len(line) :]
        else:
            line_bit += line_bit
            continue
        echoed += line_bit
        size += len(found) + 2
        at += 1
        if at == end:
            break
        found = lines[at]
        line_bit += line_bit
    if not 0 < echoed <= _LINES or len(tag) > _TAG or not data.isascii():
        return _WHOLE + data
    if not 100 <= response.status <= 999:
        return _WHOLE + data
    # SIP/2.0 200 Reason, CRLF
    start = 14 + len(response.reason)
    head = (echoed * 256 + len(tag)).to_bytes(5, "big")
    return head + tag.encode() + data[:start] + data[start + size :]


def restored(request: Request, kept: bytes) -> bytes:
    """The response again, for a request that came again. One with other lines than before is none:
    empty.
    """
    echoed = int.from_bytes(kept[:4], "big")
    end = 5 + kept[4]
    tag = kept[5:end].decode()
    if not echoed:
        return kept[end:]
    status, _, rest = kept[end:].partition(b"\r\n")
    lines = request.lines
    if echoed >> len(lines):
        return b""
    found = [status.decode()]
    for at, line in enumerate(lines):
        if echoed >> at & 1:
            found.append(line + tag if tag and request.names[at] == "to" else line)
    head = "\r\n".join(found)
    return head.encode("utf-8", "surrogateescape") + b"\r\n" + rest
