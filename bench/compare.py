"""The sides on the same work in turns, so that both meet the machine in the same mood.

Both servers run all the time, each with its own PostgreSQL and Redis; load is offered to one of
them. A window is one scenario at one rate on one side: it begins when nobody has anything to do and
ends when the rows of the side are in its database. Rounds of windows, side after side, make a
figure: the median of the clean ones, and for the ratio the median of the ratios within a round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bench.highest import REACHED, Highest, search
from bench.sides import REGISTER, USERS, Scenario, Side
from bench.sipp import Outcome

#: The peer writes every 5 s what changed: a window lasts that long after the load, and as much
#: longer as rows are missing.
PERIOD, LATER = 6.0, 15.0
#: REGISTERs per second before anything is measured.
FILL = 400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What one side did in one round: CPU seconds per 1000, and what went wrong."""

    server: float
    database: float
    failed: int = 0
    retransmitted: int = 0
    #: Rows that should have been written by the end and were not.
    missing: int = 0
    reached: bool = True

    @property
    def total(self) -> float:
        """CPU of everything."""
        return self.server + self.database

    @property
    def clean(self) -> bool:
        """It counts."""
        return self.reached and not (self.failed or self.retransmitted or self.missing)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What one side takes with its users registered, and doing nothing."""

    memory: float
    #: Of that, for the registrations.
    grown: float
    idle: float


#: By the name of the side.
Round = dict[str, Window]


@dataclass(slots=True)
class Results:
    """Of everything that was measured."""

    names: Sequence[str]
    rounds: dict[tuple[str, float], list[Round]] = field(default_factory=dict)
    highest: dict[tuple[str, str], Highest] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    #: CPU seconds of each side in its windows and between them, where it should have nothing to do.
    spent: dict[str, tuple[float, float]] = field(default_factory=dict)


class Contest:
    """Measures started sides."""

    def __init__(
        self,
        sides: Sequence[Side],
        say: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sides = sides
        self._say = say
        self._sleep = sleep
        self._clock = clock
        self._counted = {side.name: 0.0 for side in sides}
        self._began: dict[str, float] = {}
        self.results = Results([side.name for side in sides])

    def fill(self, idle: float, rate: float = FILL) -> None:
        """Register everybody; memory before and after, then CPU of doing nothing for so long."""
        found: dict[str, tuple[int, int]] = {}
        for side in self._sides:
            self._say(f"{side.name}: {USERS} phones register")
            before = side.memory()
            outcome = side.offer(REGISTER, rate, USERS / rate)
            if outcome.failed:
                self._say(f"{side.name}: {outcome.failed} of them failed")
            found[side.name] = before, side.memory()
        self._sleep(PERIOD)
        self._settle()
        cpu = {side.name: side.cpu()[0] for side in self._sides}
        self._sleep(idle)
        for side in self._sides:
            before, memory = found[side.name]
            spent = (side.cpu()[0] - cpu[side.name]) / idle
            self.results.states[side.name] = State(memory=memory, grown=memory - before, idle=spent)
            self._began[side.name] = sum(side.cpu())

    def compare(self, scenario: Scenario, rate: float, rounds: int, seconds: float) -> None:
        """Rounds of windows, the sides in turn."""
        found = self.results.rounds.setdefault((scenario.name, rate), [])
        for at in range(rounds):
            found.append({})
            for side in self._sides:
                window = self._window(side, scenario, rate, seconds)
                found[-1][side.name] = window
                text = f"{scenario.name} {rate:.0f}/s, round {at + 1}, {side.name}: "
                self._say(text + (f"{window.total:.3f}" if window.clean else f"{window}"))

    def _window(self, side: Side, scenario: Scenario, rate: float, seconds: float) -> Window:
        with side.answering(scenario):
            self._settle()
            rows = side.rows("acc") if scenario.rows else 0
            since = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
            self._sleep(0.3)
            before = side.cpu()
            outcome = side.offer(scenario, rate, seconds)
            self._sleep(PERIOD)
            after, missing = self._drained(side, scenario, outcome, rows, since)
        self._counted[side.name] += sum(after) - sum(before)
        done = max(outcome.done, 1) / 1000
        return Window(
            server=(after[0] - before[0]) / done,
            database=(after[1] - before[1]) / done,
            failed=outcome.failed,
            retransmitted=outcome.retransmitted,
            missing=missing,
            reached=outcome.rate >= rate * REACHED,
        )

    def _drained(
        self, side: Side, scenario: Scenario, outcome: Outcome, rows: int, since: str
    ) -> tuple[tuple[float, float], int]:
        """CPU when the last row was there and nothing more to do; rows that never came."""
        deadline = self._clock() + LATER
        while True:
            side.settle(2.0)
            cpu = side.cpu()
            missing = self._missing(side, scenario, outcome, rows, since)
            if not missing or self._clock() > deadline:
                return cpu, missing
            self._sleep(1.0)

    def _missing(
        self, side: Side, scenario: Scenario, outcome: Outcome, rows: int, since: str
    ) -> int:
        if side.url.startswith("sqlite:"):
            return 0
        if scenario is REGISTER:
            return max(min(outcome.done, USERS) - side.rows("location", since), 0)
        if scenario.rows:
            return max(outcome.done * scenario.rows - (side.rows("acc") - rows), 0)
        return 0

    def _settle(self, limit: float = 10.0) -> None:
        """Until neither side has anything to do."""
        for side in self._sides:
            side.settle(limit)

    def highest(self, scenario: Scenario) -> None:
        """The highest rates; where the search begins is what was clean before."""
        for side in self._sides:
            rates = (scenario.low, scenario.high)
            low = max(
                (rate for rate in rates if self._was_clean(scenario, rate, side)), default=0.0
            )
            first = low * 1.3 if low else scenario.low / 2
            with side.answering(scenario):

                def offer(rate: float, seconds: float, side: Side = side) -> Outcome:
                    self._settle(4.0)
                    return side.offer(scenario, rate, seconds, until_fault=True)

                found = search(offer, low, first, self._clock)
            self.results.highest[scenario.name, side.name] = found
            self._say(f"{scenario.name}, highest, {side.name}: {found}")

    def _was_clean(self, scenario: Scenario, rate: float, side: Side) -> bool:
        rounds = self.results.rounds.get((scenario.name, rate), [])
        return bool(rounds) and all(one[side.name].clean for one in rounds)

    def close(self) -> None:
        """After the last window: what was written, and what was spent in no window."""
        self._settle()
        for side in self._sides:
            within = self._counted[side.name]
            between = sum(side.cpu()) - self._began[side.name] - within
            self.results.spent[side.name] = within, between
            self.results.written.append(side.written())
