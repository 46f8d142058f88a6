"""Which log events are written. The process has one log, and so one level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogLevel,
    LogLevelFilterPredicate,
)
from twisted.scripts._twistd_unix import UnixAppLogger

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


class LogFilter:
    """Lets events of a level and above pass; the level may change at any time."""

    def __init__(self, level: int = 3) -> None:
        self._predicate = LogLevelFilterPredicate()
        self._level = level
        self._options: Mapping[str, Any] = {}
        self.set_level(level)

    @property
    def level(self) -> int:
        """OpenSIPS's number of the level."""
        return self._level

    def set_level(self, level: int) -> None:
        """Raises KeyError for a number that is none."""
        self._predicate.defaultLogLevel = LEVELS[level]
        self._level = level

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
        return FilteringLogObserver(inner, [self._predicate])


#: The log of this process.
LOG = LogFilter()
