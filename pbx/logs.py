"""Which log events are written. The process has one log, and so one level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    PredicateResult,
)
from twisted.scripts._twistd_unix import UnixAppLogger
from zope.interface import implementer

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


@implementer(ILogFilterPredicate)
class LogFilter:
    """Lets events of a level and above pass; the level may change at any time.

    ``muted`` lets nothing pass. ``limit`` is a level that nothing exceeds, 0 for none.
    """

    def __init__(self, level: int = 3) -> None:
        self._predicate = LogLevelFilterPredicate()
        self._level = level
        self._levels: dict[str, int] = {}
        self.limit = 0
        self.muted = False
        self._options: Mapping[str, Any] = {}
        self.set_level(level)

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
        self._predicate.defaultLogLevel = LEVELS[level]
        self._level = level

    def level_of(self, module: str) -> int:
        """OpenSIPS's number of the level of one module, and of those below it."""
        return self._levels.get(module, self._level)

    def set_level_of(self, module: str, level: int) -> None:
        """A level of its own for a module. Raises KeyError."""
        self._predicate.setLogLevelForNamespace(module, LEVELS[level])
        self._levels[module] = level

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
        return FilteringLogObserver(inner, [self])


#: The log of this process.
LOG = LogFilter()
