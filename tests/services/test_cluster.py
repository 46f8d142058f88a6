"""Who is there, who is dead, and what one node lets another do."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pbx.config import ConfigError, settings
from pbx.events import Events, NewsLost, NewsUnheard, NodeChanged
from pbx.interfaces import IBus, ICluster, INode, ITally
from pbx.services.cluster import Cluster, ClusterSettings
from pbx.sip.address import Address
from pbx.sip.fields import NameAddr
from pbx.sip.uri import URI
from pbx.storage.memory import memory_database
from pbx.verdicts import Relay, Reply, Target
from tests.fakes import FakeFlows
from tests.services.cluster_case import FakeBus, Hub, words

HOSTS = {"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3"}
BOB = Target(URI.parse("sip:bob@198.51.100.7"))


class ClusterTestCase(SynchronousTestCase):
    """Nodes on one hub, one clock and one database."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_790_000_000)
        self.hub = Hub()
        self.database = memory_database(self.clock)
        self.changes: dict[str, list[str]] = {}

    def node(self, name: str, **options: Any) -> Cluster:
        host = HOSTS[name]
        listeners = (Address("UDP", host, 5060), Address("TCP", host, 5060))
        events = Events()
        changes = self.changes[name] = []
        events.subscribe(
            NodeChanged, lambda event: changes.append(f"{event.node.name} {event.alive}")
        )
        events.subscribe(NewsLost, lambda event: changes.append("lost"))
        events.subscribe(NewsUnheard, lambda event: changes.append("unheard"))
        self.bus = FakeBus(self.hub)
        made = Cluster(
            settings(ClusterSettings, {"node": name, **options}, "cluster"),
            self.bus,
            self.database,
            FakeFlows(*listeners),
            events,
            self.clock,
            frozenset,
        )
        self.successResultOf(Deferred.fromCoroutine(made.start()))
        return made

    def told(self, name: str) -> list[str]:
        """What a node's parts heard since the last look."""
        found, self.changes[name][:] = list(self.changes[name]), []
        return found

    def pass_time(self, seconds: int) -> None:
        self.clock.pump([0.5] * (2 * seconds))


class LivingTests(ClusterTestCase):
    def test_promises(self) -> None:
        a, b = self.node("a"), self.node("b")
        verifyObject(ICluster, a)
        verifyObject(INode, b.node("a"))
        verifyObject(IBus, self.bus)
        verifyObject(ITally, self.bus)

    def test_nodes_meet_and_die(self) -> None:
        """Silence of dead_after seconds is death; who leads is the first by name that lives."""
        a, b = self.node("a"), self.node("b")
        self.pass_time(2)
        self.assertEqual((self.told("a"), self.told("b")), (["b True"], ["a True"]))
        self.assertEqual((a.leads(), b.leads()), (True, False))
        a._periodic.stop()
        self.pass_time(3)
        self.assertEqual(self.told("b"), [])
        self.pass_time(2)
        self.assertEqual(self.told("b"), ["a False"])
        self.assertTrue(b.leads())
        self.assertEqual(b.health(), ("degraded", "node a does not answer"))
        a._periodic.start()
        self.pass_time(2)
        self.assertEqual(self.told("b"), ["a True"])
        self.assertEqual(b.health(), ("ok", ""))

    def test_farewell(self) -> None:
        """A node that stops is gone at once, and nobody is alarmed."""
        a, b = self.node("a"), self.node("b")
        self.pass_time(1)
        self.told("b")
        self.successResultOf(Deferred.fromCoroutine(a.stop()))
        self.assertEqual((self.told("b"), b.health()), (["a False"], ("ok", "")))

    def test_deaf_node_declares_nobody_dead(self) -> None:
        """While the bus is away nothing is known; then others get time, and news were lost."""
        a, b = self.node("a"), self.node("b")
        self.pass_time(1)
        self.told("b")
        self.bus.connected = False
        self.pass_time(60)
        self.assertEqual(self.told("b"), [])
        self.assertEqual(b.health()[0], "degraded")
        self.bus.connected = True
        self.pass_time(2)
        self.assertEqual(set(self.told("b")), {"lost"})
        self.assertEqual(b.health(), ("ok", ""))
        self.assertTrue(a.node("b").alive)

    def test_bus_that_is_silent(self) -> None:
        """Our own words do not come back: another connection is tried."""
        a = self.node("a")
        self.hub.buses.clear()
        self.pass_time(5)
        self.assertEqual(self.bus.reconnected, 1)
        self.assertEqual(a.health()[0], "degraded")

    def test_unheard_of_node_is_missed(self) -> None:
        """Rows name a node that nobody has heard since we are here."""
        a = self.node("a")
        self.assertTrue(a.node("old").alive)
        self.pass_time(5)
        self.assertEqual(self.told("a"), ["old False"])

    def test_namesake(self) -> None:
        self.node("a")
        other = self.node("a")
        self.pass_time(1)
        self.assertEqual(other.health(), ("degraded", "another node calls itself a too"))

    def test_peers(self) -> None:
        """Only those that are named are listened to."""
        a = self.node("a", peers=["b"])
        self.node("b")
        self.node("c")
        self.pass_time(1)
        self.assertEqual(self.told("a"), ["b True"])
        self.assertFalse(a.is_node(Address("UDP", HOSTS["c"], 5060)))

    def test_gap_in_the_news(self) -> None:
        """A number that is missing means that something was not heard; who said it is told."""
        self.node("a")
        b = self.node("b")
        self.node("c")
        self.pass_time(1)
        for name in "abc":
            self.told(name)
        self.hub.buses[0].connected = False
        b.publish("x", [1])
        self.hub.buses[0].connected = True
        b.publish("x", [2])
        self.assertEqual([self.told(name) for name in "abc"], [["lost"], ["unheard"], []])

    def test_short_gap(self) -> None:
        """The connections are back before the next sign of life: no word was missed but one."""
        self.node("a")
        b = self.node("b")
        self.pass_time(1)
        self.told("b")
        self.hub.buses[0].connected = False
        b.publish("x", [1])
        self.hub.buses[0].connected = True
        self.pass_time(2)
        self.assertEqual(self.told("b"), ["unheard"])

    def test_garbage(self) -> None:
        """Whatever comes over the bus, the node goes on."""
        a, b = self.node("a"), self.node("b")
        self.pass_time(1)
        a.listen("x", lambda node, body: body["no"])
        for text in (
            "",
            "{}",
            "[1]",
            '["b",1,1,1,1]',
            "[" * 5000,
            json.dumps(["c", "x", 1, "alive", None]),
            json.dumps(["c", "x", 2, "alive", ["w", [], [[1, 2]]]]),
        ):
            self.hub.say(text)
        b.publish("x", [])
        self.assertEqual(a.garbled, 8)
        self.flushLoggedErrors()

    def test_long_news_are_sent_in_parts(self) -> None:
        """NOTIFY takes 8000 bytes; one entry that is too long is dropped and logged."""
        a, b = self.node("a"), self.node("b")
        self.bus.limit = 3000
        self.pass_time(1)
        heard: list[int] = []
        a.listen("x", lambda node, body: heard.extend(len(text) for text in body))
        b.publish("x", ["x" * 1000] * 7 + ["y" * 4000])
        self.assertEqual(heard, [1000] * 7)
        self.assertNotIn("lost", self.told("a"))

    def test_settings(self) -> None:
        for bad in (
            {"node": "a b"},
            {"peers": ["a/b"]},
            {"node": "a", "heartbeat": 0.0},
            {"node": "a", "dead_after": 1.5},
            {"node": "a", "address": "host:port"},
        ):
            with self.assertRaises(ConfigError):
                settings(ClusterSettings, bad, "cluster")


class RouteTests(ClusterTestCase):
    """The Route by which one node reaches a binding of another."""

    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.node("a"), self.node("b")
        self.pass_time(1)
        self.a.deliver_with(lambda aor, id: BOB if (aor, id) == ("bob@pbx.test", 77) else None)
        self.from_b = Address("UDP", HOSTS["b"], 5060)

    def route(self, aor: str = "bob@pbx.test", contact_id: int = 77) -> URI:
        return NameAddr.parse(self.b.route_to(self.b.node("a"), aor, contact_id)).uri

    def test_target(self) -> None:
        verdict = self.a.forwarded(self.route(), self.from_b)
        self.assertEqual(verdict, Relay((BOB,)))
        self.assertEqual((self.route().host, self.route().port), (HOSTS["a"], 5060))

    def test_binding_that_is_gone(self) -> None:
        """430 between nodes (RFC 5626)."""
        verdict = self.a.forwarded(self.route("carol@pbx.test"), self.from_b)
        assert isinstance(verdict, Reply)
        self.assertEqual(verdict.status, 430)

    def test_strange_names(self) -> None:
        """An AOR may hold any character."""
        heard: list[tuple[str, int]] = []

        def find(aor: str, contact_id: int) -> None:
            heard.append((aor, contact_id))

        self.a.deliver_with(find)
        for aor in ("", "b\u00f6b.o@x", "\udcff\udc80@x", "a/+-_." * 30):
            self.a.forwarded(self.route(aor, 2**63 - 1), self.from_b)
            self.assertEqual(heard.pop(), (aor, 2**63 - 1))

    def test_other_routes_are_not_meant(self) -> None:
        for text in ("sip:192.0.2.1;lr", "sip:token@192.0.2.1;lr"):
            self.assertIsNone(self.a.forwarded(URI.parse(text), self.from_b))

    def test_strangers(self) -> None:
        """The address of a node and the secret of all nodes: neither is enough alone."""
        good = self.route()
        wrong = good.replace(user=good.user[:-1] + ("0" if good.user[-1] != "0" else "1"))
        for route, peer in (
            (good, Address("UDP", "198.51.100.7", 5060)),
            (good, self.from_b._replace(port=5061)),
            (good, Address("TCP", "198.51.100.7", 4444)),
            (wrong, self.from_b),
            (good.replace(user="pbx-node."), self.from_b),
            (good.replace(user="pbx-node.\u00e4.\u00f6.\u00fc"), self.from_b),
        ):
            verdict = self.a.forwarded(route, peer)
            assert isinstance(verdict, Reply)
            self.assertEqual(verdict.status, 403)
        self.assertEqual(self.a.statistics()["cluster:refused"], 6)
        # Another node's route is not ours, however good.
        self.assertEqual(
            self.b.forwarded(good, Address("UDP", HOSTS["a"], 5060)), Reply(403, "Not A Node")
        )

    def test_tcp_from_a_node(self) -> None:
        """Comes from any port."""
        peer = Address("TCP", HOSTS["b"], 40000)
        self.assertEqual(self.a.forwarded(self.route(), peer), Relay((BOB,)))

    def test_nothing_is_said_of_it(self) -> None:
        """Routes and secret stay off the bus."""
        self.assertEqual({len(body) for body in words(self.hub, "alive")}, {3})
        self.assertNotIn("secret", "".join(self.hub.said))
