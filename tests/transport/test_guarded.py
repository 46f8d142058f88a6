"""What transports do with sources that send too much, or that are banned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pbx.config import settings
from pbx.events import Events
from pbx.services.guard import Guard, GuardSettings
from pbx.sip.address import Address
from pbx.storage.memory import memory_database
from pbx.transport.tcp import Listener, StreamFactory, StreamProtocol
from tests.transport.parts import OPTIONS, FakeReactor, Recorder, connections, udp_port
from tests.transport.test_tcp import FakeTCP

HOST = "192.0.2.50"
PEER = IPv4Address("TCP", HOST, 40000)
SCAN = OPTIONS.replace(b"Content-Length", b"User-Agent: friendly-scanner\r\nContent-Length")


class GuardedTestCase(SynchronousTestCase):
    """Ten messages a second, ten at once."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.user = Recorder()
        self.connections = connections(self.clock, self.user)
        database = memory_database(self.clock)
        self.successResultOf(Deferred.fromCoroutine(self.start(database)))
        found = settings(GuardSettings, {"rate": 10.0, "burst": 10}, "guard")
        self.guard = Guard(found, database, Events(), self.clock)
        self.connections.delivery.guard = self.guard

    async def start(self, database: Any) -> None:
        await database.start()

    def ban(self, host: str = HOST) -> None:
        commands: dict[str, Callable[..., object]] = {n: f for n, _, f in self.guard.commands()}
        commands["ban"](host, "60")


class StreamTests(GuardedTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.factory = StreamFactory(self.connections, "TCP")
        self.factory.listener = Listener(Address("TCP", "0.0.0.0", 5060))
        protocol = self.factory.buildProtocol(PEER)
        assert protocol is not None
        self.protocol: StreamProtocol = protocol
        self.wire = FakeTCP(IPv4Address("TCP", "192.0.2.1", 5060), PEER)
        self.protocol.makeConnection(self.wire)

    def test_too_much(self) -> None:
        """What came is delivered; the peer is read from again when it has earned it."""
        self.protocol.dataReceived(OPTIONS * 15)
        self.assertEqual(len(self.user.messages), 15)
        self.assertEqual(self.wire.producerState, "paused")
        self.clock.advance(0.4)
        self.assertEqual(self.wire.producerState, "paused")
        self.clock.advance(0.2)
        self.assertEqual(self.wire.producerState, "producing")
        self.protocol.dataReceived(OPTIONS)
        self.assertEqual(len(self.user.messages), 16)

    def test_segments(self) -> None:
        """Single bytes are no way around it, and whole messages in many segments cost the same."""
        for _ in range(3):
            self.protocol.dataReceived(OPTIONS[:100])
            self.protocol.dataReceived(OPTIONS[100:])
        self.assertEqual(len(self.user.messages), 3)
        self.assertEqual(self.guard.source(HOST).tokens, 10 - 6)

    def test_closed_while_it_waits(self) -> None:
        self.protocol.dataReceived(OPTIONS * 15)
        self.protocol.connectionLost()
        self.clock.advance(5)
        self.assertEqual(self.wire.producerState, "paused")

    def test_banned(self) -> None:
        """An open connection is cut off before what came is read, a new one not taken."""
        self.ban()
        self.protocol.dataReceived(OPTIONS)
        self.assertTrue(self.wire.aborted)
        self.assertEqual(self.user.messages, [])
        self.assertIsNone(self.factory.buildProtocol(PEER))
        self.clock.advance(61)
        self.assertIsNotNone(self.factory.buildProtocol(PEER))

    def test_scanner(self) -> None:
        """Its first request is not delivered; with the next one it is cut off."""
        self.protocol.dataReceived(SCAN)
        self.assertEqual(self.user.messages, [])
        self.assertTrue(self.wire.aborted)

    def test_behind_a_proxy(self) -> None:
        """The real client counts."""
        flow = self.protocol.connection
        assert flow is not None
        flow.is_from("192.0.2.7")
        self.assertEqual(flow.peer.host, "192.0.2.7")
        self.ban("192.0.2.7")
        self.protocol.dataReceived(OPTIONS)
        self.assertTrue(self.wire.aborted)


class DatagramTests(GuardedTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.port = udp_port(self.connections, FakeReactor())
        self.addCleanup(self.port.stop)

    def receive(self, count: int, host: str = HOST, data: bytes = OPTIONS, port: int = 5060) -> int:
        """How many of so many datagrams are delivered."""
        self.user.messages.clear()
        for _ in range(count):
            self.port._datagram_received(data, (host, port))
        return len(self.user.messages)

    def test_too_much(self) -> None:
        """What is above is dropped in silence, from whatever port; others are not hurt."""
        self.assertEqual(self.receive(8), 8)
        self.assertEqual(self.receive(8, port=5070), 2)
        self.assertEqual(self.receive(8, "192.0.2.51"), 8)
        self.clock.advance(0.5)
        self.assertEqual(self.receive(8), 5)

    def test_garbage_counts(self) -> None:
        self.receive(10, data=b"GET / HTTP/1.0\r\n\r\n")
        self.assertEqual(self.receive(5), 0)

    def test_keep_alives_do_not(self) -> None:
        self.receive(100, data=b"\r\n\r\n")
        self.assertEqual(self.receive(5), 5)

    def test_banned(self) -> None:
        self.assertEqual(self.receive(1), 1)
        self.ban()
        self.assertEqual(self.receive(5), 0)
        self.assertEqual(self.guard.statistics()["guard:dropped_ban"], 5)
        self.clock.advance(61)
        self.assertEqual(self.receive(5), 5)

    def test_scanner(self) -> None:
        self.assertEqual(self.receive(1, data=SCAN), 0)
        self.assertEqual(self.receive(5), 0)
        self.assertEqual(self.receive(5, "192.0.2.51"), 5)
