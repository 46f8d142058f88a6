"""What is made of rounds: medians, spreads, and no figure of what was not clean."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.compare import Results, Round, State, Window
from bench.highest import Highest
from bench.tables import cell, ratios, report, spread

NAMES = ("pbx", "kamailio")


def window(server: float, database: float = 0.0, failed: int = 0, retransmitted: int = 0) -> Window:
    return Window(server=server, database=database, failed=failed, retransmitted=retransmitted)


def rounds(*pairs: tuple[float, float]) -> list[Round]:
    return [{"pbx": window(ours), "kamailio": window(theirs)} for ours, theirs in pairs]


class CellTests(SynchronousTestCase):
    def test_median(self) -> None:
        """The round in the middle with its parts, and from where to where."""
        found = [{"pbx": window(server, 0.1)} for server in (0.5, 0.2, 0.3)]
        self.assertEqual(cell(found, "pbx"), "0.400 (0.300 + 0.100), 0.300 to 0.600")

    def test_one_round(self) -> None:
        self.assertEqual(cell([{"pbx": window(0.3, 0.1)}], "pbx"), "0.400 (0.300 + 0.100)")

    def test_unclean_round(self) -> None:
        """It is not in the figure, and that is said."""
        found = [{"pbx": window(0.3)}, {"pbx": window(9.0, failed=2)}, {"pbx": window(0.5)}]
        text = cell(found, "pbx")
        self.assertTrue(text.startswith("0.300 (0.300 + 0.000), 0.300 to 0.500"), text)
        self.assertIn("2 of 3 rounds, the others 2 failed", text)

    def test_no_clean_round(self) -> None:
        faults = Window(server=1, database=1, failed=1, retransmitted=3, missing=5, reached=False)
        self.assertEqual(
            cell([{"pbx": faults}], "pbx"),
            "not clean: 1 failed, 3 retransmitted, 5 rows missing, 1 below the rate",
        )


class RatioTests(SynchronousTestCase):
    def test_within_a_round(self) -> None:
        """A machine that is half as fast in one round changes both and not the ratio."""
        found = ratios(rounds((1, 2), (2, 4), (1.2, 2)), NAMES)
        self.assertEqual(spread(found), "0.50 (0.50 to 0.60)")

    def test_both_are_clean(self) -> None:
        found = rounds((1, 2), (1, 4))
        found[0]["kamailio"] = window(2, retransmitted=1)
        self.assertEqual(ratios(found, NAMES), [0.25])
        self.assertEqual(spread([]), "-")

    def test_alone(self) -> None:
        self.assertEqual(ratios([{"pbx": window(1)}], ["pbx"]), ())


class ReportTests(SynchronousTestCase):
    def test_tables(self) -> None:
        results = Results(NAMES)
        results.rounds["register", 1000.0] = rounds((0.3, 0.6))
        # Broken off.
        results.rounds["call", 200.0] = [{"pbx": window(1)}]
        results.highest["register", "pbx"] = Highest(4000, True, False)
        results.highest["register", "kamailio"] = Highest(2000, False, False)
        state = State(memory=80e6, grown=20e6, idle=0.003)
        results.states = {"pbx": state, "kamailio": state}
        results.written = ["pbx: location 10000", "kamailio: location 10000"]
        text = report(results)
        self.assertIn(
            "| REGISTER, 401 then 200 | 1000/s | 0.300 (0.300 + 0.000) | 0.600 (0.600 + 0.000) "
            "| 0.50 |\n",
            text,
        )
        self.assertIn("| REGISTER, 401 then 200 | 4000/s | 2000/s, for 5 s | 2.00 |", text)
        self.assertIn("| CPU while idle | 0.30 % | 0.30 % | 1.00 |", text)
        self.assertIn("kamailio: location 10000.", text)
        for table in text.split("\n\n"):
            widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
            self.assertLessEqual(len(widths), 1, table)

    def test_broken_off(self) -> None:
        """Nothing was measured yet: no table, no error."""
        results = Results(NAMES)
        results.states["pbx"] = State(memory=1, grown=1, idle=0)
        self.assertNotIn("|", report(results))
