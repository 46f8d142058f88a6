"""The highest rate that a server holds without a fault, on a machine that has faults of its own.

A rate counts when two of three short tries are clean; the highest that counts is then held for
longer. Whoever offers the load can be the limit, too: then that is said.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from bench.sipp import Outcome

#: Seconds of a try, of what is held at the end, for the search, and for all of it.
TRY, HOLD, SEARCH, WHOLE = 5.0, 15.0, 70.0, 140.0
TRIES, NEEDED = 3, 2
#: Steps upwards; between good and bad it is near enough; what a rate that is not held gives way.
GROWTH, NEAR, LESS = 1.5, 0.08, 0.9
#: Less than this of the rate that was asked for is not that rate.
REACHED = 0.95

#: Offers so many operations per second for so many seconds.
Offer = Callable[[float, float], Outcome]


class Verdict(enum.Enum):
    """What became of a rate."""

    CLEAN = enum.auto()
    FAULTY = enum.auto()
    #: Nothing failed, but SIPp did not offer that much.
    SLOW = enum.auto()


@dataclass(frozen=True, slots=True)
class Highest:
    """The rate; whether it was held for `HOLD` seconds; whether SIPp offers no more."""

    rate: float
    held: bool
    sipp: bool

    def __str__(self) -> str:
        if not self.rate:
            return "none"
        text = f"{self.rate:.0f}/s"
        if self.sipp:
            text += ", SIPp offers no more"
        return text if self.held else f"{text}, for {TRY:.0f} s"


def verdict(outcome: Outcome, rate: float) -> Verdict:
    """Of one try."""
    if not outcome.clean:
        return Verdict.FAULTY
    return Verdict.CLEAN if outcome.rate >= rate * REACHED else Verdict.SLOW


def judge(offer: Offer, rate: float) -> Verdict:
    """Of as many tries as are needed for two that agree."""
    found: Counter[Verdict] = Counter()
    for _ in range(TRIES):
        one = verdict(offer(rate, TRY), rate)
        found[one] += 1
        if found[one] == NEEDED:
            return one
    return Verdict.FAULTY


def search(offer: Offer, low: float, first: float, clock: Callable[[], float]) -> Highest:
    """Between ``low``, which is clean, and what is not; ``first`` is tried first."""
    began = clock()
    good, bad, rate, sipp = low, 0.0, first, False
    while clock() - began < SEARCH and not (bad and bad - good <= good * NEAR):
        found = judge(offer, rate)
        if found is Verdict.CLEAN:
            good = rate
        else:
            bad, sipp = rate, found is Verdict.SLOW
        rate = float(round((good + bad) / 2 if bad else rate * GROWTH))
        if rate in (good, bad):
            break
    while good >= 1 and clock() - began + HOLD <= WHOLE:
        if verdict(offer(good, HOLD), good) is Verdict.CLEAN:
            return Highest(good, True, sipp)
        good = float(int(good * LESS))
    return Highest(good, False, sipp)
