"""Subscriptions and publications in the database, written behind."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from twisted.logger import Logger

from pbx.interfaces import IDatabase, IWriteBehind
from pbx.rows import left_out
from pbx.services.presence.publications import Publication
from pbx.services.presence.rows import (
    PRESENTITY_COLUMNS,
    WATCHERS_COLUMNS,
    fits,
    presentity_key,
    presentity_row,
    publication_of,
    subscription_of,
    watcher_key,
    watcher_row,
)
from pbx.services.presence.subscription import Package, Subscription
from pbx.sip.errors import SIPError


class PresenceStore:
    """The tables ``presentity`` and ``active_watchers``; what does not fit lives in memory only.

    ``node`` is our own name in a cluster, "" when there is none.
    """

    log = Logger()

    def __init__(
        self,
        database: IDatabase,
        presentity_rows: IWriteBehind,
        watcher_rows: IWriteBehind,
        node: str,
    ) -> None:
        self._database = database
        self._presentities = presentity_rows
        self._watchers = watcher_rows
        self.node = node

    async def publications(self, packages: Mapping[str, Package], now: float) -> list[Publication]:
        """What is published; rows that have expired go."""
        found: list[Publication] = []
        columns = ", ".join(PRESENTITY_COLUMNS)
        for row in await self._database.query(f"SELECT {columns} FROM presentity"):
            try:
                publication = publication_of(row, packages)
            except ValueError as error:
                left_out("presentity", f"{row[0]}@{row[1]};{row[3]}", error)
                continue
            if publication is None:
                continue
            if publication.expires > now:
                found.append(publication)
            else:
                self.remove_publication(publication, publication.etag)
        return found

    async def subscriptions(
        self, packages: Mapping[str, Package], now: float, node: str = ""
    ) -> list[Subscription]:
        """Who watches; rows that have expired go.

        In a cluster only those of this node and of none, or those of another ``node``.
        """
        wanted = node or self.node
        found: list[Subscription] = []
        columns = ", ".join(WATCHERS_COLUMNS)
        for row in await self._database.query(f"SELECT {columns} FROM active_watchers"):
            try:
                subscription = subscription_of(row, packages)
            except (ValueError, SIPError) as error:
                left_out("active_watchers", f"{row[0]};{row[9]}", error)
                continue
            if subscription is None:
                continue
            # Alone, all of them: another program may have written its own tags.
            if wanted and subscription.node != wanted and (node or subscription.node):
                continue
            if subscription.expires > now:
                found.append(subscription)
            else:
                self.remove(subscription)
        return found

    async def nodes(self) -> set[str]:
        """The nodes of a cluster that have subscriptions."""
        rows = await self._database.query("SELECT DISTINCT sharing_tag FROM active_watchers")
        return {str(tag) for (tag,) in rows if tag} - {self.node}

    def save_publication(self, publication: Publication) -> None:
        """It is new, or has a new tag."""
        user, _, domain = publication.presentity.rpartition("@")
        if max(len(user), len(domain)) <= 64:
            key = presentity_key(publication, publication.etag)
            self._presentities.put(key, presentity_row(publication))

    def remove_publication(self, publication: Publication, etag: str) -> None:
        """It has gone, or has another tag now."""
        self._presentities.delete(presentity_key(publication, etag))

    def save(self, subscription: Subscription) -> None:
        """It is new or has changed; its row is made when it is written."""
        if fits(subscription):
            subscription.saved = True
            subscription.node = self.node
            self._watchers.put(watcher_key(subscription), partial(watcher_row, subscription))

    def remove(self, subscription: Subscription) -> None:
        """It has ended."""
        if subscription.saved:
            subscription.saved = False
            self._watchers.delete(watcher_key(subscription))

    async def flush(self) -> None:
        """Write everything now."""
        await self._presentities.flush()
        await self._watchers.flush()
