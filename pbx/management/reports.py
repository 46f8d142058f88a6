"""Status reports: how every part is, in the form that monitoring tools of OpenSIPS ask for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from pbx.commands import CommandFailed
from pbx.events import DestinationChanged, TableChanged
from pbx.interfaces import ICommands, IEvents, IHealth, IReloadable, IStartable

#: Every group has one identifier only: this.
MAIN = "main"
#: Reports that are kept of each group.
KEPT = 50
#: Status numbers by the words of `pbx.health`; positive means ready.
STATUS: Mapping[str, int] = {"ok": 1, "degraded": 2, "down": -1}

Recipes = Sequence[Sequence[str]]
Json = dict[str, object]


@implementer(ICommands, IStartable)
class StatusReports:
    """Groups are named as ``help`` names the exporters of commands."""

    def __init__(
        self,
        parts: Callable[[], Sequence[object]],
        name_of: Callable[[Any], str],
        events: IEvents,
        clock: IReactorTime,
    ) -> None:
        self._parts = parts
        self._name_of = name_of
        self._clock = clock
        self._reports: dict[str, deque[tuple[float, str]]] = {}
        events.subscribe(TableChanged, self._table_changed)
        events.subscribe(DestinationChanged, self._destination_changed)

    async def start(self) -> None:
        """IStartable."""
        self._report("core", "started")

    async def stop(self) -> None:
        """IStartable."""

    def commands(self) -> Sequence[tuple[str, Recipes, Callable[..., object]]]:
        """ICommands."""
        one: Recipes = (("group",), ("group", "identifier"))
        return (
            ("sr_get_status", one, self.sr_get_status),
            ("sr_list_status", ((), ("group",)), self.sr_list_status),
            ("sr_list_reports", ((), *one), self.sr_list_reports),
            ("sr_list_identifiers", ((), ("group",)), self.sr_list_identifiers),
        )

    def sr_get_status(self, group: object, identifier: object = MAIN) -> object:
        """Whether a part is ready, and why not."""
        return self._status(self._known(group, identifier))

    def sr_list_status(self, group: object = None) -> object:
        """The same of all parts, or of one."""
        return self._listed(
            group, lambda name: {"Identifiers": [{"Name": MAIN, **self._status(name)}]}
        )

    def sr_list_identifiers(self, group: object = None) -> object:
        """Which parts there are to ask for."""
        return self._listed(group, lambda name: {"Identifiers": [MAIN]})

    def sr_list_reports(self, group: object = None, identifier: object = MAIN) -> object:
        """What happened to parts lately."""
        if group is not None:
            self._known(group, identifier)
        return self._listed(
            group, lambda name: {"Identifiers": [{"Name": MAIN, "Reports": self._told(name)}]}
        )

    def _listed(self, group: object, about: Callable[[str], Json]) -> object:
        if group is None:
            return [{"Name": name, **about(name)} for name in sorted(self._groups())]
        name = self._known(group, MAIN)
        return {"Name": name, **about(name)}

    def _known(self, group: object, identifier: object) -> str:
        name = str(group)
        if name not in self._groups():
            raise CommandFailed(404, "Group not found")
        if identifier != MAIN:
            raise CommandFailed(404, f"Identifier not found; there is {MAIN}")
        return name

    def _groups(self) -> dict[str, list[object]]:
        groups: dict[str, list[object]] = {"core": []}
        for part in self._parts():
            if IHealth.providedBy(part) or IReloadable.providedBy(part):
                groups.setdefault(self._name_of(part), []).append(part)
        return groups

    def _status(self, name: str) -> Json:
        worst, details = "ok", "running"
        for part in self._groups()[name]:
            if IHealth.providedBy(part):
                word, why = IHealth(part).health()
                if list(STATUS).index(word) > list(STATUS).index(worst):
                    worst, details = word, why
        return {"Readiness": worst != "down", "Status": STATUS[worst], "Details": details}

    def _told(self, name: str) -> list[Json]:
        return [
            {"Timestamp": int(at), "Date": time.ctime(at), "Log": text}
            for at, text in self._reports.get(name, ())
        ]

    def _report(self, name: str, text: str) -> None:
        kept = self._reports.setdefault(name, deque(maxlen=KEPT))
        kept.append((self._clock.seconds(), text))

    def _table_changed(self, event: TableChanged) -> None:
        self._report("core", f"table {event.table} was changed by another program")

    def _destination_changed(self, event: DestinationChanged) -> None:
        word = "enabled" if event.enabled else "disabled"
        self._report("load_balancer", f"{event.uri} of group {event.group} {word}: {event.reason}")
