"""``db_mode = 3``: the ``location`` table is what counts, whoever writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from pbx.errors import DatabaseError
from pbx.events import TableChanged
from pbx.interfaces import IDatabase, IEvents, ITimer, ITimers
from pbx.services.registrar.location import Binding, Location
from pbx.services.registrar.store import SELECT, Rows

#: Seconds between a change and the look at it: our own changes are changes too.
PAUSE: Final = 1.5
PAGE: Final = 1000
#: Bindings of the last seconds may be on their way to the table.
FRESH: Final = 3
#: Columns that say how to reach a phone; a change of others is none.
_DECISIVE: Final = ("contact", "received", "path", "expires", "q", "methods", "socket", "cflags")


class Owner(Protocol):
    """The registrar."""

    def vanished(self, binding: Binding) -> None:
        """The row of a binding is gone."""


class Reread:
    """Takes over what other programs insert, update and delete, within some seconds."""

    log = Logger()

    def __init__(
        self,
        database: IDatabase,
        rows: Callable[[], Rows],
        location: Location,
        owner: Owner,
        events: IEvents,
        clock: IReactorTime,
        timers: ITimers,
    ) -> None:
        self._database = database
        self._rows = rows
        self._location = location
        self._owner = owner
        self._clock = clock
        self._timers = timers
        self._waiting: ITimer | None = None
        self._reading = False
        self._stopped = False
        events.subscribe(TableChanged, self._changed)

    def stop(self) -> None:
        """No further look."""
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()

    def _changed(self, event: TableChanged) -> None:
        if event.table == "location" and self._waiting is None and not self._stopped:
            self._waiting = self._timers.call_later(PAUSE, self._read)

    def _read(self) -> None:
        self._waiting = None
        if self._reading:
            self._waiting = self._timers.call_later(PAUSE, self._read)
            return
        self._reading = True
        Deferred.fromCoroutine(self._compare()).addBoth(self._compared)

    def _compared(self, result: object) -> None:
        self._reading = False
        if isinstance(result, Failure):
            if result.check(DatabaseError) is None:  # type: ignore[no-untyped-call]
                self.log.failure("location was not read", failure=result)
            self._changed(TableChanged("location"))

    async def _compare(self) -> None:
        began = self._clock.seconds()
        sql = f"{SELECT} WHERE contact_id > ? ORDER BY contact_id LIMIT ?"
        known = {one.contact_id: one for one in self._location.all() if one.node is None}
        last = -(2**63)
        while not self._stopped:
            rows = await self._database.query(sql, (last, PAGE))
            for row in rows:
                self._take(row, known, began)
            if len(rows) < PAGE:
                break
            last = rows[-1][0]
            await deferLater(self._clock, 0)
        for binding in known.values():
            if binding.last_modified < began - FRESH and binding.slot >= 0:
                self._owner.vanished(binding)

    def _take(self, row: Sequence[object], known: dict[int, Binding], began: float) -> None:
        told = self._rows().read(row)
        if told is None or told.node is not None:
            return
        binding = known.pop(told.contact_id, None)
        if told.expires and told.expires <= began:
            return
        if binding is None:
            if told.instance:
                self._location.index(told)
            self._location.add(told)
        elif binding.slot >= 0 and _differ(binding, told) and binding.last_modified < began - FRESH:
            flow = binding.flow
            binding.become(told)
            self._location.bind(binding, flow)
            self._location.refreshed(self._location.records[binding.aor], binding)


def _differ(one: Binding, other: Binding) -> bool:
    return any(getattr(one, name) != getattr(other, name) for name in _DECISIVE)
