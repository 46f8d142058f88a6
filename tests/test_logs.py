"""Lines of the log: text and JSON, levels, and what calls and the wire put there."""

from __future__ import annotations

import io
import json
import re
from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogPublisher,
    textFileLogObserver,
)
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pbx.commands import CommandFailed
from pbx.config import ConfigError, settings
from pbx.events import CallAnswered, CallEnded, CallFailed, CallRinging, CallStarted, Events
from pbx.logs import LogFilter, LogSettings, _Written
from pbx.management.logs import LogCommands
from pbx.management.wire_log import MAX_TARGETS, WireLog
from pbx.services.call_log import CallLog
from pbx.sip.address import Address
from pbx.transport.delivery import Delivery
from tests.fakes import PEER, FakeFlow
from tests.transport.parts import OPTIONS

TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} ")


class LogTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = io.StringIO()
        self.log = LogFilter()
        self.log.out = self.file

    def use_json(self) -> None:
        self.log.configure(LogSettings(format="json"))

    def lines(self) -> list[str]:
        """What was written, without times."""
        text = self.file.getvalue()
        self.file.truncate(0)
        self.file.seek(0)
        self.assertTrue(text == "" or text.endswith("\n"))
        return [TIME.sub("", line) for line in text.splitlines()]

    def objects(self) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.lines()]
        for one in found:
            self.assertRegex(one.pop("time"), r"^\d{4}-.*[+-]\d{4}$")
        return found


class LineTests(LogTestCase):
    def test_text(self) -> None:
        """Quotes only where a reader could be misled; what is empty is left out."""
        fields = [("call_id", "a@b"), ("none", ""), ("after", 1.23456), ("status", 486)]
        self.log.line("pbx.calls", 3, "call failed", [*fields, ("reason", "Busy Here")])
        self.assertEqual(
            self.lines(),
            ['[pbx.calls#info] call failed call_id=a@b after=1.235 status=486 reason="Busy Here"'],
        )

    def test_hostile_values(self) -> None:
        """Nothing from the wire makes a second line, or a field that is none."""
        hostile = ("a\r\nb", "a b=c", 'a"b', "a\u2028b", "a\x1b[31m", "x\udcffy")
        for format in ("text", "json"):
            self.log.configure(LogSettings(format=format))
            for value in hostile:
                self.log.line("pbx.calls", 3, "call", [("from", value)])
                [line] = self.file.getvalue().splitlines()
                self.lines()
                if format == "json":
                    self.assertEqual(json.loads(line)["from"], value)
                else:
                    self.assertEqual(json.loads(line.partition("from=")[2]), value)

    def test_json(self) -> None:
        self.use_json()
        self.log.line("pbx.calls", 1, "call", [("after", 1.23456), ("n", 2), ("none", "")])
        self.assertEqual(
            self.objects(),
            [{"level": "warn", "logger": "pbx.calls", "message": "call", "after": 1.235, "n": 2}],
        )

    def test_levels(self) -> None:
        """Of the whole log, of a module or of one above it; a limit; silence."""
        commands = LogCommands(self.log)

        def passes() -> bool:
            self.log.line("pbx.calls", 4, "x", ())
            return bool(self.lines())

        self.assertFalse(passes())
        self.log.set_level(4)
        self.assertTrue(passes())
        self.log.set_level(3)
        for module in ("pbx.calls", "pbx"):
            found = commands.log_module(module, "4")
            self.assertEqual(found, {"module": module, "level": 4})
            self.assertTrue(passes())
            self.assertEqual(commands.log_module(), {"Modules": {module: 4}})
            commands.log_module(module, "default")
            self.assertFalse(passes())
        commands.log_module("pbx.calls", "4")
        self.log.set_limit(1)
        self.assertFalse(passes())
        self.log.set_limit(0)
        self.log.muted = True
        self.assertFalse(passes())
        for module, level in (("a b", "3"), ("", "3"), ("pbx", "7"), ("pbx", "x"), ("a..b", None)):
            with self.assertRaises(CommandFailed):
                commands.log_module(module, level)

    def test_settings(self) -> None:
        for options in ({"format": "xml"}, {"level": 7}):
            with self.assertRaises(ConfigError):
                settings(LogSettings, options, "log")


class EventTests(LogTestCase):
    """Events of Twisted's logger, as twistd's observer gets them."""

    def test_level(self) -> None:
        """A new level counts at once for all events, one of a module for those of the module."""
        observed: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            observed.append(str(event["log_format"]))

        logger = Logger("pbx.x", observer=FilteringLogObserver(observe, [self.log]))
        for level, expected in ((3, ["warn"]), (4, ["warn", "debug"]), (-1, [])):
            self.log.set_level(level)
            logger.warn("warn")
            logger.debug("debug")
            self.assertEqual(observed, expected)
            observed.clear()
        self.log.set_level_of("pbx", 4)
        logger.debug("debug")
        Logger("plugins.y", observer=FilteringLogObserver(observe, [self.log])).warn("other")
        self.assertEqual(observed, ["debug"])

    def setUp(self) -> None:
        super().setUp()
        self.publisher = LogPublisher()
        self.publisher.addObserver(_Written(textFileLogObserver(self.file), self.log))
        self.logger = Logger("pbx.x", observer=self.publisher)

    def test_text(self) -> None:
        self.logger.info("{what} is up", what="all")
        self.assertEqual(self.lines(), ["[pbx.x#info] all is up"])

    def test_json(self) -> None:
        """The text, and the fields that belong to calls."""
        self.use_json()
        self.logger.warn("{peer} is slow", peer=PEER, call_id="c1", other=3)
        self.assertEqual(
            self.objects(),
            [
                {
                    "level": "warn",
                    "logger": "pbx.x",
                    "message": f"{PEER} is slow",
                    "call_id": "c1",
                    "peer": str(PEER),
                }
            ],
        )

    def test_traceback(self) -> None:
        """One line, however long."""
        self.use_json()
        try:
            raise ValueError("no\nway")
        except ValueError:
            self.logger.failure("it failed")
        [found] = self.objects()
        self.assertEqual((found["level"], found["message"]), ("critical", "it failed"))
        self.assertIn("ValueError: no\nway", found["traceback"])

    def test_without_file(self) -> None:
        """To syslog, for which twistd's own observer is asked."""
        self.use_json()
        self.log.out = None
        self.logger.info("up")
        self.assertIn('"message": "up"', self.lines()[0])

    def test_bad_event(self) -> None:
        """What cannot be formatted is told all the same."""
        self.use_json()
        self.logger.emit(LogLevel.info, "{nothing}")
        self.assertIn("nothing", self.objects()[0]["message"])


class CallTests(LogTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.events = Events()
        self.calls = CallLog(self.events, self.log)
        self.call: Any = SimpleNamespace(
            call_id="c1",
            did="d1",
            correlation="d0",
            from_uri="sip:1001@pbx.test",
            to_uri="sip:1002@pbx.test",
            request_uri="sip:1002@pbx.test",
            caller=Address("TCP", "192.0.2.50", 40000),
            callee=PEER,
            created=10.0,
            answered=12.5,
            ended=72.5,
        )

    def test_answered_call(self) -> None:
        """A line per turn, each with Call-ID, leg and call."""
        self.events.publish(CallStarted(self.call))
        self.events.publish(CallRinging(self.call))
        self.events.publish(CallAnswered(self.call))
        self.events.publish(CallEnded(self.call, "callee"))
        self.assertEqual(
            self.lines(),
            [
                "[pbx.calls#info] call started call_id=c1 leg=d1 call=d0 from=sip:1001@pbx.test"
                " to=sip:1002@pbx.test uri=sip:1002@pbx.test peer=tcp:192.0.2.50:40000",
                "[pbx.calls#info] call answered call_id=c1 leg=d1 call=d0 after=2.500"
                " callee=udp:192.0.2.50:5060",
                "[pbx.calls#info] call ended call_id=c1 leg=d1 call=d0 by=callee duration=60.000",
            ],
        )

    def test_failed_call(self) -> None:
        self.call.ended = 11.0
        self.events.publish(CallFailed(self.call, 486, "Busy Here", False))
        self.events.publish(CallFailed(self.call, 487, "Request Terminated", True))
        failed, cancelled = self.lines()
        self.assertIn('call failed call_id=c1 leg=d1 call=d0 status=486 reason="Busy', failed)
        self.assertIn("call cancelled", cancelled)
        self.assertIn("after=1.000", cancelled)

    def test_ringing(self) -> None:
        """At debug level."""
        self.log.set_level_of("pbx.calls", 4)
        self.events.publish(CallRinging(self.call))
        self.assertEqual(self.lines(), ["[pbx.calls#debug] call ringing call_id=c1 leg=d1 call=d0"])


class WireTests(LogTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.wire = Delivery()
        self.tool = WireLog(self.wire, self.clock, self.log)

    def see(self, data: bytes = OPTIONS, sent: bool = False, flow: FakeFlow | None = None) -> int:
        """How many lines that made."""
        if self.wire.watch is not None:
            self.wire.watch(sent, flow or FakeFlow(), data)
        self.seen = self.lines()
        return len(self.seen)

    def test_nobody_asked(self) -> None:
        """Then nobody taps."""
        self.assertIsNone(self.wire.watch)
        self.tool.log_wire("user:1001")
        self.assertIsNotNone(self.wire.watch)
        self.tool.log_wire_off()
        self.assertIsNone(self.wire.watch)

    def test_targets(self) -> None:
        """User with or without domain, in From or To; Call-ID; address. Nothing else is shown."""
        flow = FakeFlow(Address("UDP", "198.51.100.9", 5060))
        for target, matches in (
            ("user:1001", True),
            ("user:1001@pbx.test", True),
            ("user:100", False),
            ("user:001", False),
            ("user:1001@other.test", False),
            ("call:call-1", True),
            ("call:call-", False),
            ("address:198.51.100.9", True),
            ("address:198.51.100.90", False),
        ):
            self.tool.log_wire(target)
            self.assertEqual(self.see(flow=flow), int(matches), target)
            self.tool.log_wire_off(target)

    def test_line(self) -> None:
        """One line that gives the message back, without secrets and without what people write."""
        self.tool.log_wire("user:1001")
        secret = OPTIONS.replace(b"CSeq", b'Authorization: Digest response="ab"\r\nCSeq')
        self.assertEqual(self.see(secret + b"dear diary", sent=True), 1)
        [line] = self.seen
        self.assertTrue(line.startswith("[pbx.wire#info] sent peer=udp:"), line)
        text = json.loads(line.partition("text=")[2])
        self.assertIn('response="**"', text)
        self.assertNotIn("diary", text)
        self.see(OPTIONS + b"v=0\r\ns=-\r\n")
        self.assertIn("v=0", self.seen[0])

    def test_compact_form_and_garbage(self) -> None:
        self.tool.log_wire("user:1001")
        self.assertEqual(self.see(OPTIONS.replace(b"From:", b"f :")), 1)
        for garbage in (b"", b"\xff\xfe\r\n\r\n", b"\r\n" * 50, b":" * 100):
            self.assertEqual(self.see(garbage), 0)

    def test_forgotten(self) -> None:
        """An hour, or as long as asked for; then the tap goes."""
        self.tool.log_wire("user:1001", "60")
        self.clock.advance(59)
        self.assertEqual(self.see(), 1)
        self.clock.advance(2)
        self.assertEqual(self.see(), 0)
        self.assertIsNone(self.wire.watch)
        self.assertEqual(self.tool.log_wire(), {"Targets": []})

    def test_mistakes(self) -> None:
        for arguments in (
            ("1001",),
            ("user:",),
            ("number:1",),
            ("user:1", "soon"),
            ("user:1", "-1"),
            ("user:1", "nan"),
            ("user:" + "x" * 300,),
        ):
            with self.assertRaises(CommandFailed):
                self.tool.log_wire(*arguments)
        with self.assertRaises(CommandFailed):
            self.tool.log_wire_off("user:9")
        self.assertIsNone(self.wire.watch)

    def test_bound(self) -> None:
        for at in range(MAX_TARGETS):
            self.tool.log_wire(f"user:{at}")
        with self.assertRaises(CommandFailed):
            self.tool.log_wire("user:more")
        self.tool.log_wire("user:0")
