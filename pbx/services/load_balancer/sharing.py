"""The calls that other nodes of a cluster have on the destinations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from pbx.events import NewsLost, NewsUnheard, NodeChanged
from pbx.interfaces import ICluster, IEvents, INode, ITally, ITimer, ITimers
from pbx.services.load_balancer.destinations import Destination

#: Seconds that changes are gathered before they are told.
GATHER: Final = 0.05
#: Seconds in which who leads restores the calls of a dead node; until then they count.
MOURNING: Final = 3.0


class SharedLoads:
    """Tells the others our loads, and keeps ``Destination.others`` up to date.

    What is told makes the choice good; that no limit is passed is decided by `take`, which asks
    the tally that all nodes share.
    """

    def __init__(
        self,
        cluster: ICluster,
        tally: ITally,
        destinations: Callable[[], Iterable[Destination]],
        events: IEvents,
        timers: ITimers,
    ) -> None:
        self._cluster = cluster
        self._tally = tally
        self._destinations = destinations
        self._timers = timers
        self._loads: dict[str, dict[int, dict[str, int]]] = {}
        self._changed: dict[int, Destination] = {}
        self._telling: ITimer | None = None
        self.refused = self.unanswered = 0
        cluster.listen("load", self._heard)
        events.subscribe(NodeChanged, self._node_changed)
        # Who did not hear the others was perhaps not heard either.
        events.subscribe(NewsLost, lambda event: self.tell_all())
        events.subscribe(NewsUnheard, lambda event: self.tell_all())

    def stop(self) -> None:
        """Tell nothing more."""
        if self._telling is not None:
            self._telling.cancel()

    def changed(self, destination: Destination) -> None:
        """Our own load is another one."""
        self._changed[destination.id] = destination
        if self._telling is None:
            self._telling = self._timers.call_later(GATHER, self._tell)

    def tell_all(self) -> None:
        """Who has just come knows nothing of us."""
        for destination in self._destinations():
            self.changed(destination)

    def _tell(self) -> None:
        self._telling = None
        changed, self._changed = self._changed, {}
        for destination in changed.values():
            self._tally.put(_key(destination), self._cluster.name, destination.load)
        self._cluster.publish("load", [[one.id, one.load] for one in changed.values()])

    async def take(self, destination: Destination, resources: Sequence[str]) -> bool:
        """Whether all nodes together may have the load that we have now."""
        limits = {name: destination.capacity[name] for name in resources}
        numbers = {name: destination.load[name] for name in resources}
        others = await self._tally.take(_key(destination), self._cluster.name, numbers, limits)
        if others is None:
            # Nobody answers: what was told must do.
            self.unanswered += 1
            return True
        if not others:
            return True
        self.refused += 1
        destination.others.update(others)
        return False

    def _heard(self, node: INode, body: Any) -> None:
        loads = self._loads.setdefault(node.name, {})
        for id, load in body:
            loads[int(id)] = {str(name): int(number) for name, number in load.items()}
        self.add_up()

    def add_up(self) -> None:
        """The sums of all other nodes."""
        for destination in self._destinations():
            sums: dict[str, int] = {}
            for loads in self._loads.values():
                for name, number in loads.get(destination.id, {}).items():
                    sums[name] = sums.get(name, 0) + number
            destination.others = sums

    def _node_changed(self, event: NodeChanged) -> None:
        if event.alive:
            self.tell_all()
        else:
            self._timers.call_later(MOURNING, self._bury, event.node)

    def _bury(self, node: INode) -> None:
        if node.alive:
            return
        self._loads.pop(node.name, None)
        self.add_up()
        if self._cluster.leads():
            for destination in self._destinations():
                self._tally.forget(_key(destination), node.name)

    def totals(self, destination: Destination) -> Mapping[str, int]:
        """Calls of all nodes by resource."""
        return {
            name: load + destination.others.get(name, 0) for name, load in destination.load.items()
        }


def _key(destination: Destination) -> str:
    return f"lb:{destination.id}"
