"""Partitions of dynamic routing: the ``dr_partitions`` table (spec 20, section 6).

Each is a set of dr_ tables under other names, in the database of the PBX. The default partition is
always there; tables of the others are read at the start and by ``dr_reload``.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from time import ctime
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.logger import Logger
from zope.interface import implementer

from pbx.commands import CommandFailed
from pbx.errors import DatabaseError
from pbx.interfaces import (
    ICommands,
    IDatabase,
    IGateways,
    IHealth,
    IMetrics,
    IReloadable,
    IStartable,
    IStatistics,
    ITrusted,
)
from pbx.metrics import Metric
from pbx.sip.address import Address
from pbx.sip.uri import URI
from pbx.verdicts import Target
from plugins.drouting_commands import CommandRow
from plugins.drouting_rows import TableNames

if TYPE_CHECKING:
    from plugins.drouting import DynamicRouting

#: The partition that has the tables with the usual names.
DEFAULT: Final = "default"
SQL: Final = (
    "SELECT partition_name, drd_table, drc_table, drg_table, drr_table FROM dr_partitions"
    " ORDER BY id"
)
Make = Callable[[TableNames, str], "DynamicRouting"]


@implementer(
    IGateways, IStartable, IReloadable, ICommands, IStatistics, IMetrics, IHealth, ITrusted
)
class PartitionedRouting:
    """Dynamic routing once for each partition."""

    log = Logger()

    def __init__(self, default: DynamicRouting, database: IDatabase, make: Make) -> None:
        self.partitions: dict[str, DynamicRouting] = {DEFAULT: default}
        self._tables: dict[str, TableNames] = {}
        self._database = database
        self._make = make

    # IGateways

    def is_gateway(
        self,
        peer: Address,
        via_port: int | None = None,
        kind: int | None = None,
        partition: str = "",
    ) -> bool:
        """Of that partition, or of any."""
        found = self.partitions.values() if not partition else (self._named(partition),)
        return any(one is not None and one.is_gateway(peer, via_port, kind) for one in found)

    def route(
        self, uri: URI, caller: URI, group: int | None = None, partition: str = ""
    ) -> Sequence[Target]:
        """Nowhere for a partition that there is not."""
        found = self._named(partition or DEFAULT)
        return () if found is None else found.route(uri, caller, group)

    def _named(self, name: str) -> DynamicRouting | None:
        return self.partitions.get(name) or self.partitions.get(name.lower())

    # Rows

    async def start(self) -> None:
        """The default one first: without it nothing starts."""
        await self.partitions[DEFAULT].start()
        await self._read()

    async def stop(self) -> None:
        """IStartable."""
        for partition in self.partitions.values():
            await partition.stop()

    async def reload(self) -> None:
        """Partitions that came and went, and the tables of all. Raises DatabaseError."""
        before = tuple(self.partitions.values())
        await self._read()
        for partition in before:
            if partition in self.partitions.values():
                await partition.reload()

    async def _read(self) -> None:
        wanted: dict[str, TableNames] = {}
        usual = TableNames()
        for name, gateways, carriers, groups, rules in await self._database.query(SQL):
            if str(name).lower() == DEFAULT:
                continue
            try:
                wanted[str(name)] = TableNames(
                    gateways=str(gateways or usual.gateways),
                    carriers=str(carriers or usual.carriers),
                    groups=str(groups or usual.groups),
                    rules=str(rules or usual.rules),
                )
            except ValueError as error:
                self.log.warn("partition {name} is left out: {error!s}", name=name, error=error)
        for name in [name for name in self._tables if wanted.get(name) != self._tables[name]]:
            del self._tables[name]
            await self.partitions.pop(name).stop()
        for name, tables in wanted.items():
            if name not in self._tables:
                await self._begin(name, tables)

    async def _begin(self, name: str, tables: TableNames) -> None:
        made = self._make(tables, name)
        try:
            await made.start()
        except DatabaseError as error:
            self.log.warn("partition {name} is left out: {error!s}", name=name, error=error)
            return
        self.partitions[name], self._tables[name] = made, tables

    # Management

    def commands(self) -> Sequence[CommandRow]:
        """Those of a partition, each with a partition in front."""
        rows: list[CommandRow] = []
        for name, recipes, function in self.partitions[DEFAULT].commands():
            doc = inspect.getdoc(function)
            more = [
                ("partition_name", *recipe) for recipe in recipes if "partition_name" not in recipe
            ]
            if name in ("dr_reload", "dr_reload_status"):
                more = []
            rows.append((name, (*recipes, *more), self._command(name, doc)))
        return rows

    def _command(self, name: str, doc: str | None) -> Callable[..., object]:
        special = {"dr_reload": self._dr_reload, "dr_reload_status": self._dr_reload_status}

        async def run(**arguments: Any) -> object:
            chosen = arguments.pop("partition_name", None)
            if name in special:
                return await special[name](chosen, arguments)
            result = self._function(name, self._known(chosen or DEFAULT))(**arguments)
            return await cast(Awaitable[object], result) if inspect.isawaitable(result) else result

        run.__doc__ = doc
        return run

    @staticmethod
    def _function(name: str, partition: DynamicRouting) -> Callable[..., object]:
        return next(function for known, _, function in partition.commands() if known == name)

    def _known(self, name: object) -> DynamicRouting:
        found = self._named(str(name))
        if found is None:
            raise CommandFailed(404, "Partition not found")
        return found

    async def _dr_reload(self, chosen: object, arguments: Mapping[str, Any]) -> object:
        if chosen is None:
            try:
                await self._read()
            except DatabaseError as error:
                raise CommandFailed(500, "Failed to reload") from error
        partitions = self.partitions.values() if chosen is None else (self._known(chosen),)
        for partition in tuple(partitions):
            function = self._function("dr_reload", partition)
            await cast(Awaitable[object], function(**arguments))
        return "OK"

    async def _dr_reload_status(self, chosen: object, arguments: Mapping[str, Any]) -> object:
        if chosen is not None:
            return {"Date": ctime(self._known(chosen).reloaded)}
        return {
            "Partitions": [
                {"name": name, "Date": ctime(partition.reloaded)}
                for name, partition in self.partitions.items()
            ]
        }

    def statistics(self) -> Mapping[str, int]:
        """Sums over all partitions."""
        found: dict[str, int] = {"drouting:partitions": len(self.partitions)}
        for partition in self.partitions.values():
            for name, value in partition.statistics().items():
                found[name] = found.get(name, 0) + value
        return found

    def trusted_hosts(self) -> Iterable[str]:
        """The addresses of all gateways."""
        for partition in self.partitions.values():
            yield from partition.trusted_hosts()

    def metrics(self) -> Iterable[Metric]:
        """The state of each gateway; those of other partitions as ``partition:gateway``."""
        first = next(iter(self.partitions[DEFAULT].metrics()))
        samples = list(first.samples)
        for name, partition in self.partitions.items():
            if name != DEFAULT:
                for metric in partition.metrics():
                    samples += [
                        ((f"{name}:{labels[0]}", *labels[1:]), value)
                        for labels, value in metric.samples
                    ]
        yield Metric(first.name, first.kind, first.help, first.labels, samples)

    def health(self) -> tuple[str, str]:
        """Degraded while some partition has no gateway up."""
        for name, partition in self.partitions.items():
            word, why = partition.health()
            if word != "ok":
                return word, f"{why} (partition {name})"
        return "ok", ""
