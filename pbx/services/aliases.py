"""Aliases: the ``dbaliases`` table, a dialled address and the one that it stands for."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from pbx.events import TableChanged
from pbx.interfaces import IAliases, IDatabase, IEvents, IReloadable, IStartable
from pbx.rows import left_out, needed
from pbx.sip.uri import URI


@implementer(IAliases, IStartable, IReloadable)
class Aliases:
    """Kept in memory; changes of the table by others are noticed."""

    log = Logger()

    def __init__(self, database: IDatabase, events: IEvents, domain_prefix: str = "") -> None:
        """``domain_prefix`` is removed from the host before it is looked up."""
        self._database = database
        self._prefix = domain_prefix.lower()
        self._targets: dict[tuple[str, str], tuple[str, str]] = {}
        events.subscribe(TableChanged, self._table_changed)

    def resolve(self, uri: URI) -> URI:
        """The URI that it stands for, or the same one; URI parameters are kept."""
        if not self._targets:
            return uri
        target = self._targets.get((uri.user, uri.host.removeprefix(self._prefix)))
        if target is None:
            return uri
        user, host = target
        return uri.replace(user=user, host=host, port=uri.port if host == uri.host else None)

    async def start(self) -> None:
        """Read the table."""
        await self.reload()

    async def stop(self) -> None:
        """Nothing is kept anywhere else."""

    async def reload(self) -> None:
        """Read the table again."""
        rows = await self._database.query(
            "SELECT id, alias_username, alias_domain, username, domain FROM dbaliases"
        )
        targets: dict[tuple[str, str], tuple[str, str]] = {}
        for id, alias, domain, user, host in rows:
            try:
                key = needed("alias_username", alias), needed("alias_domain", domain).lower()
                targets[key] = needed("username", user), needed("domain", host).lower()
            except ValueError as error:
                left_out("dbaliases", id, error)
        self._targets = targets

    def _table_changed(self, event: TableChanged) -> None:
        if event.table == "dbaliases":
            Deferred.fromCoroutine(self.reload()).addErrback(
                lambda failure: self.log.failure("the aliases were not read", failure=failure)
            )
