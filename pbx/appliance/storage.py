"""The database, the cache, and what writes and re-reads tables."""

from __future__ import annotations

from collections.abc import Sequence

from pbx.appliance.foundation import Foundation
from pbx.config import ConfigError
from pbx.interfaces import ICache, IDatabase, IWriteBehind
from pbx.services.registrar import RegistrarSettings
from pbx.storage.open import open_cache, open_database
from pbx.storage.watcher import TableWatcher
from pbx.storage.write_behind import WriteBehind
from pbx.tables import StorageSettings

#: Tables that other programs may change while we run.
WATCHED = (
    "subscriber",
    "uri",
    "usr_preferences",
    "domain",
    "dbaliases",
    "load_balancer",
    "dialplan",
    "dispatcher",
    "dr_gateways",
    "dr_rules",
    "dr_carriers",
    "dr_groups",
    "xcap",
)


class Storage:
    """What `build_storage` made, and queues of rows on top of it."""

    def __init__(self, foundation: Foundation, database: IDatabase, cache: ICache) -> None:
        self.database = database
        self.cache = cache
        self._foundation = foundation

    def behind(self, table: str, key: Sequence[str], columns: Sequence[str]) -> IWriteBehind:
        """A part of its own: it is stopped after the service that writes to it."""
        foundation = self._foundation
        settings = foundation.tables.of(StorageSettings)
        interval, limit = settings.write_interval, settings.queue_limit
        return foundation.add(
            WriteBehind(self.database, foundation.reactor, table, key, columns, interval, limit)
        )


def build_storage(foundation: Foundation) -> Storage:
    """Raises ConfigError for a bad URL."""
    settings = foundation.tables.of(StorageSettings)
    url = settings.database
    path = url.removeprefix("sqlite:")
    if path != url and not path.startswith("/"):
        url = f"sqlite:{foundation.base / path}"
    try:
        database = foundation.add(open_database(url, foundation.reactor))
        cache = foundation.add(open_cache(settings.cache, foundation.reactor))
    except ValueError as error:
        raise ConfigError(f"[storage] {error}") from None
    foundation.registry.provide(IDatabase, database)
    foundation.registry.provide(ICache, cache)
    return Storage(foundation, database, cache)


def watch_tables(foundation: Foundation, storage: Storage) -> None:
    """Comes after the services: it tells them of changes since they have read their rows."""
    watched: tuple[str, ...] = WATCHED
    if foundation.tables.of(RegistrarSettings).db_mode == 3:
        watched = (*WATCHED, "location")
    foundation.add(TableWatcher(storage.database, foundation.events, foundation.reactor, watched))
