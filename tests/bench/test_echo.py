"""The loops that a datagram is sent through are really run."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench import echo


class EchoTests(SynchronousTestCase):
    def test_every_loop(self) -> None:
        """A column each, with a cost that is a number of microseconds."""
        self.patch(echo, "COUNT", 20)
        self.patch(echo, "TIMES", 1)
        head, _, row = echo.echoes().splitlines()
        self.assertEqual(head.count("|"), 2 + len(echo.LOOPS))
        costs = [int(cell) for cell in row.strip("|").split("|")[1:]]
        self.assertEqual(len(costs), len(echo.LOOPS))
        self.assertTrue(all(0 < cost < 100_000 for cost in costs), costs)
