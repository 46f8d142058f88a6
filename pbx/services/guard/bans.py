"""Who is banned and who is on the way there; kept over a restart in ``pbx_state``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pbx.interfaces import IDatabase
from pbx.services.guard.settings import GuardSettings
from pbx.timing import Periodic

#: Sources with failures or bans remembered at a time; beyond that the oldest ones go.
MAX_OFFENDERS: Final = 20_000
#: Bans kept over a restart.
MAX_STORED: Final = 2_000
#: How much longer each further ban lasts, and how long the earlier ones are held against somebody.
GROWTH: Final = 3
MEMORY: Final = 86_400.0
#: Seconds between looks at what is over, and between changes of bans and their being written.
SWEEP: Final = 30.0
WRITE: Final = 1.0
_STATE = "guard.bans"


class Offences:
    """What a source did wrong within the window, and its bans of the last day."""

    __slots__ = ("bans", "failures", "reason", "since", "until")

    def __init__(self, since: float) -> None:
        self.failures = 0
        self.since = since
        self.bans = 0
        self.until = 0.0
        self.reason = ""


class BanList:
    """Offences by name of source. ``is_trusted`` tells who is never banned, ``lifted`` hears of
    sources that are not banned any more.
    """

    log = Logger()

    def __init__(
        self,
        settings: GuardSettings,
        database: IDatabase,
        clock: IReactorTime,
        is_trusted: Callable[[str], bool],
        lifted: Callable[[str], object],
    ) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._is_trusted = is_trusted
        self._lifted = lifted
        self._offences: dict[str, Offences] = {}
        self._sweeps = Periodic(clock, SWEEP, self._sweep)
        self._writes = Periodic(clock, WRITE, self._write)
        self._changed = False
        #: Bans since the start.
        self.count = 0

    def left(self, name: str) -> float:
        """Seconds of a ban that are left, 0 for none."""
        found = self._offences.get(name)
        return max(found.until - self._clock.seconds(), 0.0) if found is not None else 0.0

    def banned(self) -> Iterator[tuple[str, Offences]]:
        """Everybody who is."""
        now = self._clock.seconds()
        return ((name, found) for name, found in self._offences.items() if found.until > now)

    def failing(self) -> Iterator[tuple[str, int]]:
        """Who failed and is not banned, with the number of failures."""
        now = self._clock.seconds()
        return (
            (name, found.failures)
            for name, found in self._offences.items()
            if found.failures and found.until <= now
        )

    def failed(self, name: str, limit: int) -> bool:
        """One more failure; whether that was one too many, and the source is banned now."""
        found = self._find(name)
        now = self._clock.seconds()
        if now - found.since > self._settings.window:
            found.failures = 0
            found.since = now
        found.failures += 1
        if found.failures < limit or found.until > now:
            return False
        return self.ban(name, f"{found.failures} failed logins")

    def ban(self, name: str, reason: str, seconds: float = 0.0) -> bool:
        """Ban a source, for as long as its earlier bans say unless ``seconds`` are given; False
        when it is one that never is.
        """
        if self._is_trusted(name):
            return False
        found = self._find(name)
        if not seconds:
            settings = self._settings
            seconds = min(settings.ban_time * GROWTH**found.bans, settings.max_ban_time)
        found.bans = min(found.bans + 1, 16)
        found.until = self._clock.seconds() + seconds
        found.reason = reason
        found.failures = 0
        self.count += 1
        self._changed = True
        self.log.warn(
            "banned: host={host} seconds={seconds} reason={reason}",
            host=name,
            seconds=int(seconds),
            reason=json.dumps(reason),
        )
        return True

    def lift(self, name: str) -> bool:
        """Forget the ban and the failures of a source; False when there are none."""
        if self._offences.pop(name, None) is None:
            return False
        self._changed = True
        self._lifted(name)
        return True

    def _find(self, name: str) -> Offences:
        found = self._offences.get(name)
        if found is None:
            if len(self._offences) >= MAX_OFFENDERS:
                self._forget_some()
            found = self._offences[name] = Offences(self._clock.seconds())
        return found

    def _forget_some(self) -> None:
        """The tenth whose bans, or failures, were over first."""
        oldest = sorted(self._offences.items(), key=lambda item: max(item[1].until, item[1].since))
        for name, _ in oldest[: MAX_OFFENDERS // 10]:
            del self._offences[name]

    def _sweep(self) -> None:
        now = self._clock.seconds()
        for name, found in list(self._offences.items()):
            if found.until > now:
                if self._is_trusted(name):
                    self.lift(name)
            elif now > found.since + self._settings.window and (
                not found.bans or now > found.until + MEMORY
            ):
                del self._offences[name]

    # Over a restart

    async def start(self) -> None:
        """Read the bans that are not over."""
        rows = await self._database.query("SELECT value FROM pbx_state WHERE name = ?", (_STATE,))
        try:
            now = self._clock.seconds()
            for name, until, bans, reason in json.loads(str(rows[0][0])) if rows else ():
                found = Offences(now)
                found.until, found.bans, found.reason = float(until), int(bans), str(reason)
                self._offences[str(name)] = found
        except (ValueError, TypeError) as error:
            self.log.warn("the bans of the last run are lost: {error!s}", error=error)
        self._sweeps.start()
        self._writes.start()

    async def stop(self) -> None:
        """Write the last changes."""
        self._sweeps.stop()
        self._writes.stop()
        if self._changed:
            self._changed = False
            await self._store()

    def _write(self) -> None:
        if self._changed:
            self._changed = False
            Deferred.fromCoroutine(self._store()).addErrback(self._not_written)

    def _not_written(self, failure: Failure) -> None:
        self._changed = True
        self.log.debug("bans were not written: {error}", error=failure.getErrorMessage())

    async def _store(self) -> None:
        held = [(name, round(o.until), o.bans, o.reason) for name, o in self.banned()]
        held.sort(key=lambda row: row[1], reverse=True)
        await self._database.execute(
            "INSERT INTO pbx_state (name, value) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (_STATE, json.dumps(held[:MAX_STORED])),
        )
