"""Where blocking work is done: at once, or in one thread that hands back results in bunches."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from pbx.errors import DatabaseError, Kind

ResultT = TypeVar("ResultT")
_Job = tuple[Callable[..., Any], tuple[object, ...], "Deferred[Any]"]


class Inline:
    """Does it at once: every Deferred has fired already."""

    def run(self, call: Callable[..., ResultT], *args: object) -> Deferred[ResultT]:
        """The result of ``call(*args)``."""
        return defer.execute(call, *args)

    def close(self, last: Callable[[], None]) -> Deferred[None]:
        """Do the last thing."""
        return defer.execute(last)


class Worker:
    """One thread, started when first needed; calls are done in order.

    Results cross over to the reactor in bunches: one wake-up for all that were done meanwhile.
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor
        self._jobs: deque[_Job] = deque()
        self._done: deque[tuple[Deferred[Any], Any]] = deque()
        self._wanted = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._closing = False
        self._telling = False
        self._lock = threading.Lock()

    def run(self, call: Callable[..., ResultT], *args: object) -> Deferred[ResultT]:
        """The result of ``call(*args)``; for the reactor's thread."""
        if self._closing:
            return defer.fail(DatabaseError(Kind.UNAVAILABLE, "the database is closed"))
        result: Deferred[ResultT] = Deferred()
        self._jobs.append((call, args, result))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="pbx-storage", daemon=True)
            self._thread.start()
        self._wanted.release()
        return result

    def close(self, last: Callable[[], None]) -> Deferred[None]:
        """After everything that was asked for and the last thing; then the thread ends."""
        result = self.run(last)
        self._closing = True
        return result

    def _work(self) -> None:
        while True:
            self._wanted.acquire()
            call, args, result = self._jobs.popleft()
            try:
                outcome: Any = call(*args)
            except Exception:
                outcome = Failure()  # type: ignore[no-untyped-call]
            with self._lock:
                self._done.append((result, outcome))
                tell, self._telling = not self._telling, True
            if tell:
                self._reactor.callFromThread(self._deliver)
            if self._closing and not self._jobs:
                return

    def _deliver(self) -> None:
        with self._lock:
            self._telling = False
            done, self._done = self._done, deque()
        for result, outcome in done:
            result.callback(outcome)
