"""Which log events are written, and how. The process has one log, and so one level.

Most events go the way of Twisted's logger. Events of calls come by the thousand: `LogFilter.line`
writes them at a tenth of the price.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    PredicateResult,
)
from twisted.scripts._twistd_unix import UnixAppLogger
from zope.interface import implementer

from pbx.log_lines import Fields, Timestamps, event_as_json, json_of, text_of

#: OpenSIPS's numbers, from alert to debug.
LEVELS: Mapping[int, Any] = {
    -3: LogLevel.critical,
    -2: LogLevel.critical,
    -1: LogLevel.error,
    1: LogLevel.warn,
    2: LogLevel.info,
    3: LogLevel.info,
    4: LogLevel.debug,
}

FORMATS = ("text", "json")
#: What an observer needs besides the text.
_KEPT = ("log_level", "log_time", "log_namespace")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """The ``[log]`` table."""

    format: str = "text"
    """text, or json: one object per line, for programs that collect logs."""
    level: int = 3
    """What is written from the start: 4 debug, 3 info, 1 warnings, -1 errors."""
    calls: bool = True
    """A line when a call begins, is answered, fails and ends, with its Call-ID and leg."""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format: expected text or json, not {self.format!r}")
        if self.level not in LEVELS:
            raise ValueError("level: expected -3, -2, -1, 1, 2, 3 or 4")


@implementer(ILogFilterPredicate)
class LogFilter:
    """Lets events of a level and above pass; the level may change at any time.

    ``muted`` lets nothing pass. ``limit`` is a level that nothing exceeds, 0 for none. ``out`` is
    the file that lines go to, None where Twisted's observers have to do.
    """

    def __init__(self, level: int = 3) -> None:
        self._predicate = LogLevelFilterPredicate()
        self._level = level
        self._levels: dict[str, int] = {}
        # What `passes` found for each logger with the present levels.
        self._found: dict[str, int] = {}
        self.limit = 0
        self.muted = False
        self._options: Mapping[str, Any] = {}
        self._timestamp = Timestamps()
        self.json = False
        self.out: Any = None
        #: Whether twistd made an observer at all; without one nobody would read a line.
        self.observed = False
        self.set_level(level)

    def configure(self, settings: LogSettings) -> None:
        """As the configuration says."""
        self.json = settings.format == "json"
        self.set_level(settings.level)

    def __call__(self, event: LogEvent) -> Any:
        """ILogFilterPredicate."""
        level = event.get("log_level")
        if self.muted or (self.limit and level is not None and level < LEVELS[self.limit]):
            return PredicateResult.no
        return self._predicate(event)

    @property
    def level(self) -> int:
        """OpenSIPS's number of the level."""
        return self._level

    def set_level(self, level: int) -> None:
        """Raises KeyError for a number that is none."""
        self._predicate.setLogLevelForNamespace("", LEVELS[level])
        self._level = level
        self._found.clear()

    def level_of(self, module: str) -> int:
        """OpenSIPS's number of the level of one module, and of those below it."""
        return self._levels.get(module, self._level)

    def set_level_of(self, module: str, level: int) -> None:
        """A level of its own for a module. Raises KeyError."""
        self._predicate.setLogLevelForNamespace(module, LEVELS[level])
        self._levels[module] = level
        self._found.clear()

    def forget_level_of(self, module: str) -> None:
        """The module has the level of all again."""
        self._levels.pop(module, None)
        self._predicate.clearLogLevels()
        self.set_level(self._level)
        for name, level in self._levels.items():
            self._predicate.setLogLevelForNamespace(name, LEVELS[level])

    def levels(self) -> Mapping[str, int]:
        """Modules with a level of their own."""
        return self._levels

    def set_limit(self, level: int) -> None:
        """A level that nothing exceeds, 0 for none. Raises KeyError."""
        if level:
            assert LEVELS[level]
        self.limit = level

    def use(self, options: Mapping[str, Any]) -> str:
        """A value for the ``logger`` option of twistd: where its other options say, filtered."""
        self._options = {**options, "logger": None}
        return f"{__name__}.LOG.twistd_observer"

    def twistd_observer(self) -> ILogObserver:
        """What twistd makes out of that name."""
        # No public function makes the observer that --logfile and --syslog ask for.
        logger = UnixAppLogger(self._options)  # type: ignore[no-untyped-call]
        inner = logger._getLogObserver()  # type: ignore[no-untyped-call]
        if not ILogObserver.providedBy(inner):
            inner = LegacyLogObserverWrapper(inner)
        self.out = getattr(inner, "_outFile", None)
        self.observed = True
        return FilteringLogObserver(_Written(inner, self), [self])

    # Lines

    def passes(self, logger: str, level: int) -> bool:
        """Whether a line of that level would be written."""
        if self.muted or (self.limit and level > self.limit):
            return False
        known = self._found.get(logger)
        if known is None:
            known = self._found[logger] = self._rank_of(logger)
        return level <= known

    def _rank_of(self, logger: str) -> int:
        """The highest number that passes: 2 and 3 mean the same."""
        name = logger
        while name and name not in self._levels:
            name = name.rpartition(".")[0]
        level = self._levels[name] if name else self._level
        return 3 if level == 2 else level

    def line(self, logger: str, level: int, message: str, fields: Fields) -> None:
        """Write one line, if its level is wanted."""
        if not self.passes(logger, level):
            return
        if self.out is None:
            if not self.observed:
                return
            told = f"{message} {text_of(fields)}"
            Logger(logger).emit(LEVELS[level], "{told}", told=told)
            return
        when = self._timestamp(time.time())
        name = LEVELS[level].name
        if self.json:
            text = json_of(when, name, logger, message, fields)
        else:
            text = f"{when} [{logger}#{name}] {message} {text_of(fields)}"
        self.write(text)

    def write(self, text: str) -> None:
        """One line more in the file."""
        self.out.write(text + "\n")
        self.out.flush()

    def as_json(self, event: LogEvent) -> str:
        """An event as an object."""
        return event_as_json(event, self._timestamp(event.get("log_time") or time.time()))


@implementer(ILogObserver)
class _Written:
    """What twistd would have, or JSON where it would write."""

    def __init__(self, inner: ILogObserver, log: LogFilter) -> None:
        self._inner = inner
        self._log = log

    def __call__(self, event: LogEvent) -> None:
        """ILogObserver."""
        log = self._log
        if not log.json:
            self._inner(event)
        elif log.out is not None:
            log.write(log.as_json(event))
        else:
            self._inner({"log_format": "{told}", "told": log.as_json(event), **_kept(event)})


def _kept(event: LogEvent) -> LogEvent:
    return {name: event[name] for name in _KEPT if name in event}


#: The log of this process.
LOG = LogFilter()
