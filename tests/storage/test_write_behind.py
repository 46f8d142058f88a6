"""WriteBehind against a database that can be made to fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pbx.errors import DatabaseError, Kind
from pbx.interfaces import IDatabase, IWriteBehind
from pbx.storage.write_behind import BATCH, WriteBehind

Written = tuple[tuple[str, ...], list[Sequence[object]], list[Sequence[object]]]


@implementer(IDatabase)
class FakeDatabase:
    """Keeps what was written; fails while ``broken``; waits for ``release`` while ``slow``."""

    url = "fake:"
    dialect = "sqlite"
    available = prompt = True
    trouble = ""

    def __init__(self) -> None:
        self.broken = False
        self.slow = False
        self.pending: list[Deferred[None]] = []
        self.batches: list[Written] = []

    def start(self) -> Deferred[Sequence[str]]:
        return succeed(())

    def query(self, sql: str, params: Sequence[object] = ()) -> Deferred[list[tuple[Any, ...]]]:
        return succeed([])

    def execute(self, sql: str, params: Sequence[object] = ()) -> Deferred[int]:
        return succeed(0)

    def write(
        self,
        table: str,
        key: Sequence[str],
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        deletes: Sequence[Sequence[object]] = (),
    ) -> Deferred[None]:
        if self.broken:
            return fail(DatabaseError(Kind.UNAVAILABLE, "broken"))
        self.batches.append((tuple(key), list(rows), list(deletes)))
        if self.slow:
            self.pending.append(Deferred())
            return self.pending[-1]
        return succeed(None)

    def close(self) -> Deferred[None]:
        return succeed(None)

    def release(self) -> None:
        self.pending.pop(0).callback(None)


class WriteBehindTests(SynchronousTestCase):
    """Rules of the queue."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.database = FakeDatabase()
        self.queue = self.queued()

    def queued(self, interval: float = 1.0, limit: int = 1000) -> WriteBehind:
        return WriteBehind(self.database, self.clock, "t", ("k",), ("k", "v"), interval, limit)

    def test_interface(self) -> None:
        """It keeps its promises."""
        self.assertTrue(verifyObject(IWriteBehind, self.queue))

    def test_changes_of_one_key_collapse(self) -> None:
        """Only the newest state is written, once per interval."""
        for value in range(5):
            self.queue.put(("a",), ("a", value))
        self.queue.put(("b",), ("b", 1))
        self.queue.delete(("b",))
        self.assertEqual(self.database.batches, [])
        self.assertEqual(self.queue.waiting, 2)
        self.clock.advance(1)
        self.assertEqual(self.database.batches, [(("k",), [("a", 4)], [("b",)])])
        self.assertEqual((self.queue.waiting, self.queue.written), (0, 2))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_row_made_when_flushed(self) -> None:
        """A function is asked for the row at flush time, once."""
        calls = []

        def make_row() -> tuple[object, ...]:
            calls.append(1)
            return ("a", "late")

        self.queue.put(("a",), make_row)
        self.queue.put(("a",), make_row)
        self.clock.advance(1)
        self.assertEqual(self.database.batches, [(("k",), [("a", "late")], [])])
        self.assertEqual(len(calls), 1)

    def test_function_that_raises_harms_no_other_row(self) -> None:
        """Its row is dropped and logged."""

        def make_row() -> tuple[object, ...]:
            raise KeyError("gone")

        self.queue.put(("a",), make_row)
        self.queue.put(("b",), ("b", 1))
        self.clock.advance(1)
        self.assertEqual(self.database.batches, [(("k",), [("b", 1)], [])])
        self.assertEqual(self.queue.dropped, 1)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_inserted_rows_keep_order(self) -> None:
        """Every row of a growing table is written, in batches and in order."""
        queue = self.queued(limit=10 * BATCH)
        for number in range(BATCH + 3):
            queue.insert((number, "x"))
        self.clock.advance(1)
        self.assertEqual([len(rows) for _, rows, _ in self.database.batches], [BATCH, 3])
        self.assertEqual([key for key, _, _ in self.database.batches], [(), ()])
        self.assertEqual(self.database.batches[1][1][-1], (BATCH + 2, "x"))

    def test_failure_keeps_rows(self) -> None:
        """They are tried again with growing pauses; newer states win."""
        self.database.broken = True
        self.queue.put(("a",), ("a", 1))
        self.queue.insert(("x", 1))
        self.clock.advance(1)
        self.assertEqual(self.queue.waiting, 2)
        self.clock.advance(1)
        self.queue.put(("a",), ("a", 2))
        self.database.broken = False
        self.clock.advance(1)
        self.assertEqual(self.database.batches, [])
        self.clock.advance(1)
        self.assertEqual(self.database.batches, [(("k",), [("a", 2)], []), ((), [("x", 1)], [])])
        self.assertEqual((self.queue.waiting, self.queue.dropped), (0, 0))

    def test_change_during_flight(self) -> None:
        """One batch at a time; what comes meanwhile is written after the next interval."""
        self.database.slow = True
        self.queue.put(("a",), ("a", 1))
        self.clock.advance(1)
        self.queue.put(("a",), ("a", 2))
        self.assertEqual(self.queue.waiting, 2)
        self.clock.advance(5)
        self.assertEqual(len(self.database.batches), 1)
        self.database.release()
        self.clock.advance(1)
        self.assertEqual(self.database.batches[1], (("k",), [("a", 2)], []))

    def test_flush_during_flight_waits_for_the_newest(self) -> None:
        """`flush` means what waits now."""
        self.database.slow = True
        self.queue.put(("a",), ("a", 1))
        first = self.queue.flush()
        self.queue.put(("a",), ("a", 2))
        second = self.queue.flush()
        self.database.release()
        self.successResultOf(first)
        self.assertNoResult(second)
        self.database.release()
        self.successResultOf(second)
        self.assertEqual(self.database.batches[1], (("k",), [("a", 2)], []))

    def test_flush_of_a_broken_database_returns(self) -> None:
        """A failed attempt ends the wait; the change waits on."""
        self.database.broken = True
        self.queue.put(("a",), ("a", 1))
        self.successResultOf(self.queue.flush())
        self.assertEqual(self.queue.waiting, 1)

    def test_beyond_the_limit(self) -> None:
        """The oldest inserted rows go, and are counted; known keys still take their newest state."""
        self.database.broken = True
        queue = self.queued(limit=3)
        for number in range(5):
            queue.insert((number, "x"))
        for key in ("a", "b", "c", "d", "a"):
            queue.put((key,), (key, "new"))
        self.assertEqual((queue.dropped, queue.waiting), (3, 6))
        self.database.broken = False
        self.successResultOf(queue.flush())
        self.assertEqual(
            self.database.batches,
            [
                (("k",), [("a", "new"), ("b", "new"), ("c", "new")], []),
                ((), [(2, "x"), (3, "x"), (4, "x")], []),
            ],
        )

    def test_oldest(self) -> None:
        """The age of what has waited longest, failures included."""
        self.assertEqual(self.queue.oldest, 0.0)
        self.database.broken = True
        self.queue.put(("a",), ("a", 1))
        self.clock.pump([1, 1, 1])
        self.assertEqual(self.queue.oldest, 3.0)

    def test_health(self) -> None:
        """Degraded while changes wait long or are lost, and good again afterwards."""
        self.assertEqual(self.queue.health(), ("ok", ""))
        self.database.broken = True
        self.queue.put(("a",), ("a", 1))
        self.clock.pump([1] * 29)
        self.assertEqual(self.queue.health(), ("ok", ""))
        self.clock.pump([1] * 2)
        self.assertEqual(self.queue.health()[0], "degraded")
        self.assertIn("1 changes of", self.queue.health()[1])
        self.database.broken = False
        self.clock.pump([1] * 11)
        self.assertEqual(self.queue.health(), ("ok", ""))
        queue = self.queued(limit=1)
        queue.put(("a",), ("a", 1))
        queue.put(("b",), ("b", 1))
        self.assertIn("are lost", queue.health()[1])

    def test_write_through(self) -> None:
        """Without an interval a change is written at once (db_mode 1)."""
        queue = self.queued(interval=0.0)
        queue.put(("a",), ("a", 1))
        self.assertEqual(self.database.batches, [(("k",), [("a", 1)], [])])

    def test_stop(self) -> None:
        """The last changes are written; a database that hangs does not keep us."""
        self.queue.put(("a",), ("a", 1))
        self.successResultOf(self.queue.stop())
        self.assertEqual(self.database.batches, [(("k",), [("a", 1)], [])])
        self.database.slow = True
        queue = self.queued()
        queue.put(("b",), ("b", 1))
        stopped = queue.stop()
        self.assertNoResult(stopped)
        self.clock.advance(5)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
