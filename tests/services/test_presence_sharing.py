"""Watchers, publishers and calls at different nodes of a cluster."""

from __future__ import annotations

from typing import Any

from pbx.events import CallAnswered, CallEnded, CallFailed, CallRestored, CallRinging, CallStarted
from pbx.services.cluster import Cluster, ClusterSettings
from pbx.services.dialogs import Call
from pbx.sip.address import Address
from tests.fakes import FakeFlows
from tests.services.cluster_case import FakeBus, Hub
from tests.services.presence_case import PresenceCase, pidf

KEPT = ("server", "events", "timers", "agent", "queues", "documents", "registrar", "bus", "nodes")
CALLER = Address("UDP", "192.0.2.60", 5060)


class SharingCase(PresenceCase):
    """Nodes a and b; the rest of the case works with the one that `at` chose."""

    def setUp(self) -> None:
        self.hub = Hub()
        self.name = "a"
        super().setUp()
        self.sides: dict[str, dict[str, Any]] = {"a": self.kept()}
        self.start("b")
        self.meet()
        self.at("a")

    def kept(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in KEPT}

    def start(self, name: str) -> None:
        """One more node."""
        self.name = name
        self.build()
        self.sides[name] = self.kept()

    def cluster(self) -> Cluster:
        host = {"a": "192.0.2.1", "b": "192.0.2.2"}[self.name]
        self.bus = FakeBus(self.hub)
        self.nodes = Cluster(
            ClusterSettings(node=self.name),
            self.bus,
            self.database,
            FakeFlows(Address("UDP", host, 5060)),
            self.events,
            self.clock,
            frozenset,
        )
        self.wait(self.nodes.start())
        return self.nodes

    def at(self, name: str) -> None:
        """Everything happens at this node from now on."""
        for key, value in self.sides[name].items():
            setattr(self, key, value)

    def meet(self, seconds: float = 2.5) -> None:
        """News travel."""
        self.clock.pump([0.1] * int(seconds * 10))

    def kill(self, name: str) -> None:
        """It does nothing more, not even say good-bye."""
        self.at(name)
        self.bus.connected = False
        self.nodes._periodic.stop()
        self.timers.stop()
        for queue in self.queues:
            self.wait(queue.flush())


class PublicationTests(SharingCase):
    def bodies(self) -> list[bytes]:
        return [notify.body for notify in self.notified()]

    def test_published_elsewhere(self) -> None:
        """And modified, refreshed, withdrawn: as if it were here."""
        self.watch()
        self.notified()
        self.at("b")
        tag = self.etag(self.publish(pidf()))
        self.meet()
        tag = self.etag(self.publish(pidf("closed"), f"SIP-If-Match: {tag}"))
        self.meet()
        tag = self.etag(self.publish(b"", f"SIP-If-Match: {tag}"))
        self.meet()
        self.publish(b"", f"SIP-If-Match: {tag}\nExpires: 0")
        self.meet()
        self.at("a")
        first, second, third = self.bodies()
        self.assertEqual((first, second), (pidf(), pidf("closed")))
        self.assertIn(b'id="offline"', third)
        self.assertEqual(self.stat("publications"), 0)

    def test_goes_on_at_another_node(self) -> None:
        """The entity tag is good everywhere."""
        tag = self.etag(self.publish(pidf()))
        self.meet()
        self.at("b")
        self.assertEqual(self.publish(pidf("closed"), f"SIP-If-Match: {tag}").status, 200)
        self.meet()
        self.watch()
        self.at("a")
        self.watch()
        self.assertEqual(self.bodies(), [pidf("closed")])
        self.assertEqual(len(self.rows("SELECT id FROM presentity")), 1)

    def test_long_document(self) -> None:
        """Is read from the database, once."""
        body = pidf(more=f"<note>{'x' * 4000}</note>")
        self.watch()
        self.notified()
        self.at("b")
        self.publish(body)
        self.meet(6)
        self.at("a")
        self.assertEqual(self.bodies(), [body])

    def test_old_row(self) -> None:
        """What was withdrawn does not come back from the database."""
        tag = self.etag(self.publish(pidf()))
        self.meet()
        self.at("b")
        self.watch()
        self.notified()
        self.at("a")
        self.publish(b"", f"SIP-If-Match: {tag}\nExpires: 0")
        self.publish(pidf(more=f"<note>{'x' * 4000}</note>"))
        self.wait(self.database.execute("UPDATE presentity SET expires = expires"))
        self.meet(6)
        self.at("b")
        self.assertEqual(self.stat("publications"), 1)

    def test_nonsense(self) -> None:
        """Harms nobody."""
        for body in (None, 1, "x", [], [1], ["", "", "weather", "", "", "", 1, 1, ""], {"a": 1}):
            for topic in ("published", "withdrawn", "lamp"):
                self.nodes.publish(topic, body)
        self.meet(0.5)
        self.at("b")
        self.assertEqual(self.stat("publications"), 0)
        self.flushLoggedErrors()


class SubscriptionTests(SharingCase):
    def test_only_ones_own_after_a_restart(self) -> None:
        self.watch()
        self.rows("SELECT id FROM active_watchers")
        self.at("b")
        self.start("b")
        self.meet()
        self.assertEqual((self.notified(), self.stat("subscriptions")), ([], 0))
        self.assertEqual(self.rows("SELECT sharing_tag FROM active_watchers"), [("a",)])

    def test_rows_of_none(self) -> None:
        """Made before there was a cluster: whoever starts takes them."""
        self.watch()
        self.rows("SELECT id FROM active_watchers")
        self.wait(self.database.execute("UPDATE active_watchers SET sharing_tag = NULL"))
        self.start("b")
        self.assertEqual(self.stat("subscriptions"), 1)

    def test_dead_node(self) -> None:
        """Its watchers are told by another one from then on."""
        self.at("b")
        self.watch()
        self.rows("SELECT id FROM active_watchers")
        self.kill("b")
        self.at("a")
        self.meet(8)
        [state] = self.states()
        self.assertTrue(state.startswith("active;expires="), state)
        self.assertEqual(self.stat("subscriptions"), 1)
        self.publish(pidf())
        self.meet()
        self.assertEqual(self.notified()[-1].body, pidf())
        self.assertEqual(self.rows("SELECT sharing_tag FROM active_watchers"), [("a",)])


class LampTests(SharingCase):
    def call(self, did: str = "d1.1") -> Call:
        """1001 calls 1002 through node b."""
        call = Call(did, "c1", "a", CALLER)
        call.from_uri, call.request_uri = "sip:1001@pbx.test", "sip:1002@pbx.test"
        call.from_display = "Alice"
        return call

    def lamp(self, name: str = "a") -> None:
        self.at(name)
        self.watch("Event: dialog", user="1003")
        self.notified()

    def shown(self) -> list[str]:
        """The states that were told at node a."""
        self.at("a")
        found = []
        for notify in self.notified():
            text = notify.body.decode()
            found.append(text.rpartition("</state>")[0].rpartition(">")[2])
        return found

    def test_call_at_another_node(self) -> None:
        self.lamp()
        self.at("b")
        call = self.call()
        self.events.publish(CallStarted(call))
        call.to_tag = "bob"
        self.events.publish(CallRinging(call))
        self.meet()
        self.events.publish(CallAnswered(call))
        self.meet()
        self.at("a")
        notify = self.notified()[0]
        for fact in ('call-id="c1"', 'local-tag="bob"', 'remote-tag="a"', 'display="Alice"'):
            self.assertIn(fact, notify.body.decode())
        self.at("b")
        self.events.publish(CallEnded(call, "caller"))
        self.meet()
        self.at("a")
        [ended] = self.notified()
        self.assertIn('event="remote-bye"', ended.body.decode())
        self.meet(6)
        self.watch("Event: dialog", user="1004")
        self.assertNotIn(b"<dialog ", self.notified()[0].body)

    def test_refused(self) -> None:
        self.lamp()
        self.at("b")
        call = self.call()
        self.events.publish(CallStarted(call))
        self.events.publish(CallRinging(call))
        self.meet()
        self.events.publish(CallFailed(call, 486, "Busy Here", False))
        self.meet()
        self.assertEqual(self.shown(), ["early", "terminated"])

    def test_node_that_comes_later_asks(self) -> None:
        self.at("b")
        call = self.call()
        self.events.publish(CallStarted(call))
        self.events.publish(CallAnswered(call))
        self.start("a")
        self.meet()
        self.lamp()
        self.watch("Event: dialog", user="1004")
        self.assertIn(b"confirmed", self.notified()[0].body)

    def test_dead_node(self) -> None:
        """Its calls go out a little later, unless somebody took them over."""
        for number in (1, 2):
            self.at("b")
            call = self.call(f"d{number}.1")
            self.events.publish(CallStarted(call))
            self.events.publish(CallAnswered(call))
        self.lamp()
        self.kill("b")
        self.at("a")
        self.meet(6)
        self.events.publish(CallRestored(self.call("d1.1")))
        self.meet(20)
        self.watch("Event: dialog", user="1004")
        body = self.notified()[-1].body.decode()
        self.assertEqual((body.count("<dialog "), body.count("confirmed")), (1, 1))
        self.assertIn('id="d1.1.recipient"', body)

    def test_lost_news(self) -> None:
        """A call whose end was not heard is asked for again, and goes out."""
        calls = [self.call("d1.1"), self.call("d2.1")]
        for call in calls:
            self.at("b")
            self.events.publish(CallStarted(call))
            self.events.publish(CallAnswered(call))
        self.lamp()
        self.bus.connected = False
        self.at("b")
        self.events.publish(CallEnded(calls[0], "caller"))
        self.at("a")
        self.bus.connected = True
        self.meet(20)
        self.watch("Event: dialog", user="1004")
        body = self.notified()[-1].body.decode()
        self.assertEqual((body.count("<dialog "), body.count("confirmed")), (1, 1))
        self.assertIn('id="d2.1.recipient"', body)
