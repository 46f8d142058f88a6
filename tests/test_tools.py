"""The tools behind `make test` and `make news`."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tools import compiled, news
from tools.run_tests import SECOND_TRIES, Job, Outcome, judge, worth_another_try

TRIAL = Job("x", ("trial",), trial=True)
SKIPS = """\
===============================================================================
[SKIPPED]
sipp is not installed

tests.a.T.test_one
tests.a.T.test_two
===============================================================================
[SKIPPED]
no IPv6 here

tests.a.T.test_three
-------------------------------------------------------------------------------
Ran 10 tests in 1.0s

"""


class JudgeTests(SynchronousTestCase):
    def counts(self, job: Job, status: int | None, text: str) -> tuple[int, int, int]:
        outcome = judge(job, status, text)
        self.assertEqual(bool(outcome.failed), bool(outcome.text))
        return outcome.passed, outcome.failed, outcome.skipped

    def setUp(self) -> None:
        import os

        self.patch(os, "environ", {})

    def test_passed(self) -> None:
        text = "Ran 3 tests in 0.1s\n\nPASSED (successes=3)\n"
        self.assertEqual(self.counts(TRIAL, 0, text), (3, 0, 0))

    def test_failed(self) -> None:
        text = "Ran 5 tests in 0.1s\n\nFAILED (failures=1, errors=1, successes=3)\n"
        self.assertEqual(self.counts(TRIAL, 1, text), (3, 2, 0))

    def test_skipped(self) -> None:
        """Counted, except on a build server, which has no excuse but the kernel."""
        import os

        text = f"{SKIPS}PASSED (skips=3, successes=7)\n"
        self.assertEqual(self.counts(TRIAL, 0, text), (7, 0, 3))
        self.patch(os, "environ", {"CI": "true"})
        self.assertEqual(self.counts(TRIAL, 0, text), (7, 2, 1))

    def test_died_or_killed(self) -> None:
        """No summary, or one that was overtaken by the limit, is a failure."""
        self.assertEqual(self.counts(TRIAL, -11, "Segmentation fault"), (0, 1, 0))
        self.assertEqual(self.counts(TRIAL, 0, ""), (0, 1, 0))
        text = "Ran 3 tests in 0.1s\n\nPASSED (successes=3)\n"
        self.assertEqual(self.counts(TRIAL, None, text), (0, 1, 0))
        self.assertEqual(self.counts(TRIAL, 1, text), (2, 1, 0))

    def test_checkers(self) -> None:
        checker = Job("mypy", ("mypy",))
        self.assertEqual(self.counts(checker, 0, "fine"), (1, 0, 0))
        self.assertEqual(self.counts(checker, 1, "x.py:1: error"), (0, 1, 0))


class SecondTryTests(SynchronousTestCase):
    def test_few_tests(self) -> None:
        """Tests and no checkers, and only when it is an accident."""
        good, bad = Outcome(passed=3), Outcome(failed=1, text="x")
        modules = [
            Job(f"tests.integration.test_{n}", (), trial=True) for n in range(SECOND_TRIES + 1)
        ]
        few = {modules[0]: bad, modules[1]: good, Job("mypy", ()): bad}
        self.assertEqual(worth_another_try(few), [modules[0]])
        self.assertEqual(worth_another_try(dict.fromkeys(modules, bad)), [])


class NewsTests(SynchronousTestCase):
    def test_section(self) -> None:
        """Fragments by kind, with the number of their issue."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "README.md").write_text("no fragment")
        (folder / "2.feature").write_text("Phones\nregister.\n")
        (folder / "2.more.bugfix").write_text("It rings.\n")
        texts, paths = news.collect(folder)
        self.assertEqual(len(paths), 2)
        self.assertEqual(
            news.section("0.2.0", "2026-01-02", texts),
            "## 0.2.0 (2026-01-02)\n\n### New\n\n- Phones register. (#2)\n"
            "\n### Mended\n\n- It rings. (#2)\n",
        )

    def test_unknown_kind(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "2.feture").write_text("x")
        self.assertRaises(ValueError, news.collect, folder)

    def test_no_version(self) -> None:
        """An option is none: nothing is folded, and nothing is lost."""
        written = io.StringIO()
        self.patch(sys, "stderr", written)
        for arguments in ([], [""], ["--help"], ["1.0", "2.0"]):
            self.assertEqual(news.main(arguments), 2)
        self.assertIn("usage", written.getvalue())


class CompiledTests(SynchronousTestCase):
    def setUp(self) -> None:
        import os

        # On a build server a skip would count as a failure.
        kept = {name: value for name, value in os.environ.items() if name != "CI"}
        self.patch(os, "environ", {**kept, "CC": "no-such-compiler"})

    def test_checkout_holds_no_extension(self) -> None:
        """One would hide later edits of its module."""
        for name in compiled.PACKAGED:
            self.assertEqual(list((compiled.ROOT / name).rglob("*.so")), [])

    def test_without_compiler(self) -> None:
        """No build, one line that says why, and the pure build is left to run."""
        folder = Path(self.mktemp())
        self.assertEqual(compiled.build(folder), "no C compiler")
        self.assertFalse(folder.exists())

    def test_tests_are_skipped_without_compiler(self) -> None:
        written = io.StringIO()
        self.patch(sys, "stdout", written)
        self.assertEqual(compiled.trial(["tests.sip"]), 0)
        outcome = judge(TRIAL, 0, written.getvalue())
        self.assertEqual((outcome.passed, outcome.skipped), (0, 1))

    def test_fingerprint_knows_the_sources(self) -> None:
        self.assertIn(compiled.ROOT / "pbx" / "sip" / "parser.py", list(compiled.sources()))
        self.assertEqual(compiled.fingerprint(), compiled.fingerprint())
