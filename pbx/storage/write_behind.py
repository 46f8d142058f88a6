"""Row changes on their way to one table: the newest state of each key, flushed in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import ClassVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from pbx.errors import DatabaseError
from pbx.interfaces import IDatabase, IHealth, IMetrics, IStartable, IStatistics, IWriteBehind
from pbx.metrics import Kind, Metric

Row = tuple[object, ...]
Key = tuple[object, ...]

#: Rows in one transaction: their texts are made in one turn of the reactor.
BATCH = 400
#: Seconds after which it is to be told that changes wait.
WORRY = 30.0
#: Longest pause between attempts while the database fails, in seconds.
MAX_PAUSE = 10.0


class WriteBehind:
    """Changes of one table, written every ``interval`` seconds, one batch at a time.

    Changes of one key collapse to the newest. On failure they stay and are tried again with growing
    pauses. Beyond ``limit`` the oldest inserted rows are dropped, then new keys are not taken; both
    are counted and logged. An ``interval`` of 0 starts a flush with each change.
    """

    log: ClassVar = Logger(__name__)

    def __init__(
        self,
        database: IDatabase,
        clock: IReactorTime,
        table: str,
        key: Sequence[str],
        columns: Sequence[str],
        interval: float = 1.0,
        limit: int = 200_000,
    ) -> None:
        self.table = table
        self.written = 0
        self.dropped = 0
        self._database = database
        self._clock = clock
        self._key = tuple(key)
        self._columns = tuple(columns)
        self._interval = interval
        self._limit = limit
        self._changed: dict[Key, Row | Callable[[], Row] | None] = {}
        self._inserted: deque[Row] = deque()
        self._again: list[Row] = []
        self._flying = 0
        self._since = 0.0
        self._reported = 0
        self._pause = 0.0
        self._wakeup: IDelayedCall | None = None
        self._in_flight = False
        self._waiters: list[Deferred[None]] = []
        self._stopped = False

    @property
    def waiting(self) -> int:
        """Changes that are not in the database yet."""
        return len(self._changed) + len(self._inserted) + len(self._again) + self._flying

    @property
    def oldest(self) -> float:
        """Seconds since the first change that is not written; 0 when nothing waits."""
        return self._clock.seconds() - self._since if self.waiting else 0.0

    def metrics(self) -> Iterable[Metric]:
        """How long the queue is."""
        for name, kind, meaning, value in (
            ("rows", Kind.GAUGE, "Changes that wait for the database.", float(self.waiting)),
            ("age_seconds", Kind.GAUGE, "How long the oldest of them has waited.", self.oldest),
            ("written_total", Kind.COUNTER, "Changes written.", float(self.written)),
            ("dropped_total", Kind.COUNTER, "Changes lost: too many waited.", float(self.dropped)),
        ):
            yield Metric(
                f"pbx_write_queue_{name}", kind, meaning, ("table",), [((self.table,), value)]
            )

    def health(self) -> tuple[str, str]:
        """Degraded while changes wait too long, whatever the reason, or are being lost."""
        if self.dropped > self._reported:
            return "degraded", f"changes of {self.table} are lost: too many wait"
        if self.oldest > WORRY:
            return "degraded", f"{self.waiting} changes of {self.table} wait for the database"
        return "ok", ""

    def put(self, key: Key, row: Row | Callable[[], Row]) -> None:
        """The row as it is now, or a function that makes it at flush time."""
        changed = self._changed
        if key not in changed and len(changed) >= self._limit:
            self.dropped += 1
            return
        changed[key] = row
        if self._wakeup is None:
            self._plan()

    def delete(self, key: Key) -> None:
        """The row is gone."""
        changed = self._changed
        if key not in changed and len(changed) >= 2 * self._limit:
            self.dropped += 1
            return
        changed[key] = None
        if self._wakeup is None:
            self._plan()

    def forget(self, key: Key) -> None:
        """A change that waits is not ours to write any more."""
        self._changed.pop(key, None)

    def insert(self, row: Row) -> None:
        """One more row of a table that only grows."""
        inserted = self._inserted
        inserted.append(row)
        if len(inserted) > self._limit:
            inserted.popleft()
            self.dropped += 1
        if self._wakeup is None:
            self._plan()

    def flush(self) -> Deferred[None]:
        """Everything that waits now is in the database, or the attempt failed and it waits on."""
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        if not self._in_flight:
            self._cancel_wakeup()
            self._in_flight = True
            Deferred.fromCoroutine(self._fly()).addErrback(self._crashed)
        return waiter

    def start(self) -> Deferred[None]:
        """Nothing to read."""
        return succeed(None)

    def stop(self, patience: float = 5.0) -> Deferred[None]:
        """Flush what waits, for at most so many seconds, and write no more."""
        self._stopped = True
        done = self.flush()
        done.addTimeout(patience, self._clock)
        return done.addBoth(self._report_loss)

    def statistics(self) -> Mapping[str, int]:
        """Group ``storage``."""
        return {
            f"storage:{self.table}_queued": self.waiting,
            f"storage:{self.table}_written": self.written,
            f"storage:{self.table}_dropped": self.dropped,
        }

    def _plan(self) -> None:
        if self.waiting == 1:
            self._since = self._clock.seconds()
        self._wake_later()

    def _wake_later(self) -> None:
        if self._stopped or self._in_flight:
            return
        delay = self._pause or self._interval
        if delay > 0.0:
            self._wakeup = self._clock.callLater(delay, self._turn)
        else:
            self.flush()

    def _turn(self) -> None:
        self._wakeup = None
        if self.dropped > self._reported:
            self.log.error(
                "{count} changes of {table} were dropped: more than {limit} wait for the database",
                count=self.dropped - self._reported,
                table=self.table,
                limit=self._limit,
            )
            self._reported = self.dropped
        self.flush()

    def _cancel_wakeup(self) -> None:
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = None

    async def _fly(self) -> None:
        """Write what waits; again for those who asked for it meanwhile."""
        while self._waiters:
            waiters, self._waiters = self._waiters, []
            began = self._clock.seconds()
            try:
                await self._write_waiting()
                self._pause = 0.0
                self._since = began
            except DatabaseError:
                self._pause = min(max(self._pause * 2, self._interval, 0.1), MAX_PAUSE)
                waiters += self._waiters
                self._waiters = []
            for waiter in waiters:
                waiter.callback(None)
        self._in_flight = False
        if self._changed or self._inserted or self._again:
            self._wake_later()

    def _crashed(self, failure: Failure) -> None:
        self.log.failure("writing {table} failed", failure=failure, table=self.table)
        self._in_flight = False
        self._pause = MAX_PAUSE
        self._wake_later()

    async def _write_waiting(self) -> None:
        left = len(self._changed)
        while left > 0:
            left -= await self._write_changed(min(left, BATCH))
        left = len(self._again) + len(self._inserted)
        while left > 0:
            left -= await self._write_inserted(min(left, BATCH))

    async def _write_changed(self, count: int) -> int:
        changed = self._changed
        batch = dict(islice(changed.items(), count))
        for key in batch:
            del changed[key]
        rows, deletes = self._made(batch)
        self._flying = len(batch)
        try:
            await self._database.write(self.table, self._key, self._columns, rows, deletes)
        except BaseException:
            self._changed = {**batch, **changed}
            raise
        finally:
            self._flying = 0
        self.written += len(rows) + len(deletes)
        return max(len(batch), 1)

    def _made(
        self, batch: dict[Key, Row | Callable[[], Row] | None]
    ) -> tuple[list[Row], list[Key]]:
        rows: list[Row] = []
        deletes: list[Key] = []
        for key, change in batch.items():
            if change is None:
                deletes.append(key)
            elif isinstance(change, tuple):
                rows.append(change)
            else:
                try:
                    rows.append(change())
                except Exception:
                    self.log.failure("no row of {table} for {key}", table=self.table, key=key)
                    self.dropped += 1
        return rows, deletes

    async def _write_inserted(self, count: int) -> int:
        """A batch that failed is tried again as it was: the database may have it already and can
        only tell by its being the same.
        """
        inserted = self._inserted
        batch, self._again = self._again, []
        if not batch:
            batch = [inserted.popleft() for _ in range(min(count, len(inserted)))]
        self._flying = len(batch)
        try:
            await self._database.write(self.table, (), self._columns, batch)
        except BaseException:
            self._again = batch
            raise
        finally:
            self._flying = 0
        self.written += len(batch)
        return max(len(batch), 1)

    def _report_loss(self, result: object) -> None:
        if self.waiting:
            self.log.error(
                "{count} changes of {table} are lost: the database did not take them",
                count=self.waiting,
                table=self.table,
            )


classImplements(WriteBehind, IWriteBehind, IStartable, IStatistics, IMetrics, IHealth)
