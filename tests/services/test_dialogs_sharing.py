"""Calls of several nodes in one ``dialog`` table."""

from __future__ import annotations

from pbx.events import Events, NodeChanged
from pbx.services.cluster import Cluster, ClusterSettings
from pbx.services.dialogs import DIALOG_COLUMNS, DIALOG_KEY, Call, Dialogs, DialogSettings
from pbx.sip.address import Address
from tests.fakes import FakeFlows
from tests.services.cluster_case import FakeBus, Hub, words
from tests.services.dialog_case import DialogCase


class SharedCallTests(DialogCase):
    """``self.dialogs`` is that of node a; b has its own on the same table."""

    def setUp(self) -> None:
        super().setUp()
        self.hub = Hub()
        self.cluster = self.member("a", "192.0.2.1")
        self.use(self.cluster)
        other = self.member("b", "192.0.2.2")
        self.clock.advance(1)
        self.b = Dialogs(
            DialogSettings(),
            self.database,
            self.table("dialog", DIALOG_KEY, DIALOG_COLUMNS),
            self.agent,
            self.flows,
            other._events,
            self.clock,
            self.timers,
            other,
        )
        self.wait(self.b.start())
        self.b_cluster = other

    def member(self, name: str, host: str) -> Cluster:
        events = self.events if name == "a" else Events()
        made = Cluster(
            ClusterSettings(node=name),
            FakeBus(self.hub),
            self.database,
            FakeFlows(Address("UDP", host, 5060)),
            events,
            self.clock,
            frozenset,
        )
        self.wait(made.start())
        return made

    def use(self, cluster: Cluster) -> None:
        self.dialogs = Dialogs(
            DialogSettings(),
            self.database,
            self.tables["dialog"],
            self.agent,
            self.flows,
            self.events,
            self.clock,
            self.timers,
            cluster,
        )
        self.wait(self.dialogs.start())

    def call(self) -> Call:
        """An answered call of node a, written."""
        call = self.talk()
        self.wait(self.tables["dialog"].flush())
        return call

    def test_rows_of_others_are_left_alone(self) -> None:
        call = self.call()
        self.assertEqual(self.wait(self.b.restore()), 0)
        self.assertEqual([one.did for one in self.dialogs.all()], [call.did])

    def test_death(self) -> None:
        """Who leads goes on with the calls, and the rows are its own."""
        call = self.call()
        node = self.b_cluster.node("a")
        node.alive = False
        self.b_cluster._events.publish(NodeChanged(node, False))
        (found,) = self.b.all()
        self.assertEqual((found.did, found.call_id), (call.did, call.call_id))
        self.wait(self.b.sync())
        self.assertEqual(self.wait(self.dialogs.restore()), 0)
        self.build_again("b")
        self.assertEqual([one.did for one in self.dialogs.all()], [call.did])

    def build_again(self, name: str) -> None:
        """A new process of that name."""
        self.build(DialogSettings())
        self.hub.buses.clear()
        self.use(self.member(name, "192.0.2.2"))

    def test_bye_by_way_of_another_node(self) -> None:
        """The owner is told, by the ``did`` in the Route; of other dialogs it is not."""
        call = self.call()
        owner, self.dialogs = self.dialogs, self.b
        self.within(call, "BYE", cseq=3)
        self.dialogs = owner
        self.assertEqual(words(self.hub, "bye"), [[call.did, call.call_id, "a"]])
        self.assertEqual(list(self.dialogs.all()), [])
        self.assertEqual(call.ended_by, "caller")
        self.b_cluster.publish("bye", [call.did, "another", "a"])
        self.b_cluster.publish("bye", ["x", call.call_id, "a"])
        self.b_cluster.publish("bye", None)
        self.flushLoggedErrors()
