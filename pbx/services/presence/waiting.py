"""Watchers whose subscription ended before anybody decided about it (RFC 3857 section 4.7.1).

A presentity that was away all the time sees later who wanted to watch. They are rows of the table
``watchers`` (spec 20, section 9), for some days at most.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

from twisted.internet.interfaces import IReactorTime

from pbx.interfaces import IDatabase, ITimer, ITimers, IWriteBehind
from pbx.rows import column, left_out, needed, whole
from pbx.services.presence.settings import PresenceSettings
from pbx.services.presence.subscription import sip_uri
from pbx.sip.uri import URI

WAITING_KEY = ("presentity_uri", "watcher_username", "watcher_domain", "event")
WAITING_COLUMNS = (*WAITING_KEY, "status", "reason", "inserted_time")
#: The ``status`` column.
WAITING = 4
#: Most of them of one presentity, and in all; more are not remembered.
MOST_OF_ONE, MOST = 100, 50_000
DAY = 86400


class Waiting:
    """Who waits for whom, by presentity and watcher."""

    def __init__(
        self,
        settings: PresenceSettings,
        database: IDatabase,
        rows: IWriteBehind,
        clock: IReactorTime,
        timers: ITimers,
    ) -> None:
        self._seconds = settings.waiting_subs_daysno * DAY
        self._database = database
        self._rows = rows
        self._clock = clock
        self._timers = timers
        self._found: dict[str, dict[str, tuple[str, ITimer]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    async def start(self) -> None:
        """Read them back; rows that are too old go."""
        now = self._clock.seconds()
        sql = f"SELECT {', '.join(WAITING_COLUMNS)} FROM watchers WHERE event = 'presence'"
        for row in await self._database.query(sql):
            try:
                presentity, watcher, status, since = _read(row)
            except ValueError as error:
                left_out("watchers", f"{row[0]};{row[1]}@{row[2]}", error)
                continue
            if status != WAITING:
                # What another program decided.
                continue
            if since + self._seconds > now:
                self._keep(presentity, watcher, since)
            else:
                self._rows.delete(_key(presentity, watcher))

    async def flush(self) -> None:
        """Write everything now."""
        await self._rows.flush()

    def add(self, presentity: str, watcher: str) -> None:
        """The subscription of a watcher ended while it was pending."""
        now = self._clock.seconds()
        if self._seconds <= 0 or self._count >= MOST:
            return
        known = self._found.get(presentity, {})
        if watcher in known or len(known) >= MOST_OF_ONE or not _fits(presentity, watcher):
            return
        self._keep(presentity, watcher, int(now))
        self._rows.put(
            _key(presentity, watcher), (*_key(presentity, watcher), WAITING, "timeout", int(now))
        )

    def remove(self, presentity: str, watcher: str) -> None:
        """It asks again, or somebody decided, or it has been too long."""
        known = self._found.get(presentity, {})
        entry = known.pop(watcher, None)
        if entry is None:
            return
        entry[1].cancel()
        self._count -= 1
        if not known:
            del self._found[presentity]
        self._rows.delete(_key(presentity, watcher))

    def of(self, presentity: str) -> Iterable[tuple[str, str]]:
        """Watcher and an id of each; a copy."""
        return [(watcher, id) for watcher, (id, _) in self._found.get(presentity, {}).items()]

    def _keep(self, presentity: str, watcher: str, since: int) -> None:
        timer = self._timers.call_at(since + self._seconds, self.remove, presentity, watcher)
        self._found.setdefault(presentity, {})[watcher] = (secrets.token_hex(8), timer)
        self._count += 1


def _read(row: Sequence[object]) -> tuple[str, str, int, int]:
    uri, user, domain, _, status, _, since = row
    with column("presentity_uri"):
        presentity = URI.parse(str(uri)).aor
    return (
        presentity,
        f"{needed('watcher_username', user)}@{needed('watcher_domain', domain)}",
        whole("status", status),
        whole("inserted_time", since),
    )


def _key(presentity: str, watcher: str) -> tuple[object, ...]:
    user, _, domain = watcher.rpartition("@")
    return (sip_uri(presentity), user, domain, "presence")


def _fits(presentity: str, watcher: str) -> bool:
    user, _, domain = watcher.rpartition("@")
    return len(sip_uri(presentity)) <= 255 and max(len(user), len(domain)) <= 64
