"""The dial plan: spec 30 section 15, spec 20 section 7, spec 40 (dp_*), rule R17."""

from __future__ import annotations

from collections.abc import Awaitable
from time import perf_counter
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import plugins
from pbx.commands import CommandFailed
from pbx.config import ConfigError
from pbx.errors import DatabaseError
from pbx.events import Events, TableChanged
from pbx.interfaces import (
    ICommands,
    IDatabase,
    IDialplan,
    IEvents,
    IPBXPlugin,
    IReloadable,
    IStartable,
    IStatistics,
)
from pbx.registry import Registry
from pbx.sip.uri import URI
from pbx.storage.memory import memory_database
from plugins.dialplan import Dialplan, DialplanPlugin
from plugins.dialplan_patterns import check_pattern

ResultT = TypeVar("ResultT")
EQUAL, REGEX, FNMATCH = 0, 1, 2


class DialplanTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_790_000_000)
        self.database = memory_database(self.clock)
        self.events = Events()
        self.use()

    def use(self, **table: object) -> None:
        registry = Registry()
        with registry.building():
            registry.provide(IEvents, self.events)
            registry.provide(IDatabase, self.database)
            DialplanPlugin().provide(registry, self.clock, table)
            part = IDialplan(registry)
        assert isinstance(part, Dialplan)
        self.dialplan = part
        self.done(part.start())

    def done(self, awaitable: Awaitable[ResultT]) -> ResultT:
        async def wait() -> ResultT:
            return await awaitable

        return self.successResultOf(Deferred.fromCoroutine(wait()))

    def rule(
        self,
        operator: int,
        expression: str,
        replacement: str | None = None,
        subst: str | None = None,
        *,
        pr: int = 0,
        dpid: int = 0,
        flags: int = 0,
        timerec: str | None = None,
        disabled: int = 0,
        attrs: str | None = None,
    ) -> None:
        self.done(
            self.database.execute(
                "INSERT INTO dialplan (dpid, pr, match_op, match_exp, match_flags, subst_exp,"
                " repl_exp, timerec, disabled, attrs) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    dpid,
                    pr,
                    operator,
                    expression,
                    flags,
                    subst,
                    replacement,
                    timerec,
                    disabled,
                    attrs,
                ),
            )
        )
        self.events.publish(TableChanged("dialplan"))

    def result(self, text: str, dpid: int = 0) -> str | None:
        found = self.dialplan.lookup(text, dpid)
        return None if found is None else found[0]

    def call(self, name: str, **arguments: object) -> object:
        commands = {name: function for name, _, function in self.dialplan.commands()}
        return commands[name](**arguments)

    def refused(self, name: str, **arguments: object) -> tuple[int, str]:
        with self.assertRaises(CommandFailed) as caught:
            self.call(name, **arguments)
        return caught.exception.code, caught.exception.message

    def test_found_by_its_name(self) -> None:
        self.assertIn("dialplan", {plugin.name for plugin in getPlugins(IPBXPlugin, plugins)})
        for interface in (IStartable, IReloadable, ICommands, IStatistics, IDialplan):
            verifyObject(interface, self.dialplan)

    def test_equal(self) -> None:
        self.rule(EQUAL, "100", "1001")
        self.assertEqual(self.result("100"), "1001")
        self.assertIsNone(self.result("1000"))

    def test_regular_expression(self) -> None:
        """Found anywhere in the text, unless it is anchored."""
        self.rule(REGEX, "^0[1-9]", "op")
        self.assertEqual(self.result("0123"), "op")
        self.assertIsNone(self.result("90123"))
        self.rule(REGEX, "99$", "end")
        self.assertEqual(self.result("1299"), "end")

    def test_file_name_pattern(self) -> None:
        self.rule(FNMATCH, "10[01]?", "desk")
        self.assertEqual(self.result("1009"), "desk")
        self.assertIsNone(self.result("1029"))
        self.assertIsNone(self.result("91009"))

    def test_ignore_case(self) -> None:
        for operator in (EQUAL, REGEX, FNMATCH):
            self.rule(operator, "sales", f"{operator}", dpid=operator)
            self.rule(operator, "help", f"{operator}", dpid=operator, flags=1)
            self.assertIsNone(self.result("SALES", operator))
            self.assertEqual(self.result("HeLP", operator), f"{operator}")

    def test_substitution(self) -> None:
        """The whole result is the replacement with the groups of subst_exp."""
        self.rule(REGEX, "^00", r"+\1", "^00([1-9][0-9]*)$")
        self.assertEqual(self.result("00493012"), "+493012")
        self.rule(REGEX, "^7", r"\2-\1", "7(.)(.)")
        self.assertEqual(self.result("7abc"), "b-a")

    def test_substitution_that_finds_nothing_is_no_translation(self) -> None:
        self.rule(REGEX, "^00", r"+\1", "^00([1-9]+)$")
        self.assertIsNone(self.result("00a"))

    def test_replacement_alone(self) -> None:
        """Fixed text."""
        self.rule(REGEX, "^1..$", "operator")
        self.assertEqual(self.result("123"), "operator")

    def test_groups_of_the_match(self) -> None:
        """Ours: back references without subst_exp mean match_exp."""
        self.rule(REGEX, "^9(.*)$", r"\1")
        self.assertEqual(self.result("91234"), "1234")

    def test_neither(self) -> None:
        """The input, and the attributes."""
        self.rule(REGEX, "^1", attrs="gold")
        self.assertEqual(self.dialplan.lookup("123"), ("123", "gold"))

    def test_smaller_priority_first(self) -> None:
        self.rule(REGEX, "^1", "late", pr=5)
        self.rule(REGEX, "^12", "early", pr=1)
        self.assertEqual(self.result("123"), "early")
        self.assertEqual(self.result("13"), "late")

    def test_equal_and_pattern_by_priority_then_id(self) -> None:
        self.rule(REGEX, "^1", "pattern", pr=1)
        self.rule(EQUAL, "12", "equal", pr=1)
        self.assertEqual(self.result("12"), "pattern")
        self.rule(EQUAL, "12", "sooner", pr=0)
        self.assertEqual(self.result("12"), "sooner")
        self.rule(EQUAL, "AB", "folded", pr=0, flags=1)
        self.rule(EQUAL, "ab", "exact", pr=0)
        self.assertEqual(self.result("ab"), "folded")

    def test_time_must_hold(self) -> None:
        self.rule(EQUAL, "1", "day", timerec="UTC|20200101T080000||PT10H|daily", pr=1)
        self.rule(EQUAL, "1", "night", pr=2)
        self.rule(REGEX, "^2", "day", timerec="UTC|20200101T080000||PT10H|daily", pr=1)
        self.rule(REGEX, "^2", "night", pr=2)
        self.clock.advance(-self.clock.seconds() + 1_790_000_000 // 86400 * 86400 + 9 * 3600)
        self.assertEqual([self.result("1"), self.result("2")], ["day", "day"])
        self.clock.advance(12 * 3600)
        self.assertEqual([self.result("1"), self.result("2")], ["night", "night"])

    def test_disabled_rows(self) -> None:
        self.rule(EQUAL, "1", "2", disabled=1)
        self.assertIsNone(self.result("1"))
        self.assertEqual(self.dialplan.statistics()["dialplan:rules"], 0)

    def test_plans_are_apart(self) -> None:
        self.rule(EQUAL, "1", "2", dpid=3)
        self.assertIsNone(self.result("1"))
        self.assertEqual(self.result("1", 3), "2")

    def test_user_of_a_uri(self) -> None:
        """R17: only the user changes; no match, no change."""
        self.rule(EQUAL, "100", "1001")
        uri = URI.parse("sip:100@pbx.test:5070;user=phone")
        translated = self.dialplan.translate(uri)
        self.assertEqual(str(translated), "sip:1001@pbx.test:5070;user=phone")
        self.assertIs(self.dialplan.translate(translated), translated)
        self.assertIs(self.dialplan.translate(uri, 9), uri)

    def test_bad_rows_are_left_out(self) -> None:
        self.rule(REGEX, "(", "x")
        self.rule(7, "a", "x")
        self.rule(REGEX, "^a", r"\2", "(a)")
        self.rule(EQUAL, "b", r"\1")
        self.rule(EQUAL, "c", "x", timerec="never")
        self.rule(REGEX, "(a+)+$", "x")
        self.rule(EQUAL, "z", "good")
        self.assertEqual(self.dialplan.statistics()["dialplan:rules"], 1)
        self.assertEqual(self.result("z"), "good")

    def test_patterns_that_could_stall_a_call(self) -> None:
        for pattern in (
            "(a+)+$",
            "(a|a)*b",
            "(a|A)*b",
            "(.*)*x",
            "(a?){30}b",
            "a?" * 30 + "b",
            "(0|00)+1",
            "((ab)*)*x",
            r"(\w|\d)+$",
            "(?:a{1,2}){20}b",
            ".*.*.*.*.*x",
        ):
            with self.assertRaises(ValueError, msg=pattern):
                check_pattern(pattern, 2, 64)

    def test_patterns_of_real_dial_plans(self) -> None:
        """The worst that is let through costs milliseconds."""
        for pattern in (
            r"^\+?49(\d+)$",
            r"^(00|\+)(\d{2,15})$",
            r"^9?1?(\d{10})$",
            r"^(\d{3})-?(\d{3})-?(\d{4})$",
            r"^(sip:)?([^@]+)@",
            r"^(?:0049|\+49|0)(30|40|89)(\d+)$",
            r"^(\d+)\*(\d+)\*(\d+)$",
            r"[\]\[a-z]+",
            r"^[^0-9]",
            ".*.*.*",
            "(?i)abc",
        ):
            compiled = check_pattern(pattern, 0, 64)
            began = perf_counter()
            for letter in "1a*":
                compiled.search(letter * 63 + "!")
            self.assertLess(perf_counter() - began, 0.2)

    def test_patterns_see_no_long_text(self) -> None:
        self.rule(REGEX, "^1", "short")
        self.rule(EQUAL, "1" * 70, "known")
        self.rule(EQUAL, "1" * 65, None)
        self.assertEqual(self.result("1" * 64), "short")
        self.assertIsNone(self.result("1" * 66))
        self.assertEqual(self.result("1" * 70), "known")

    def test_reload_is_all_or_nothing(self) -> None:
        self.rule(EQUAL, "1", "2")
        self.done(self.database.execute("ALTER TABLE dialplan RENAME TO elsewhere"))
        with self.assertRaises(CommandFailed) as caught:
            self.failureResultOf(self.reload()).raiseException()
        self.assertEqual(caught.exception.code, 500)
        self.events.publish(TableChanged("dialplan"))
        self.assertEqual(len(self.flushLoggedErrors(DatabaseError)), 1)
        self.assertEqual(self.result("1"), "2")

    def reload(self) -> Deferred[object]:
        async def wait() -> object:
            result = self.call("dp_reload")
            assert isinstance(result, Awaitable)
            return await result

        return Deferred.fromCoroutine(wait())

    def test_dp_reload(self) -> None:
        self.done(
            self.database.execute(
                "INSERT INTO dialplan (dpid, match_op, match_exp, repl_exp) VALUES (0, 0, '1', '2')"
            )
        )
        self.assertIsNone(self.result("1"))
        self.assertEqual(self.successResultOf(self.reload()), "OK")
        self.assertEqual(self.result("1"), "2")

    def test_dp_translate(self) -> None:
        self.rule(REGEX, "^9(.*)", r"\1", attrs="x=1")
        self.assertEqual(
            self.call("dp_translate", dpid=0, input="9123"), {"Output": "123", "ATTRIBUTES": "x=1"}
        )
        refused = self.refused
        self.assertEqual(refused("dp_translate", dpid="0", input="1"), (404, "No translation"))
        self.assertEqual(
            refused("dp_translate", dpid="5", input="1"),
            (404, "No information available for dpid"),
        )
        self.assertEqual(refused("dp_translate", dpid="a", input="1"), (404, "Wrong id parameter"))
        self.assertEqual(
            refused("dp_translate", dpid="0", input="1", partition="x"),
            (400, "Partition not found"),
        )

    def test_dp_show_partition(self) -> None:
        """Without the password of the database."""
        shown = {"name": "default", "table": "dialplan", "db_url": "memory:"}
        self.assertEqual(self.call("dp_show_partition"), {"Partitions": [shown]})
        self.assertEqual(
            self.call("dp_show_partition", partition="default"),
            {"Partition": "default", "Table": "dialplan", "db_url": "memory:"},
        )
        self.assertEqual(
            self.refused("dp_show_partition", partition="x"), (400, "Partition not found")
        )

    def test_bad_settings(self) -> None:
        self.assertRaises(ConfigError, self.use, max_input=5000)
        self.assertRaises(ConfigError, self.use, max_inputs=64)
