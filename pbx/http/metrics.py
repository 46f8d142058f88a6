"""``/metrics`` for Prometheus: what the parts have counted, rendered when somebody scrapes.

The only module that knows prometheus-client. docs/metrics.md names every metric.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from twisted.web import resource
from twisted.web.server import Request

import twisted
from pbx import __version__
from pbx.health import WORDS, Health
from pbx.http.access import Network, is_admitted
from pbx.http.metric_names import IGNORED_GROUPS, NAMED
from pbx.interfaces import IMetrics, IStatistics
from pbx.metrics import Histogram, Kind, Metric, gauge

#: Every statistic that has no name of its own.
OTHER: Final = "pbx_statistic"


def measured(parts: Iterable[object], health: Health) -> Iterator[Metric]:
    """Everything that the parts of a PBX tell. The same name may come several times."""
    yield Metric(
        "pbx_build_info",
        Kind.GAUGE,
        "Versions; always 1.",
        ("version", "python", "twisted"),
        [((__version__, platform.python_version(), twisted.__version__), 1)],
    )
    yield gauge("pbx_up", "1 while calls can be served.", int(health.status != "down"))
    yield Metric(
        "pbx_health",
        Kind.GAUGE,
        "1 for the present state.",
        ("state",),
        [((word,), int(word == health.status)) for word in WORDS],
    )
    found: dict[str, int] = {}
    for part in parts:
        if IStatistics.providedBy(part):
            found.update(IStatistics(part).statistics())
        if IMetrics.providedBy(part):
            yield from IMetrics(part).metrics()
    yield from named(found)


def named(statistics: Mapping[str, int]) -> Iterator[Metric]:
    """Statistics under their names for Prometheus."""
    known: set[str] = set()
    for row in NAMED:
        known.update(row.statistics)
        samples = [
            (values, statistics[name])
            for name, values in row.statistics.items()
            if name in statistics
        ]
        yield Metric(row.name, row.kind, row.help, row.labels, samples)
    others = [
        (tuple(name.split(":", 1)), value)
        for name, value in sorted(statistics.items())
        if name not in known and name.partition(":")[0] not in IGNORED_GROUPS
    ]
    yield Metric(
        OTHER,
        Kind.GAUGE,
        "Counters and amounts of get_statistics that have no metric of their own.",
        ("group", "name"),
        others,
    )


class PartsCollector(Collector):
    """Makes prometheus-client's families of what the parts tell."""

    def __init__(self, parts: Callable[[], Sequence[object]], health: Callable[[], Health]) -> None:
        self._parts = parts
        self._health = health

    def describe(self) -> Iterable[Family]:
        """Nothing is known before the first scrape."""
        return ()

    def collect(self) -> Iterable[Family]:
        """One family by name."""
        families: dict[str, Family] = {}
        for metric in measured(self._parts(), self._health()):
            name = metric.name
            if metric.kind is Kind.COUNTER:
                name = name.removesuffix("_total")
            family = families.get(name)
            if family is None:
                family = families[name] = Family(name, metric.help, metric.kind.value)
            for values, value in metric.samples:
                labels = dict(zip(metric.labels, map(_clean, values), strict=True))
                if isinstance(value, Histogram):
                    _add_buckets(family, labels, value)
                else:
                    family.add_sample(metric.name, labels, value)
        return families.values()


def _add_buckets(family: Family, labels: dict[str, str], found: Histogram) -> None:
    below = 0
    for bound, count in zip((*found.bounds, float("inf")), found.counts, strict=True):
        below += count
        edge = "+Inf" if bound == float("inf") else repr(bound)
        family.add_sample(f"{family.name}_bucket", {**labels, "le": edge}, below)
    family.add_sample(f"{family.name}_count", labels, below)
    family.add_sample(f"{family.name}_sum", labels, found.total)


def _clean(text: str) -> str:
    """What came off the wire or out of a table may be no UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


class MetricsPage(resource.Resource):
    """The text format, or OpenMetrics for who asks for it; for this host and allowed networks."""

    isLeaf = True

    def __init__(
        self,
        parts: Callable[[], Sequence[object]],
        health: Callable[[], Health],
        allowed: Sequence[Network] = (),
    ) -> None:
        super().__init__()
        self._allowed = allowed
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(PartsCollector(parts, health))
        ProcessCollector(registry=self._registry)

    def render_GET(self, request: Request) -> bytes:
        """Also HEAD."""
        if not is_admitted(request, self._allowed):
            request.setResponseCode(403)
            request.setHeader("content-type", b"text/plain; charset=utf-8")
            return b"refused: see [http] metrics_allow\n"
        encode, content_type = choose_encoder(request.getHeader("accept") or "")
        request.setHeader("content-type", content_type)
        request.setHeader("cache-control", "no-store")
        return encode(self._registry)
