"""Bindings of one node in the memory of another."""

from __future__ import annotations

from pbx.events import Events, FlowClosed, NewsLost, Unregistered
from pbx.interfaces import IDatabase
from pbx.services.cluster import Cluster, ClusterSettings
from pbx.services.registrar import LOCATION_COLUMNS, LOCATION_KEY, Registrar, RegistrarSettings
from pbx.sip.address import Address
from pbx.sip.uri import URI
from pbx.storage.write_behind import WriteBehind
from pbx.timing import TimerWheel
from pbx.verdicts import Relay, Target
from tests.fakes import LOCAL, FakeFlows
from tests.services.cluster_case import FakeBus, Hub, words
from tests.services.registrar_case import (
    PHONE,
    FakeDomains,
    RegistrarTestCase,
    browser_flow,
)

HOSTS = {"a": LOCAL.host, "b": "192.0.2.2", "c": "192.0.2.3"}


class Side:
    """One node's registrar, cluster and queue."""

    def __init__(self, case: SharingTestCase, name: str) -> None:
        self.name = name
        self.flows = FakeFlows(Address("UDP", HOSTS[name], 5060))
        self.events = Events()
        self.happened: list[object] = []
        self.events.subscribe(Unregistered, self.happened.append)
        self.timers = TimerWheel(case.clock)
        self.bus = FakeBus(case.hub)
        database: IDatabase = case.database
        settings = ClusterSettings(node=name)
        self.cluster = Cluster(
            settings, self.bus, database, self.flows, self.events, case.clock, frozenset
        )
        self.queue = WriteBehind(database, case.clock, "location", LOCATION_KEY, LOCATION_COLUMNS)
        self.registrar = Registrar(
            RegistrarSettings(max_contacts=2),
            database,
            self.queue,
            None,
            FakeDomains(),
            self.flows,
            self.events,
            case.clock,
            self.timers,
            self.cluster,
        )
        case.done(self.cluster.start())
        case.done(self.registrar.start())


class SharingTestCase(RegistrarTestCase):
    """``self.registrar`` is that of the side that `at` chose."""

    def use(self, **settings: object) -> None:
        self.hub = Hub()
        self.a, self.b = Side(self, "a"), Side(self, "b")
        self.at(self.a)
        self.wait(1)

    def at(self, side: Side) -> None:
        self.registrar = side.registrar
        self.write_behind = side.queue

    def wait(self, seconds: float) -> None:
        self.clock.pump([0.1] * int(seconds * 10))

    def targets(self, side: Side) -> list[Target]:
        return list(side.registrar.lookup(URI.parse("sip:1001@pbx.test"), "INVITE"))

    def kill(self, side: Side) -> None:
        """It says nothing more, not even good-bye."""
        side.bus.connected = False
        side.cluster._periodic.stop()
        side.queue.stop()
        side.registrar.location.stop()


class NewsTests(SharingTestCase):
    def test_binding_of_another_node(self) -> None:
        """Is reached through that node, whatever transport the phone uses."""
        self.register(nat=True)
        self.assertEqual(self.targets(self.b), [])
        self.wait(0.2)
        (target,) = self.targets(self.b)
        self.assertEqual(str(target.uri), PHONE)
        self.assertEqual((target.flow, target.next_hop, target.behind_nat), (None, None, False))
        self.assertIn(f"@{HOSTS['a']}:5060;lr>", target.path[0])
        verdict = self.a.cluster.forwarded(
            URI.parse(target.path[0].strip("<>")), Address("UDP", HOSTS["b"], 5060)
        )
        self.assertEqual(verdict, Relay(tuple(self.targets(self.a))))

    def test_browser(self) -> None:
        """As well, until its connection is closed."""
        flow = browser_flow()
        self.browser(flow)
        self.wait(0.2)
        (target,) = self.targets(self.b)
        self.assertTrue(target.path)
        self.assertEqual(target.instance, "<urn:uuid:b>")
        flow.close()
        self.a.events.publish(FlowClosed(flow))
        self.wait(0.2)
        self.assertEqual(self.targets(self.b), [])

    def test_dead_node(self) -> None:
        """UDP phones are sent to directly, browsers are out of reach; and back again."""
        self.register()
        self.browser(browser_flow())
        self.wait(0.2)
        self.assertEqual(len(self.targets(self.b)), 2)
        self.kill(self.a)
        self.wait(5)
        (target,) = self.targets(self.b)
        self.assertEqual((target.path, target.next_hop, target.socket), ((), None, None))
        self.assertEqual(str(target.uri), PHONE)
        self.a.bus.connected = True
        self.a.cluster._periodic.start()
        self.wait(2)
        self.assertEqual(len(self.targets(self.b)), 2)

    def test_phone_moves(self) -> None:
        """The id stays, the owner is another; nobody but the owner writes the row."""
        self.register()
        self.wait(2)
        self.at(self.b)
        self.register()
        self.wait(0.2)
        self.assertEqual(self.rows("pbx_node, cseq"), [("b", 2)])
        (target,) = self.targets(self.a)
        self.assertIn(HOSTS["b"], target.path[0])
        self.assertEqual(len(self.a.happened), 1)
        self.wait(5)
        self.assertEqual((self.rows("pbx_node"), self.a.queue.waiting), ([("b",)], 0))

    def test_removed_at_another_node(self) -> None:
        self.register()
        self.wait(0.2)
        self.at(self.b)
        self.register(f"<{PHONE}>;expires=0")
        self.wait(2)
        self.assertEqual((self.targets(self.a), self.targets(self.b)), ([], []))
        self.assertEqual(self.rows(), [])

    def test_displaced_by_another_node(self) -> None:
        """Oddity O11 counts the contacts of all nodes."""
        for port in (1, 2):
            self.register(f"<sip:1001@192.0.2.50:{port}>", call_id=f"c{port}")
            self.wait(1)
        self.at(self.b)
        self.register("<sip:1001@192.0.2.50:3>", call_id="c3")
        self.wait(2)
        for side in (self.a, self.b):
            found = [str(target.uri).rpartition(":")[2] for target in self.targets(side)]
            self.assertEqual(sorted(found), ["2", "3"])
        self.assertEqual(self.rows("pbx_node"), [("a",), ("b",)])

    def test_registered_at_both_before_the_news(self) -> None:
        """One binding is left, the newer one, and one row."""
        self.register(call_id="c1")
        self.clock.advance(0.01)
        self.at(self.b)
        self.register(call_id="c1")
        self.wait(3)
        for side in (self.a, self.b):
            self.assertEqual(len(self.targets(side)), 1)
        self.assertEqual(self.rows("pbx_node"), [("b",)])

    def test_expiry(self) -> None:
        """Each forgets by itself; the owner deletes the row, or who leads when it is dead."""
        self.register("<sip:1001@192.0.2.50>;expires=60")
        self.wait(2)
        self.kill(self.a)
        self.wait(70)
        self.assertEqual(self.targets(self.b), [])
        self.at(self.b)
        self.assertEqual(self.rows(), [])
        self.assertEqual(self.b.happened, [])

    def test_pings_come_from_the_owner(self) -> None:
        self.register(nat=True)
        self.wait(0.2)
        self.assertEqual(len(list(self.a.registrar.pingable())), 1)
        self.assertEqual(list(self.b.registrar.pingable()), [])

    def test_bulk(self) -> None:
        """Many changes are few words, and a refresh in the same moment is none."""
        for number in range(450):
            for _ in range(2):
                contact = f"<sip:u{number}@192.0.2.50>"
                self.register(contact, user=f"u{number}", call_id=f"c{number}")
        self.wait(0.2)
        said = words(self.hub, "location")
        self.assertEqual([len(body) for body in said], [200, 200, 50])
        self.assertEqual(self.b.registrar.location.contacts, 450)

    def test_garbage(self) -> None:
        """What is not understood is left out, the rest counts."""
        self.register()
        self.wait(0.2)
        (row,) = words(self.hub, "location")[0]
        wrong = [*row]
        wrong[6] = "soon"
        other = [*row]
        other[0], other[1] = row[0] + 1, "1002"
        self.a.cluster.publish("location", [wrong, ["x"], other])
        self.a.cluster.publish("location", [wrong, other])
        found = self.b.registrar.lookup(URI.parse("sip:1002@pbx.test"))
        self.assertEqual(len(found), 1)
        self.flushLoggedErrors()


class LostNewsTests(SharingTestCase):
    """The table tells what the bus did not."""

    def cut(self) -> None:
        self.b.bus.connected = False

    def mend(self) -> None:
        self.b.bus.connected = True
        self.b.events.publish(NewsLost())

    def test_added_and_removed(self) -> None:
        self.register("<sip:1001@192.0.2.50:1>;expires=600", call_id="c1")
        self.wait(40)
        self.cut()
        self.register("<sip:1001@192.0.2.50:1>;expires=0", call_id="c1")
        self.register("<sip:1001@192.0.2.50:2>;expires=600", call_id="c2")
        self.mend()
        self.wait(10)
        self.assertEqual([str(t.uri) for t in self.targets(self.b)], ["sip:1001@192.0.2.50:2"])

    def test_news_that_come_before_the_row(self) -> None:
        """A fresh copy stays although the table does not have it yet."""
        self.mend()
        self.wait(3)
        self.a.queue._interval = 1000.0
        self.register()
        self.wait(10)
        self.assertEqual(len(self.targets(self.b)), 1)

    def test_by_hand(self) -> None:
        """``ul_cluster_sync``."""
        self.wait(25)
        self.cut()
        self.register()
        self.wait(2)
        self.b.bus.connected = True
        (sync,) = [one[2] for one in self.b.registrar.commands() if one[0] == "ul_cluster_sync"]
        self.assertEqual(sync(), "OK")
        self.wait(10)
        self.assertEqual(len(self.targets(self.b)), 1)

    def test_database_away(self) -> None:
        """Tried again until it is back."""
        self.cut()
        self.register()
        self.wait(0.2)
        self.done(self.a.queue.flush())
        self.done(self.database.execute("ALTER TABLE location RENAME TO elsewhere"))
        self.mend()
        self.wait(25)
        self.assertEqual(self.targets(self.b), [])
        self.done(self.database.execute("ALTER TABLE elsewhere RENAME TO location"))
        self.wait(25)
        self.assertEqual(len(self.targets(self.b)), 1)

    def test_start_while_news_come(self) -> None:
        """A row that was told already is not taken twice."""
        self.register()
        self.wait(2)
        c = Side(self, "c")
        self.wait(10)
        self.assertEqual(c.registrar.location.contacts, 1)
        (target,) = self.targets(c)
        self.assertTrue(target.path)


class AloneTests(RegistrarTestCase):
    def test_rows_of_a_cluster(self) -> None:
        """Without a cluster every row is ours."""
        self.register()
        self.done(self.write_behind.flush())
        self.done(self.database.execute("UPDATE location SET pbx_node = 'b'"))
        self.restart()
        (target,) = self.lookup()
        self.assertEqual(target.path, ())
