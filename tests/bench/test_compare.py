"""The order of the rounds, and what belongs to a window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.compare import PERIOD, Contest
from bench.sides import SCENARIOS, USERS, Scenario, Side
from bench.sipp import Outcome
from bench.tables import report

OPTIONS, REGISTER, MESSAGE, CALL = SCENARIOS


class World:
    """Time, and what happens to the sides in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[str] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class FakeSide(Side):
    """Takes 1 ms of CPU for an operation and 0.5 ms later for its rows."""

    def __init__(self, name: str, folder: Path, world: World) -> None:
        super().__init__(name, folder, 1)
        self.world = world
        self.server = self.database = 0.0
        #: When rows come into the database, and how many.
        self.due: list[tuple[float, int]] = []
        self.lag = 3.0
        self.retransmitted = 0
        self.slow = 1.0

    def cpu(self) -> tuple[float, float]:
        due = sum(count for when, count in self.due if when <= self.world.now)
        return self.server, self.database + due * 0.0005

    def memory(self) -> int:
        return 50_000_000

    def settle(self, limit: float) -> bool:
        self.world.sleep(0.5)
        return True

    def rows(self, table: str, since: str = "") -> int:
        rows = sum(count for when, count in self.due if when <= self.world.now)
        return min(rows, USERS) if table == "location" else 2 * rows

    def written(self) -> str:
        return f"{self.name}: all"

    def offer(
        self, scenario: Scenario, rate: float, seconds: float, until_fault: bool = False
    ) -> Outcome:
        self.world.events.append(f"{self.name} {scenario.name} {rate:.0f}")
        self.world.sleep(seconds)
        count = int(rate * seconds)
        self.server += count * 0.001
        self.due.append((self.world.now + self.lag, count))
        return Outcome(
            done=count,
            failed=0,
            # Nobody bears a million.
            retransmitted=self.retransmitted if rate < 1e6 else 1,
            given_up=0,
            rate=rate * self.slow,
        )

    @contextmanager
    def answering(self, scenario: Scenario) -> Iterator[None]:
        self.world.events.append(f"{self.name} answered")
        yield
        self.world.events.append(f"{self.name} alone")


class ContestTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World()
        folder = Path(self.mktemp())
        folder.mkdir()
        self.ours = FakeSide("pbx", folder / "pbx", self.world)
        self.theirs = FakeSide("kamailio", folder / "kamailio", self.world)
        self.said: list[str] = []
        self.contest = Contest(
            (self.ours, self.theirs), self.said.append, self.world.sleep, lambda: self.world.now
        )

    def test_in_turns(self) -> None:
        """Neighbours in time are compared; who answers is there for its window only."""
        self.contest.compare(CALL, 200, 2, 4.0)
        each = [
            *("pbx answered", "pbx call 200", "pbx alone"),
            *("kamailio answered", "kamailio call 200", "kamailio alone"),
        ]
        self.assertEqual(self.world.events, each * 2)
        self.assertEqual(
            [list(one) for one in self.contest.results.rounds["call", 200]],
            [["pbx", "kamailio"]] * 2,
        )

    def test_rows_within_the_window(self) -> None:
        """What is written behind is in its figure, however late it comes."""
        self.theirs.lag = PERIOD + 4
        self.contest.compare(CALL, 200, 1, 4.0)
        [one] = self.contest.results.rounds["call", 200]
        for window in one.values():
            self.assertAlmostEqual(window.server, 1.0)
            self.assertAlmostEqual(window.database, 0.5)
            self.assertTrue(window.clean)

    def test_rows_that_never_come(self) -> None:
        self.ours.lag = 1000.0
        self.contest.compare(CALL, 200, 1, 4.0)
        self.contest.compare(REGISTER, 1000, 1, 4.0)
        [one] = self.contest.results.rounds["call", 200]
        self.assertEqual((one["pbx"].missing, one["pbx"].clean), (1600, False))
        self.assertEqual((one["kamailio"].missing, one["kamailio"].clean), (0, True))
        [one] = self.contest.results.rounds["register", 1000]
        self.assertEqual(one["pbx"].missing, 4000)

    def test_unclean(self) -> None:
        """A retransmission, or less load than was asked for."""
        self.ours.retransmitted = 1
        self.theirs.slow = 0.9
        self.contest.compare(OPTIONS, 2000, 1, 4.0)
        [one] = self.contest.results.rounds["options", 2000]
        self.assertEqual([window.clean for window in one.values()], [False, False])
        self.assertEqual([window.reached for window in one.values()], [True, False])

    def test_whole(self) -> None:
        """Filled, compared, searched: everything is in the report."""
        self.contest.fill(20.0)
        self.contest.compare(MESSAGE, MESSAGE.low, 3, 4.0)
        self.contest.close()
        self.contest.highest(MESSAGE)
        text = report(self.contest.results)
        self.assertIn("| 500/s | 1.500 (1.000 + 0.500), 1.500 to 1.500 |", text)
        self.assertIn("pbx 9.0 s within, 0.0 s between", text)
        self.assertIn("| memory at 10,000 registrations (PSS) | 50.0 MB | 50.0 MB | 1.00 |", text)
        self.assertIn("highest clean rate", text)
        self.assertIn("pbx message 650", self.world.events)
