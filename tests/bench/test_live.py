"""The report of live pauses."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from bench.live import report
from bench.sipp import Outcome
from plugins.heartbeat import Heartbeat, HeartbeatSettings


class ReportTests(SynchronousTestCase):
    def report(self, retransmitted: int, *unclean: str) -> str:
        found = Heartbeat(HeartbeatSettings(), Clock()).report()
        assert isinstance(found, dict)
        outcome = Outcome(done=100, failed=0, retransmitted=retransmitted, given_up=0, rate=2000.0)
        return report(2000.0, 15.0, outcome, 100_000, found, unclean)

    def test_table(self) -> None:
        """What the plugin answers fits the table."""
        first, blank, *table = self.report(0, "3000/s").splitlines()
        self.assertIn("2000 REGISTER/s for 15 s, clean, with 100000 bindings", first)
        self.assertTrue(first.endswith("(not clean: 3000/s)"), first)
        self.assertEqual(blank, "")
        self.assertEqual(table[0], "| milliseconds | 50% | 99% | 99.9% | longest |")
        self.assertEqual({line.count("|") for line in table}, {6})
        self.assertEqual(len(table), 5)

    def test_not_clean(self) -> None:
        """Even the least rate was too much: that is said."""
        self.assertIn("0 failed, 7 retransmitted", self.report(7))
