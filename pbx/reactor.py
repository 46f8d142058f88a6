"""The reactor of Linux, with a shorter way to sockets that say so.

Before it lets a descriptor read, Twisted's reactor makes a context for the log and asks it for its
name and its number, and between two waits it looks for timed calls: 5 us and 3 us of each wake-up,
of which a call has thirteen. UDP sockets need none of that: they log by themselves, and nobody but
the reactor lets them read.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet.epollreactor import EPOLLIN, EPollReactor
from twisted.internet.main import installReactor
from twisted.logger import Logger
from twisted.python import log as twisted_log

#: Seconds that epoll(7) can wait at most.
_LONGEST = 2_000_000.0

_call_with_logger: Callable[..., object] = twisted_log.callWithLogger


class DirectReactor(EPollReactor):
    """Readers whose attribute ``direct`` is true are told to read, and nothing else."""

    log: ClassVar = Logger()

    def __init__(self) -> None:
        self._direct: dict[int, Any] = {}
        super().__init__()  # type: ignore[no-untyped-call]

    def addReader(self, reader: Any) -> None:
        """IReactorFDSet."""
        super().addReader(reader)  # type: ignore[no-untyped-call]
        if getattr(reader, "direct", False):
            self._direct[reader.fileno()] = reader

    def removeReader(self, reader: Any) -> None:
        """IReactorFDSet."""
        super().removeReader(reader)  # type: ignore[no-untyped-call]
        self._forget(reader)

    def removeAll(self) -> Any:
        """IReactorFDSet."""
        self._direct.clear()
        return super().removeAll()  # type: ignore[no-untyped-call]

    def _forget(self, reader: object) -> None:
        # One that is closed has no number any more.
        for number in [number for number, known in self._direct.items() if known is reader]:
            del self._direct[number]

    def doIteration(self, delay: float | None) -> None:
        """Wait so many seconds, for ever when None, then let read and write what can; again while
        there was nothing but to read, and nothing that the main loop has to do.
        """
        timeout = -1 if delay is None else delay
        while self._let_read(timeout):
            # Without a delay nobody wants to wait: something is due, or the reactor ends.
            if not timeout or self._newTimedCalls or self.threadCallQueue or self._justStopped:
                return
            if self._pendingTimedCalls:
                timeout = min(self._pendingTimedCalls[0].time - self.seconds(), _LONGEST)
                if timeout <= 0:
                    return
            else:
                timeout = -1

    def _let_read(self, timeout: float) -> bool:
        """One turn; whether only direct readers had one, and did not fail."""
        try:
            found = self._poller.poll(timeout, len(self._selectables))
        except OSError as error:
            if error.errno == errno.EINTR:
                return False
            raise
        direct = self._direct
        only = bool(found)
        for number, event in found:
            reader = direct.get(number)
            if reader is not None and event == EPOLLIN:
                try:
                    reader.doRead()
                except Exception:
                    only = False
                    self._failed(reader)
                continue
            only = False
            selectable = self._selectables.get(number)
            if selectable is not None:
                _call_with_logger(selectable, self._doReadOrWrite, selectable, number, event)
        return only

    def _failed(self, reader: Any) -> None:
        """As Twisted does: such a descriptor is given up."""
        self.log.failure("{reader} failed", reader=reader.logPrefix())
        self._disconnectSelectable(reader, sys.exc_info()[1], True)  # type: ignore[no-untyped-call]


#: What is ours of Twisted's own, beside what its interfaces promise.
_NEEDED = (
    *("_poller", "_selectables", "_doReadOrWrite", "_disconnectSelectable"),
    *("_newTimedCalls", "_pendingTimedCalls", "threadCallQueue", "_justStopped"),
)


def install_reactor() -> bool:
    """Make it the reactor, unless there is one, as ``twistd --reactor`` chose it, or Twisted is
    another one than we know.
    """
    if "twisted.internet.reactor" in sys.modules:
        return False
    made = DirectReactor()
    if not all(hasattr(made, name) for name in _NEEDED):
        return False
    installReactor(made)  # type: ignore[no-untyped-call]
    return True
