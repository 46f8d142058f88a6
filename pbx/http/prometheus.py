"""What the parts have counted, in the words of prometheus-client: the only module that knows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from pbx.health import Health
from pbx.http.measured import measured
from pbx.metrics import Histogram, Kind


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


class Exposition:
    """The text format, or OpenMetrics for who asks for it."""

    def __init__(self, parts: Callable[[], Sequence[object]], health: Callable[[], Health]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(PartsCollector(parts, health))
        ProcessCollector(registry=self._registry)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The page, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
