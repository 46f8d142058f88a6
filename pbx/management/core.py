"""The commands of the PBX itself: version, processes, statistics, log level, status, stop."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from pbx import __version__
from pbx.commands import CommandFailed
from pbx.health import overall
from pbx.interfaces import (
    ICache,
    ICommands,
    IDatabase,
    IReloadable,
    IStartable,
    IStatistics,
)
from pbx.logs import LOG, LogFilter
from pbx.management.resources import Resources
from pbx.sip import parser
from pbx.sip.address import Address

#: The release whose interface is spoken; its tools read it out of ``version``.
COMPATIBLE_WITH = "3.6.8"

#: Statistics that tell how much there is now and not how often something happened.
GAUGES = frozenset(
    {
        "timestamp",
        "certificate_days_left",
        "active_dialogs",
        "early_dialogs",
        "registered_users",
        "inuse_transactions",
        "total_size",
        "used_size",
        "real_used_size",
        "max_used_size",
        "free_size",
        "fragments",
        "kept_messages",
        "followers",
        "streams",
        "subscribers",
        "connections",
    }
)
GAUGE_GROUPS = ("load:", "shmem:", "pkmem:")
#: Names of the reference for what is counted under another name here.
SAME = {
    "sql:sql_total_queries": "sql:queries",
    "sql:sql_slow_queries": "sql:slow_queries",
    "cdb:cdb_total_queries": "cdb:queries",
    "cdb:cdb_slow_queries": "cdb:slow_queries",
    "core:fwd_replies": "tm:relayed_replies",
    "core:drop_replies": "tm:stray_replies",
    "core:unsupported_methods": "tm:unusual_methods",
    "sl:sent_err_replies": "tm:refused_requests",
}
GAUGE_ENDS = ("-users", "-contacts", "-used", "-load", "_pending", "_queued", "_size")

Recipes = Sequence[Sequence[str]]
log = Logger()

CACHE_STORE: Recipes = (("system", "attr", "value"), ("system", "attr", "value", "expire"))


def is_gauge(name: str) -> bool:
    """Whether ``group:name`` is a present amount (OpenSIPS: non-incremental)."""
    short = name.partition(":")[2] or name
    return short in GAUGES or short.endswith(GAUGE_ENDS) or name.startswith(GAUGE_GROUPS)


@implementer(ICommands, IStatistics, IStartable)
class CoreCommands:
    """What every PBX answers.

    ``parts`` gives everything that was built, ``listeners`` what is really listened on, ``stop``
    ends the process, ``web`` is the address of the HTTP site.
    """

    def __init__(
        self,
        clock: IReactorTime,
        parts: Callable[[], Sequence[object]],
        listeners: Callable[[], Sequence[Address]],
        stop: Callable[[], object],
        web: Callable[[], str] = lambda: "",
        log: LogFilter = LOG,
    ) -> None:
        self._clock = clock
        self._parts = parts
        self._listeners = listeners
        self._stop = stop
        self._web = web
        self._log = log
        self._since = clock.seconds()
        self._baseline: dict[str, int] = {}
        self._resources = Resources(clock)

    async def start(self) -> None:
        """Watch the load from now on."""
        self._resources.start()

    async def stop(self) -> None:
        """No longer."""
        self._resources.stop()

    def statistics(self) -> Mapping[str, int]:
        """Groups ``load``, ``shmem`` and ``pkmem``."""
        return self._resources.statistics()

    def commands(self) -> Sequence[tuple[str, Recipes, Callable[..., object]]]:
        """ICommands."""
        none: Recipes = ((),)
        return (
            ("uptime", none, self.uptime),
            ("version", ((), ("revision",)), self.version),
            ("pwd", none, self.pwd),
            ("arg", none, self.arg),
            ("ps", none, self.ps),
            ("kill", none, self.kill),
            ("status", none, self.status),
            ("reload", none, self.reload),
            ("reload_routes", none, self.reload),
            ("mem_pkg_dump", (("pid",), ("pid", "log_level")), self.mem_dump),
            ("mem_shm_dump", ((), ("log_level",)), self.mem_dump),
            ("mem_rpm_dump", ((), ("log_level",)), self.mem_dump),
            ("shm_check", none, self.mem_dump),
            ("log_level", ((), ("level",), ("level", "pid")), self.log_level),
            ("cache_store", CACHE_STORE, self.cache_store),
            ("cache_fetch", (("system", "attr"),), self.cache_fetch),
            ("cache_remove", (("system", "attr"),), self.cache_remove),
            ("get_statistics", (("statistics",),), self.get_statistics),
            ("list_statistics", ((), ("statistics",)), self.list_statistics),
            ("reset_statistics", (("statistics",),), self.reset_statistics),
            ("reset_all_statistics", none, self.reset_all_statistics),
        )

    def uptime(self) -> object:
        """Since when the PBX runs."""
        now = self._clock.seconds()
        return {
            "Now": time.ctime(now),
            "Up since": time.ctime(self._since),
            "Up time": f"{int(now - self._since)} [sec]",
        }

    def version(self, revision: object = "") -> object:
        """What runs here; the first words are what tools of OpenSIPS look for."""
        machine = f"{platform.machine()}/{platform.system().lower()}"
        name = f"OpenSIPS ({COMPATIBLE_WITH}-compatible pbx/{__version__} ({machine}))"
        return {"Server": name}

    def pwd(self) -> object:
        """The working directory."""
        return {"WD": os.getcwd()}

    def arg(self) -> object:
        """The command line."""
        return list(sys.argv)

    def ps(self) -> object:
        """The one process."""
        return {"Processes": [{"ID": 0, "PID": os.getpid(), "Type": "pbx"}]}

    def kill(self) -> object:
        """Stop the PBX: what waits to be written is written first."""
        self._clock.callLater(0.1, self._stop)
        return "OK"

    def mem_dump(self, pid: object = None, log_level: object = None) -> object:
        """Nothing but OK: the interpreter looks after memory, there is no pool to dump or check."""
        return "OK"

    async def reload(self) -> object:
        """Load the policy and the tables kept in memory again; what cannot be read stays."""
        faults = []
        for part in self._parts():
            if IReloadable.providedBy(part):
                try:
                    await IReloadable(part).reload()
                except Exception as error:
                    log.warn("what was read before stays: {error!s}", error=error)
                    faults.append(str(error))
        if faults:
            raise CommandFailed(500, "; ".join(faults))
        return "OK"

    def status(self) -> object:
        """Version, listeners, storage, health and how much there is of what."""
        parts = self._parts()
        database = next((part for part in parts if IDatabase.providedBy(part)), None)
        cache = next((part for part in parts if ICache.providedBy(part)), None)
        found = self._statistics()
        return {
            "version": __version__,
            "build": "pure" if str(parser.__file__).endswith(".py") else "compiled",
            "pid": os.getpid(),
            "uptime": int(self._clock.seconds() - self._since),
            "listeners": [at.socket for at in self._listeners()],
            "web": self._web(),
            "database": None if database is None else _database(IDatabase(database)),
            "cache": None if cache is None else {"url": getattr(cache, "url", "memory:")},
            "counts": {
                name: value
                for name, value in sorted(found.items())
                if is_gauge(name) and not name.startswith(GAUGE_GROUPS)
            },
            "health": overall(parts).as_json(),
        }

    def log_level(self, level: object = None, pid: object = None) -> object:
        """The level of the log, or a new one: -3 to 4, where 3 is normal and 4 is debug."""
        if level is None:
            process = {"PID": os.getpid(), "Log level": self._log.level, "Type": "pbx"}
            return {"Processes": [process]}
        if pid is not None and str(pid) != str(os.getpid()):
            raise CommandFailed(404, "Process not found")
        try:
            self._log.set_level(int(str(level)))
        except (ValueError, KeyError):
            raise CommandFailed(400, "Bad log level: -3, -2, -1, 1, 2, 3 or 4") from None
        word = "New global log level" if pid is None else "Log level"
        return {word: self._log.level}

    # The cache

    def cache_store(
        self, system: object, attr: object, value: object, expire: object = "0"
    ) -> object:
        """Keep a value, for ``expire`` seconds unless that is 0."""
        text = str(expire)
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise CommandFailed(400, "Bad expire value")
        self._cache(str(system)).set(str(attr), str(value), float(text) or None)
        return "OK"

    async def cache_fetch(self, system: object, attr: object) -> object:
        """The value that was kept."""
        value = await self._cache(str(system)).get(str(attr))
        if value is None:
            raise CommandFailed(400, "Value not found")
        return {"key": str(attr), "value": value}

    def cache_remove(self, system: object, attr: object) -> object:
        """Forget a value."""
        self._cache(str(system)).delete(str(attr))
        return "OK"

    def _cache(self, system: str) -> ICache:
        """The one that there is; ``system`` is its kind, maybe with a group: "redis:local"."""
        found = next((part for part in self._parts() if ICache.providedBy(part)), None)
        kind = str(getattr(found, "url", "memory:")).partition(":")[0]
        names = ("local", "memory") if kind == "memory" else (kind,)
        if found is None or system.partition(":")[0] not in names:
            raise CommandFailed(500, f"Cache system not found; there is {names[0]}")
        return ICache(found)

    # Statistics

    def get_statistics(self, statistics: Sequence[object]) -> object:
        """Numbers by ``group:name``; asked for by ``all``, ``group:``, ``name``, ``group:name``."""
        found = self._chosen(statistics)
        if not found:
            raise CommandFailed(404, "Statistics Not Found")
        return found

    def list_statistics(self, statistics: Sequence[object] = ("all",)) -> object:
        """Which of them count up and which tell an amount."""
        return {
            name: "non-incremental" if is_gauge(name) else "incremental"
            for name in self._chosen(statistics)
        }

    def reset_statistics(self, statistics: Sequence[object]) -> object:
        """Let counters start from zero; amounts stay."""
        found = self._chosen(statistics)
        if not found:
            raise CommandFailed(404, "Statistics Not Found")
        for name, value in found.items():
            if not is_gauge(name):
                self._baseline[name] = self._baseline.get(name, 0) + value
        return "OK"

    def reset_all_statistics(self) -> object:
        """Let all counters start from zero."""
        return self.reset_statistics(["all"])

    def _chosen(self, statistics: Sequence[object]) -> dict[str, int]:
        found = self._statistics()
        chosen: dict[str, int] = {}
        for wanted in map(str, statistics):
            chosen.update((name, value) for name, value in found.items() if _asked(wanted, name))
        return chosen

    def _statistics(self) -> dict[str, int]:
        found = {"core:timestamp": int(self._clock.seconds() - self._since)}
        for part in self._parts():
            if IStatistics.providedBy(part):
                found.update(IStatistics(part).statistics())
        for name, source in SAME.items():
            if source in found:
                found.setdefault(name, found[source])
        for name, value in self._baseline.items():
            if name in found:
                found[name] -= value
        return found


def _asked(wanted: str, name: str) -> bool:
    if wanted == "all":
        return True
    if wanted.endswith(":"):
        return name.startswith(wanted)
    return name == wanted or name.partition(":")[2] == wanted


def _database(database: IDatabase) -> Mapping[str, object]:
    return {"url": database.url, "available": bool(database.available)}
