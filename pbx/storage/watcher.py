"""Notice that rows of provisioning tables were changed, by whatever program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from pbx.errors import DatabaseError
from pbx.events import TableChanged
from pbx.interfaces import IChangeSource, IDatabase, IEvents, IStartable
from pbx.timing import Periodic


@implementer(IStartable)
class TableWatcher:
    """Publishes `TableChanged`, once for all changes of a table since the last look."""

    log = Logger()
    #: Looks between two that ask a database which pushes: it may be gone without a word.
    PROBE = 5

    def __init__(
        self,
        database: IDatabase,
        events: IEvents,
        clock: IReactorTime,
        tables: Sequence[str],
        interval: float = 1.0,
    ) -> None:
        self._source = IChangeSource(database)
        self._events = events
        self._tables = tuple(tables)
        self._marks: Mapping[str, object] = {}
        self._looking = False
        self._looks = 0
        self._periodic = Periodic(clock, interval, self._look)

    def start(self) -> Deferred[None]:
        """Changes from now on are noticed."""
        self._periodic.start()
        return Deferred.fromCoroutine(self._start())

    def stop(self) -> Deferred[None]:
        """No further look."""
        self._periodic.stop()
        return succeed(None)

    async def _start(self) -> None:
        try:
            await self._source.watch(self._tables, self._changed)
            self._marks = await self._source.change_marks(self._tables)
        except DatabaseError as error:
            self.log.warn("changes of tables cannot be noticed yet: {why}", why=error.message)

    def _changed(self, table: str) -> None:
        if table in self._tables:
            self._events.publish(TableChanged(table))

    def _look(self) -> None:
        if not self._looking:
            self._looking = True
            Deferred.fromCoroutine(self._compare()).addBoth(self._looked)

    def _looked(self, result: object) -> None:
        self._looking = False

    async def _compare(self) -> None:
        pushed = self._source.pushes
        self._looks += 1
        if pushed and self._looks % self.PROBE:
            return
        try:
            marks = await self._source.change_marks(self._tables)
        except DatabaseError:
            return
        before, self._marks = self._marks, marks
        if pushed:
            return
        for table in self._tables:
            if marks.get(table) != before.get(table):
                self._changed(table)
