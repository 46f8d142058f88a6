"""Bindings of all nodes in the memory of each: news when they change, the table when news got lost.

Whoever handled the last REGISTER owns a binding: it writes the row, and requests for the phone go
through it. The others keep a copy, which serves by itself once the owner is dead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from pbx.errors import DatabaseError
from pbx.events import NewsLost, NodeChanged
from pbx.interfaces import ICluster, IDatabase, IEvents, INode, ITimer, ITimers
from pbx.services.registrar.location import REMOVED, Binding, Location
from pbx.services.registrar.store import SELECT, Rows

#: Seconds that changes are gathered before they are told.
GATHER: Final = 0.05
#: Bindings told in one go.
MOST: Final = 200
#: Rows that are compared in one turn of the reactor.
PAGE: Final = 1000
#: Seconds after which the table holds what news were about: once the write-behind of a node has
#: flushed, and once more for one whose database was away.
LOOK_AFTER: Final = (4.0, 20.0)
#: A copy that was heard of in the last seconds may not be in the table yet.
FRESH: Final = 30


class Owner(Protocol):
    """The registrar."""

    def given_up(self, binding: Binding) -> None:
        """A binding of ours is another node's, which writes the row."""

    def dropped(self, binding: Binding) -> None:
        """A binding of ours is gone."""


class Sharing:
    """Tells the other nodes what changed here, and takes over what changed there."""

    log = Logger()

    def __init__(
        self,
        cluster: ICluster,
        database: IDatabase,
        rows: Callable[[], Rows],
        location: Location,
        owner: Owner,
        events: IEvents,
        clock: IReactorTime,
        timers: ITimers,
    ) -> None:
        self.cluster = cluster
        self._database = database
        self._rows = rows
        self._location = location
        self._owner = owner
        self._clock = clock
        self._timers = timers
        self._changed: dict[int, Binding | str] = {}
        self._telling: ITimer | None = None
        self._looks: list[ITimer] = []
        self._looking = False
        self._stopped = False
        self.unknown = 0
        cluster.listen("location", self._heard)
        events.subscribe(NodeChanged, self._node_changed)
        events.subscribe(NewsLost, lambda event: self.look_again())

    def stop(self) -> None:
        """Tell what waits, and nothing more."""
        self._tell()
        self._stopped = True
        for timer in (self._telling, *self._looks):
            if timer is not None:
                timer.cancel()

    # Telling

    def changed(self, binding: Binding) -> None:
        """A binding of ours is new or was refreshed."""
        self._changed[binding.contact_id] = binding
        if self._telling is None:
            self._telling = self._timers.call_later(GATHER, self._tell)

    def gone(self, binding: Binding) -> None:
        """A binding was removed here, whoever owned it."""
        self._changed[binding.contact_id] = binding.aor
        if self._telling is None:
            self._telling = self._timers.call_later(GATHER, self._tell)

    def _tell(self) -> None:
        self._telling = None
        changed, self._changed = self._changed, {}
        row_of = self._rows().row_of
        body: list[object] = []
        for contact_id, change in changed.items():
            if isinstance(change, str):
                body.append([contact_id, change])
            elif change.slot != REMOVED and change.node is None:
                body.append(row_of(change))
            if len(body) >= MOST:
                self.cluster.publish("location", body)
                body = []
        if body:
            self.cluster.publish("location", body)

    # Hearing

    def knows(self, binding: Binding) -> bool:
        """Whether there is one of the same id."""
        return self._found(binding.aor, binding.contact_id) is not None

    def _heard(self, node: INode, body: Any) -> None:
        for entry in body:
            if len(entry) == 2:
                binding = self._found(str(entry[1]), int(entry[0]))
                if binding is not None:
                    self._drop(binding)
                continue
            try:
                binding = self._rows().binding_of(entry)
            except ValueError:
                self.unknown += 1
                continue
            binding.node = node
            self._take(binding)

    def _found(self, aor: str, contact_id: int) -> Binding | None:
        record = self._location.records.get(aor)
        if record is not None:
            for binding in record.bindings:
                if binding.contact_id == contact_id:
                    return binding
        return None

    def _drop(self, binding: Binding) -> None:
        if binding.node is None:
            self._owner.dropped(binding)
        self._location.remove(binding)

    def _take(self, told: Binding) -> None:
        """A binding as another node has it; the newer of two wins."""
        record = self._location.records.get(told.aor)
        same: Binding | None = None
        if record is not None:
            for binding in list(record.bindings):
                if binding.contact_id == told.contact_id:
                    same = binding
                elif binding.contact == told.contact and _same_flow(binding, told):
                    # The phone registered at two nodes before the news came.
                    if _age(told) < _age(binding):
                        return
                    self._drop(binding)
        if told.expires and told.expires <= self._clock.seconds():
            if same is not None and same.node is not None:
                self._location.remove(same)
            return
        if same is None:
            if told.instance:
                self._location.index(told)
            self._location.add(told)
            return
        if _age(told) < _age(same):
            return
        if same.node is None:
            self._owner.given_up(same)
        same.become(told)
        self._location.bind(same, None)
        self._location.refreshed(self._location.records[same.aor], same)

    def _node_changed(self, event: NodeChanged) -> None:
        """Targets go another way now: through the node, or past it."""
        for record in self._location.records.values():
            if record.targets is not None and any(b.node is event.node for b in record.bindings):
                record.targets = None

    # The table

    def look_again(self) -> None:
        """News may have been lost: compare with the table when they must be there."""
        if self._looks or self._stopped:
            return
        self._looks = [self._timers.call_later(after, self._look) for after in LOOK_AFTER]

    def _look(self) -> None:
        self._looks = self._looks[1:]
        if not self._looking:
            self._looking = True
            Deferred.fromCoroutine(self._compare()).addErrback(self._not_compared)

    def _not_compared(self, failure: Failure) -> None:
        self._looking = False
        if failure.check(DatabaseError) is None:  # type: ignore[no-untyped-call]
            self.log.failure("location was not compared", failure=failure)
        if not self._stopped and not self._looks:
            self._looks = [self._timers.call_later(10.0, self._look)]

    async def _compare(self) -> None:
        """What the table says of other nodes' bindings."""
        began = self._clock.seconds()
        sql = f"{SELECT} WHERE contact_id > ? ORDER BY contact_id LIMIT ?"
        seen: set[int] = set()
        last = -(2**63)
        while not self._stopped:
            rows = await self._database.query(sql, (last, PAGE))
            for row in rows:
                self._compare_row(row, seen)
            if len(rows) < PAGE:
                break
            last = rows[-1][0]
            await deferLater(self._clock, 0.01)
        for binding in list(self._location.all()):
            if (
                binding.node is not None
                and binding.contact_id not in seen
                and binding.last_modified < began - FRESH
            ):
                self._location.remove(binding)
        self._looking = False

    def _compare_row(self, row: Sequence[object], seen: set[int]) -> None:
        try:
            binding = self._rows().binding_of(row)
        except ValueError:
            return
        seen.add(binding.contact_id)
        if binding.node is not None:
            self._take(binding)


def _age(binding: Binding) -> tuple[int, int]:
    return binding.last_modified, binding.cseq


def _same_flow(one: Binding, other: Binding) -> bool:
    return one.instance == other.instance and one.reg_id == other.reg_id
