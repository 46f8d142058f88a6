"""The guard against more work per operation: marks, news, and what becomes the norm."""

from __future__ import annotations

import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench import guard
from bench.guard import Counts, report

BUILD, OTHER = "3.11.2 debian compiled", "3.11.2 debian pure"


class ReportTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = Path(self.mktemp())
        self.file.write_text(
            json.dumps(
                {
                    BUILD: {"instructions": {"options": 1000, "call": 2000}},
                    OTHER: {"instructions": {"options": 5000}},
                }
            )
        )

    def report(self, options: float, call: float, accept: bool = False) -> tuple[list[str], bool]:
        counts: Counts = {"instructions": {"options": options, "call": call}}
        text, good = report(counts, BUILD, self.file, accept)
        return text.splitlines(), good

    def known(self, build: str) -> object:
        return json.loads(self.file.read_text())[build]

    def test_within_tolerance(self) -> None:
        """3 % more is no more."""
        lines, good = self.report(1030, 1500)
        self.assertTrue(good)
        self.assertEqual(
            lines[2:],
            [
                "| options, instructions | 1030 | 1000 | 1.030 |",
                "| call, instructions | 1500 | 2000 | 0.750 |",
            ],
        )

    def test_more(self) -> None:
        """One that has grown is marked, and the whole is not good."""
        lines, good = self.report(1031, 2000)
        self.assertFalse(good)
        self.assertEqual(lines[2], "| options, instructions | 1031 | 1000 | 1.031 MORE |")
        self.assertEqual(lines[3], "| call, instructions | 2000 | 2000 | 1.000 |")

    def test_new(self) -> None:
        """Nothing was accepted of this build, of this kind, or there is no file."""
        counts: Counts = {"bytecodes": {"options": 7}}
        for build in (BUILD, "3.13.1 own pure"):
            text, good = report(counts, build, self.file)
            self.assertIn("| options, bytecodes | 7 | - | new |", text)
            self.assertTrue(good)
        self.assertIn("new", report(counts, BUILD, Path(self.mktemp()))[0])

    def test_accept(self) -> None:
        """The counts become the norm of this build and of no other; what is not counted stays."""
        lines, good = self.report(1500, 2000, accept=True)
        self.assertFalse(good)
        self.assertIn("MORE", lines[2])
        counts: Counts = {"instructions": None, "bytecodes": {"options": 7}}
        report(counts, BUILD, self.file, accept=True)
        self.assertEqual(
            self.known(BUILD),
            {"instructions": {"options": 1500, "call": 2000}, "bytecodes": {"options": 7}},
        )
        self.assertEqual(self.known(OTHER), {"instructions": {"options": 5000}})
        self.assertEqual(
            self.report(1500, 2000),
            (
                [
                    *lines[:2],
                    "| options, instructions | 1500 | 1500 | 1.000 |",
                    "| call, instructions | 2000 | 2000 | 1.000 |",
                ],
                True,
            ),
        )

    def test_without_accept(self) -> None:
        """Looking changes nothing."""
        before = self.file.read_text()
        self.report(9999, 9999)
        self.assertEqual(self.file.read_text(), before)


class AcceptedTests(SynchronousTestCase):
    def test_every_kind_of_every_operation(self) -> None:
        """The file names Python's version and build; compiled and pure are both there, whole."""
        known = json.loads(guard.ACCEPTED.read_text())
        for build in (BUILD, OTHER):
            self.assertEqual(sorted(known[build]), ["bytecodes", "instructions"])
            for counts in known[build].values():
                self.assertEqual(sorted(counts), sorted(guard.OPERATIONS))
                self.assertGreater(min(counts.values()), 0)
        for operation in guard.OPERATIONS:
            self.assertLess(
                known[BUILD]["instructions"][operation], known[OTHER]["instructions"][operation]
            )

    def test_key(self) -> None:
        """Three words."""
        version, _, word = guard.key().split()
        self.assertEqual(version.count("."), 2)
        self.assertIn(word, ("compiled", "pure"))
