"""What a PBX measures, under the names of docs/metrics.md."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import twisted
from pbx import __version__
from pbx.health import WORDS, Health
from pbx.http.metric_names import IGNORED_GROUPS, NAMED
from pbx.interfaces import IMetrics, IStatistics
from pbx.metrics import Kind, Metric, gauge

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
