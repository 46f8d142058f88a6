"""The search for the highest clean rate, on servers with a known limit."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from bench.highest import HOLD, SEARCH, TRY, WHOLE, Highest, Verdict, judge, search
from bench.sipp import Outcome


def outcome(rate: float, retransmitted: int = 0, failed: int = 0) -> Outcome:
    return Outcome(done=100, failed=failed, retransmitted=retransmitted, given_up=failed, rate=rate)


class Lab:
    """Holds ``limit``; SIPp offers ``most``; a try takes its time on a clock of ours."""

    def __init__(self, limit: float, most: float = 1e9, hold: float = 1e9) -> None:
        self.limit, self.most, self.hold = limit, most, hold
        self.now = 1000.0
        self.tries: list[tuple[float, float]] = []
        self.hiccups: set[int] = set()

    def offer(self, rate: float, seconds: float) -> Outcome:
        self.tries.append((rate, seconds))
        self.now += seconds + 1
        limit = self.hold if seconds == HOLD else self.limit
        hiccup = len(self.tries) in self.hiccups
        return outcome(min(rate, self.most), 1 if rate > limit or hiccup else 0)

    def search(self, low: float, first: float) -> Highest:
        return search(self.offer, low, first, lambda: self.now)


class JudgeTests(SynchronousTestCase):
    def judged(self, *outcomes: Outcome) -> tuple[Verdict, int]:
        left = list(outcomes)
        take: Callable[[float, float], Outcome] = lambda rate, seconds: left.pop(0)  # noqa: E731
        return judge(take, 100.0), len(left)

    def test_two_of_three(self) -> None:
        good, bad = outcome(100), outcome(100, retransmitted=1)
        self.assertEqual(self.judged(good, good, bad), (Verdict.CLEAN, 1))
        self.assertEqual(self.judged(good, bad, good), (Verdict.CLEAN, 0))
        self.assertEqual(self.judged(bad, good, bad), (Verdict.FAULTY, 0))
        self.assertEqual(self.judged(bad, outcome(100, failed=1), good), (Verdict.FAULTY, 1))

    def test_rate_that_was_not_offered(self) -> None:
        """Nothing failed, but it was not that rate."""
        slow = outcome(90)
        self.assertEqual(self.judged(slow, slow), (Verdict.SLOW, 0))
        self.assertEqual(self.judged(slow, outcome(96), outcome(97)), (Verdict.CLEAN, 0))


class SearchTests(SynchronousTestCase):
    def test_found(self) -> None:
        """Between the last clean and the first that is not there are a few per cent."""
        lab = Lab(1000)
        found = lab.search(400, 520)
        self.assertEqual((found.held, found.sipp), (True, False))
        self.assertTrue(900 < found.rate <= 1000, found)
        self.assertEqual(lab.tries[-1], (found.rate, HOLD))
        self.assertEqual(str(found), f"{found.rate:.0f}/s")

    def test_hiccup(self) -> None:
        """One bad try of three is the machine's."""
        lab = Lab(1000)
        lab.hiccups = {1, 4}
        self.assertTrue(900 < lab.search(400, 520).rate <= 1000)

    def test_downwards(self) -> None:
        """Nothing is known to be clean and the first try is not."""
        found = Lab(100).search(0, 1000)
        self.assertTrue(80 < found.rate <= 100, found)

    def test_sipp_is_the_limit(self) -> None:
        found = Lab(1e9, most=2000).search(500, 800)
        self.assertTrue(found.sipp)
        self.assertTrue(1800 < found.rate <= 2000 / 0.95, found)
        self.assertIn("SIPp", str(found))

    def test_not_held(self) -> None:
        """What is clean for five seconds gives way until it is clean for fifteen."""
        lab = Lab(1000, hold=930)
        found = lab.search(700, 900)
        self.assertTrue(found.held)
        self.assertLessEqual(found.rate, 930)
        never = Lab(1000, hold=0).search(700, 900)
        self.assertFalse(never.held)
        self.assertIn("for 5 s", str(never))

    def test_nothing_is_clean(self) -> None:
        found = Lab(-1).search(0, 100)
        self.assertEqual((found.rate, str(found)), (0.0, "none"))

    def test_time(self) -> None:
        """No try begins after its time."""
        for limit in (1e9, 10, 333):
            lab = Lab(limit)
            lab.search(100, 120)
            self.assertLessEqual(lab.now - 1000, max(SEARCH + 3 * (TRY + 1) + HOLD, WHOLE) + 2)
