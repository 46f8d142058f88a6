"""What is read out of SIPp's statistics."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench import sipp

HEAD = (
    "StartTime;CurrentTime;TotalCallCreated;SuccessfulCall(C);FailedCall(C);Retransmissions(C);\n"
)


def line(second: float, created: int, done: int, failed: int = 0, again: int = 0) -> str:
    day = "2026-11-27\t21:15:38.1"
    return f"{day}\t1000.0;{day}\t{1000 + second};{created};{done};{failed};{again};\n"


class ReadTests(SynchronousTestCase):
    def read(self, text: str, expected: int) -> sipp.Outcome:
        path = Path(self.mktemp())
        path.write_text(text)
        return sipp.read(path, expected)

    def test_clean(self) -> None:
        text = HEAD + line(0, 0, 0) + line(1, 100, 90) + line(2, 200, 190) + line(2.5, 250, 250)
        found = self.read(text, 250)
        self.assertEqual((found.done, found.failed, found.clean), (250, 0, True))

    def test_rate(self) -> None:
        """While operations begin: waiting for the last does not count."""
        text = HEAD + line(1, 100, 0) + line(2, 200, 0) + line(2.5, 250, 0) + line(9, 250, 250)
        self.assertAlmostEqual(self.read(text, 250).rate, 100.0)

    def test_faults(self) -> None:
        found = self.read(HEAD + line(1, 100, 97, failed=1, again=4), 100)
        self.assertEqual((found.failed, found.given_up, found.retransmitted), (3, 1, 4))
        self.assertFalse(found.clean)

    def test_while_it_runs(self) -> None:
        """The last line is not whole yet, or there is none."""
        found = self.read(HEAD + line(1, 100, 90) + line(2, 200, 150)[:40], 250)
        self.assertEqual(found.done, 90)
        self.assertEqual(self.read("", 7).failed, 7)
        self.assertEqual(sipp.read(Path(self.mktemp()), 7).failed, 7)
