"""Sets of destinations: the ``dispatcher`` table (spec 30, section 17).

Calls are not counted: for that there is the load balancer. Weights from FreeSWITCH (``fs://``) are
taken for 100; there is the default partition only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.plugin import IPlugin
from zope.interface import implementer

from pbx.config import settings
from pbx.events import BranchFailed, DispatchChanged, TableChanged
from pbx.interfaces import (
    ICommands,
    IDatabase,
    IDispatcher,
    IEvents,
    IFlows,
    IHealth,
    IMetrics,
    IPBXPlugin,
    IRegistry,
    IReloadable,
    IStartable,
    IStatistics,
    ITimers,
    ITrusted,
    IUserAgent,
)
from pbx.metrics import Kind, Metric
from pbx.sip.address import Address
from pbx.sip.message import Request
from pbx.sip.uri import URI
from pbx.verdicts import Target
from plugins.dispatcher_commands import CommandRow, DispatcherCommands
from plugins.dispatcher_sets import (
    ACTIVE,
    COLUMNS,
    INACTIVE,
    PROBING,
    ROUND_ROBIN,
    Destination,
    Group,
    make_groups,
    parse_variable,
)
from plugins.probing import (
    Peer,
    Places,
    Prober,
    ProbeSettings,
    StateColumn,
    state_after_reload,
)

TABLE = "dispatcher"


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherSettings:
    """The ``[dispatcher]`` table."""

    ping_method: str = "OPTIONS"
    """Request that asks a destination whether it lives."""
    ping_interval: float = 0.0
    """Seconds between probes of a destination; 0 never."""
    ping_from: str = "sip:dispatcher@localhost"
    """From of probes."""
    ping_timeout: float = 4.0
    """Seconds to wait for the answer to a probe."""
    probing_threshold: int = 3
    """Failures in a row after which a destination gets no more calls."""
    probing_mode: int = 0
    """0 probes those that failed (and rows with ``probe_mode`` 1), 1 all that are not inactive."""
    options_reply_codes: tuple[int, ...] = ()
    """Codes that mean alive beside 200."""
    persistent_state: bool = True
    """Write the states of destinations to the database."""
    hash_pvar: str = ""
    """What algorithm 7 hashes: $ci $fu $fU $fd $tu $tU $td $ru $rU $rd $au $ua or $hdr(NAME)."""
    resolve_interval: float = 60.0
    """Seconds after which the names of destinations are looked up again."""

    def __post_init__(self) -> None:
        if self.ping_interval < 0 or self.resolve_interval <= 0 or self.ping_timeout <= 0:
            raise ValueError("intervals and ping_timeout: expected more than 0")
        if self.probing_threshold < 1:
            raise ValueError("probing_threshold: expected at least 1")
        if self.probing_mode not in (0, 1):
            raise ValueError("probing_mode: expected 0 or 1")
        parse_variable(self.hash_pvar)


@implementer(
    IDispatcher, IStartable, IReloadable, ICommands, IStatistics, IMetrics, IHealth, ITrusted
)
class Dispatcher:
    """Destinations in memory, probed, swapped at once when they are read again."""

    log = Logger()

    def __init__(
        self,
        settings: DispatcherSettings,
        database: IDatabase,
        user_agent: IUserAgent,
        flows: IFlows,
        events: IEvents,
        timers: ITimers,
    ) -> None:
        self.groups: dict[int, Group] = {}
        self.selected = self.refused = 0
        self._settings = settings
        self._variable = parse_variable(settings.hash_pvar)
        self._database = database
        self._events = events
        self._reading = DeferredLock()
        self._states = StateColumn(database, TABLE, "id", timers)
        self._places = Places(flows, timers, settings.resolve_interval, self._all)
        probes = ProbeSettings(
            method=settings.ping_method,
            from_uri=settings.ping_from,
            interval=settings.ping_interval,
            timeout=settings.ping_timeout,
        )
        self._prober = Prober(probes, user_agent, flows, timers, self._to_probe, self._probed)
        self._commands = DispatcherCommands(self)
        events.subscribe(TableChanged, self._table_changed)
        events.subscribe(BranchFailed, self._branch_failed)

    def _all(self) -> Iterable[Destination]:
        for group in self.groups.values():
            yield from group.destinations

    # IDispatcher

    def select(
        self,
        request: Request,
        group: int,
        algorithm: int = ROUND_ROBIN,
        value: Callable[[URI], float] | None = None,
    ) -> Sequence[URI]:
        """The active destinations of a set in the order to try."""
        return [found.uri for found in self._order(request, group, algorithm, value)]

    def targets(
        self,
        request: Request,
        uri: URI,
        group: int,
        algorithm: int = ROUND_ROBIN,
        value: Callable[[URI], float] | None = None,
    ) -> Sequence[Target]:
        """The same as places to send ``uri`` to, with falling q."""
        return [
            Target(uri, next_hop=found.uri, q=1.0 - at / 1000, socket=found.socket)
            for at, found in enumerate(self._order(request, group, algorithm, value))
        ]

    def _order(
        self,
        request: Request,
        group: int,
        algorithm: int,
        value: Callable[[URI], float] | None,
    ) -> Sequence[Destination]:
        found = self.groups.get(group)
        order = found.order(request, algorithm, self._variable, value) if found else ()
        if order:
            self.selected += 1
            order[0].hits += 1
        else:
            self.refused += 1
        return order

    def is_in_list(
        self, peer: Address, group: int | None = None, via_port: int | None = None
    ) -> bool:
        """Whether a request came from a destination of the set (of any), whatever its state."""
        found = self._places.at(peer, via_port)
        if group is None:
            return bool(found)
        return any(isinstance(one, Destination) and one.set == group for one in found)

    def failed(self, uri: URI, group: int, reason: str) -> None:
        """One more failure of a destination."""
        for destination in self._named(uri, group):
            self._count_failure(destination, reason)

    def attributes(self, uri: URI, group: int) -> tuple[str, str]:
        """``attrs`` of the row, and what was pushed for scripts."""
        for destination in self._named(uri, group):
            return destination.attrs, destination.pushed
        return "", ""

    def _named(self, uri: URI, group: int) -> Iterable[Destination]:
        found = self.groups.get(group)
        return [one for one in found.destinations if one.uri == uri] if found else ()

    # Rows

    async def start(self) -> None:
        """Read the table, find the addresses, begin to probe."""
        await self.reload()
        self._places.start()
        self._prober.start()

    async def stop(self) -> None:
        """Probe no more; write the last states."""
        self._places.stop()
        self._prober.stop()
        await self._states.stop()

    async def reload(self, inherit: bool = True) -> None:
        """Read the table again; ``inherit``: states that only we know stay."""
        await self._reading.acquire()
        try:
            rows = await self._database.query(f"SELECT {COLUMNS} FROM {TABLE} ORDER BY id")
        finally:
            self._reading.release()
        groups = make_groups(rows)
        known = {found.id: found for found in self._all()}
        for group in groups.values():
            for destination in group.destinations:
                before = known.get(destination.id)
                if before is not None and before.same_place(destination):
                    self._inherit(destination, before, inherit)
        self.groups = groups
        self._places.resolve()

    def _inherit(self, destination: Destination, before: Destination, states: bool) -> None:
        destination.addresses = before.addresses
        destination.hits = before.hits
        destination.credit = before.credit
        destination.pushed = before.pushed
        if states:
            destination.failures = before.failures
            destination.state = state_after_reload(
                before.state,
                before.stored,
                destination.state,
                self._states.is_waiting(destination.id),
            )

    def _table_changed(self, event: TableChanged) -> None:
        if event.table == TABLE:
            Deferred.fromCoroutine(self.reload()).addErrback(
                lambda failure: self.log.failure("the dispatcher was not read", failure)
            )

    # States

    def set_state(self, destination: Destination, state: int, reason: str) -> None:
        """A destination goes up or down."""
        if destination.state == state:
            return
        destination.state = state
        word = ("active", "inactive", "probing")[state]
        self._events.publish(DispatchChanged(destination.set, str(destination.uri), word, reason))
        self.log.info(
            "destination {uri} of set {set} is {state}: {reason}",
            uri=str(destination.uri),
            set=destination.set,
            state=word,
            reason=reason,
        )
        if self._settings.persistent_state:
            destination.stored = state
            self._states.save(destination.id, state)

    def _count_failure(self, destination: Destination, reason: str) -> None:
        destination.failures += 1
        if destination.state != ACTIVE or not self._prober.active:
            # Without probes it would never come back.
            return
        if destination.failures >= self._settings.probing_threshold:
            self.set_state(destination, PROBING, reason)

    def _branch_failed(self, event: BranchFailed) -> None:
        """A call to a destination got no answer at all, or the one that it cannot serve."""
        if event.next_hop is None or event.status not in (408, 503):
            return
        if event.provisional and not event.answered:
            return
        for found in self._places.at(event.next_hop, event.next_hop.port):
            if isinstance(found, Destination):
                self._count_failure(found, f"{event.status} to {event.uri}")

    def _to_probe(self) -> Iterable[Destination]:
        everybody = self._settings.probing_mode == 1
        for destination in self._all():
            if destination.state == PROBING or (
                destination.state == ACTIVE and (everybody or destination.probe_mode == 1)
            ):
                yield destination

    def _probed(self, peer: Peer, status: int, reason: str) -> None:
        for destination in self._all():
            if not isinstance(peer, Destination) or destination.id != peer.id:
                continue
            if destination.state == INACTIVE or not destination.same_place(peer):
                return
            if status == 200 or status in self._settings.options_reply_codes:
                destination.failures = 0
                self.set_state(destination, ACTIVE, f"{status} {reason}")
            else:
                self._count_failure(destination, f"{status} {reason}")

    # Management

    def commands(self) -> Sequence[CommandRow]:
        """The ``ds_*`` commands."""
        return self._commands.rows()

    def statistics(self) -> Mapping[str, int]:
        """Group ``dispatcher``."""
        states = [destination.state for destination in self._all()]
        return {
            "dispatcher:destinations": len(states),
            "dispatcher:active_destinations": states.count(ACTIVE),
            "dispatcher:selected": self.selected,
            "dispatcher:refused": self.refused,
            "dispatcher:probes": self._prober.sent,
        }

    def trusted_hosts(self) -> Iterable[str]:
        """The addresses of all destinations."""
        for destination in self._all():
            yield from (address.host for address in destination.addresses)

    def metrics(self) -> Iterable[Metric]:
        """The state of each destination."""
        yield Metric(
            "pbx_destination_up",
            Kind.GAUGE,
            "1 for a destination of dispatcher that gets calls, 0 for one that does not.",
            ("set", "destination"),
            [
                ((str(found.set), str(found.uri)), int(found.state == ACTIVE))
                for found in self._all()
            ],
        )

    def health(self) -> tuple[str, str]:
        """Degraded while a set has no active destination."""
        dead = [
            str(group.id)
            for group in self.groups.values()
            if all(found.state != ACTIVE for found in group.destinations)
        ]
        text = f"no destination is active in set {', '.join(dead)}"
        return ("degraded", text) if dead else ("ok", "")


@implementer(IPlugin, IPBXPlugin)
class DispatcherPlugin:
    """Announces the dispatcher."""

    name = "dispatcher"
    settings = DispatcherSettings

    def provide(self, registry: IRegistry, clock: IReactorTime, table: Mapping[str, Any]) -> None:
        """Build the dispatcher."""
        part = Dispatcher(
            settings(DispatcherSettings, table, self.name),
            IDatabase(registry),
            IUserAgent(registry),
            IFlows(registry),
            IEvents(registry),
            ITimers(registry),
        )
        registry.provide(IDispatcher, part)


dispatcher = DispatcherPlugin()
