"""Dynamic routing of PSTN numbers to gateways: the ``dr_*`` tables (spec 30, section 16).

A leading ``+`` is no part of the number by default (O13). For several partitions see
`plugins.drouting_partitions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.plugin import IPlugin
from zope.interface import implementer

from pbx.config import settings
from pbx.events import BranchFailed, GatewayChanged, TableChanged
from pbx.interfaces import (
    ICommands,
    IDatabase,
    IEvents,
    IFlows,
    IGateways,
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
from pbx.sip.errors import MalformedURI
from pbx.sip.uri import URI
from pbx.verdicts import Target
from plugins.drouting_commands import CommandRow, GatewayCommands
from plugins.drouting_partitions import DEFAULT, PartitionedRouting
from plugins.drouting_rows import (
    TableNames,
    read_callers,
    read_carriers,
    read_gateways,
    read_rules,
)
from plugins.drouting_settings import DroutingSettings
from plugins.drouting_table import (
    ALWAYS,
    DIGITS,
    DISABLED,
    ENABLED,
    NEVER,
    PROBING,
    WORDS,
    Carrier,
    Gateway,
    Prefixes,
    Rule,
    expand,
)
from plugins.probing import (
    Peer,
    Places,
    Prober,
    ProbeSettings,
    StateColumn,
    state_after_reload,
)

DEFAULT_TABLES: Final = TableNames()
_SEPARATORS: Final = str.maketrans("", "", "-.()")


@implementer(
    IGateways, IStartable, IReloadable, ICommands, IStatistics, IMetrics, IHealth, ITrusted
)
class DynamicRouting:
    """Gateways, carriers and rules in memory, each reloaded by itself and swapped at once."""

    log = Logger()

    def __init__(
        self,
        settings: DroutingSettings,
        database: IDatabase,
        user_agent: IUserAgent,
        flows: IFlows,
        events: IEvents,
        timers: ITimers,
        clock: IReactorTime,
        tables: TableNames = DEFAULT_TABLES,
        partition: str = "default",
    ) -> None:
        self.partition = partition
        self.settings = settings
        self._tables = tables
        self.gateways: dict[str, Gateway] = {}
        self.carriers: dict[str, Carrier] = {}
        self.reloaded = 0.0
        self.rules = self.routed = self.refused = 0
        self._database = database
        self._events = events
        self._clock = clock
        self._prefixes: dict[int, Prefixes] = {}
        self._callers: dict[tuple[str, str], int] = {}
        self._reading = DeferredLock()
        self._wanted: set[str] = set()
        self._gateway_states = StateColumn(database, tables.gateways, "gwid", timers)
        self._carrier_states = StateColumn(database, tables.carriers, "carrierid", timers)
        self._places = Places(flows, timers, settings.resolve_interval, self._all_gateways)
        probes = ProbeSettings(
            method=settings.probing_method,
            from_uri=settings.probing_from,
            interval=settings.probing_interval,
            timeout=settings.probing_timeout,
        )
        self.prober = Prober(probes, user_agent, flows, timers, self._to_probe, self._probed)
        self._commands = GatewayCommands(self)
        events.subscribe(TableChanged, self._table_changed)
        events.subscribe(BranchFailed, self._branch_failed)

    def _all_gateways(self) -> Iterable[Gateway]:
        return self.gateways.values()

    # IGateways

    def is_gateway(
        self,
        peer: Address,
        via_port: int | None = None,
        kind: int | None = None,
        partition: str = "",
    ) -> bool:
        """Whether a request came from any gateway (of a type), enabled or not (R7)."""
        found = self._places.at(peer, via_port)
        if kind is None:
            return bool(found)
        return any(isinstance(gateway, Gateway) and gateway.kind == kind for gateway in found)

    def route(
        self, uri: URI, caller: URI, group: int | None = None, partition: str = ""
    ) -> Sequence[Target]:
        """Where to send a PSTN number, in the order to try (falling q)."""
        user = self.number(uri)
        gateways = self._find(user, self.group_of(caller) if group is None else group)
        targets: list[Target] = []
        for gateway in gateways:
            sent = gateway.number_for(user)
            if sent:
                q = 1.0 - len(targets) / 1000
                targets.append(Target(gateway.uri_for(sent), q=q, socket=gateway.socket))
        if targets:
            self.routed += 1
        else:
            self.refused += 1
        return targets

    def number(self, uri: URI) -> str:
        """The number as rules and gateways see it."""
        user = uri.user
        if uri.scheme == "tel":
            user = user.translate(_SEPARATORS)
        return user.removeprefix("+") if self.settings.plus == "strip" else user

    def group_of(self, caller: URI) -> int:
        """The rule group of a caller."""
        callers = self._callers
        if callers:
            user = caller.user
            for host in (caller.host, "") if self.settings.use_domain else ("",):
                group = callers.get((user, host))
                if group is not None:
                    return group
        return self.settings.default_group

    def rule_for(self, user: str, group: int) -> Rule | None:
        """The rule of the longest prefix that holds now."""
        prefixes = self._prefixes.get(group)
        if prefixes is None:
            return None
        return prefixes.find(self._digits(user), self._clock.seconds())

    def _digits(self, user: str) -> str:
        """What prefixes are compared with: up to the first character that is no digit."""
        if user.isdigit() and user.isascii():
            return user
        allowed = DIGITS + self.settings.extra_prefix_chars
        end = next((at for at, char in enumerate(user) if char not in allowed), len(user))
        return user[:end]

    def _find(self, user: str, group: int) -> Sequence[Gateway]:
        rule = self.rule_for(user, group)
        if rule is None:
            return ()
        gateways = expand(rule, self.gateways, self.carriers)
        if gateways or not self.settings.rule_fallback:
            return gateways
        now = self._clock.seconds()
        for rule in self._prefixes[group].find_all(self._digits(user), now):
            gateways = expand(rule, self.gateways, self.carriers)
            if gateways:
                return gateways
        return ()

    # Rows

    async def start(self) -> None:
        """Read the tables, find the addresses, begin to probe."""
        await self.reload()
        self._places.start()
        self.prober.start()

    async def stop(self) -> None:
        """Probe no more; write the last states."""
        self._places.stop()
        self.prober.stop()
        await self._gateway_states.stop()
        await self._carrier_states.stop()

    async def reload(self, inherit: bool = True) -> None:
        """Read all tables again; on any error the old rows stay. ``inherit``: states that only we
        know stay.
        """
        await self._reading.acquire()
        try:
            gateways = await self._read_gateways(inherit)
            carriers = await self._read_carriers(inherit)
            callers = await self._read_callers()
            prefixes, rules = await self._read_rules()
        finally:
            self._reading.release()
        self._swap_gateways(gateways)
        self.carriers, self._callers = carriers, callers
        self._prefixes, self.rules = prefixes, rules
        self.reloaded = self._clock.seconds()

    async def _read_gateways(self, inherit: bool) -> dict[str, Gateway]:
        made = await read_gateways(self._database, self._tables.gateways)
        for id, gateway in made.items():
            known = self.gateways.get(id)
            if known is None or not known.same_place(gateway):
                continue
            gateway.addresses = known.addresses
            if inherit:
                waiting = self._gateway_states.is_waiting(id)
                gateway.state = state_after_reload(
                    known.state, known.stored, gateway.state, waiting
                )
        return made

    def _swap_gateways(self, gateways: dict[str, Gateway]) -> None:
        self.gateways = gateways
        self._places.resolve()

    async def _read_carriers(self, inherit: bool) -> dict[str, Carrier]:
        made = await read_carriers(self._database, self._tables.carriers)
        for id, carrier in made.items():
            known = self.carriers.get(id)
            waiting = self._carrier_states.is_waiting(id)
            if inherit and known is not None and (waiting or carrier.stored == known.stored):
                carrier.enabled = known.enabled
        return made

    async def _read_rules(self) -> tuple[dict[int, Prefixes], int]:
        settings = self.settings
        return await read_rules(
            self._database,
            self._tables.rules,
            settings.plus == "strip",
            settings.extra_prefix_chars,
        )

    async def _read_callers(self) -> dict[tuple[str, str], int]:
        return await read_callers(self._database, self._tables.groups, self.settings.use_domain)

    def _table_changed(self, event: TableChanged) -> None:
        table = event.table
        tables = self._tables
        ours = (tables.gateways, tables.carriers, tables.groups, tables.rules)
        if table in ours and table not in self._wanted:
            self._wanted.add(table)
            Deferred.fromCoroutine(self._read_again(table)).addErrback(
                lambda failure: self.log.failure("{table} was not read", failure, table=table)
            )

    async def _read_again(self, table: str) -> None:
        """Only this table: a gateway that changes its state must not cost all rules again."""
        await self._reading.acquire()
        self._wanted.discard(table)
        try:
            if table == self._tables.gateways:
                self._swap_gateways(await self._read_gateways(True))
            elif table == self._tables.carriers:
                self.carriers = await self._read_carriers(True)
            elif table == self._tables.groups:
                self._callers = await self._read_callers()
            else:
                self._prefixes, self.rules = await self._read_rules()
        finally:
            self._reading.release()

    # States

    def set_state(self, gateway: Gateway, state: int, reason: str) -> None:
        """A gateway goes up or down."""
        if gateway.state == state:
            return
        gateway.state = state
        word = WORDS[state]
        self._events.publish(
            GatewayChanged(gateway.id, gateway.address, word, reason, self.partition)
        )
        self.log.info(
            "gateway {id} is {state}: {reason}",
            id=gateway.id,
            state="up" if state == ENABLED else "down",
            reason=reason,
        )
        if self.settings.persistent_state:
            gateway.stored = state
            self._gateway_states.save(gateway.id, state)

    def set_carrier(self, carrier: Carrier, enabled: bool) -> None:
        """A carrier is switched on or off."""
        carrier.enabled = enabled
        if self.settings.persistent_state:
            carrier.stored = int(not enabled)
            self._carrier_states.save(carrier.id, carrier.stored)

    def _branch_failed(self, event: BranchFailed) -> None:
        if event.status not in self.settings.disable_codes or not self.prober.active:
            return
        if event.provisional and not event.answered:
            # It rang too long: the gateway lives.
            return
        for gateway in self._behind(event):
            if gateway.state == ENABLED and gateway.probe_mode != NEVER:
                self.set_state(gateway, PROBING, f"{event.status} to {event.uri}")

    def _behind(self, event: BranchFailed) -> Iterable[Gateway]:
        hop = event.next_hop
        if hop is not None:
            for found in self._places.at(hop, hop.port):
                # With several addresses the last one that is tried decides.
                if isinstance(found, Gateway) and found.addresses[-1].host == hop.host:
                    yield found
            return
        try:
            uri = URI.parse(event.uri)
        except MalformedURI:
            return
        for gateway in self.gateways.values():
            if (gateway.uri.host, gateway.uri.port) == (uri.host, uri.port):
                yield gateway

    def _to_probe(self) -> Iterable[Gateway]:
        for gateway in self.gateways.values():
            if gateway.state != DISABLED and (
                gateway.probe_mode == ALWAYS
                or (gateway.state == PROBING and gateway.probe_mode != NEVER)
            ):
                yield gateway

    def _probed(self, peer: Peer, status: int, reason: str) -> None:
        asked = peer if isinstance(peer, Gateway) else None
        gateway = self.gateways.get(asked.id) if asked else None
        if gateway is None or not gateway.same_place(peer) or gateway.state == DISABLED:
            return
        if status == 200 or status in self.settings.probing_reply_codes:
            self.set_state(gateway, ENABLED, f"{status} {reason}")
        elif status >= 400:
            self.set_state(gateway, PROBING, f"{status} {reason}")

    # Management

    def commands(self) -> Sequence[CommandRow]:
        """The ``dr_*`` commands."""
        return self._commands.rows()

    def statistics(self) -> Mapping[str, int]:
        """Group ``drouting``."""
        up = sum(gateway.state == ENABLED for gateway in self.gateways.values())
        return {
            "drouting:gateways": len(self.gateways),
            "drouting:enabled_gateways": up,
            "drouting:rules": self.rules,
            "drouting:routed": self.routed,
            "drouting:refused": self.refused,
            "drouting:probes": self.prober.sent,
        }

    def trusted_hosts(self) -> Iterable[str]:
        """The addresses of all gateways."""
        for gateway in self.gateways.values():
            yield from (address.host for address in gateway.addresses)

    def metrics(self) -> Iterable[Metric]:
        """The state of each gateway."""
        yield Metric(
            "pbx_gateway_up",
            Kind.GAUGE,
            "1 for a gateway of dr_gateways that gets calls, 0 for one that does not.",
            ("gateway", "address"),
            [
                ((gateway.id, gateway.address), int(gateway.state == ENABLED))
                for gateway in self.gateways.values()
            ],
        )

    def health(self) -> tuple[str, str]:
        """Degraded while no gateway is up."""
        gateways = self.gateways.values()
        if gateways and not any(gateway.state == ENABLED for gateway in gateways):
            return "degraded", "no gateway is up"
        return "ok", ""


@implementer(IPlugin, IPBXPlugin)
class DroutingPlugin:
    """Announces dynamic routing."""

    name = "drouting"
    settings = DroutingSettings

    def provide(self, registry: IRegistry, clock: IReactorTime, table: Mapping[str, Any]) -> None:
        """Build dynamic routing."""
        chosen = settings(DroutingSettings, table, self.name)
        database = IDatabase(registry)

        agent, flows = IUserAgent(registry), IFlows(registry)
        events, timers = IEvents(registry), ITimers(registry)

        def partition(tables: TableNames, name: str) -> DynamicRouting:
            return DynamicRouting(
                chosen, database, agent, flows, events, timers, clock, tables, name
            )

        default = partition(DEFAULT_TABLES, DEFAULT)
        if chosen.use_partitions:
            registry.provide(IGateways, PartitionedRouting(default, database, partition))
        else:
            registry.provide(IGateways, default)


drouting = DroutingPlugin()
