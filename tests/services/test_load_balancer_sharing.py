"""Two PBX nodes that share the capacities of FreeSWITCH nodes."""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pbx.events import CallEnded, Events, NodeChanged
from pbx.interfaces import IDialog
from pbx.services.cluster import Cluster, ClusterSettings
from pbx.services.load_balancer import LoadBalancer, LoadBalancerSettings
from pbx.sip.address import Address
from pbx.storage.memory import memory_database
from pbx.timing import TimerWheel
from pbx.verdicts import Arrival
from tests.fakes import PEER, FakeFlow, FakeFlows
from tests.services.cluster_case import FakeBus, Hub
from tests.services.test_load_balancer import Call, FakeUserAgent


class Side:
    """One node's balancer."""

    def __init__(self, case: SharedTestCase, name: str) -> None:
        self.events = Events()
        flows = FakeFlows(Address("UDP", f"192.0.2.{ord(name)}", 5060))
        self.bus = FakeBus(case.hub)
        timers = TimerWheel(case.clock)
        self.cluster = Cluster(
            ClusterSettings(node=name),
            self.bus,
            case.database,
            flows,
            self.events,
            case.clock,
            frozenset,
        )
        self.balancer = LoadBalancer(
            LoadBalancerSettings(probing_interval=0),
            case.database,
            FakeUserAgent(),
            flows,
            self.events,
            case.clock,
            timers,
            self.cluster,
            self.bus,
        )
        for part in (self.cluster, self.balancer):
            case.successResultOf(Deferred.fromCoroutine(part.start()))


class SharedTestCase(SynchronousTestCase):
    """Nodes 1 and 2 with room for 3 calls each."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_790_000_000)
        self.hub = Hub()
        self.database = memory_database(self.clock)
        sql = "INSERT INTO load_balancer (id, group_id, dst_uri, resources) VALUES (?, 1, ?, ?)"
        for id in (1, 2):
            self.database.execute(sql, (id, f"sip:192.0.2.{id}", "pstn=3"))
        self.a, self.b = Side(self, "a"), Side(self, "b")
        self.wait(1)
        self.calls = 0

    def wait(self, seconds: float) -> None:
        self.clock.pump([0.1] * int(seconds * 10))

    def reserve(self, side: Side, flags: str = "") -> str:
        """The node that a new call gets, "" for none; the call is the last of ``self.calls``."""
        self.calls += 1
        arrival = Arrival(flow=FakeFlow(PEER), peer=PEER, call=f"call-{self.calls}")
        waiting = side.balancer.reserve(arrival, 1, "pstn", flags)
        uri = self.successResultOf(Deferred.fromCoroutine(waiting))
        return "" if uri is None else uri.host

    def end(self, side: Side, call: int) -> None:
        side.events.publish(CallEnded(cast(IDialog, Call(f"call-{call}")), "caller"))

    def loads(self, side: Side) -> list[int]:
        (command,) = [one[2] for one in side.balancer.commands() if one[0] == "lb_list"]
        listed = command()["Destinations"]  # type: ignore[index]
        return [one["Resources"][0]["load"] for one in listed]


class SharedLoadTests(SharedTestCase):
    def test_limit_of_all_nodes(self) -> None:
        """Also when both take the last places in the same moment, before any news."""
        found = [self.reserve(side) for side in (self.a, self.b) * 4]
        self.assertEqual(found.count(""), 2)
        self.assertEqual((found.count("192.0.2.1"), found.count("192.0.2.2")), (3, 3))
        self.wait(0.2)
        self.assertEqual((self.loads(self.a), self.loads(self.b)), ([3, 3], [3, 3]))
        self.end(self.a, 1)
        self.wait(0.2)
        self.assertNotEqual(self.reserve(self.b), "")
        self.assertEqual(self.reserve(self.a), "")

    def test_least_loaded_of_all(self) -> None:
        """The choice counts the calls of the other node too."""
        first = self.reserve(self.a)
        self.wait(0.2)
        second = self.reserve(self.b)
        self.assertEqual({first, second}, {"192.0.2.1", "192.0.2.2"})

    def test_beyond_the_limit_on_purpose(self) -> None:
        """Flag n never asks anybody."""
        for _ in range(4):
            self.reserve(self.a, "n")
            self.reserve(self.b, "n")
        self.wait(0.2)
        self.assertEqual(sum(self.loads(self.a)), 8)

    def test_nobody_answers(self) -> None:
        """Without Redis what was heard decides: calls go on."""
        for side in (self.a, self.b):
            side.bus.answers = False
        found = [self.reserve(self.a) for _ in range(4)]
        self.wait(0.2)
        found += [self.reserve(self.b) for _ in range(4)]
        self.assertEqual(found.count(""), 2)

    def test_dead_node(self) -> None:
        """Its calls count until who leads had time to restore them, and no longer."""
        for _ in range(3):
            self.reserve(self.a)
        self.wait(0.2)
        self.a.bus.connected = False
        self.a.cluster._periodic.stop()
        self.wait(5)
        self.assertEqual(sum(self.loads(self.b)), 3)
        self.wait(4)
        self.assertEqual(sum(self.loads(self.b)), 0)
        self.assertEqual(self.hub.counts["lb:1"].keys(), {"b"})
        self.assertEqual([self.reserve(self.b) != "" for _ in range(7)], [True] * 6 + [False])

    def test_newcomer(self) -> None:
        """Hears of all calls when it comes."""
        for _ in range(4):
            self.reserve(self.a)
        c = Side(self, "c")
        self.wait(2)
        self.assertEqual(self.loads(c), [2, 2])

    def test_short_gap(self) -> None:
        """A node whose connection broke for a moment is told what it missed, Redis too."""
        self.wait(0.5)
        self.a.bus.connected = self.b.bus.connected = False
        self.reserve(self.b)
        self.wait(0.3)
        self.hub.counts.clear()
        self.assertEqual(sum(self.loads(self.a)), 0)
        self.a.bus.connected = self.b.bus.connected = True
        self.wait(2)
        self.assertEqual(sum(self.loads(self.a)), 1)
        self.assertEqual(self.hub.counts["lb:1"]["b"], {"pstn": 1})

    def test_reload(self) -> None:
        """The others' calls stay counted."""
        self.reserve(self.a)
        self.wait(0.2)
        self.successResultOf(Deferred.fromCoroutine(self.b.balancer.reload()))
        self.assertEqual(sum(self.loads(self.b)), 1)

    def test_back_from_the_dead(self) -> None:
        """A node that was only slow is counted again."""
        self.reserve(self.a)
        self.wait(0.2)
        node = self.b.cluster.node("a")
        node.alive = False
        self.b.events.publish(NodeChanged(node, False))
        node.alive = True
        self.b.events.publish(NodeChanged(node, True))
        self.wait(5)
        self.assertEqual(sum(self.loads(self.b)), 1)
