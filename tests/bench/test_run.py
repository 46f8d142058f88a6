"""What can be asked of `make bench`."""

from __future__ import annotations

import contextlib
import io
import sys

from twisted.trial.unittest import SynchronousTestCase

from bench.run import main, rates
from bench.sides import SCENARIOS


class OptionTests(SynchronousTestCase):
    def refused(self, *arguments: str) -> str:
        """What is said of wrong usage, before anything is measured."""
        self.patch(sys, "argv", ["run.py", *arguments])
        said = io.StringIO()
        with contextlib.redirect_stderr(said), self.assertRaises(SystemExit) as caught:
            main()
        self.assertEqual(caught.exception.code, 2)
        return said.getvalue()

    def test_wrong_usage(self) -> None:
        self.assertIn("no such part: everything", self.refused("guard", "everything"))
        self.assertIn("--rounds: at least 1", self.refused("--rounds", "0"))
        self.assertIn("--rates", self.refused("--rates", "middle"))
        self.assertIn("--only", self.refused("--only", "fax"))

    def test_rates(self) -> None:
        for scenario in SCENARIOS:
            self.assertLess(scenario.low, scenario.high)
            self.assertEqual(tuple(rates(scenario, "both")), (scenario.low, scenario.high))
            self.assertEqual(tuple(rates(scenario, "low")), (scenario.low,))
            self.assertEqual(tuple(rates(scenario, "high")), (scenario.high,))
