"""SQLite: in memory and at once (`MemoryDatabase`), or a file behind one thread.

Text keeps its length (SQLite ignores the widths of columns). Timestamps are texts
``YYYY-MM-DD HH:MM:SS``, ``{bytea}`` columns bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from pbx.errors import DatabaseError
from pbx.interfaces import IChangeSource, IDatabase, IHealth, IMetrics, IStatistics
from pbx.metrics import Metric
from pbx.storage.batches import Batch, write_surviving
from pbx.storage.condition import Condition
from pbx.storage.session import Session
from pbx.storage.worker import Inline, Worker

ResultT = TypeVar("ResultT")


@implementer(IDatabase, IChangeSource, IHealth, IStatistics, IMetrics)
class SQLiteDatabase:
    """A file. Without a reactor that takes calls from threads everything is done at once."""

    dialect = "sqlite"
    pushes = False

    def __init__(
        self,
        path: str,
        clock: IReactorTime,
        slow: float = 1.0,
        busy_timeout: float = 5.0,
        synchronous: str = "NORMAL",
    ) -> None:
        self.url = "memory:" if path == ":memory:" else f"sqlite:{path}"
        self._clock = clock
        self._slow = slow
        self._session = Session(path, busy_timeout, synchronous)
        self._condition = Condition(f"database {self.url}")
        threaded = path != ":memory:" and IReactorFromThreads.providedBy(clock)
        self._runner: Worker | Inline = Worker(IReactorFromThreads(clock)) if threaded else Inline()

    @property
    def available(self) -> bool:
        """The last operation did not fail for want of the file."""
        return self._condition.available

    @property
    def prompt(self) -> bool:
        """It is available and answers soon."""
        return self._condition.available and not self._condition.lag

    @property
    def trouble(self) -> str:
        """Why it is not available."""
        return self._condition.trouble

    def start(self) -> Deferred[tuple[str, ...]]:
        """Open it and complete the schema: what was added to an existing database. Fails with
        DatabaseError or SchemaMismatch.
        """
        return self._run(self._session.ensure_schema)

    def query(self, sql: str, params: Sequence[object] = ()) -> Deferred[list[tuple[Any, ...]]]:
        """The rows of a SELECT."""
        return self._run(self._session.query, sql, params)

    def execute(self, sql: str, params: Sequence[object] = ()) -> Deferred[int]:
        """A statement; the number of rows it touched."""
        return self._run(self._session.execute, sql, params)

    def write(
        self,
        table: str,
        key: Sequence[str],
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        deletes: Sequence[Sequence[object]] = (),
    ) -> Deferred[None]:
        """Deletes, then upserts, in one transaction; a row that is refused is dropped alone."""

        def attempt(batch: Batch) -> Deferred[None]:
            return self._run(self._session.write, table, key, columns, batch.rows, batch.deletes)

        return Deferred.fromCoroutine(
            write_surviving(table, Batch(rows, deletes), attempt, self._condition)
        )

    def watch(self, tables: Sequence[str], changed: Callable[[str], None]) -> Deferred[None]:
        """Let triggers count changes; SQLite does not push."""
        return self._run(self._session.watch, tables)

    def change_marks(self, tables: Sequence[str]) -> Deferred[Mapping[str, object]]:
        """Counters of changes by table."""
        return self._run(self._session.change_counts)

    def close(self) -> Deferred[None]:
        """After what was begun is done."""
        return self._runner.close(self._session.close)

    def health(self) -> tuple[str, str]:
        """("ok" | "degraded", why)."""
        return self._condition.health()

    def statistics(self) -> Mapping[str, int]:
        """Counters by name."""
        return self._condition.counts("sql")

    def metrics(self) -> Iterable[Metric]:
        """How long it takes."""
        return self._condition.metrics()

    def _run(self, call: Callable[..., ResultT], *args: object) -> Deferred[ResultT]:
        self._condition.queries += 1
        started = self._clock.seconds()
        return self._runner.run(call, *args).addCallbacks(
            self._worked, self._failed, callbackArgs=(started,), errbackArgs=(started,)
        )

    def _worked(self, result: ResultT, started: float) -> ResultT:
        self._condition.finished(self._clock.seconds() - started, self._slow)
        self._condition.worked()
        return result

    def _failed(self, failure: Failure, started: float) -> Failure:
        self._condition.finished(self._clock.seconds() - started, self._slow)
        if isinstance(failure.value, DatabaseError):
            self._condition.failed(failure.value)
        return failure
