"""The log under control, and status reports."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, PredicateResult
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pbx.commands import CommandFailed
from pbx.events import DestinationChanged, Events, TableChanged
from pbx.interfaces import IHealth
from pbx.logs import LogFilter
from pbx.management.commands import module_of
from pbx.management.logs import POLICY, LogCommands
from pbx.management.reports import StatusReports
from tests.whole import wait


class LogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.log = LogFilter()
        self.commands = LogCommands(self.log)

    def passes(self, level: Any, namespace: str = "pbx.x") -> bool:
        event: LogEvent = {"log_level": level, "log_namespace": namespace}
        return bool(self.log(event) != PredicateResult.no)

    def test_level_of_the_policy(self) -> None:
        """``xlog_level`` is about what the policy logs, and nothing else."""
        self.assertEqual(self.commands.xlog_level(), {"xLog Level": 3})
        self.assertEqual(self.commands.xlog_level("4"), {"New xLog level": 4})
        self.assertTrue(self.passes(LogLevel.debug, POLICY))
        self.assertFalse(self.passes(LogLevel.debug))
        with self.assertRaises(CommandFailed):
            self.commands.xlog_level("5")

    def test_limit(self) -> None:
        """Nothing exceeds it, also not a level of a module of its own."""
        self.commands.xlog_level("4")
        self.commands.log_level_filter("stderror", "-1")
        self.assertFalse(self.passes(LogLevel.debug, POLICY))
        self.assertFalse(self.passes(LogLevel.info))
        self.assertTrue(self.passes(LogLevel.error))
        self.commands.log_level_filter("stderror", 0)
        self.assertTrue(self.passes(LogLevel.debug, POLICY))

    def test_silence(self) -> None:
        self.commands.log_mute_state("syslog", "1")
        self.assertFalse(self.passes(LogLevel.critical))
        self.assertEqual(self.commands.log_mute_state("syslog"), {"mute state": 1})
        self.commands.log_mute_state("syslog", 0)
        self.assertTrue(self.passes(LogLevel.critical))
        for consumer, state in (("event", None), ("syslog", "2")):
            with self.assertRaises(CommandFailed):
                self.commands.log_mute_state(consumer, state)


@implementer(IHealth)
class Unwell:
    def __init__(self, word: str) -> None:
        self.word = word

    def health(self) -> tuple[str, str]:
        return self.word, f"it is {self.word}"


class ReportTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.parts: list[object] = []
        self.events = Events()
        self.reports = StatusReports(lambda: self.parts, module_of, self.events, Clock())
        wait(self.reports.start())

    def test_worst_of_a_group(self) -> None:
        """Parts of one module are one group; ready unless down."""
        group = module_of(Unwell("ok"))
        for word, ready, number in (("ok", True, 1), ("degraded", True, 2), ("down", False, -1)):
            self.parts.append(Unwell(word))
            found: Any = self.reports.sr_get_status(group)
            self.assertEqual((found["Readiness"], found["Status"]), (ready, number))
        self.assertEqual(found["Details"], "it is down")

    def test_what_happened(self) -> None:
        self.events.publish(TableChanged("subscriber"))
        self.events.publish(DestinationChanged(1, "sip:a", False, "503"))
        found: Any = self.reports.sr_list_reports("core")
        told = [report["Log"] for report in found["Identifiers"][0]["Reports"]]
        self.assertEqual(told, ["started", "table subscriber was changed by another program"])

    def test_bounded(self) -> None:
        for _ in range(1000):
            self.events.publish(TableChanged("subscriber"))
        found: Any = self.reports.sr_list_reports("core", "main")
        self.assertEqual(len(found["Identifiers"][0]["Reports"]), 50)
        with self.assertRaises(CommandFailed):
            self.reports.sr_list_reports("core", "other")
