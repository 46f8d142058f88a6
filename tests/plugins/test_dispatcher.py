"""The dispatcher: spec 30 section 17, spec 20 section 5, spec 40 (ds_*), oddity O7."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

import plugins
from pbx.commands import CommandFailed
from pbx.config import ConfigError
from pbx.errors import DatabaseError
from pbx.events import BranchFailed, Events, TableChanged
from pbx.interfaces import (
    ICommands,
    IDatabase,
    IDispatcher,
    IEvents,
    IFlow,
    IFlows,
    IHealth,
    IPBXPlugin,
    IReloadable,
    IStartable,
    IStatistics,
    ITimers,
    IUserAgent,
)
from pbx.registry import Registry
from pbx.sip.address import Address
from pbx.sip.message import Request, Response, response_to
from pbx.sip.uri import URI
from pbx.storage.memory import memory_database
from pbx.timing import TimerWheel
from plugins.dispatcher import Dispatcher, DispatcherPlugin
from tests.fakes import FakeFlows, request

ResultT = TypeVar("ResultT")
FS1, FS2, FS3 = (f"sip:192.0.2.{number}:5060" for number in (112, 114, 116))
#: The cluster's values (reference deployment).
PROBING = {
    "ping_method": "INFO",
    "ping_interval": 5,
    "probing_threshold": 2,
    "probing_mode": 1,
}


@implementer(IUserAgent)
class FakeUserAgent:
    """Every destination answers with its status of ``answers``, 200 when it has none."""

    def __init__(self) -> None:
        self.answers: dict[str, int] = {}
        self.sent: list[str] = []

    async def send(
        self,
        request: Request,
        uri: URI | None = None,
        flow: IFlow | None = None,
        timeout: float | None = None,
    ) -> Response:
        self.sent.append(f"{request.method} {request.uri_text}")
        return response_to(request, self.answers.get(request.uri_text, 200))

    def asked(self) -> list[str]:
        sent, self.sent = self.sent, []
        return sent


class DispatcherTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.database = memory_database(self.clock)
        self.flows = FakeFlows()
        self.use(**PROBING)

    def use(self, **table: object) -> None:
        self.events = Events()
        self.agent = FakeUserAgent()
        registry = Registry()
        with registry.building():
            registry.provide(IEvents, self.events)
            registry.provide(IDatabase, self.database)
            registry.provide(IFlows, self.flows)
            registry.provide(ITimers, TimerWheel(self.clock))
            registry.provide(IUserAgent, self.agent)
            DispatcherPlugin().provide(registry, self.clock, table)
            part = IDispatcher(registry)
        assert isinstance(part, Dispatcher)
        self.dispatcher = part
        self.done(part.start())

    def done(self, awaitable: Awaitable[ResultT]) -> ResultT:
        async def wait() -> ResultT:
            return await awaitable

        outcome: list[ResultT | Failure] = []
        Deferred.fromCoroutine(wait()).addBoth(outcome.append)
        [result] = outcome
        if isinstance(result, Failure):
            result.raiseException()
            raise AssertionError
        return result

    def sql(self, text: str, *values: object) -> None:
        self.done(self.database.execute(text, values))
        self.events.publish(TableChanged("dispatcher"))

    def row(self, destination: str, setid: int = 1, **columns: object) -> None:
        given = {"setid": setid, "destination": destination, **columns}
        marks = ", ".join("?" * len(given))
        self.sql(f"INSERT INTO dispatcher ({', '.join(given)}) VALUES ({marks})", *given.values())

    def seed(self) -> None:
        """Spec 20 section 5."""
        self.row(FS1, weight="50", attrs="fs1")
        self.row(FS2, weight="50", attrs="fs2")

    def select(self, algorithm: int = 8, setid: int = 1, call_id: str = "c", **given: str) -> str:
        """The last digits of the destinations in order."""
        line = given.pop("line", "INVITE sip:1002@pbx.test")
        asked = request(line, given.pop("headers", ""), call_id=call_id, **given)  # type: ignore[arg-type]
        return " ".join(
            uri.host.rpartition(".")[2] for uri in self.dispatcher.select(asked, setid, algorithm)
        )

    def first(self, algorithm: int, **given: str) -> str:
        return self.select(algorithm, **given).split()[0]  # type: ignore[arg-type]

    def states(self) -> list[int]:
        rows = self.done(self.database.query("SELECT state FROM dispatcher ORDER BY id"))
        return [row[0] for row in rows]

    def pass_time(self, seconds: int = 5) -> None:
        self.clock.pump([0.5] * seconds * 2)

    def branch(self, hop: str, status: int = 503, **given: bool) -> None:
        uri = URI.parse(hop)
        self.events.publish(
            BranchFailed(
                request("INVITE sip:x@pbx.test"),
                Address("UDP", uri.host, uri.port or 5060),
                hop,
                status,
                given.get("answered", False),
                "",
                given.get("provisional", False),
            )
        )

    def call(self, name: str, **arguments: object) -> object:
        commands = {name: function for name, _, function in self.dispatcher.commands()}
        result = commands[name](**arguments)
        return self.done(result) if isinstance(result, Awaitable) else result

    def refused(self, name: str, **arguments: object) -> tuple[int, str]:
        with self.assertRaises(CommandFailed) as caught:
            self.call(name, **arguments)
        return caught.exception.code, caught.exception.message


class AlgorithmTests(DispatcherTestCase):
    def setUp(self) -> None:
        super().setUp()
        for destination in (FS1, FS2, FS3):
            self.row(destination)

    def test_found_by_its_name(self) -> None:
        self.assertIn("dispatcher", {plugin.name for plugin in getPlugins(IPBXPlugin, plugins)})
        for interface in (IStartable, IReloadable, ICommands, IStatistics, IHealth, IDispatcher):
            verifyObject(interface, self.dispatcher)

    def test_first(self) -> None:
        """8: by falling priority, then id; the others follow."""
        self.assertEqual(self.select(8), "112 114 116")
        self.sql("UPDATE dispatcher SET priority = 5 WHERE destination = ?", FS3)
        self.assertEqual(self.select(8), "116 112 114")

    def test_unknown_is_first(self) -> None:
        self.assertEqual(self.select(77), "112 114 116")

    def test_hashes(self) -> None:
        """0 Call-ID, 1 From, 2 To, 3 Request-URI, 5 user of credentials: same value, same place."""

        def value(algorithm: int, at: int) -> dict[str, str]:
            match algorithm:
                case 0:
                    return {"call_id": f"call-{at}"}
                case 1:
                    return {"from_": f"<sip:{at}@pbx.test>;tag=a"}
                case 2:
                    return {"to": f"<sip:{at}@pbx.test>"}
                case 3:
                    return {"line": f"INVITE sip:{at}@pbx.test"}
                case _:
                    return {"headers": f'Proxy-Authorization: Digest username="{at}", realm="r"'}

        for algorithm in (0, 1, 2, 3, 5):
            firsts = Counter[str]()
            for at in range(60):
                chosen = self.first(algorithm, **value(algorithm, at))
                self.assertEqual(self.first(algorithm, **value(algorithm, at)), chosen)
                firsts[chosen] += 1
            self.assertEqual(set(firsts), {"112", "114", "116"})
            self.assertGreater(min(firsts.values()), 8)

    def test_hash_by_weight(self) -> None:
        """Modulo the sum of weights."""
        self.sql("UPDATE dispatcher SET weight = '8' WHERE destination = ?", FS2)
        firsts = Counter(self.first(0, call_id=f"call-{at}") for at in range(500))
        self.assertGreater(firsts["114"], 340)
        self.assertGreater(min(firsts.values()), 20)

    def test_next_when_the_chosen_one_is_down(self) -> None:
        before = {at: self.select(0, call_id=f"{at}") for at in range(30)}
        self.assertEqual(set(before.values()), {"112 114 116", "114 116 112", "116 112 114"})
        self.call("ds_set_state", state="i", group="1", address=FS2)
        for at in before:
            self.assertNotIn("114", self.select(0, call_id=f"{at}"))

    def test_round_robin_by_weight(self) -> None:
        """4: evenly spread."""
        firsts = [self.first(4) for _ in range(6)]
        self.assertEqual(firsts, ["112", "114", "116"] * 2)
        self.sql("UPDATE dispatcher SET weight = '2' WHERE destination = ?", FS1)
        firsts = [self.first(4) for _ in range(8)]
        self.assertEqual(Counter(firsts), {"112": 4, "114": 2, "116": 2})
        self.assertNotIn("112 112 112", " ".join(firsts))

    def test_round_robin_without_credentials(self) -> None:
        """5 without a user is 4."""
        self.assertEqual({self.first(5) for _ in range(3)}, {"112", "114", "116"})

    def test_random(self) -> None:
        self.sql("UPDATE dispatcher SET weight = '0' WHERE destination = ?", FS1)
        firsts = Counter(self.first(6) for _ in range(300))
        self.assertEqual(set(firsts), {"114", "116"})
        self.assertGreater(min(firsts.values()), 80)

    def test_variable(self) -> None:
        """7: hash of hash_pvar; without it the first."""
        self.assertEqual(self.first(7), "112")
        self.use(hash_pvar="$hdr(X-Tenant)")
        firsts = {self.first(7, headers=f"X-Tenant: {at}") for at in range(30)}
        self.assertEqual(firsts, {"112", "114", "116"})
        self.assertEqual(self.first(7), "112")
        self.use(hash_pvar="$rU")
        self.assertEqual(
            {self.first(7, line=f"INVITE sip:{at}@pbx.test") for at in range(30)},
            {"112", "114", "116"},
        )
        self.assertRaises(ConfigError, self.use, hash_pvar="$xx")

    def test_lowest_and_highest_value(self) -> None:
        """9 and 10 compare what the policy says; without it the first."""
        values = {"192.0.2.112": 3.0, "192.0.2.114": 1.0, "192.0.2.116": 2.0}

        def value(uri: URI) -> float:
            return values[uri.host]

        asked = request("INVITE sip:1@pbx.test")
        lowest = self.dispatcher.select(asked, 1, 9, value)
        self.assertEqual([str(uri) for uri in lowest], [FS2, FS3, FS1])
        highest = self.dispatcher.select(asked, 1, 10, value)
        self.assertEqual([str(uri) for uri in highest], [FS1, FS3, FS2])
        self.assertEqual(self.first(9), "112")

    def test_targets(self) -> None:
        """The Request-URI stays; one destination after the other."""
        self.sql("UPDATE dispatcher SET socket = 'udp:192.0.2.1:5060' WHERE destination = ?", FS1)
        uri = URI.parse("sip:1002@pbx.test")
        targets = self.dispatcher.targets(request("INVITE sip:1002@pbx.test"), uri, 1, 8)
        self.assertEqual([str(target.next_hop) for target in targets], [FS1, FS2, FS3])
        self.assertEqual({target.uri for target in targets}, {uri})
        self.assertEqual(targets[0].socket, Address("UDP", "192.0.2.1", 5060))
        self.assertGreater(targets[0].q, targets[1].q)
        self.assertGreater(targets[1].q, targets[2].q)

    def test_other_sets(self) -> None:
        self.row("sip:192.0.2.120", 2)
        self.assertEqual(self.select(8, 2), "120")
        self.assertEqual(self.select(8, 3), "")
        self.assertEqual(self.dispatcher.statistics()["dispatcher:refused"], 1)

    def test_freeswitch_weight(self) -> None:
        """Without its heartbeats a weight of 100."""
        self.row("sip:192.0.2.120", 2, weight="fs://:secret@192.0.2.120:8021")
        self.row("sip:192.0.2.121", 2, weight="100")
        self.assertEqual(Counter(self.first_of(2) for _ in range(10)), {"120": 5, "121": 5})
        self.assertNotIn("secret", str(self.call("ds_list", full="1")))

    def first_of(self, setid: int) -> str:
        return self.select(4, setid).split()[0]

    def test_bad_rows_are_left_out(self) -> None:
        self.row("nonsense@@", 4)
        self.row("sip:192.0.2.1", 4, weight="heavy")
        self.row("sip:192.0.2.1", 4, state=9)
        self.row("sip:192.0.2.1", 4, socket="here")
        self.assertEqual(self.select(8, 4), "")
        self.assertEqual(self.dispatcher.statistics()["dispatcher:destinations"], 3)

    def test_is_in_list(self) -> None:
        self.row("sip:192.0.2.120", 2)
        check = self.dispatcher.is_in_list
        self.assertTrue(check(Address("UDP", "192.0.2.112", 5060), 1))
        self.assertFalse(check(Address("UDP", "192.0.2.112", 5080), 1))
        self.assertFalse(check(Address("UDP", "192.0.2.120", 5080), 1))
        self.assertTrue(check(Address("UDP", "192.0.2.120", 5080), 2))
        self.assertTrue(check(Address("UDP", "192.0.2.120", 5080)))
        self.assertTrue(check(Address("TCP", "192.0.2.112", 40000), 1, 5060))


class StateTests(DispatcherTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.seed()

    def test_probes_everybody_but_inactive(self) -> None:
        """Mode 1 (O7)."""
        self.call("ds_set_state", state="i", group="1", address=FS2)
        self.pass_time(5)
        self.assertEqual(self.agent.asked(), [f"INFO {FS1}"])

    def test_threshold(self) -> None:
        """Two failures in a row; a 200 makes it active again."""
        self.agent.answers[FS1] = 501
        self.pass_time(5)
        self.assertEqual(self.select(), "112 114")
        self.agent.answers.clear()
        self.pass_time(5)
        self.agent.answers[FS1] = 408
        self.pass_time(5)
        self.assertEqual(self.select(), "112 114")
        self.pass_time(5)
        self.assertEqual(self.select(), "114")
        self.assertEqual(self.states(), [2, 0])
        self.agent.answers.clear()
        self.pass_time(5)
        self.assertEqual(self.select(), "112 114")
        self.assertEqual(self.states(), [0, 0])

    def test_reply_codes(self) -> None:
        self.use(**PROBING, options_reply_codes=[501, 403])
        self.agent.answers[FS1] = 501
        self.pass_time(30)
        self.assertEqual(self.states(), [0, 0])

    def test_mode_0(self) -> None:
        """Only those that failed, and rows that say so."""
        self.use(ping_interval=5)
        self.pass_time(5)
        self.assertEqual(self.agent.asked(), [])
        self.sql("UPDATE dispatcher SET probe_mode = 1 WHERE destination = ?", FS2)
        self.call("ds_set_state", state="p", group="1", address=FS1)
        self.pass_time(5)
        self.assertEqual(self.agent.asked(), [f"OPTIONS {FS1}", f"OPTIONS {FS2}"])
        self.assertEqual(self.select(), "112 114")

    def test_failures_that_the_policy_sees(self) -> None:
        self.dispatcher.failed(URI.parse(FS1), 1, "500")
        self.assertEqual(self.select(), "112 114")
        self.dispatcher.failed(URI.parse(FS1), 1, "500")
        self.assertEqual(self.select(), "114")

    def test_failures_that_the_core_sees(self) -> None:
        """Silence and 503; not what rang, and not one bad number."""
        for _ in range(3):
            self.branch(FS1, 408, provisional=True)
            self.branch(FS1, 500, answered=True)
            self.branch("sip:192.0.2.112:5080", 503)
        self.assertEqual(self.select(), "112 114")
        self.branch(FS1, 408)
        self.branch(FS1, 503, answered=True)
        self.assertEqual(self.select(), "114")

    def test_without_probes_nobody_is_given_up(self) -> None:
        self.use()
        for _ in range(5):
            self.branch(FS1)
        self.assertEqual(self.select(), "112 114")

    def test_state_survives_a_reload(self) -> None:
        self.use(**PROBING, persistent_state=False)
        for _ in range(2):
            self.branch(FS1)
        self.assertEqual(self.states(), [0, 0])
        self.assertEqual(self.call("ds_reload"), "OK")
        self.assertEqual(self.select(), "114")
        self.assertEqual(self.call("ds_reload", inherit_state="n"), "OK")
        self.assertEqual(self.select(), "112 114")

    def test_state_of_the_row(self) -> None:
        """What somebody else writes counts."""
        self.sql("UPDATE dispatcher SET state = 1 WHERE destination = ?", FS1)
        self.assertEqual(self.select(), "114")

    def test_reload_is_all_or_nothing(self) -> None:
        self.done(self.database.execute("ALTER TABLE dispatcher RENAME TO elsewhere"))
        self.assertEqual(self.refused("ds_reload"), (500, "Failed to reload"))
        self.events.publish(TableChanged("dispatcher"))
        self.assertEqual(len(self.flushLoggedErrors(DatabaseError)), 1)
        self.assertEqual(self.select(), "112 114")

    def test_health(self) -> None:
        self.assertEqual(self.dispatcher.health(), ("ok", ""))
        for destination in (FS1, FS2):
            self.call("ds_set_state", state="i", group="1", address=destination)
        self.assertEqual(
            self.dispatcher.health(), ("degraded", "no destination is active in set 1")
        )

    def test_stops(self) -> None:
        self.done(self.dispatcher.stop())
        self.pass_time(60)
        self.assertEqual(self.agent.asked(), [])


class CommandTests(DispatcherTestCase):
    def test_list(self) -> None:
        self.row(FS1, weight="50", attrs="fs1", socket="udp:192.0.2.1:5060", description="one")
        self.row(FS2, priority=3, state=2)
        self.select()
        first: dict[str, object] = {
            "URI": FS1,
            "state": "Active",
            "first_hit_counter": 1,
            "socket": "udp:192.0.2.1:5060",
            "attr": "fs1",
        }
        second: dict[str, object] = {"URI": FS2, "state": "Probing", "first_hit_counter": 0}
        one = {"resolved_addresses": ["192.0.2.112:5060"]}
        two = {"resolved_addresses": ["192.0.2.114:5060"]}

        def shown(*destinations: dict[str, object]) -> dict[str, object]:
            sets = [{"id": 1, "Destinations": list(destinations)}]
            return {"PARTITIONS": [{"name": "default", "SETS": sets}]}

        self.assertEqual(self.call("ds_list"), shown({**second, **two}, {**first, **one}))
        self.assertEqual(self.call("ds_list", partition="default"), self.call("ds_list"))
        self.assertEqual(
            self.call("ds_list", full="1"),
            shown(
                {**second, "weight": 1, "priority": 3, **two},
                {**first, "weight": 50, "priority": 0, "description": "one", **one},
            ),
        )
        self.assertEqual(self.refused("ds_list", partition="x")[0], 500)

    def test_set_state(self) -> None:
        self.seed()
        for state, number in (("i", 1), ("p", 2), ("a", 0)):
            answer = self.call("ds_set_state", state=state, group="default:1", address=FS1)
            self.assertEqual(answer, "OK")
            self.assertEqual(self.states(), [number, 0])

        def refused(state: str, group: str, address: str) -> tuple[int, str]:
            return self.refused("ds_set_state", state=state, group=group, address=address)

        self.assertEqual(refused("x", "1", FS1), (500, "Bad state value"))
        self.assertEqual(refused("a", "other:1", FS1), (500, "group not found"))
        self.assertEqual(refused("a", "one", FS1), (500, "bad group value"))
        self.assertEqual(refused("a", "1", "@@"), (500, "address not found"))
        self.assertEqual(refused("a", "1", FS3), (404, "destination not found"))
        self.assertEqual(refused("a", "9", FS1), (404, "destination not found"))

    def test_push_script_attrs(self) -> None:
        self.seed()

        def push(ip: str, port: object, group: object) -> object:
            return self.call("ds_push_script_attrs", attrs="x=1", ip=ip, port=port, set=group)

        self.assertEqual(push("192.0.2.112", 5060, "1"), "OK")
        self.assertEqual(self.dispatcher.attributes(URI.parse(FS1), 1), ("fs1", "x=1"))
        self.assertEqual(self.dispatcher.attributes(URI.parse(FS2), 1), ("fs2", ""))
        self.assertEqual(self.dispatcher.attributes(URI.parse(FS3), 1), ("", ""))
        self.assertIn("'script_attr': 'x=1'", str(self.call("ds_list")))
        self.events.publish(TableChanged("dispatcher"))
        self.assertEqual(self.dispatcher.attributes(URI.parse(FS1), 1), ("fs1", "x=1"))
        for arguments in (("192.0.2.9", 5060, 1), ("192.0.2.112", "x", 1), ("192.0.2.112", 1, "x")):
            self.assertRaises(CommandFailed, push, *arguments)

    def test_reload(self) -> None:
        self.assertEqual(self.call("ds_reload", partition="default", inherit_state="y"), "OK")
        self.assertEqual(self.refused("ds_reload", partition="x")[0], 500)
        self.assertEqual(self.refused("ds_reload", inherit_state="maybe")[0], 400)

    def test_bad_settings(self) -> None:
        for table in ({"ping_interval": -1}, {"probing_threshold": 0}, {"probing_mode": 2}):
            self.assertRaises(ConfigError, self.use, **table)
