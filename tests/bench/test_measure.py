"""What is read in /proc."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.measure import Stolen

#: user nice system idle iowait irq softirq steal guest guest_nice
LINE = "cpu  {} 0 100 5000 9 0 0 {} 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"


class StolenTests(SynchronousTestCase):
    def test_share_since_then(self) -> None:
        """Of the time in which somebody wanted to run: idleness is nobody's loss."""
        path = Path(self.mktemp())
        path.write_text(LINE.format(1000, 70))
        stolen = Stolen(path)
        self.assertEqual(stolen.share(), 0.0)
        path.write_text(LINE.format(1090, 80))
        self.assertAlmostEqual(stolen.share(), 0.1)
        self.assertIn("10.0 %", str(stolen))

    def test_of_this_machine(self) -> None:
        self.assertTrue(0 <= Stolen().share() <= 1)
