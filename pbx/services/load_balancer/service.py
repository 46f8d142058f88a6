"""Which node takes a call: the ``load_balancer`` table, counted by dialogs (spec 10, section 8)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import classImplements

from pbx.commands import CommandFailed
from pbx.errors import DatabaseError
from pbx.events import (
    BalancerCounted,
    CallEnded,
    CallFailed,
    CallRestored,
    CallStarted,
    DestinationChanged,
    TableChanged,
)
from pbx.interfaces import (
    ICluster,
    ICommands,
    IDatabase,
    IEvents,
    IFlows,
    IHealth,
    ILoadBalancer,
    IMetrics,
    IReloadable,
    IStartable,
    IStatistics,
    ITally,
    ITimer,
    ITimers,
    ITrusted,
    IUserAgent,
)
from pbx.metrics import Kind, Metric
from pbx.services.load_balancer.destinations import (
    NEVER,
    Destination,
    choose,
    make_destinations,
    shown,
)
from pbx.services.load_balancer.probing import Prober
from pbx.services.load_balancer.settings import LoadBalancerSettings
from pbx.services.load_balancer.sharing import SharedLoads
from pbx.sip.address import Address
from pbx.sip.errors import SIPError
from pbx.sip.uri import URI
from pbx.verdicts import Arrival

#: Seconds after which a call that was counted and never relayed is forgotten.
UNUSED = 60.0


class Session:
    """What one call is counted on, and where it has been."""

    __slots__ = ("destination", "resources", "started", "tried")

    def __init__(self, resources: tuple[str, ...]) -> None:
        self.resources = resources
        self.destination: int | None = None
        self.tried: list[int] = []
        self.started = False


class LoadBalancer:
    """Counts calls on destinations; a call leaves its destination when it ends or moves on."""

    log: ClassVar = Logger(__name__)

    def __init__(
        self,
        settings: LoadBalancerSettings,
        database: IDatabase,
        user_agent: IUserAgent,
        flows: IFlows,
        events: IEvents,
        clock: IReactorTime,
        timers: ITimers,
        cluster: ICluster | None = None,
        tally: ITally | None = None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._flows = flows
        self._events = events
        self._clock = clock
        self._timers = timers
        self._destinations: dict[int, Destination] = {}
        self._groups: dict[int, list[Destination]] = {}
        self._sessions: dict[str, Session] = {}
        self._unused: dict[str, float] = {}
        self._resolving: ITimer | None = None
        self._prober = Prober(settings, user_agent, timers, self._destinations_now, self._probed)
        self.acquired = self.refused = 0
        self._shared: SharedLoads | None = None
        if cluster is not None and tally is not None:
            self._shared = SharedLoads(cluster, tally, self._destinations_now, events, timers)
        events.subscribe(CallStarted, lambda event: self._started(event.dialog.did))
        events.subscribe(CallFailed, lambda event: self._release(event.dialog.did))
        events.subscribe(CallEnded, lambda event: self._release(event.dialog.did))
        events.subscribe(CallRestored, self._restored)
        events.subscribe(TableChanged, self._table_changed)

    def _destinations_now(self) -> Sequence[Destination]:
        return list(self._destinations.values())

    # Rows

    async def start(self) -> None:
        """Read the table, find the addresses, begin to probe."""
        await self.reload()
        self._prober.start()
        self._resolving = self._timers.call_later(self._settings.resolve_interval, self._turn)

    async def stop(self) -> None:
        """No further probe."""
        self._prober.stop()
        if self._resolving is not None:
            self._resolving.cancel()
        if self._shared is not None:
            self._shared.stop()

    async def reload(self) -> None:
        """Read the table again; what is known of destinations with the same id stays."""
        rows = await self._database.query(
            "SELECT id, group_id, dst_uri, resources, probe_mode, attrs"
            " FROM load_balancer ORDER BY id"
        )
        before = self._destinations
        self._destinations = make_destinations(rows, before)
        self._forget_destinations(before)
        groups: dict[int, list[Destination]] = {}
        for destination in self._destinations.values():
            groups.setdefault(destination.group, []).append(destination)
        self._groups = groups
        if self._shared is not None:
            self._shared.add_up()
        self._resolve_all()

    def _forget_destinations(self, before: Mapping[int, Destination]) -> None:
        """Calls on a node that is gone, or whose row names another node now, count nowhere."""
        gone = {
            id
            for id, destination in before.items()
            if id not in self._destinations
            or str(self._destinations[id].uri) != str(destination.uri)
        }
        if gone:
            for session in self._sessions.values():
                if session.destination in gone:
                    session.destination = None

    def _table_changed(self, event: TableChanged) -> None:
        if event.table == "load_balancer":
            Deferred.fromCoroutine(self.reload()).addErrback(
                lambda failure: self.log.failure("load_balancer was not read", failure=failure)
            )

    def _turn(self) -> None:
        self._resolving = self._timers.call_later(self._settings.resolve_interval, self._turn)
        self._resolve_all()
        self._forget_unused()

    def _resolve_all(self) -> None:
        for destination in self._destinations.values():
            addresses = self._flows.locate(destination.uri)
            if addresses:
                destination.addresses = frozenset(address.host for address in addresses)
            elif addresses is None:
                Deferred.fromCoroutine(self._resolve(destination))

    async def _resolve(self, destination: Destination) -> None:
        try:
            addresses = await self._flows.resolve(destination.uri)
        except SIPError as error:
            self.log.warn("{uri}: {error}", uri=str(destination.uri), error=error.reason)
            return
        destination.addresses = frozenset(address.host for address in addresses)

    # ILoadBalancer

    def acquire(
        self, arrival: Arrival, group: int, resources: str, flags: str = "ns"
    ) -> URI | None:
        """The next hop for this call, counted on it; never the same destination twice."""
        session = self._sessions.get(arrival.call)
        if session is None:
            names = tuple(name for part in resources.split(";") if (name := part.strip()))
            session = Session(names)
        chosen = choose(self._groups.get(group, ()), session.resources, session.tried, flags)
        self._leave(session)
        if chosen is None:
            self.refused += 1
            return None
        self.acquired += 1
        if arrival.call:
            session.destination = chosen.id
            session.tried.append(chosen.id)
            self._count(chosen, session, 1)
            if not session.started and arrival.call not in self._unused:
                self._unused[arrival.call] = self._clock.seconds() + UNUSED
            self._sessions[arrival.call] = session
            self._events.publish(BalancerCounted(arrival.call, group, session.resources, chosen.id))
        return chosen.uri

    async def reserve(
        self, arrival: Arrival, group: int, resources: str, flags: str = "ns"
    ) -> URI | None:
        """The same, within what all nodes of a cluster together may use."""
        uri = self.acquire(arrival, group, resources, flags)
        if self._shared is None or "n" in flags:
            return uri
        while uri is not None:
            session = self._sessions.get(arrival.call)
            chosen = None if session is None else self._destinations.get(session.destination or 0)
            if session is None or chosen is None:
                return uri
            if await self._shared.take(chosen, session.resources):
                return uri
            uri = self.acquire(arrival, group, resources, flags)
        return None

    def _leave(self, session: Session) -> None:
        if session.destination is not None:
            destination = self._destinations.get(session.destination)
            if destination is not None:
                self._count(destination, session, -1)
            session.destination = None

    def _count(self, destination: Destination, session: Session, by: int) -> None:
        destination.count(session.resources, by)
        if self._shared is not None:
            self._shared.changed(destination)

    def _started(self, call: str) -> None:
        session = self._sessions.get(call)
        if session is not None:
            session.started = True
            self._unused.pop(call, None)

    def _release(self, call: str) -> None:
        session = self._sessions.pop(call, None)
        if session is not None:
            self._unused.pop(call, None)
            self._leave(session)

    def _forget_unused(self) -> None:
        now = self._clock.seconds()
        for call in [call for call, due in self._unused.items() if due <= now]:
            self._release(call)

    def _restored(self, event: CallRestored) -> None:
        """Count a call of the last run again from what its dialog remembers."""
        resources: list[str] = []
        destination: Destination | None = None
        for name, value in event.dialog.profiles.items():
            prefix, colon, resource = name.partition(":")
            if prefix.startswith("lb") and colon and value.isascii() and value.isdigit():
                destination = self._destinations.get(int(value))
                resources.append(resource)
        if destination is not None and event.dialog.did not in self._sessions:
            session = Session(tuple(resources))
            session.started = True
            session.destination = destination.id
            session.tried.append(destination.id)
            self._count(destination, session, 1)
            self._sessions[event.dialog.did] = session

    def is_destination(self, peer: Address, group: int, via_port: int | None = None) -> bool:
        """Whether a request came from a destination of the group (enabled or not)."""
        # A generator would cost more than what it looks at.
        for found in self._groups.get(group, ()):  # noqa: SIM110
            if found.is_at(peer, via_port):
                return True
        return False

    def has_destinations(self, group: int) -> bool:
        """Whether the group has any row."""
        return group in self._groups

    def disable(self, uri: URI, reason: str) -> None:
        """No calls until a probe succeeds; one that is never probed goes on (probe_mode 0)."""
        text = str(uri)
        for destination in self._destinations.values():
            if destination.enabled and str(destination.uri) == text:
                if destination.probe_mode == NEVER or self._settings.probing_interval <= 0:
                    self.log.warn(
                        "{uri} fails ({reason}) and is never probed", uri=text, reason=reason
                    )
                    continue
                self._switch(destination, False, reason)

    def _probed(self, destination: Destination, alive: bool, reason: str) -> None:
        destination = self._destinations.get(destination.id, destination)
        if alive and not destination.enabled and destination.auto_enable:
            self._switch(destination, True, reason)
        elif not alive and destination.enabled:
            self._switch(destination, False, reason)

    def _switch(self, destination: Destination, enabled: bool, reason: str) -> None:
        destination.enabled = enabled
        uri = str(destination.uri)
        state = "up" if enabled else "down"
        self.log.info("node {uri} is {state}: {reason}", uri=uri, state=state, reason=reason)
        self._events.publish(DestinationChanged(destination.group, uri, enabled, reason))

    # Management

    def commands(self) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """The ``lb_*`` commands."""
        return [
            ("lb_list", [[]], self._list),
            (
                "lb_status",
                [["destination_id"], ["destination_id", "new_status"]],
                self._status,
            ),
            ("lb_resize", [["destination_id", "res_name", "new_capacity"]], self._resize),
            ("lb_reload", [[]], self._reload),
        ]

    def _list(self) -> dict[str, object]:
        """Every destination with its state, capacities and loads."""
        shared = self._shared
        return {
            "Destinations": [
                shown(found, found.load if shared is None else shared.totals(found))
                for found in self._destinations.values()
            ]
        }

    def _find(self, destination_id: object) -> Destination:
        text = str(destination_id)
        found = None
        if text.isascii() and text.isdigit():
            found = self._destinations.get(int(text))
        if found is None:
            raise CommandFailed(404, "Destination ID not found")
        return found

    def _status(self, destination_id: object, new_status: object = None) -> object:
        """Whether a destination gets calls; or enable (1) and disable (0) it."""
        destination = self._find(destination_id)
        if new_status is None:
            state: dict[str, object] = {"enable": "yes" if destination.enabled else "no"}
            if destination.attrs:
                state["attrs"] = destination.attrs
            return state
        if str(new_status) not in ("0", "1"):
            raise CommandFailed(400, "Bad status: 0 or 1")
        enabled = str(new_status) == "1"
        destination.auto_enable = enabled
        if enabled != destination.enabled:
            self._switch(destination, enabled, "by the operator")
        return "OK"

    def _resize(self, destination_id: object, res_name: object, new_capacity: object) -> str:
        """Change a capacity until the next reload."""
        destination = self._find(destination_id)
        name = str(res_name)
        if name not in destination.capacity:
            raise CommandFailed(404, "Destination has no such resource")
        text = str(new_capacity)
        if not (text.isascii() and text.isdigit()):
            raise CommandFailed(400, "Bad capacity")
        destination.capacity[name] = int(text)
        return "OK"

    async def _reload(self) -> str:
        """Read the load_balancer table again; states and loads stay."""
        try:
            await self.reload()
        except DatabaseError as error:
            raise CommandFailed(500, "Failed to reload") from error
        return "OK"

    def statistics(self) -> Mapping[str, int]:
        """Counters and gauges."""
        up = sum(found.enabled for found in self._destinations.values())
        return {
            "lb:destinations": len(self._destinations),
            "lb:enabled_destinations": up,
            "lb:calls": len(self._sessions),
            "lb:acquired": self.acquired,
            "lb:refused": self.refused,
            "lb:probes": self._prober.sent,
        }

    def trusted_hosts(self) -> Iterable[str]:
        """The addresses of all nodes."""
        for destination in self._destinations.values():
            yield from destination.addresses

    def metrics(self) -> Iterable[Metric]:
        """State and load of each node."""
        found = self._destinations.values()
        names = [(str(node.uri), str(node.group)) for node in found]
        yield Metric(
            "pbx_node_up",
            Kind.GAUGE,
            "1 for a node of load_balancer that gets calls, 0 for one that does not.",
            ("node", "group"),
            [(name, int(node.enabled)) for name, node in zip(names, found, strict=True)],
        )
        for name, meaning, of in (
            ("pbx_node_load", "Calls counted on a resource of a node.", "load"),
            ("pbx_node_capacity", "Calls that a resource of a node can take.", "capacity"),
        ):
            yield Metric(
                name,
                Kind.GAUGE,
                meaning,
                ("node", "group", "resource"),
                [
                    ((*at, resource), amount)
                    for at, node in zip(names, found, strict=True)
                    for resource, amount in getattr(node, of).items()
                ],
            )

    def health(self) -> tuple[str, str]:
        """Degraded while a group has no node left."""
        dead = [
            str(group)
            for group, found in self._groups.items()
            if not any(destination.enabled for destination in found)
        ]
        return ("degraded", f"no node is up in group {', '.join(dead)}") if dead else ("ok", "")


classImplements(
    LoadBalancer,
    ILoadBalancer,
    IStartable,
    IReloadable,
    ICommands,
    IStatistics,
    IMetrics,
    IHealth,
    ITrusted,
)
