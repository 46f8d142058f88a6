"""Commands of the PBX itself (specification 40, section 3)."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pbx.commands import CommandFailed
from pbx.events import Events
from pbx.interfaces import IHealth, IReloadable, IStatistics
from pbx.logs import LogFilter
from pbx.management.commands import Commands
from pbx.management.core import CoreCommands
from pbx.management.help import described
from pbx.management.resources import Resources
from pbx.sip.address import Address
from pbx.storage.cache import MemoryCache
from pbx.tables import SETTINGS


@implementer(IStatistics, IHealth, IReloadable)
class Counter:
    """A part that counts, may be unwell and keeps a table."""

    def __init__(self) -> None:
        self.numbers = {"tm:received_replies": 5, "dialog:active_dialogs": 2}
        self.word = ("ok", "")
        self.reloaded = 0
        self.fault = ""

    def statistics(self) -> Mapping[str, int]:
        return self.numbers

    def health(self) -> tuple[str, str]:
        return self.word

    async def reload(self) -> None:
        if self.fault:
            raise ValueError(self.fault)
        self.reloaded += 1


class CoreCommandsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000)
        self.parts = [Counter(), Counter()]
        self.parts[1].numbers = {}
        self.stopped: list[float] = []
        self.log = LogFilter()
        self.core = CoreCommands(
            self.clock,
            lambda: self.parts,
            lambda: [Address("UDP", "127.0.0.1", 5070)],
            lambda: self.stopped.append(self.clock.seconds()),
            lambda: "http://127.0.0.1:1/",
            self.log,
        )

    def reload(self) -> object:
        return self.successResultOf(Deferred.fromCoroutine(self.core.reload()))

    def test_version_is_found_by_tools(self) -> None:
        """`OpenSIPS (d.d.d` at the start (section 2)."""
        answer: Any = self.core.version()
        self.assertTrue(re.match(r"OpenSIPS \(\d+\.\d+\.\d+", answer["Server"]))

    def test_uptime(self) -> None:
        self.clock.advance(65)
        answer: Any = self.core.uptime()
        self.assertEqual(answer["Up time"], "65 [sec]")
        self.assertEqual(set(answer), {"Now", "Up since", "Up time"})

    def test_ps_is_this_process(self) -> None:
        self.assertEqual(
            self.core.ps(), {"Processes": [{"ID": 0, "PID": os.getpid(), "Type": "pbx"}]}
        )

    def test_memory_dumps_are_accepted(self) -> None:
        """By every recipe that tools use (section 3)."""
        commands = Commands()
        commands.add(self.core)
        for request in (
            {"method": "mem_pkg_dump", "params": [os.getpid()]},
            {"method": "mem_pkg_dump", "params": ["1", "3"]},
            {"method": "mem_shm_dump", "params": []},
            {"method": "mem_rpm_dump", "params": ["3"]},
            {"method": "shm_check"},
        ):
            text = json.dumps({"jsonrpc": "2.0", "id": 1, **request}).encode()
            answer = json.loads(self.successResultOf(commands.handle(text)) or b"")
            self.assertEqual(answer.get("result"), "OK", request)

    def test_kill_answers_first(self) -> None:
        """The answer leaves before the process does."""
        self.assertEqual(self.core.kill(), "OK")
        self.assertEqual(self.stopped, [])
        self.clock.advance(0.2)
        self.assertEqual(len(self.stopped), 1)

    def test_statistics_by_all_group_and_name(self) -> None:
        self.clock.advance(7)
        both = {"tm:received_replies": 5, "dialog:active_dialogs": 2}
        self.assertEqual(self.core.get_statistics(["all"]), {"core:timestamp": 7, **both})
        self.assertEqual(self.core.get_statistics(["tm:"]), {"tm:received_replies": 5})
        self.assertEqual(
            self.core.get_statistics(["received_replies", "none", "dialog:active_dialogs"]), both
        )

    def test_unknown_statistics(self) -> None:
        """404 only when nothing at all was found."""
        error = self.assertRaises(CommandFailed, self.core.get_statistics, ["none", "tmx:"])
        self.assertEqual((error.code, error.message), (404, "Statistics Not Found"))

    def test_kind_of_statistics(self) -> None:
        self.assertEqual(
            self.core.list_statistics(["tm:", "dialog:"]),
            {
                "tm:received_replies": "incremental",
                "dialog:active_dialogs": "non-incremental",
            },
        )

    def test_reset(self) -> None:
        """Counters start from zero, amounts stay."""
        self.core.reset_all_statistics()
        self.parts[0].numbers["tm:received_replies"] = 8
        self.assertEqual(
            self.core.get_statistics(["tm:", "active_dialogs"]),
            {"tm:received_replies": 3, "dialog:active_dialogs": 2},
        )
        self.core.reset_statistics(["received_replies"])
        self.assertEqual(self.core.get_statistics(["tm:"]), {"tm:received_replies": 0})

    def test_log_level(self) -> None:
        process = {"PID": os.getpid(), "Log level": 3, "Type": "pbx"}
        self.assertEqual(self.core.log_level(), {"Processes": [process]})
        self.assertEqual(self.core.log_level("4"), {"New global log level": 4})
        self.assertEqual(self.log.level, 4)
        self.assertEqual(self.core.log_level(1, os.getpid()), {"Log level": 1})
        for level in ("x", 9, "0"):
            self.assertRaises(CommandFailed, self.core.log_level, level)
        self.assertRaises(CommandFailed, self.core.log_level, 4, 1)
        self.assertEqual(self.log.level, 1)

    def test_reload(self) -> None:
        """Every part that keeps a table."""
        self.assertEqual(self.reload(), "OK")
        self.assertEqual([part.reloaded for part in self.parts], [1, 1])

    def test_reload_with_a_fault(self) -> None:
        """Others are reloaded all the same; the answer tells the fault."""
        self.parts[0].fault = "etc/routing.py:3: invalid syntax"
        failure = self.failureResultOf(Deferred.fromCoroutine(self.core.reload()), CommandFailed)
        self.assertEqual(failure.value.code, 500)
        self.assertIn("etc/routing.py:3", failure.value.message)
        self.assertEqual(self.parts[1].reloaded, 1)

    def test_status(self) -> None:
        self.clock.advance(3)
        status: Any = self.core.status()
        self.assertEqual(status["uptime"], 3)
        # tools/compiled.py says what it runs the tests on.
        self.assertEqual(status["build"], os.environ.get("PBX_BUILD", "pure"))
        self.assertEqual(status["listeners"], ["udp:127.0.0.1:5070"])
        self.assertEqual(status["web"], "http://127.0.0.1:1/")
        self.assertEqual(status["counts"]["dialog:active_dialogs"], 2)
        self.assertNotIn("tm:received_replies", status["counts"])
        self.assertEqual(status["health"], {"status": "ok", "reasons": []})

    def test_help_is_the_docstring(self) -> None:
        """That of a module which may be compiled, too."""
        self.assertRegex(described(Events().subscribe), r"^[A-Z`].*\.$")
        self.assertEqual(described(self.no_command), "")

    def no_command(self) -> None: ...

    def test_settings_are_interpreted(self) -> None:
        """The types of their fields are read at start; compiled classes keep less of them."""
        for kind in SETTINGS.values():
            source = sys.modules[kind.__module__].__file__
            self.assertTrue(str(source).endswith(".py"), kind)

    def test_health_is_the_worst(self) -> None:
        self.parts[0].word = ("degraded", "the cache does not answer")
        self.parts[1].word = ("down", "no listener")
        status: Any = self.core.status()
        self.assertEqual(
            status["health"],
            {"status": "down", "reasons": ["the cache does not answer", "no listener"]},
        )


class CacheTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.parts: list[object] = [MemoryCache(self.clock)]
        self.core = CoreCommands(self.clock, lambda: self.parts, lambda: (), lambda: None)

    def fetch(self, system: str = "local") -> object:
        return self.successResultOf(Deferred.fromCoroutine(self.core.cache_fetch(system, "a")))

    def refused(self, system: str = "local") -> tuple[int, str]:
        fetch = Deferred.fromCoroutine(self.core.cache_fetch(system, "a"))
        error = self.failureResultOf(fetch, CommandFailed).value
        return error.code, error.message

    def test_store_fetch_remove(self) -> None:
        """Numbers are kept as text; what is not there is error 400."""
        self.assertEqual(self.refused(), (400, "Value not found"))
        self.assertEqual(self.core.cache_store("local", "a", 5), "OK")
        self.assertEqual(self.fetch(), {"key": "a", "value": "5"})
        self.assertEqual(self.core.cache_remove("local:group", "a"), "OK")
        self.assertEqual(self.refused(), (400, "Value not found"))

    def test_expiry(self) -> None:
        """In seconds; 0 is never."""
        self.core.cache_store("local", "a", "x", "10")
        self.clock.advance(9)
        self.assertEqual(self.fetch(), {"key": "a", "value": "x"})
        self.clock.advance(2)
        self.assertEqual(self.refused(), (400, "Value not found"))
        self.core.cache_store("local", "a", "x", "0")
        self.clock.advance(1e6)
        self.assertEqual(self.fetch(), {"key": "a", "value": "x"})
        for expire in ("-1", "x", "1.5", "9" * 30):
            self.assertRaises(CommandFailed, self.core.cache_store, "local", "a", "x", expire)

    def test_another_system(self) -> None:
        """Is not there."""
        self.assertEqual(
            self.refused("redis:local"), (500, "Cache system not found; there is local")
        )
        self.parts = []
        self.assertEqual(self.refused()[0], 500)


class ResourcesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.used = 5.0
        self.resources = Resources(self.clock, lambda: self.used)

    def pass_time(self, seconds: int, share: float) -> None:
        for _ in range(seconds):
            self.used += share
            self.clock.advance(1)

    def loads(self) -> list[int]:
        found = self.resources.statistics()
        return [found[f"load:{name}"] for name in ("load", "load1m", "load10m")]

    def test_load(self) -> None:
        """Per cent of the last second, minute and ten minutes."""
        self.assertEqual(self.loads(), [0, 0, 0])
        self.resources.start()
        self.pass_time(540, 0.0)
        self.pass_time(59, 0.5)
        self.pass_time(1, 1.0)
        self.assertEqual(self.loads(), [100, 51, 5])
        self.pass_time(2000, 0.0)
        self.assertEqual(self.loads(), [0, 0, 0])
        self.resources.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_load_at_first(self) -> None:
        """Of the time that there was."""
        self.resources.start()
        self.pass_time(4, 0.25)
        self.assertEqual(self.loads(), [25, 25, 25])

    def test_memory(self) -> None:
        """What `opensips-cli -x diagnose memory` divides by is there, under both names."""
        found = self.resources.statistics()
        self.assertLess(0, found["shmem:real_used_size"])
        self.assertLessEqual(found["shmem:real_used_size"], found["shmem:max_used_size"])
        self.assertLess(found["shmem:max_used_size"], found["shmem:total_size"])
        self.assertEqual(
            found["pkmem:0-real_used_size"] + found["pkmem:0-free_size"],
            found["shmem:total_size"],
        )

    def test_all_of_it_are_amounts(self) -> None:
        """None of these can be reset, and `status` does not repeat them."""
        core = CoreCommands(self.clock, lambda: [core], lambda: (), lambda: None)
        kinds = core.list_statistics(["load:", "shmem:", "pkmem:"])
        self.assertEqual(set(cast(dict[str, str], kinds).values()), {"non-incremental"})
        counts = cast(dict[str, Any], core.status())["counts"]
        self.assertEqual([name for name in counts if name.startswith(("load:", "shmem:"))], [])


class NamesTests(SynchronousTestCase):
    def test_names_of_the_reference(self) -> None:
        """Tools ask for these; they are reset on their own."""
        counter = Counter()
        counter.numbers = {"sql:queries": 7, "sql:slow_queries": 1}
        core = CoreCommands(Clock(), lambda: [counter], lambda: (), lambda: None)
        names = ["sql_total_queries", "sql_slow_queries"]
        both = {"sql:sql_total_queries": 7, "sql:sql_slow_queries": 1}
        self.assertEqual(core.get_statistics(names), both)
        core.reset_statistics(["sql_total_queries"])
        counter.numbers["sql:queries"] = 9
        self.assertEqual(
            core.get_statistics(["sql_total_queries", "queries"]),
            {"sql:sql_total_queries": 2, "sql:queries": 9},
        )
