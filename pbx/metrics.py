"""What a part measures, for whoever shows it: no library, no text, nothing per message.

Parts count in plain integers and `Histogram`s and make `Metric`s of them when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

#: Seconds: a query of a database or a command to a media engine.
LATENCY: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
#: Seconds that people wait: until it rings, until somebody answers.
WAITING: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0)
#: Seconds that calls last.
TALKING: Final = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)


class Kind(Enum):
    """How a number is to be read."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Histogram:
    """How often a value fell between fixed bounds; two additions and a binary search each."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        #: By bucket, not summed up; the last one is for what lies above every bound.
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """One more value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(frozen=True, slots=True)
class Metric:
    """Numbers of one name. ``samples`` are the values of ``labels`` and the number for each.

    The name of a counter ends in ``_total``.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    samples: Sequence[tuple[tuple[str, ...], float | Histogram]]


def counter(name: str, help: str, value: float) -> Metric:
    """A counter without labels."""
    return Metric(name, Kind.COUNTER, help, (), [((), value)])


def gauge(name: str, help: str, value: float) -> Metric:
    """A gauge without labels."""
    return Metric(name, Kind.GAUGE, help, (), [((), value)])


def histogram(name: str, help: str, found: Histogram) -> Metric:
    """A histogram without labels."""
    return Metric(name, Kind.HISTOGRAM, help, (), [((), found)])
