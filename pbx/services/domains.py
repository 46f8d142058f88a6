"""The domains we are responsible for: the ``domain`` table, the default domain, our addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import classImplements

from pbx.events import TableChanged
from pbx.interfaces import ICommands, IDatabase, IDomains, IEvents, IReloadable, IStartable
from pbx.rows import column, left_out, needed, whole
from pbx.sip.uri import split_host_port


class Domains:
    """Kept in memory; changes of the table by others are noticed."""

    log: ClassVar = Logger(__name__)

    def __init__(
        self,
        default: str,
        is_own_host: Callable[[str], bool],
        database: IDatabase,
        events: IEvents,
    ) -> None:
        self._default = default.lower()
        self._is_own_host = is_own_host
        self._database = database
        self._rows: dict[str, str | None] = {}
        self._parents: frozenset[str] = frozenset()
        events.subscribe(TableChanged, self._table_changed)

    def is_local(self, host: str) -> bool:
        """Case does not matter."""
        host = host.lower()
        if not host:
            return False
        if host == self._default or host in self._rows or self._is_own_host(host):
            return True
        if self._parents:
            _, dot, parent = host.partition(".")
            while dot:
                if parent in self._parents:
                    return True
                _, dot, parent = parent.partition(".")
        return False

    def canonical(self, host: str) -> str:
        """The default domain for our own addresses, else the host in lower case."""
        host = host.lower()
        if host != self._default and host not in self._rows and self._is_own_host(host):
            return self._default
        return host

    def names(self) -> Sequence[str]:
        """All of them, the default domain first."""
        return [self._default, *(name for name in self._rows if name != self._default)]

    async def start(self) -> None:
        """Read the table."""
        await self.reload()

    async def stop(self) -> None:
        """Nothing is kept anywhere else."""

    async def reload(self) -> None:
        """Read the table again."""
        rows = await self._database.query("SELECT id, domain, attrs, accept_subdomain FROM domain")
        names: dict[str, str | None] = {}
        parents: set[str] = set()
        for id, name, attrs, below in rows:
            try:
                host = _host(needed("domain", name))
                with column("domain"):
                    split_host_port(f"[{host}]" if ":" in host else host)
                if whole("accept_subdomain", below):
                    parents.add(host)
            except ValueError as error:
                left_out("domain", id, error)
                continue
            names[host] = attrs
        self._rows, self._parents = names, frozenset(parents)

    def _table_changed(self, event: TableChanged) -> None:
        if event.table == "domain":
            Deferred.fromCoroutine(self.reload()).addErrback(
                lambda failure: self.log.failure("the domain table was not read", failure=failure)
            )

    def commands(self) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """``domain_reload`` and ``domain_dump``."""
        return [("domain_reload", [[]], self._reload), ("domain_dump", [[]], self._dump)]

    async def _reload(self) -> str:
        """Read the domain table again."""
        await self.reload()
        return "OK"

    def _dump(self) -> dict[str, object]:
        """The rows of the domain table."""
        domains = []
        for name, attrs in self._rows.items():
            domains.append({"name": name, "attributes": attrs} if attrs else {"name": name})
        return {"Domains": domains}


classImplements(Domains, IDomains, IStartable, IReloadable, ICommands)


def _host(name: object) -> str:
    """As `URI.host` has it: lower case, no brackets around IPv6."""
    return str(name).strip().strip("[]").lower()
