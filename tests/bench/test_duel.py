"""Readings of two builds that ran at the same time."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.duel import verdict


class VerdictTests(SynchronousTestCase):
    def test_machine_does_not_matter(self) -> None:
        """It was twice as slow for some time, for both."""
        found = verdict([(100.0, 110.0), (200.0, 220.0), (100.0, 110.0), (200.0, 220.0)])
        self.assertAlmostEqual(found.first, 150.0)
        self.assertAlmostEqual(found.second, 165.0)
        self.assertAlmostEqual(found.more, 0.1)
        self.assertLess(found.error, 0.02)

    def test_chance(self) -> None:
        """What goes to and fro is an error as large as the difference."""
        found = verdict([(100.0, 120.0), (100.0, 80.0), (100.0, 120.0), (100.0, 84.0)])
        self.assertAlmostEqual(found.more, 0.01)
        self.assertGreater(found.error, 0.1)

    def test_line(self) -> None:
        found = verdict([(100.0, 90.0), (100.0, 90.0)])
        self.assertEqual(str(found), "100.0 | 90.0 | -10.0 % (+- 0.0)")
