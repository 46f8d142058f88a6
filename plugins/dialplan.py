"""Number translation: the ``dialplan`` table (spec 30, section 15)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.plugin import IPlugin
from zope.interface import implementer

from pbx.commands import CommandFailed
from pbx.config import settings
from pbx.errors import DatabaseError
from pbx.events import TableChanged
from pbx.interfaces import (
    ICommands,
    IDatabase,
    IDialplan,
    IEvents,
    IPBXPlugin,
    IRegistry,
    IReloadable,
    IStartable,
    IStatistics,
)
from pbx.sip.uri import URI
from plugins.dialplan_rules import COLUMNS, Plan, make_plans

TABLE = "dialplan"
PARTITION = "default"


@dataclass(frozen=True, slots=True)
class DialplanSettings:
    """The ``[dialplan]`` table."""

    max_input: int = 64
    """Longest text that patterns are tried on; rules of equal texts match any length."""

    def __post_init__(self) -> None:
        if not 16 <= self.max_input <= 256:
            raise ValueError("max_input: expected 16 to 256")


@implementer(IDialplan, IStartable, IReloadable, ICommands, IStatistics)
class Dialplan:
    """All rules in memory; a reload swaps them at once."""

    log = Logger()

    def __init__(
        self,
        settings: DialplanSettings,
        database: IDatabase,
        events: IEvents,
        clock: IReactorTime,
    ) -> None:
        self._longest = settings.max_input
        self._database = database
        self._clock = clock
        self._plans: dict[int, Plan] = {}
        self._rows: Sequence[tuple[object, ...]] = ()
        self.rules = self.translated = self.unmatched = 0
        events.subscribe(TableChanged, self._table_changed)

    # IDialplan

    def translate(self, uri: URI, dpid: int = 0) -> URI:
        """The URI with its user translated, or the same one."""
        if dpid not in self._plans:
            return uri
        user = uri.user
        found = self.lookup(user, dpid)
        if found is None or found[0] == user or not found[0]:
            return uri
        return uri.replace(user=found[0])

    def lookup(self, text: str, dpid: int = 0) -> tuple[str, str] | None:
        """What becomes of a text, and the attributes of the rule; None when no rule matches."""
        plan = self._plans.get(dpid)
        if plan is not None:
            rule = plan.find(text, self._clock.seconds(), self._longest)
            output = None if rule is None else rule.output(text)
            if rule is not None and output is not None:
                self.translated += 1
                return output, rule.attrs
        self.unmatched += 1
        return None

    # Rows

    async def start(self) -> None:
        """Read the table."""
        await self.reload()

    async def stop(self) -> None:
        """Nothing is kept anywhere else."""

    async def reload(self) -> None:
        """Read the table again; on any error the old rules stay."""
        rows = await self._database.query(f"SELECT {COLUMNS} FROM {TABLE} ORDER BY pr, id")
        self._plans, self.rules = make_plans(rows, self._longest)
        self._rows = rows

    def _table_changed(self, event: TableChanged) -> None:
        if event.table == TABLE:
            Deferred.fromCoroutine(self.reload()).addErrback(
                lambda failure: self.log.failure("the dial plan was not read", failure=failure)
            )

    # Management

    def commands(self) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """The ``dp_*`` commands."""
        return (
            ("dp_reload", ((), ("partition",)), self.dp_reload),
            (
                "dp_translate",
                (("dpid", "input"), ("dpid", "input", "partition")),
                self.dp_translate,
            ),
            ("dp_rules", ((), ("dpid",)), self.dp_rules),
            ("dp_show_partition", ((), ("partition",)), self.dp_show_partition),
        )

    async def dp_reload(self, partition: object = PARTITION) -> str:
        """Read the rules again."""
        _check_partition(partition)
        try:
            await self.reload()
        except DatabaseError as error:
            raise CommandFailed(500, "Failed to reload") from error
        return "OK"

    def dp_translate(
        self, dpid: object, input: object, partition: object = PARTITION
    ) -> dict[str, object]:
        """What becomes of a text."""
        _check_partition(partition)
        number = str(dpid)
        if not (number.isascii() and number.isdigit()):
            raise CommandFailed(404, "Wrong id parameter")
        if int(number) not in self._plans:
            raise CommandFailed(404, "No information available for dpid")
        found = self.lookup(str(input), int(number))
        if found is None:
            raise CommandFailed(404, "No translation")
        return {"Output": found[0], "ATTRIBUTES": found[1]}

    def dp_rules(self, dpid: object = None) -> dict[str, object]:
        """The rows of the dial plan, or of one, as they were read; bad ones are in the log."""
        names = [name.strip() for name in COLUMNS.split(",")]
        rows = [dict(zip(names, row, strict=True)) for row in self._rows]
        return {"Rules": [row for row in rows if dpid is None or str(row["dpid"]) == str(dpid)]}

    def dp_show_partition(self, partition: object = None) -> dict[str, object]:
        """Where the rules come from; there is one partition."""
        if partition is not None:
            _check_partition(partition)
            return {"Partition": PARTITION, "Table": TABLE, "db_url": self._database.url}
        shown = {"name": PARTITION, "table": TABLE, "db_url": self._database.url}
        return {"Partitions": [shown]}

    def statistics(self) -> Mapping[str, int]:
        """Group ``dialplan``."""
        return {
            "dialplan:rules": self.rules,
            "dialplan:translated": self.translated,
            "dialplan:unmatched": self.unmatched,
        }


def _check_partition(partition: object) -> None:
    if str(partition) != PARTITION:
        raise CommandFailed(400, "Partition not found")


@implementer(IPlugin, IPBXPlugin)
class DialplanPlugin:
    """Announces the dial plan."""

    name = "dialplan"
    settings = DialplanSettings

    def provide(self, registry: IRegistry, clock: IReactorTime, table: Mapping[str, Any]) -> None:
        """Build the dial plan."""
        part = Dialplan(
            settings(DialplanSettings, table, self.name),
            IDatabase(registry),
            IEvents(registry),
            clock,
        )
        registry.provide(IDialplan, part)


dialplan = DialplanPlugin()
