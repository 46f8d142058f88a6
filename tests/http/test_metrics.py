"""What becomes of statistics and metrics on the page for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pbx.health import Health
from pbx.http.metric_names import NAMED
from pbx.http.prometheus import PartsCollector
from pbx.interfaces import IMetrics, IStatistics
from pbx.metrics import Histogram, Kind, Metric, histogram


@implementer(IMetrics, IStatistics)
class Part:
    def __init__(self, table: str, statistics: Mapping[str, int] | None = None) -> None:
        self._table = table
        self._statistics = statistics or {}

    def statistics(self) -> Mapping[str, int]:
        return self._statistics

    def metrics(self) -> Iterable[Metric]:
        yield Metric("pbx_rows", Kind.GAUGE, "Rows.", ("table",), [((self._table,), 3)])


class PageTests(SynchronousTestCase):
    def page(self, *parts: object) -> list[str]:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(PartsCollector(lambda: parts, lambda: Health("degraded")))
        return generate_latest(registry).decode().splitlines()

    def test_same_name(self) -> None:
        """Parts of one kind share a family."""
        lines = [line for line in self.page(Part("acc"), Part("dialog")) if "pbx_rows" in line]
        self.assertEqual(
            lines,
            [
                "# HELP pbx_rows Rows.",
                "# TYPE pbx_rows gauge",
                'pbx_rows{table="acc"} 3.0',
                'pbx_rows{table="dialog"} 3.0',
            ],
        )

    def test_statistics(self) -> None:
        """Those that have a row get its name, the others are shown with theirs."""
        lines = self.page(Part("a", {"net:sent_messages": 7, "new:one": 2, "load:load": 50}))
        self.assertIn("pbx_sip_messages_sent_total 7.0", lines)
        self.assertIn('pbx_statistic{group="new",name="one"} 2.0', lines)
        self.assertFalse([line for line in lines if "load" in line and "load_bal" not in line])

    def test_hostile_label(self) -> None:
        """Text from the wire cannot break the page."""
        lines = self.page(Part('a"} 1\nb\udcff'))
        self.assertIn('pbx_rows{table="a\\"} 1\\nb?"} 3.0', lines)

    def test_health(self) -> None:
        self.assertIn('pbx_health{state="degraded"} 1.0', self.page())
        self.assertIn("pbx_up 1.0", self.page())

    def test_histogram(self) -> None:
        """Buckets count all values up to their bound."""
        found = Histogram((1.0, 2.0))
        for value in (0.5, 1.0, 1.5, 99.0):
            found.observe(value)

        @implementer(IMetrics)
        class Timed:
            def metrics(self) -> Iterable[Metric]:
                yield histogram("pbx_t", "Time.", found)

        self.assertEqual(
            [line for line in self.page(Timed()) if line.startswith("pbx_t_")],
            [
                'pbx_t_bucket{le="1.0"} 2.0',
                'pbx_t_bucket{le="2.0"} 3.0',
                'pbx_t_bucket{le="+Inf"} 4.0',
                "pbx_t_count 4.0",
                "pbx_t_sum 102.0",
            ],
        )

    def test_rows(self) -> None:
        """Names are unique, also without _total, and no statistic has two."""
        names = [row.name.removesuffix("_total") for row in NAMED]
        self.assertEqual(len(names), len(set(names)))
        sources = [source for row in NAMED for source in row.statistics]
        self.assertEqual(len(sources), len(set(sources)))
        for row in NAMED:
            self.assertEqual(row.kind is Kind.COUNTER, row.name.endswith("_total"), row.name)
