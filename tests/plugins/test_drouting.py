"""Dynamic routing: spec 30 section 16, spec 20 section 6, spec 40 (dr_*), rules R7 and R18, O13."""

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
    IEvents,
    IFlow,
    IFlows,
    IGateways,
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
from plugins.drouting import DroutingPlugin, DynamicRouting
from plugins.drouting_partitions import DEFAULT, PartitionedRouting
from plugins.drouting_table import Entry, ordered, parse_groups, parse_list
from tests.fakes import LOCAL, FakeFlows, request

ResultT = TypeVar("ResultT")
CALLER = URI.parse("sip:1001@pbx.test")


@implementer(IUserAgent)
class FakeUserAgent:
    """Every gateway answers with its status of ``answers``, 200 when it has none."""

    def __init__(self) -> None:
        self.answers: dict[str, int] = {}
        self.sent: list[str] = []
        self.flows: list[IFlow | None] = []

    async def send(
        self,
        request: Request,
        uri: URI | None = None,
        flow: IFlow | None = None,
        timeout: float | None = None,
    ) -> Response:
        self.sent.append(f"{request.method} {request.uri_text}")
        self.flows.append(flow)
        return response_to(request, self.answers.get(request.uri_text, 200))

    def asked(self) -> list[str]:
        sent, self.sent = self.sent, []
        return sent


class RoutingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_790_000_000)
        self.database = memory_database(self.clock)
        self.flows = FakeFlows()
        self.use()

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
            DroutingPlugin().provide(registry, self.clock, table)
            part = IGateways(registry)
        if isinstance(part, PartitionedRouting):
            self.partitions = part
            part = part.partitions[DEFAULT]
            self.routing = part
            self.done(self.partitions.start())
            return
        assert isinstance(part, DynamicRouting)
        self.routing = part
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

    def insert(self, table: str, **columns: object) -> None:
        marks = ", ".join("?" * len(columns))
        sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        self.done(self.database.execute(sql, tuple(columns.values())))
        self.events.publish(TableChanged(table))

    def gateway(self, id: str, address: str, **columns: object) -> None:
        self.insert("dr_gateways", gwid=id, address=address, **columns)

    def rule(self, prefix: str, gwlist: str, **columns: object) -> None:
        given = {"groupid": "0", **columns}
        self.insert("dr_rules", prefix=prefix, gwlist=gwlist, **given)

    def carrier(self, id: str, gwlist: str, **columns: object) -> None:
        self.insert("dr_carriers", carrierid=id, gwlist=gwlist, **columns)

    def route(self, number: str, group: int | None = None, caller: URI = CALLER) -> list[str]:
        uri = number if ":" in number else f"sip:{number}@pbx.test"
        return [str(target.uri) for target in self.routing.route(URI.parse(uri), caller, group)]

    def three(self, **columns: object) -> None:
        for number in (1, 2, 3):
            self.gateway(f"gw{number}", f"192.0.2.{number}", **columns)

    def states(self, table: str = "dr_gateways") -> list[int]:
        rows = self.done(self.database.query(f"SELECT state FROM {table} ORDER BY id"))
        return [row[0] for row in rows]

    def failed(
        self,
        uri: str,
        status: int = 503,
        hop: Address | None = None,
        *,
        answered: bool = False,
        provisional: bool = False,
    ) -> None:
        host = URI.parse(uri).host
        hop = hop or Address("UDP", host, 5060)
        self.events.publish(
            BranchFailed(
                request("INVITE sip:x@pbx.test"), hop, uri, status, answered, "", provisional
            )
        )

    def call(self, name: str, **arguments: object) -> object:
        commands = {name: function for name, _, function in self.routing.commands()}
        result = commands[name](**arguments)
        return self.done(result) if isinstance(result, Awaitable) else result

    def refused(self, name: str, **arguments: object) -> tuple[int, str]:
        with self.assertRaises(CommandFailed) as caught:
            self.call(name, **arguments)
        return caught.exception.code, caught.exception.message


class RuleTests(RoutingTestCase):
    def test_found_by_its_name(self) -> None:
        self.assertIn("drouting", {plugin.name for plugin in getPlugins(IPBXPlugin, plugins)})
        for interface in (IStartable, IReloadable, ICommands, IStatistics, IHealth, IGateways):
            verifyObject(interface, self.routing)

    def test_longest_prefix(self) -> None:
        self.three()
        self.rule("", "gw1")
        self.rule("49", "gw2")
        self.rule("4930", "gw3")
        self.assertEqual(self.route("493012"), ["sip:493012@192.0.2.3"])
        self.assertEqual(self.route("493"), ["sip:493@192.0.2.2"])
        self.assertEqual(self.route("43"), ["sip:43@192.0.2.1"])

    def test_leading_plus_is_no_part_of_the_number(self) -> None:
        """R18 and O13: also not of the prefix in a row."""
        self.three()
        self.rule("49", "gw1")
        self.rule("+43", "gw2")
        self.assertEqual(self.route("+4930"), ["sip:4930@192.0.2.1"])
        self.assertEqual(self.route("+4310"), ["sip:4310@192.0.2.2"])

    def test_plus_as_the_reference_has_it(self) -> None:
        """Spec 30: only prefix-less rules match; the + goes out."""
        self.use(plus="keep")
        self.three()
        self.rule("", "gw1")
        self.rule("49", "gw2")
        self.assertEqual(self.route("+4930"), ["sip:+4930@192.0.2.1"])
        self.use(plus="keep", extra_prefix_chars="+")
        self.rule("+49", "gw3")
        self.assertEqual(self.route("+4930"), ["sip:+4930@192.0.2.3"])

    def test_digits_only(self) -> None:
        """The prefix ends at the first character that is no digit."""
        self.three()
        self.rule("1", "gw1")
        self.rule("12a", "gw2")
        self.assertEqual(self.route("12a"), ["sip:12a@192.0.2.1"])
        self.use(extra_prefix_chars="a")
        self.assertEqual(self.route("12a"), ["sip:12a@192.0.2.2"])

    def test_tel(self) -> None:
        """RFC 3966: separators are no part of the number."""
        self.three()
        self.rule("1202", "gw1")
        self.assertEqual(self.route("tel:+1-202-555"), ["sip:1202555@192.0.2.1"])

    def test_groups(self) -> None:
        self.three()
        self.rule("1", "gw1", groupid="0,3")
        self.rule("1", "gw2", groupid="7; 8")
        self.assertEqual(self.route("1", 3), ["sip:1@192.0.2.1"])
        self.assertEqual(self.route("1", 8), ["sip:1@192.0.2.2"])
        self.assertEqual(self.route("1", 9), [])

    def test_group_of_the_caller(self) -> None:
        self.three()
        self.rule("1", "gw1")
        self.rule("1", "gw2", groupid="5")
        self.rule("1", "gw3", groupid="6")
        self.insert("dr_groups", username="1002", domain="pbx.test", groupid=5)
        self.insert("dr_groups", username="1003", domain="", groupid=6)
        self.assertEqual(self.route("1"), ["sip:1@192.0.2.1"])
        self.assertEqual(
            self.route("1", caller=URI.parse("sip:1002@PBX.test")), ["sip:1@192.0.2.2"]
        )
        self.assertEqual(
            self.route("1", caller=URI.parse("sip:1002@other.test")), ["sip:1@192.0.2.1"]
        )
        self.assertEqual(self.route("1", caller=URI.parse("sip:1003@x.test")), ["sip:1@192.0.2.3"])
        self.use(use_domain=False, default_group=6)
        self.assertEqual(
            self.route("1", caller=URI.parse("sip:1002@other.test")), ["sip:1@192.0.2.2"]
        )
        self.assertEqual(self.route("1"), ["sip:1@192.0.2.3"])

    def test_priority(self) -> None:
        """Higher wins, then the smaller id."""
        self.three()
        self.rule("1", "gw1", priority=1)
        self.rule("1", "gw2", priority=5)
        self.rule("1", "gw3", priority=5)
        self.assertEqual(self.route("1"), ["sip:1@192.0.2.2"])

    def test_time_must_hold(self) -> None:
        """Else the next priority, else a shorter prefix."""
        self.three()
        self.rule("12", "gw1", priority=9, timerec="UTC|20200101T000000|20200102T000000")
        self.assertEqual(self.route("12"), [])
        self.rule("1", "gw2")
        self.assertEqual(self.route("12"), ["sip:12@192.0.2.2"])
        self.rule("12", "gw3")
        self.assertEqual(self.route("12"), ["sip:12@192.0.2.3"])

    def test_bad_rows_are_left_out(self) -> None:
        self.three()
        self.gateway("bad", "@@")
        self.gateway("bad2", "192.0.2.9", socket="nowhere")
        self.rule("x1", "gw1")
        self.rule("1", "gw1=heavy")
        self.rule("1", "gw1", timerec="never")
        self.rule("1", "gw1", groupid="a")
        self.assertEqual(self.routing.rules, 0)
        self.rule("1", "bad,none,#none,gw2")
        self.assertEqual(self.route("1"), ["sip:1@192.0.2.2"])
        self.assertEqual(len(self.routing.gateways), 3)

    def test_more_rules_than_one_page(self) -> None:
        self.three()
        rows = [(str(number), "0", "gw1") for number in range(1000, 3500)]
        self.done(self.database.write("dr_rules", (), ("prefix", "groupid", "gwlist"), rows))
        self.done(self.routing.reload())
        self.assertEqual(self.routing.rules, 2500)
        self.assertEqual(self.route("34995"), ["sip:34995@192.0.2.1"])
        self.assertEqual(self.route("3500"), [])


class GatewayTests(RoutingTestCase):
    def test_strip_and_prefix(self) -> None:
        self.gateway("a", "192.0.2.1:5070", strip=2, pri_prefix="+0")
        self.rule("", "a")
        self.assertEqual(self.route("+4930"), ["sip:+030@192.0.2.1:5070"])

    def test_nothing_left_of_the_number(self) -> None:
        self.gateway("a", "192.0.2.1", strip=4)
        self.gateway("b", "192.0.2.2")
        self.rule("", "a,b")
        self.assertEqual(self.route("4930"), ["sip:4930@192.0.2.2"])

    def test_address_is_a_uri(self) -> None:
        self.gateway("a", "sip:gw.test:5070;transport=tcp", socket="tcp:192.0.2.1:5060")
        self.rule("", "a")
        [target] = self.routing.route(URI.parse("sip:1@pbx.test"), CALLER)
        self.assertEqual(str(target.uri), "sip:1@gw.test:5070;transport=tcp")
        self.assertEqual(target.socket, Address("TCP", "192.0.2.1", 5060))

    def test_falling_q(self) -> None:
        """One after the other."""
        self.three()
        self.rule("", "gw3,gw1,gw2,gw3")
        targets = self.routing.route(URI.parse("sip:1@pbx.test"), CALLER)
        self.assertEqual([target.uri.host[-1] for target in targets], ["3", "1", "2"])
        q = [target.q for target in targets]
        self.assertEqual(q, sorted(set(q), reverse=True))

    def test_weights(self) -> None:
        """Drawn one by one; a weight of 0 is last."""
        entries = parse_list("a=60,b=30,c=10,d=0")
        first: Counter[str] = Counter()
        for at in range(100):
            draws = iter((at, 0, 0))
            order = ordered(entries, True, lambda total, draws=draws: next(draws))  # type: ignore[misc]
            first[order[0].name] += 1
            self.assertEqual(order[-1].name, "d")
        self.assertEqual(first, {"a": 60, "b": 30, "c": 10})
        self.assertEqual(ordered(entries, False, lambda total: 0), entries)

    def test_by_weight_of_a_rule(self) -> None:
        self.three()
        self.rule("", "gw1=0,gw2=1", sort_alg="W")
        self.assertEqual(self.route("1"), ["sip:1@192.0.2.2", "sip:1@192.0.2.1"])

    def test_lists(self) -> None:
        self.assertEqual(
            parse_list("gw1=10 , #c;gw2"),
            (Entry("gw1", False, 10), Entry("c", True, 1), Entry("gw2", False, 1)),
        )
        self.assertEqual(parse_list(None), ())
        self.assertEqual(parse_groups("0,3;3"), (0, 3))

    def test_carriers(self) -> None:
        self.three()
        self.carrier("all", "gw2,gw3")
        self.rule("", "gw1,#all")
        self.assertEqual(self.route("1"), ["sip:1@192.0.2.1", "sip:1@192.0.2.2", "sip:1@192.0.2.3"])

    def test_flags_of_carriers(self) -> None:
        """3.x: 1 first only (the first that is up), 2 off."""
        self.three()
        self.carrier("one", "gw2,gw3", flags=1)
        self.carrier("off", "gw1", flags=2)
        self.carrier("gone", "gw1", state=1)
        self.rule("", "#off,#gone,#one")
        self.assertEqual(self.route("1"), ["sip:1@192.0.2.2"])
        self.call("dr_gw_status", gw_id="gw2", status=0)
        self.assertEqual(self.route("1"), ["sip:1@192.0.2.3"])

    def test_flags_of_old_carriers(self) -> None:
        """2.4: 1 by weight, 2 first only, 4 off; the version row says so."""
        self.done(
            self.database.execute(
                "UPDATE version SET table_version = 2 WHERE table_name = 'dr_carriers'"
            )
        )
        self.three()
        self.carrier("weight", "gw1=0,gw2=1", flags=1)
        self.carrier("one", "gw2,gw3", flags=2)
        self.carrier("off", "gw1", flags=4)
        self.rule("1", "#weight")
        self.rule("2", "#one,#off")
        self.assertEqual(self.route("1"), ["sip:1@192.0.2.2", "sip:1@192.0.2.1"])
        self.assertEqual(self.route("2"), ["sip:2@192.0.2.2"])

    def test_is_gateway(self) -> None:
        """R7: address and port; a row without port matches any."""
        self.gateway("a", "192.0.2.1:5070", type=1)
        self.gateway("b", "192.0.2.2", type=2, state=1)
        check = self.routing.is_gateway
        self.assertTrue(check(Address("UDP", "192.0.2.1", 5070)))
        self.assertFalse(check(Address("UDP", "192.0.2.1", 5060)))
        self.assertTrue(check(Address("UDP", "192.0.2.2", 9)))
        self.assertFalse(check(Address("UDP", "192.0.2.3", 5060)))
        self.assertTrue(check(Address("UDP", "192.0.2.2", 9), kind=2))
        self.assertFalse(check(Address("UDP", "192.0.2.2", 9), kind=1))

    def test_is_gateway_over_tcp(self) -> None:
        """The port in Via counts, for connections come from any."""
        self.gateway("a", "sip:192.0.2.1:5070;transport=tcp")
        peer = Address("TCP", "192.0.2.1", 44444)
        self.assertTrue(self.routing.is_gateway(peer, 5070))
        self.assertFalse(self.routing.is_gateway(peer))

    def test_is_gateway_by_name(self) -> None:
        """All addresses of the name, looked up again now and then."""
        self.flows.names["gw.test"] = [Address("UDP", "192.0.2.7", 5060)]
        self.gateway("a", "gw.test")
        self.assertTrue(self.routing.is_gateway(Address("UDP", "192.0.2.7", 1)))
        self.flows.names["gw.test"] = [Address("UDP", "192.0.2.8", 5060)]
        self.clock.pump([1.0] * 61)
        self.assertFalse(self.routing.is_gateway(Address("UDP", "192.0.2.7", 1)))
        self.assertTrue(self.routing.is_gateway(Address("UDP", "192.0.2.8", 1)))


class StateTests(RoutingTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.three(probe_mode=1)
        self.rule("", "gw1,gw2,gw3")

    def up(self) -> str:
        return "".join(uri[-1] for uri in self.route("1"))

    def pass_time(self, seconds: int = 30) -> None:
        self.clock.pump([1.0] * seconds)

    def test_failure_disables_until_a_probe_succeeds(self) -> None:
        self.agent.answers["sip:192.0.2.1"] = 503
        self.failed("sip:1@192.0.2.1")
        self.assertEqual(self.up(), "23")
        self.assertEqual(self.states(), [2, 0, 0])
        self.pass_time()
        self.assertEqual(self.agent.asked(), ["OPTIONS sip:192.0.2.1"])
        self.assertEqual(self.up(), "23")
        self.agent.answers.clear()
        self.pass_time()
        self.assertEqual(self.up(), "123")
        self.assertEqual(self.states(), [0, 0, 0])
        self.agent.asked()
        self.pass_time()
        self.assertEqual(self.agent.asked(), [])

    def test_what_is_no_failure_of_the_gateway(self) -> None:
        """One number (500), one long ringing (408 after 180), another port."""
        self.failed("sip:1@192.0.2.1", 500, answered=True)
        self.failed("sip:1@192.0.2.1", 408, provisional=True)
        self.failed("sip:1@192.0.2.9", 408)
        self.assertEqual(self.up(), "123")

    def test_other_codes(self) -> None:
        self.use(disable_codes=[500])
        self.failed("sip:1@192.0.2.1", 500, answered=True)
        self.failed("sip:1@192.0.2.2", 503)
        self.assertEqual(self.up(), "23")

    def test_last_address_decides(self) -> None:
        first, last = (Address("UDP", f"192.0.2.7{at}", 5060) for at in (1, 2))
        self.flows.names["gw.test"] = [first, last]
        self.gateway("many", "gw.test", probe_mode=1)
        self.failed("sip:1@gw.test", hop=first)
        self.assertEqual(self.states()[-1], 0)
        self.failed("sip:1@gw.test", hop=last)
        self.assertEqual(self.states()[-1], 2)

    def test_never_sent(self) -> None:
        """No address was found: the URI tells the gateway."""
        self.gateway("named", "gw.test", probe_mode=1)
        event = BranchFailed(
            request("INVITE sip:x@pbx.test"), None, "sip:1@gw.test", 503, False, ""
        )
        self.events.publish(event)
        self.assertEqual(self.states()[-1], 2)

    def test_never_probed_is_never_disabled(self) -> None:
        self.gateway("gw4", "192.0.2.4", probe_mode=0)
        self.failed("sip:1@192.0.2.4")
        self.assertEqual(self.states(), [0, 0, 0, 0])
        self.use(probing_interval=0)
        self.failed("sip:1@192.0.2.1")
        self.assertEqual(self.up(), "123")

    def test_probed_always(self) -> None:
        self.gateway("gw4", "192.0.2.4", probe_mode=2)
        self.agent.answers["sip:192.0.2.4"] = 404
        self.pass_time()
        self.assertEqual(self.agent.asked(), ["OPTIONS sip:192.0.2.4"])
        self.assertEqual(self.states()[-1], 2)
        self.use(probing_reply_codes=[404], probing_method="INFO")
        self.agent.answers["sip:192.0.2.4"] = 404
        self.pass_time()
        self.assertEqual(self.agent.asked(), ["INFO sip:192.0.2.4"])
        self.assertEqual(self.states()[-1], 0)

    def test_probe_leaves_by_the_socket_of_the_row(self) -> None:
        self.gateway("gw4", "192.0.2.4", probe_mode=2, socket="udp:192.0.2.1:5060")
        self.pass_time()
        flow = self.agent.flows[0]
        assert flow is not None
        self.assertEqual((flow.peer.host, flow.local), ("192.0.2.4", LOCAL))

    def test_operator_wins_over_probes(self) -> None:
        self.gateway("gw4", "192.0.2.4", probe_mode=2)
        self.call("dr_gw_status", gw_id="gw4", status="0")
        self.pass_time()
        self.assertEqual(self.agent.asked(), [])
        self.failed("sip:1@192.0.2.4")
        self.assertEqual(self.states()[-1], 1)

    def test_states_of_the_rows(self) -> None:
        self.done(self.database.execute("UPDATE dr_gateways SET state = 1 WHERE gwid = 'gw2'"))
        self.events.publish(TableChanged("dr_gateways"))
        self.assertEqual(self.up(), "13")

    def test_state_survives_a_reload(self) -> None:
        self.use(persistent_state=False)
        self.failed("sip:1@192.0.2.1")
        self.assertEqual(self.states(), [0, 0, 0])
        self.assertEqual(self.call("dr_reload"), "OK")
        self.assertEqual(self.up(), "23")
        self.assertEqual(self.call("dr_reload", inherit_state="n"), "OK")
        self.assertEqual(self.up(), "123")

    def test_state_of_another_address_is_its_own(self) -> None:
        self.use(persistent_state=False)
        self.failed("sip:1@192.0.2.1")
        self.done(
            self.database.execute("UPDATE dr_gateways SET address = '192.0.2.9' WHERE gwid = 'gw1'")
        )
        self.events.publish(TableChanged("dr_gateways"))
        self.assertEqual(self.up(), "923")

    def test_database_that_is_away(self) -> None:
        """The state is written when it is back."""
        self.done(self.database.execute("ALTER TABLE dr_gateways RENAME TO elsewhere"))
        self.failed("sip:1@192.0.2.1")
        self.assertEqual(self.up(), "23")
        self.done(self.database.execute("ALTER TABLE elsewhere RENAME TO dr_gateways"))
        self.assertEqual(self.states(), [0, 0, 0])
        self.pass_time(6)
        self.assertEqual(self.states(), [2, 0, 0])

    def test_other_rules_when_no_gateway_is_up(self) -> None:
        """Only when told."""
        self.rule("12", "gw1")
        self.failed("sip:1@192.0.2.1")
        self.assertEqual(self.route("12"), [])
        self.use(rule_fallback=True)
        self.assertEqual(self.route("12"), ["sip:12@192.0.2.2", "sip:12@192.0.2.3"])

    def test_reload_is_all_or_nothing(self) -> None:
        self.done(self.database.execute("DELETE FROM dr_gateways"))
        self.done(self.database.execute("ALTER TABLE dr_rules RENAME TO elsewhere"))
        self.assertRaises(DatabaseError, self.done, self.routing.reload())
        self.assertEqual(self.up(), "123")
        self.events.publish(TableChanged("dr_rules"))
        self.assertEqual(len(self.flushLoggedErrors(DatabaseError)), 1)
        self.assertEqual(self.up(), "123")

    def test_health_and_statistics(self) -> None:
        self.assertEqual(self.routing.health(), ("ok", ""))
        self.up()
        self.route("1", 9)
        for number in (1, 2, 3):
            self.failed(f"sip:1@192.0.2.{number}")
        self.assertEqual(self.routing.health(), ("degraded", "no gateway is up"))
        self.assertEqual(
            self.routing.statistics(),
            {
                "drouting:gateways": 3,
                "drouting:enabled_gateways": 0,
                "drouting:rules": 1,
                "drouting:routed": 1,
                "drouting:refused": 1,
                "drouting:probes": 0,
            },
        )

    def test_stops(self) -> None:
        self.done(self.routing.stop())
        self.pass_time(120)
        self.assertEqual(self.agent.asked(), [])


class CommandTests(RoutingTestCase):
    def test_gw_status(self) -> None:
        self.gateway("a", "192.0.2.1:5070", attrs="x")
        self.gateway("b", "192.0.2.2", state=1)
        self.gateway("c", "192.0.2.3", state=2, probe_mode=1)
        self.gateway("d", "192.0.2.4", state=2)
        self.assertEqual(
            self.call("dr_gw_status"),
            {
                "Gateways": [
                    {"ID": "a", "IP": "192.0.2.1:5070", "ATTRS": "x", "State": "Active"},
                    {"ID": "b", "IP": "192.0.2.2", "State": "Disabled MI"},
                    {"ID": "c", "IP": "192.0.2.3", "State": "Probing"},
                    {"ID": "d", "IP": "192.0.2.4", "State": "Inactive"},
                ]
            },
        )
        self.assertEqual(self.call("dr_gw_status", gw_id="b"), {"State": "Disabled MI"})
        self.assertEqual(self.call("dr_gw_status", gw_id="b", status=1), "OK")
        self.assertEqual(self.call("dr_gw_status", gw_id="b"), {"State": "Active"})
        self.assertEqual(self.refused("dr_gw_status", gw_id="z")[0], 404)
        self.assertEqual(self.refused("dr_gw_status", gw_id="a", status="2")[0], 400)
        self.assertEqual(self.states(), [0, 0, 2, 2])

    def test_carrier_status(self) -> None:
        self.gateway("a", "192.0.2.1")
        self.carrier("c", "a")
        self.rule("", "#c")
        self.assertEqual(
            self.call("dr_carrier_status"), {"Carriers": [{"ID": "c", "Enabled": "yes"}]}
        )
        self.assertEqual(self.call("dr_carrier_status", carrier_id="c", status="0"), "OK")
        self.assertEqual(self.call("dr_carrier_status", carrier_id="c"), {"Enabled": "no"})
        self.assertEqual(self.route("1"), [])
        self.assertEqual(self.states("dr_carriers"), [1])
        self.assertEqual(self.call("dr_carrier_status", carrier_id="c", status="1"), "OK")
        self.assertEqual(self.route("1"), ["sip:1@192.0.2.1"])
        self.assertEqual(self.refused("dr_carrier_status", carrier_id="z")[0], 404)

    def test_number_routing(self) -> None:
        self.rule("49", "gw1=5,#c", groupid="0,2", attrs="cheap")
        self.rule("4", "gw1", groupid="2")
        shown = {
            "Matched Prefix": "49",
            "GW List": [{"GW": "gw1"}, {"CARRIER": "c"}],
            "ATTRS": "cheap",
        }
        self.assertEqual(self.call("dr_number_routing", number="+4930"), shown)
        self.assertEqual(
            self.call("dr_number_routing", group_id="2", number=41),
            {"Matched Prefix": "4", "GW List": [{"GW": "gw1"}]},
        )
        self.assertEqual(self.refused("dr_number_routing", number="1")[0], 404)
        self.assertEqual(self.refused("dr_number_routing", number="1", group_id="x")[0], 400)

    def test_reload(self) -> None:
        self.assertEqual(self.call("dr_reload", partition_name="Default"), "OK")
        self.assertEqual(self.refused("dr_reload", partition_name="x")[0], 404)
        self.assertEqual(self.refused("dr_reload", inherit_state="maybe")[0], 400)
        status = self.call("dr_reload_status")
        assert isinstance(status, dict)
        self.assertRegex(status["Date"], r"^\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d 20\d\d$")
        self.done(self.database.execute("ALTER TABLE dr_rules RENAME TO elsewhere"))
        self.assertEqual(self.refused("dr_reload"), (500, "Failed to reload"))

    def test_enable_probing(self) -> None:
        self.gateway("a", "192.0.2.1", probe_mode=2)
        self.assertEqual(self.call("dr_enable_probing"), {"Status": 1})
        self.assertEqual(self.call("dr_enable_probing", status="0"), "OK")
        self.clock.pump([1.0] * 60)
        self.assertEqual(self.agent.asked(), [])
        self.assertEqual(self.call("dr_enable_probing", status=1), "OK")
        self.clock.pump([1.0] * 30)
        self.assertEqual(self.agent.asked(), ["OPTIONS sip:192.0.2.1"])

    def test_bad_settings(self) -> None:
        self.assertRaises(ConfigError, self.use, probing_interval=-1)
        self.assertRaises(ConfigError, self.use, plus="maybe")


class PartitionTests(RoutingTestCase):
    """``dr_partitions``: the same once more under other table names."""

    def setUp(self) -> None:
        super().setUp()
        self.done(self.routing.stop())
        for name in ("dr_gateways", "dr_rules"):
            copy = f"CREATE TABLE {name}_b AS SELECT * FROM {name} WHERE 1 = 0"
            self.done(self.database.execute(copy))
        self.partition("other", drd_table="dr_gateways_b", drr_table="dr_rules_b")
        self.gateway("gw1", "192.0.2.1")
        self.rule("49", "gw1")
        self.insert(
            "dr_gateways_b",
            id=1,
            gwid="gw1",
            type=0,
            address="192.0.2.2",
            strip=0,
            probe_mode=1,
            state=0,
        )
        self.insert("dr_rules_b", ruleid=1, groupid="0", prefix="49", priority=0, gwlist="gw1")
        self.use(use_partitions=True)

    def partition(self, name: str, **tables: str) -> None:
        self.insert("dr_partitions", partition_name=name, db_url="postgres://elsewhere/x", **tables)

    def hosts(self, partition: str = "") -> list[str]:
        uri = URI.parse("sip:+4930@pbx.test")
        targets = self.partitions.route(uri, CALLER, partition=partition)
        return [target.uri.host for target in targets]

    def call(self, name: str, **params: object) -> object:
        rows = self.partitions.commands()
        recipes, function = next((r[1], r[2]) for r in rows if r[0] == name)
        self.assertIn(set(params), [set(recipe) for recipe in recipes])
        return self.done(function(**params))  # type: ignore[arg-type]

    def test_each_has_its_own_tables(self) -> None:
        """The policy names the partition; one that there is not leads nowhere."""
        self.assertEqual(self.hosts(), ["192.0.2.1"])
        self.assertEqual(self.hosts("Default"), ["192.0.2.1"])
        self.assertEqual(self.hosts("other"), ["192.0.2.2"])
        self.assertEqual(self.hosts("none"), [])

    def test_is_gateway(self) -> None:
        """Of any partition, or of one."""
        peer = Address("UDP", "192.0.2.2", 5060)
        self.assertTrue(self.partitions.is_gateway(peer))
        self.assertTrue(self.partitions.is_gateway(peer, partition="other"))
        self.assertFalse(self.partitions.is_gateway(peer, partition="default"))
        self.assertEqual(set(self.partitions.trusted_hosts()), {"192.0.2.1", "192.0.2.2"})

    def test_a_failure_counts_in_its_partition(self) -> None:
        """Gateways of one name are two; the state goes to the right table."""
        hop = Address("UDP", "192.0.2.2", 5060)
        self.events.publish(
            BranchFailed(request("INVITE sip:x"), hop, "sip:49@192.0.2.2", 503, True, "1")
        )
        self.assertEqual(self.hosts("other"), [])
        self.assertEqual(self.hosts(), ["192.0.2.1"])
        self.clock.pump([1.0] * 5)
        sql = "SELECT state FROM {}"
        self.assertEqual(self.done(self.database.query(sql.format("dr_gateways_b"))), [(2,)])
        self.assertEqual(self.done(self.database.query(sql.format("dr_gateways"))), [(0,)])
        self.assertEqual(self.partitions.health()[1], "no gateway is up (partition other)")
        (metric,) = self.partitions.metrics()
        samples = {labels[0]: value for labels, value in metric.samples}
        self.assertEqual(samples, {"gw1": 1, "other:gw1": 0})

    def test_commands(self) -> None:
        """Without a partition they are about the default one; states are listed for all."""
        found = self.call("dr_gw_status", partition_name="other")
        self.assertEqual(found, {"Gateways": [{"ID": "gw1", "IP": "192.0.2.2", "State": "Active"}]})
        self.call("dr_gw_status", partition_name="other", gw_id="gw1", status="0")
        self.assertEqual(self.hosts("other"), [])
        self.assertEqual(self.call("dr_gw_status", gw_id="gw1"), {"State": "Active"})
        status = self.call("dr_reload_status")
        assert isinstance(status, dict)
        self.assertEqual([one["name"] for one in status["Partitions"]], ["default", "other"])
        with self.assertRaises(CommandFailed) as caught:
            self.call("dr_number_routing", partition_name="none", number="49")
        self.assertEqual(caught.exception.code, 404)

    def test_come_and_go(self) -> None:
        """``dr_reload`` reads the list again; partitions that cannot be read are left out."""
        self.partition("third", drd_table="dr_gateways_b", drr_table="dr_rules_b")
        self.partition("bad", drd_table="x; DROP TABLE dr_rules")
        self.partition("gone", drd_table="no_such_table")
        self.call("dr_reload")
        self.assertEqual(list(self.partitions.partitions), ["default", "other", "third"])
        self.assertEqual(self.hosts("third"), ["192.0.2.2"])
        sql = "DELETE FROM dr_partitions WHERE partition_name = 'other'"
        self.done(self.database.execute(sql))
        self.done(self.partitions.reload())
        self.assertEqual(list(self.partitions.partitions), ["default", "third"])
        self.assertEqual(self.hosts("other"), [])
        self.done(self.partitions.stop())
