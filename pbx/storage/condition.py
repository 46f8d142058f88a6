"""How a database or cache is: counters, and one log line when it fails and when it is back."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.logger import Logger

from pbx.errors import DatabaseError
from pbx.metrics import LATENCY, Histogram, Metric, histogram

#: Answers that take longer are as bad as none to those who wait for news.
PROMPT = 2.5


class Condition:
    """Health of one backend. ``trouble`` says why it is not available, "" when it is; ``lag`` is
    what the last operation took while that is too long, else 0.
    """

    log = Logger()

    def __init__(self, name: str) -> None:
        self.name = name
        self.available = True
        self.trouble = ""
        self.queries = 0
        self.failures = 0
        self.slow = 0
        self.lag = 0.0
        #: Seconds that operations took, those that failed included.
        self.took = Histogram(LATENCY)
        self.rows_written = 0
        self.rows_dropped = 0

    def finished(self, seconds: float, slow: float) -> None:
        """An operation took so long; above ``slow`` it is one of the slow ones."""
        self.took.observe(seconds)
        if seconds > slow:
            self.slow += 1
        lag = seconds if seconds > PROMPT else 0.0
        if lag and not self.lag:
            self.log.warn("{name} is slow: {lag:.1f} s for an answer", name=self.name, lag=lag)
        self.lag = lag

    def metrics(self) -> Iterable[Metric]:
        """For `IMetrics`."""
        yield histogram(
            "pbx_database_seconds", "Duration of database operations, waiting included.", self.took
        )

    def worked(self) -> None:
        """An operation came through."""
        if not self.available:
            self.available = True
            self.trouble = ""
            self.log.info("{name} is available again", name=self.name)

    def failed(self, error: DatabaseError) -> None:
        """An operation failed; one that was refused says nothing about the server."""
        self.failures += 1
        if error.refused:
            return
        if self.available or self.trouble != error.message:
            self.log.error("{name} fails: {why}", name=self.name, why=error.message)
        self.available = False
        self.trouble = error.message

    def row_dropped(self, table: str, row: object, error: DatabaseError) -> None:
        """A row that the database does not take is given up."""
        self.rows_dropped += 1
        self.log.error(
            "{name} refuses a row of {table}: {why}; dropped: {row}",
            name=self.name,
            table=table,
            why=error.message,
            row=_shown(row),
        )

    def health(self) -> tuple[str, str]:
        """For `IHealth`: calls go on without the server."""
        if self.available and self.lag:
            return "degraded", f"{self.name}: answers take {self.lag:.1f} s"
        if self.available:
            return "ok", ""
        return "degraded", f"{self.name}: {self.trouble}"

    def counts(self, prefix: str) -> dict[str, int]:
        """Counters by name."""
        return {
            f"{prefix}:available": int(self.available),
            f"{prefix}:queries": self.queries,
            f"{prefix}:failures": self.failures,
            f"{prefix}:slow_queries": self.slow,
            f"{prefix}:rows_written": self.rows_written,
            f"{prefix}:rows_dropped": self.rows_dropped,
        }


def _shown(row: object) -> str:
    """The first columns of a row, which hold its key; never a whole body."""
    values = row if isinstance(row, tuple) else (row,)
    return ", ".join(repr(value)[:60] for value in values[:4])
