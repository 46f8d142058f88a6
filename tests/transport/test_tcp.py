"""Connections with a fake wire and clock."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.address import Address
from pbx.sip.errors import TransportFailed
from pbx.transport.connection import Connection
from pbx.transport.settings import TransportSettings
from pbx.transport.tcp import Listener, StreamFactory, StreamProtocol
from tests.transport.parts import OPTIONS, Recorder, Tap, connections

PEER = IPv4Address("TCP", "192.0.2.50", 40000)


class FakeTCP(StringTransport):
    """StringTransport with what TCP sockets have besides."""

    aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.nodelay = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.keepalive = enabled

    def abortConnection(self) -> None:
        self.aborted = True


class StreamTestCase(SynchronousTestCase):
    settings = TransportSettings()

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.user = Recorder()
        self.connections = connections(self.clock, self.user, self.settings)
        self.factory = StreamFactory(self.connections, "TCP")
        self.factory.listener = Listener(Address("TCP", "0.0.0.0", 5060))
        self.protocol = self.accept()
        self.wire: FakeTCP = self.protocol.transport  # type: ignore[assignment]
        self.flow: Connection = self.protocol.connection  # type: ignore[assignment]

    def accept(self, peer: IPv4Address = PEER) -> StreamProtocol:
        protocol = self.factory.buildProtocol(peer)
        assert protocol is not None
        protocol.makeConnection(FakeTCP(IPv4Address("TCP", "192.0.2.1", 5060), peer))
        return protocol

    def wait(self, seconds: float) -> None:
        self.clock.pump([0.5] * int(seconds / 0.5))

    def lose(self) -> None:
        self.protocol.connectionLost()


class TapTests(StreamTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.tap = Tap()
        self.connections.delivery.tap(self.tap)

    @property
    def seen(self) -> list[tuple[bool, bytes]]:
        return [(sent, data) for sent, _, data in self.tap.seen]

    def test_whole_messages(self) -> None:
        """A tap sees messages, not segments, as they came, and no keep-alives."""
        folded = OPTIONS.replace(b"Call-ID: call-1", b"Subject: a\r\n b\r\ni: call-1")
        self.protocol.dataReceived(folded[:40])
        self.protocol.dataReceived(folded[40:] + b"\r\n\r\n" + OPTIONS)
        self.assertEqual(self.seen, [(False, folded), (False, OPTIONS)])
        self.flow.send(OPTIONS)
        self.assertEqual(self.seen[2:], [(True, OPTIONS)])

    def test_what_cannot_be_read(self) -> None:
        bad = OPTIONS.replace(b"CSeq: 1 OPTIONS", b"CSeq: one")
        self.protocol.dataReceived(bad)
        self.protocol.dataReceived(b"no SIP at all\r\n\r\n")
        self.assertEqual(self.seen, [(False, bad), (False, b"no SIP at all\r\n\r\n")])


class FramingTests(StreamTestCase):
    def test_message_in_pieces(self) -> None:
        """18.3: the end of a message is found by Content-Length, wherever segments end."""
        for at in range(0, len(OPTIONS), 7):
            self.protocol.dataReceived(OPTIONS[at : at + 7])
        self.assertEqual(self.user.lines, ["OPTIONS sip:pbx.test SIP/2.0"])

    def test_two_messages_in_one_segment(self) -> None:
        self.protocol.dataReceived(OPTIONS * 2)
        self.assertEqual(len(self.user.messages), 2)

    def test_received_and_rport(self) -> None:
        """18.2.1 and RFC 3581."""
        self.protocol.dataReceived(OPTIONS)
        via = self.user.messages[0][0].via
        self.assertEqual(via.params.get("received"), "192.0.2.50")
        self.assertEqual(via.params.get("rport"), "40000")

    def test_ping_is_answered(self) -> None:
        """RFC 5626 section 3.5.1: double CRLF gets one CRLF."""
        self.protocol.dataReceived(b"\r\n\r\n")
        self.assertEqual(self.wire.value(), b"\r\n")
        self.assertEqual(self.user.messages, [])

    def test_no_content_length(self) -> None:
        """18.3: reported, and the connection is closed, for the rest cannot be read."""
        self.protocol.dataReceived(OPTIONS.replace(b"Content-Length: 0\r\n", b""))
        self.assertEqual(len(self.user.malformed), 1)
        self.assertTrue(self.wire.disconnecting)
        self.assertTrue(self.flow.closed)

    def test_via_without_sense_is_malformed(self) -> None:
        self.protocol.dataReceived(OPTIONS.replace(b"Via: SIP/2.0/TCP phone.test:5070", b"Via: ?"))
        self.assertEqual(self.user.messages, [])
        self.assertEqual(len(self.user.malformed), 1)

    def test_user_that_raises_harms_nobody(self) -> None:
        self.connections.delivery.user = None
        self.protocol.dataReceived(OPTIONS)
        broken = Recorder()
        broken.messages = None  # type: ignore[assignment]
        self.connections.delivery.user = broken
        self.protocol.dataReceived(OPTIONS)
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
        self.connections.delivery.user = self.user
        self.protocol.dataReceived(OPTIONS)
        self.assertEqual(len(self.user.messages), 1)


class LifetimeTests(StreamTestCase):
    def test_rest_of_a_message_is_not_waited_for_long(self) -> None:
        """tcp_max_msg_time, 4 s."""
        self.protocol.dataReceived(OPTIONS[:50])
        self.wait(3.5)
        self.assertFalse(self.wire.aborted)
        self.wait(1)
        self.assertTrue(self.wire.aborted)

    def test_drop_by_drop_does_not_help(self) -> None:
        """The time runs from the first byte of a message."""
        for at in range(10):
            self.protocol.dataReceived(OPTIONS[at : at + 1])
            self.wait(0.5)
        self.assertTrue(self.wire.aborted)

    def test_complete_message_starts_anew(self) -> None:
        self.protocol.dataReceived(OPTIONS[:50])
        self.wait(3)
        self.protocol.dataReceived(OPTIONS[50:])
        self.wait(60)
        self.assertFalse(self.wire.aborted)

    def test_idle(self) -> None:
        """120 s without traffic, counted from the last of it."""
        self.wait(100)
        self.protocol.dataReceived(b"\r\n\r\n")
        self.wait(119)
        self.assertFalse(self.flow.closed)
        self.wait(2)
        self.assertTrue(self.flow.closed)
        self.assertTrue(self.wire.disconnecting)

    def test_registration_keeps_it(self) -> None:
        """O9: the lifetime is bound to the registration."""
        self.flow.keep(600)
        self.wait(599)
        self.assertFalse(self.flow.closed)
        self.wait(2)
        self.assertTrue(self.flow.closed)

    def test_peer_that_does_not_let_itself_be_closed(self) -> None:
        self.flow.close()
        self.wait(3)
        self.assertTrue(self.wire.aborted)

    def test_lost(self) -> None:
        self.lose()
        self.assertEqual(self.user.closed, [self.flow])
        self.assertIsNone(self.connections.find(self.flow.peer))
        self.assertIsNone(self.connections.by_token(self.flow.token))
        self.assertEqual(len(self.connections), 0)
        with self.assertRaises(TransportFailed):
            self.flow.send(b"x")
        self.wait(600)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_tokens_differ(self) -> None:
        other = self.accept(IPv4Address("TCP", "192.0.2.51", 40000)).connection
        assert other is not None
        self.assertNotEqual(other.token, self.flow.token)
        self.assertIs(self.connections.by_token(other.token), other)


class SlowPeerTests(StreamTestCase):
    settings = TransportSettings(max_queued=1000, send_time=10)

    def test_too_much_is_queued(self) -> None:
        self.flow.pauseProducing()
        self.flow.send(b"x" * 1000)
        with self.assertRaises(TransportFailed):
            self.flow.send(b"x")
        self.assertTrue(self.wire.aborted)

    def test_too_long(self) -> None:
        self.flow.pauseProducing()
        self.wait(11)
        self.assertTrue(self.wire.aborted)

    def test_catches_up(self) -> None:
        for _ in range(10):
            self.flow.pauseProducing()
            self.flow.send(b"x" * 900)
            self.wait(9)
            self.flow.resumeProducing()
        self.wait(20)
        self.assertFalse(self.wire.aborted)


class AliasTests(StreamTestCase):
    aliased = OPTIONS.replace(b";rport", b";rport;alias")

    def test_ignored_by_default(self) -> None:
        self.protocol.dataReceived(self.aliased)
        self.assertIsNone(self.connections.find(Address("TCP", "192.0.2.50", 5070)))

    def test_connection_stands_for_the_advertised_port(self) -> None:
        """RFC 5923: never for a port that another connection has."""
        self.connections.settings = TransportSettings(accept_aliases=True)
        self.protocol.dataReceived(self.aliased)
        alias = Address("TCP", "192.0.2.50", 5070)
        self.assertIs(self.connections.find(alias), self.flow)
        thief = self.accept(IPv4Address("TCP", "192.0.2.50", 40001))
        thief.dataReceived(self.aliased)
        self.assertIs(self.connections.find(alias), self.flow)
        self.lose()
        self.assertIsNone(self.connections.find(alias))


class LimitTests(StreamTestCase):
    settings = TransportSettings(max_connections=3, max_connections_per_source=2)

    def test_per_source_and_in_all(self) -> None:
        self.accept(IPv4Address("TCP", "192.0.2.50", 40001))
        self.assertIsNone(self.factory.buildProtocol(PEER))
        self.accept(IPv4Address("TCP", "192.0.2.51", 40001))
        other = IPv4Address("TCP", "192.0.2.52", 40001)
        self.assertIsNone(self.factory.buildProtocol(other))
        self.lose()
        self.assertIsNotNone(self.factory.buildProtocol(other))
