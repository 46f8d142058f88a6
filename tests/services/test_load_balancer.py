"""The load balancer: spec 10 section 8, oddities O4 to O6 and O24, spec 30 section 18, spec 40."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pbx.commands import CommandFailed
from pbx.config import ConfigError, settings
from pbx.errors import DatabaseError, Kind
from pbx.events import (
    BalancerCounted,
    CallEnded,
    CallFailed,
    CallRestored,
    CallStarted,
    DestinationChanged,
    Events,
    TableChanged,
)
from pbx.interfaces import IDialog, IFlow, IUserAgent
from pbx.services.load_balancer import LoadBalancer, LoadBalancerSettings
from pbx.sip.address import Address
from pbx.sip.message import Request, Response
from pbx.sip.uri import URI
from pbx.storage.memory import memory_database
from pbx.timing import TimerWheel
from pbx.verdicts import Arrival
from tests.fakes import PEER, FakeFlow, FakeFlows

ResultT = TypeVar("ResultT")
FS1, FS2 = "sip:192.0.2.112:5060", "sip:192.0.2.114:5060"
RESOURCES = "vm=100;conf=100;transc=100;pstn=500"
#: Spec 20 section 5: the seed's rows.
SEED = (
    (1, 1, FS1, RESOURCES, 1),
    (2, 1, FS2, RESOURCES, 1),
    (4, 3, "sip:192.0.2.114:5080", RESOURCES, 1),
    (5, 3, "sip:192.0.2.112:5080", RESOURCES, 1),
)
#: Spec 30 section 18: the seed's parameters.
PROBING = {"probing_method": "INFO", "probing_interval": 5, "probing_reply_codes": [501, 403]}


@dataclass
class Call:
    """As much of a dialog as the balancer looks at."""

    did: str
    profiles: dict[str, str] = field(default_factory=dict)


@implementer(IUserAgent)
class FakeUserAgent:
    """Every node answers with its status of ``answers``, 408 when it has none."""

    def __init__(self) -> None:
        self.answers: dict[str, int] = {}
        self.sent: list[Request] = []

    async def send(
        self,
        request: Request,
        next_hop: URI | None = None,
        flow: IFlow | None = None,
        timeout: float | None = None,
    ) -> Response:
        self.sent.append(request)
        return Response(self.answers.get(request.uri_text, 408), "Answer", [], [])

    def asked(self) -> list[str]:
        """Whom probes went to; forgets it."""
        sent, self.sent = self.sent, []
        return [f"{request.method} {request.uri_text}" for request in sent]


class BalancerTestCase(SynchronousTestCase):
    rows: tuple[tuple[int, int, str, str, int], ...] = SEED

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_790_000_000)
        self.database = memory_database(self.clock)
        self.insert(*self.rows)
        self.flows = FakeFlows()
        self.use(**PROBING)

    def use(self, **options: Any) -> None:
        self.events = Events()
        self.happened: list[object] = []
        self.events.subscribe(BalancerCounted, self.happened.append)
        self.events.subscribe(DestinationChanged, self.happened.append)
        self.timers = TimerWheel(self.clock)
        self.agent = FakeUserAgent()
        self.balancer = LoadBalancer(
            settings(LoadBalancerSettings, options, "load_balancer"),
            self.database,
            self.agent,
            self.flows,
            self.events,
            self.clock,
            self.timers,
        )
        self.done(self.balancer.start())

    def insert(self, *rows: tuple[int, int, str, str, int]) -> None:
        for row in rows:
            self.done(
                self.database.execute(
                    "INSERT INTO load_balancer (id, group_id, dst_uri, resources, probe_mode)"
                    " VALUES (?, ?, ?, ?, ?)",
                    row,
                )
            )

    def replace(self, *rows: tuple[int, int, str, str, int]) -> None:
        """Other rows in the table, noticed."""
        self.done(self.database.execute("DELETE FROM load_balancer"))
        self.insert(*rows)
        self.events.publish(TableChanged("load_balancer"))

    def done(self, awaitable: Awaitable[ResultT]) -> ResultT:
        async def wait() -> ResultT:
            return await awaitable

        return self.successResultOf(Deferred.fromCoroutine(wait()))

    def acquire(
        self, call: str, group: int = 1, resources: str = "pstn", flags: str = "n"
    ) -> str | None:
        arrival = Arrival(flow=FakeFlow(PEER), peer=PEER, call=call)
        uri = self.balancer.acquire(arrival, group, resources, flags)
        return None if uri is None else str(uri)

    def started(self, call: str) -> None:
        self.events.publish(CallStarted(cast(IDialog, Call(call))))

    def ended(self, call: str) -> None:
        self.events.publish(CallEnded(cast(IDialog, Call(call)), "caller"))

    def failed(self, call: str) -> None:
        self.events.publish(CallFailed(cast(IDialog, Call(call)), 486, "Busy Here", False))

    def loads(self, resource: str = "pstn") -> dict[int, int]:
        """Calls by destination, those without calls left out."""
        listed = self.command("lb_list")["Destinations"]
        loads = {
            one["id"]: entry["load"]
            for one in listed
            for entry in one["Resources"]
            if entry["name"] == resource
        }
        return {id: load for id, load in loads.items() if load}

    def command(self, name: str, **params: object) -> Any:
        commands = {known: function for known, _, function in self.balancer.commands()}
        return commands[name](**params)

    def enabled(self) -> list[int]:
        return [
            one["id"] for one in self.command("lb_list")["Destinations"] if one["enabled"] == "yes"
        ]


class SelectionTests(BalancerTestCase):
    """Spec 10 section 8: the largest availability wins."""

    rows = ((1, 1, FS1, "pstn=2;vm=10", 1), (2, 1, FS2, "pstn=4;conf=3", 1))

    def test_most_free_calls_win(self) -> None:
        """Absolute: capacity minus calls."""
        chosen = [self.acquire(f"c{number}") for number in range(4)]
        self.assertEqual(chosen, [FS2, FS2, FS1, FS2])

    def test_largest_free_share_wins_with_r(self) -> None:
        """Flag r: free percentage."""
        chosen = [self.acquire(f"c{number}", flags="r") for number in range(5)]
        # 100/100, 50/100, 50/75, 50/50, 0/50
        self.assertEqual(chosen, [FS1, FS2, FS2, FS1, FS2])

    def test_full_without_n(self) -> None:
        """Without n availability must be above zero."""
        for number in range(6):
            self.assertIsNotNone(self.acquire(f"c{number}", flags=""))
        self.assertIsNone(self.acquire("c6", flags=""))
        self.ended("c0")
        self.assertEqual(self.acquire("c7", flags=""), FS2)

    def test_never_refused_for_load_with_n(self) -> None:
        for number in range(20):
            self.assertIsNotNone(self.acquire(f"c{number}"))
        self.assertEqual(self.loads(), {1: 9, 2: 11})

    def test_several_resources_take_the_minimum(self) -> None:
        """A destination must offer all of them."""
        self.assertEqual(self.acquire("a", resources="pstn; vm"), FS1)
        self.assertEqual(self.acquire("b", resources=" conf ;pstn"), FS2)
        self.assertEqual(self.loads("conf"), {2: 1})
        self.assertEqual(self.loads("vm"), {1: 1})
        self.assertEqual(self.loads(), {1: 1, 2: 1})
        self.replace((1, 1, FS1, "a=9;b=1", 1), (2, 1, FS2, "a=2;b=2", 1))
        self.assertEqual(self.acquire("c", resources="a;b"), FS2)

    def test_unknown_resource(self) -> None:
        self.assertIsNone(self.acquire("a", resources="gold"))

    def test_unknown_group(self) -> None:
        self.assertIsNone(self.acquire("a", group=7))
        self.assertFalse(self.balancer.has_destinations(7))
        self.assertTrue(self.balancer.has_destinations(1))

    def test_ties_in_table_order(self) -> None:
        self.replace((1, 1, FS1, "pstn=5", 1), (2, 1, FS2, "pstn=5", 1))
        self.assertEqual({self.tie(f"c{number}", "n") for number in range(20)}, {FS1})

    def test_ties_at_random_with_s(self) -> None:
        self.replace((1, 1, FS1, "pstn=5", 1), (2, 1, FS2, "pstn=5", 1))
        chosen = Counter(self.tie(f"c{number}", "ns") for number in range(200))
        self.assertGreater(min(chosen[FS1], chosen[FS2]), 50)

    def tie(self, call: str, flags: str) -> str | None:
        chosen = self.acquire(call, flags=flags)
        self.failed(call)
        return chosen


class CountingTests(BalancerTestCase):
    """A call is counted where it is, and nowhere when it is over."""

    def test_counted_at_once(self) -> None:
        """Two calls in the same instant go to two nodes."""
        self.assertEqual([self.acquire("a"), self.acquire("b")], [FS1, FS2])
        self.assertEqual(self.loads(), {1: 1, 2: 1})
        self.assertEqual(
            self.happened,
            [
                BalancerCounted("a", 1, ("pstn",), 1),
                BalancerCounted("b", 1, ("pstn",), 2),
            ],
        )

    def test_next_node_for_the_same_call(self) -> None:
        """O4: fail-over; the call moves, and no node is tried twice."""
        self.assertEqual([self.acquire("a"), self.acquire("a")], [FS1, FS2])
        self.assertEqual(self.loads(), {2: 1})
        self.assertIsNone(self.acquire("a"))
        self.assertEqual(self.loads(), {})
        self.assertEqual(
            self.happened,
            [
                BalancerCounted("a", 1, ("pstn",), 1),
                BalancerCounted("a", 1, ("pstn",), 2),
            ],
        )

    def test_ended_and_failed_calls_leave(self) -> None:
        for leave in (self.ended, self.failed):
            self.acquire("a")
            self.started("a")
            leave("a")
            leave("a")
            self.assertEqual(self.loads(), {})
        self.assertEqual(self.acquire("a"), FS1)

    def test_never_relayed(self) -> None:
        """The policy asked and then did something else: no call, no slot."""
        self.acquire("a")
        self.acquire("b")
        self.started("b")
        self.clock.advance(130)
        self.assertEqual(self.loads(), {2: 1})

    def test_request_without_call(self) -> None:
        """Other than initial INVITEs: a node is given, and nothing stays behind."""
        self.assertEqual(self.acquire(""), FS1)
        self.assertEqual(self.loads(), {})
        self.assertEqual(self.happened, [])

    def test_restored_calls_count_again(self) -> None:
        """The dialog remembers ``lb<group>:<resource>`` -> destination."""
        profiles = {"lb1:pstn": "2", "lb1:conf": "2", "caller": "1001"}
        self.events.publish(CallRestored(cast(IDialog, Call("a", profiles))))
        self.events.publish(CallRestored(cast(IDialog, Call("b", {}))))
        self.events.publish(CallRestored(cast(IDialog, Call("c", {"lb1:pstn": "99"}))))
        self.assertEqual((self.loads(), self.loads("conf")), ({2: 1}, {2: 1}))
        self.clock.advance(130)
        self.assertEqual(self.loads(), {2: 1})
        self.ended("a")
        self.assertEqual((self.loads(), self.loads("conf")), ({}, {}))


class StateTests(BalancerTestCase):
    """O5, O6: nodes go down when they fail and come back when they answer."""

    def down(self, uri: str = FS1) -> None:
        self.balancer.disable(URI.parse(uri), "408 Request Timeout")

    def test_disabled_node_gets_no_calls(self) -> None:
        self.down()
        self.down()
        self.assertEqual(self.happened, [DestinationChanged(1, FS1, False, "408 Request Timeout")])
        self.assertEqual([self.acquire("a"), self.acquire("b")], [FS2, FS2])

    def test_all_down(self) -> None:
        self.down(FS1)
        self.down(FS2)
        self.assertIsNone(self.acquire("a"))
        self.assertEqual(self.balancer.health()[0], "degraded")

    def test_probe_mode_0_is_never_disabled(self) -> None:
        """Nothing would ever bring it back."""
        self.replace((1, 1, FS1, "pstn=5", 0))
        self.down()
        self.assertEqual(self.enabled(), [1])

    def test_no_probing_no_disabling(self) -> None:
        self.use(probing_interval=0)
        self.down()
        self.assertEqual(self.enabled(), [1, 2, 4, 5])

    def test_probe_mode_1_probes_only_what_is_down(self) -> None:
        """Spec 15, 14: enabled nodes get no probes."""
        self.clock.advance(5)
        self.assertEqual(self.agent.asked(), [])
        self.down()
        self.clock.advance(5)
        self.assertEqual(self.agent.asked(), [f"INFO {FS1}"])

    def test_probe_mode_2_probes_always(self) -> None:
        self.replace((1, 1, FS1, "pstn=5", 2), (2, 1, FS2, "pstn=5", 0))
        self.agent.answers[FS1] = 200
        self.clock.advance(5)
        self.clock.advance(5)
        self.assertEqual(self.agent.asked(), [f"INFO {FS1}"] * 2)
        self.assertEqual(self.happened, [])
        del self.agent.answers[FS1]
        self.clock.advance(5)
        self.assertEqual(self.happened, [DestinationChanged(1, FS1, False, "408 Answer")])

    def test_probe_on_the_wire(self) -> None:
        """Spec 30 section 18: Request-URI and To are the node, From is probing_from."""
        self.down()
        self.clock.advance(5)
        probe = self.agent.sent[0]
        self.assertEqual((probe.uri_text, str(probe.to.uri)), (FS1, FS1))
        self.assertEqual(str(probe.from_.uri), "sip:prober@localhost")

    def up_after(self, status: int) -> bool:
        self.down()
        self.agent.answers[FS1] = status
        self.clock.advance(5)
        return 1 in self.enabled()

    def test_what_counts_as_alive(self) -> None:
        """200 and the listed codes; another final response means down."""
        for status, alive in (
            (200, True),
            (501, True),
            (403, True),
            (202, False),
            (302, False),
            (404, False),
            (481, False),
            (503, False),
            (408, False),
        ):
            self.assertEqual(self.up_after(status), alive, status)

    def test_lenient(self) -> None:
        """O6: any final response but 408 and 503 is a sign of life."""
        self.use(**PROBING, lenient=True)
        for status, alive in ((404, True), (481, True), (503, False), (408, False)):
            self.assertEqual(self.up_after(status), alive, status)

    def test_operator_down_stays_down(self) -> None:
        """lb_status 0 stops automatic enabling, 1 restores it."""
        self.assertEqual(self.command("lb_status", destination_id="1", new_status="0"), "OK")
        self.agent.answers[FS1] = 200
        self.clock.advance(5)
        self.assertEqual(self.enabled(), [2, 4, 5])
        self.assertEqual(self.command("lb_status", destination_id=1, new_status=1), "OK")
        self.assertEqual(self.enabled(), [1, 2, 4, 5])
        self.assertTrue(self.up_after(200))

    def test_defaults(self) -> None:
        """Spec 30 section 18: OPTIONS, 30 s, no further codes."""
        self.use()
        self.down()
        self.clock.advance(29)
        self.assertEqual(self.agent.asked(), [])
        self.clock.advance(1)
        self.assertEqual(self.agent.asked(), [f"OPTIONS {FS1}"])

    def test_stop_leaves_no_timer(self) -> None:
        self.done(self.balancer.stop())
        self.assertEqual(len(self.timers), 0)


class DestinationTests(BalancerTestCase):
    """lb_is_destination (spec 10 section 8), O24."""

    def is_destination(self, address: str, group: int = 3, via_port: int | None = None) -> bool:
        transport, host, port = address.split(":")
        return self.balancer.is_destination(Address(transport, host, int(port)), group, via_port)

    def test_udp_by_address_and_port(self) -> None:
        self.assertTrue(self.is_destination("UDP:192.0.2.112:5080"))
        self.assertFalse(self.is_destination("UDP:192.0.2.112:5060"))
        self.assertTrue(self.is_destination("UDP:192.0.2.112:5060", 1))
        self.assertFalse(self.is_destination("UDP:192.0.2.113:5080"))
        self.assertFalse(self.is_destination("UDP:192.0.2.112:5090", via_port=5080))

    def test_connections_by_the_port_in_via(self) -> None:
        """O24: they come from any port."""
        self.assertTrue(self.is_destination("TCP:192.0.2.112:40000", via_port=5080))
        self.assertFalse(self.is_destination("TCP:192.0.2.112:5080", via_port=5060))
        self.assertFalse(self.is_destination("TCP:192.0.2.112:40000"))
        self.assertTrue(self.is_destination("TCP:192.0.2.112:40000", 1))

    def test_row_without_port(self) -> None:
        self.replace((1, 3, "sip:192.0.2.112", "pstn=1", 0))
        self.assertTrue(self.is_destination("UDP:192.0.2.112:12345"))

    def test_disabled_ones_count_too(self) -> None:
        self.balancer.disable(URI.parse("sip:192.0.2.112:5080"), "")
        self.assertEqual(self.enabled(), [1, 2, 4])
        self.assertTrue(self.is_destination("UDP:192.0.2.112:5080"))

    def test_names_are_resolved_and_again(self) -> None:
        self.flows.names["fs.test"] = [Address("UDP", "192.0.2.7", 5080)]
        self.replace((1, 3, "sip:fs.test:5080", "pstn=1", 0))
        self.assertTrue(self.is_destination("UDP:192.0.2.7:5080"))
        self.flows.names["fs.test"] = [
            Address("UDP", "192.0.2.8", 5080),
            Address("UDP", "2001:db8::8", 5080),
        ]
        self.clock.advance(60)
        self.assertFalse(self.is_destination("UDP:192.0.2.7:5080"))
        self.assertTrue(self.is_destination("UDP:192.0.2.8:5080"))

    def test_a_name_that_cannot_be_resolved_keeps_its_addresses(self) -> None:
        self.flows.names["fs.test"] = [Address("UDP", "192.0.2.7", 5080)]
        self.replace((1, 3, "sip:fs.test:5080", "pstn=1", 0))
        self.flows.names.clear()
        self.clock.advance(60)
        self.assertTrue(self.is_destination("UDP:192.0.2.7:5080"))


class ReloadTests(BalancerTestCase):
    """Spec 20 section 5, spec 40: state and counts stay for rows with the same id."""

    def test_state_and_calls_stay(self) -> None:
        self.acquire("a")
        self.balancer.disable(URI.parse(FS2), "")
        self.assertEqual(self.done(self.command("lb_reload")), "OK")
        self.assertEqual((self.loads(), self.enabled()), ({1: 1}, [1, 4, 5]))
        self.ended("a")
        self.assertEqual(self.loads(), {})

    def test_new_capacity_and_new_resource(self) -> None:
        self.acquire("a")
        self.replace((1, 1, FS1, "pstn=7;fax=2", 1))
        listed = self.command("lb_list")["Destinations"][0]["Resources"]
        self.assertEqual(
            listed,
            [{"name": "pstn", "max": 7, "load": 1}, {"name": "fax", "max": 2, "load": 0}],
        )

    def test_another_node_under_the_same_id_starts_afresh(self) -> None:
        self.acquire("old")
        self.balancer.disable(URI.parse(FS1), "")
        self.replace((1, 1, "sip:192.0.2.99:5060", "pstn=7", 1))
        self.assertEqual((self.loads(), self.enabled()), ({}, [1]))
        self.acquire("new")
        self.ended("old")
        self.assertEqual(self.loads(), {1: 1})

    def test_removed_row(self) -> None:
        self.acquire("a")
        self.replace((2, 1, FS2, "pstn=7", 1))
        self.ended("a")
        self.assertEqual(self.loads(), {})
        self.assertEqual(self.acquire("b"), FS2)

    def test_bad_rows_are_left_out(self) -> None:
        """Without capacity, with a repeated or empty resource: skipped, the others load."""
        self.replace(
            (1, 1, FS1, "pstn", 1),
            (2, 1, FS1, "pstn=1;pstn=2", 1),
            (3, 1, FS1, "=5", 1),
            (4, 1, FS1, "pstn=many", 1),
            (5, 1, "tel:1", "pstn=5", 1),
            (6, 1, "nonsense", "pstn=5", 1),
            (7, 1, FS2, " pstn = 5 ; vm=1; ", 1),
        )
        listed = self.command("lb_list")["Destinations"]
        self.assertEqual([one["id"] for one in listed], [7])
        self.assertEqual(
            [entry["name"] for entry in listed[0]["Resources"]],
            ["pstn", "vm"],
        )

    def test_failed_reload(self) -> None:
        """Spec 40: 500 "Failed to reload"; the old rows stay."""

        async def query(*_: object) -> list[tuple[object, ...]]:
            raise DatabaseError(Kind.UNAVAILABLE, "gone")

        self.patch(self.database, "query", query)
        failure = self.failureResultOf(
            Deferred.fromCoroutine(self.command("lb_reload")), CommandFailed
        )
        error = failure.value
        assert isinstance(error, CommandFailed)
        self.assertEqual((error.code, error.message), (500, "Failed to reload"))
        self.assertEqual(self.enabled(), [1, 2, 4, 5])


class CommandTests(BalancerTestCase):
    """Spec 40 and spec 15, 15: the shapes of the reference."""

    rows = ((1, 1, FS1, "vm=1;pstn=500", 1),)

    def test_lb_list(self) -> None:
        self.acquire("a")
        shown = {
            "uri": FS1,
            "id": 1,
            "group": 1,
            "enabled": "yes",
            "auto-reenable": "on",
            "Resources": [
                {"name": "vm", "max": 1, "load": 0},
                {"name": "pstn", "max": 500, "load": 1},
            ],
        }
        self.assertEqual(self.command("lb_list"), {"Destinations": [shown]})
        self.done(self.database.execute("UPDATE load_balancer SET attrs = 'fs1'"))
        self.done(self.command("lb_reload"))
        self.command("lb_status", destination_id="1", new_status="0")
        self.assertEqual(
            self.command("lb_list"),
            {"Destinations": [shown | {"enabled": "no", "auto-reenable": "off", "attrs": "fs1"}]},
        )

    def test_lb_status(self) -> None:
        self.assertEqual(self.command("lb_status", destination_id="1"), {"enable": "yes"})
        self.command("lb_status", destination_id="1", new_status="0")
        self.assertEqual(self.command("lb_status", destination_id=1), {"enable": "no"})

    def test_lb_resize(self) -> None:
        """Memory only."""
        wanted = {"destination_id": "1", "res_name": "pstn", "new_capacity": "3"}
        self.assertEqual(self.command("lb_resize", **wanted), "OK")
        for number in range(3):
            self.assertEqual(self.acquire(f"c{number}", flags=""), FS1)
        self.assertIsNone(self.acquire("c3", flags=""))

    def refused(self, name: str, **params: object) -> int:
        error = self.assertRaises(CommandFailed, self.command, name, **params)
        assert isinstance(error, CommandFailed)
        return error.code

    def test_unknown(self) -> None:
        """404 "Destination ID not found"."""
        self.assertEqual(self.refused("lb_status", destination_id="9"), 404)
        self.assertEqual(self.refused("lb_status", destination_id="x"), 404)
        self.assertEqual(
            self.refused("lb_resize", destination_id="9", res_name="pstn", new_capacity="1"), 404
        )
        self.assertEqual(
            self.refused("lb_resize", destination_id="1", res_name="gold", new_capacity="1"), 404
        )

    def test_bad_values(self) -> None:
        self.assertEqual(self.refused("lb_status", destination_id="1", new_status="2"), 400)
        self.assertEqual(
            self.refused("lb_resize", destination_id="1", res_name="pstn", new_capacity="-1"), 400
        )


class SettingsTests(SynchronousTestCase):
    def test_faults(self) -> None:
        for table in ({"probing_interval": -1}, {"resolve_interval": 0}, {"probing_timeout": 0}):
            with self.assertRaises(ConfigError):
                settings(LoadBalancerSettings, table, "load_balancer")
