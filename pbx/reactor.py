"""The reactor of Linux, with a shorter way to sockets that say so.

Before it lets a descriptor read, Twisted's reactor makes a context for the log and asks it for its
name and its number: 5 us of each wake-up, of which a call has thirteen. UDP sockets need none of
that: they log by themselves, and nobody but the reactor lets them read.
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
        """Wait so many seconds, for ever when None, then let read and write what can."""
        try:
            found = self._poller.poll(-1 if delay is None else delay, len(self._selectables))
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        direct = self._direct
        for number, event in found:
            reader = direct.get(number)
            if reader is not None and event == EPOLLIN:
                try:
                    reader.doRead()
                except Exception:
                    self._failed(reader)
                continue
            selectable = self._selectables.get(number)
            if selectable is not None:
                _call_with_logger(selectable, self._doReadOrWrite, selectable, number, event)

    def _failed(self, reader: Any) -> None:
        """As Twisted does: such a descriptor is given up."""
        self.log.failure("{reader} failed", reader=reader.logPrefix())
        self._disconnectSelectable(reader, sys.exc_info()[1], True)  # type: ignore[no-untyped-call]


def install_reactor() -> bool:
    """Make it the reactor, unless there is one, as ``twistd --reactor`` chose it."""
    if "twisted.internet.reactor" in sys.modules:
        return False
    installReactor(DirectReactor())  # type: ignore[no-untyped-call]
    return True
