"""The timer wheel and periodic work."""

from __future__ import annotations

import random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pbx.timing import GRANULARITY, Periodic, TimerWheel


class TimerWheelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000.003)
        self.wheel = TimerWheel(self.clock)
        self.fired: list[object] = []

    def test_fires_once_not_early_and_at_most_one_slot_late(self) -> None:
        for delay in (0.0, 0.001, 0.5, 4.0, 32.0):
            due = self.clock.seconds() + delay
            self.wheel.call_later(delay, lambda: self.fired.append(self.clock.seconds()))
            while not self.fired:
                self.clock.advance(0.001)
            at = self.fired.pop()
            assert isinstance(at, float)
            self.assertGreaterEqual(at, due - 1e-6)
            self.assertLessEqual(at, due + GRANULARITY + 0.0011)
            self.clock.advance(1)
            self.assertEqual(self.fired, [])

    def test_many_in_order(self) -> None:
        """Whatever the order of setting, slots fire in the order of time."""
        chance = random.Random(5)
        delays = [chance.randrange(1, 1000) / 10 for _ in range(500)]
        for delay in delays:
            self.wheel.call_later(delay, self.fired.append, delay)
        self.assertEqual(len(self.wheel), 500)
        self.clock.advance(200)
        self.assertEqual(self.fired, sorted(delays))
        self.assertEqual(len(self.wheel), 0)

    def test_earlier_one_after_later_one(self) -> None:
        """The wheel wakes up for the first, not for the first that was set."""
        self.wheel.call_later(10, self.fired.append, "late")
        self.wheel.call_later(1, self.fired.append, "early")
        self.clock.advance(1.02)
        self.assertEqual(self.fired, ["early"])
        self.clock.advance(9)
        self.assertEqual(self.fired, ["early", "late"])

    def test_cancelled(self) -> None:
        """Does not fire; safe before, in and after its time, and twice."""
        timer = self.wheel.call_later(1, self.fired.append, 1)
        other = self.wheel.call_later(1, self.fired.append, 2)
        self.assertTrue(timer.active)
        timer.cancel()
        timer.cancel()
        self.assertEqual((timer.active, len(self.wheel)), (False, 1))
        self.clock.advance(2)
        other.cancel()
        self.assertEqual(self.fired, [2])

    def test_nobody_wakes_up_for_cancelled_timers(self) -> None:
        """As long as another timer is due before, or at all: one idle wake-up, and no more."""
        for seconds in range(1, 6):
            self.wheel.call_later(seconds, self.fired.append, 0).cancel()
        self.clock.advance(1.02)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        for seconds in range(1, 6):
            self.wheel.call_later(seconds, self.fired.append, 0).cancel()
        self.wheel.call_later(3, self.fired.append, 3)
        self.clock.advance(1.02)
        (wakeup,) = self.clock.getDelayedCalls()
        self.assertGreater(wakeup.getTime() - self.clock.seconds(), 1.9)
        self.clock.advance(2)
        self.assertEqual((self.fired, self.clock.getDelayedCalls()), ([3], []))

    def test_cancelled_by_another_of_the_same_slot(self) -> None:
        timers = [
            self.wheel.call_later(1, lambda: timers[1].cancel()),
            self.wheel.call_later(1, self.fired.append, 1),
        ]
        self.clock.advance(2)
        self.assertEqual(self.fired, [])

    def test_time_past(self) -> None:
        """Due at the next turn, not within the call that sets it."""
        self.wheel.call_at(self.clock.seconds() - 5, self.fired.append, 1)
        self.assertEqual(self.fired, [])
        self.clock.advance(0)
        self.assertEqual(self.fired, [1])

    def test_set_while_firing(self) -> None:
        """A timer that sets the next one: each has its turn."""

        def again(left: int) -> None:
            self.fired.append(left)
            if left:
                self.wheel.call_later(0.5, again, left - 1)

        self.wheel.call_later(0.5, again, 3)
        self.clock.pump([0.51] * 5)
        self.assertEqual(self.fired, [3, 2, 1, 0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failure_harms_no_other(self) -> None:
        self.wheel.call_later(1, lambda: 1 / 0)
        self.wheel.call_later(1, self.fired.append, 1)
        self.clock.advance(2)
        self.assertEqual(self.fired, [1])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stop(self) -> None:
        self.wheel.call_later(1, self.fired.append, 1)
        self.wheel.stop()
        self.clock.advance(2)
        self.assertEqual((self.fired, self.clock.getDelayedCalls()), ([], []))


class PeriodicTests(SynchronousTestCase):
    def test_every_period_also_after_a_failure(self) -> None:
        clock = Clock()
        turns: list[float] = []

        def work() -> None:
            turns.append(clock.seconds())
            if len(turns) == 2:
                raise ValueError("once")

        periodic = Periodic(clock, 5, work)
        periodic.start()
        periodic.start()
        clock.pump([5, 5, 5])
        self.assertEqual(turns, [5, 10, 15])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        periodic.stop()
        clock.advance(50)
        self.assertEqual((len(turns), clock.getDelayedCalls()), (3, []))
