"""Datagrams in turns: what one wake-up reads, and when what it says leaves."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pbx.interfaces import IFlow
from pbx.sip.errors import TransportFailed
from pbx.sip.message import Message
from pbx.transport.udp import BUDGET, MAX_QUEUED
from tests.transport.parts import OPTIONS, FakeReactor, Recorder, connections, udp_port

PEER = ("192.0.2.50", 5060)
ANOTHER = ("192.0.2.51", 5060)
ANSWER = b"SIP/2.0 200 OK\r\n"
REQUEST = b"NOTIFY sip:1001@192.0.2.50 SIP/2.0\r\n"


class Wire:
    """In the place of the socket: what comes, first one first, and what happens, in order."""

    def __init__(self) -> None:
        self.incoming: list[tuple[bytes, tuple[str, int]] | OSError] = []
        self.happened: list[str] = []
        #: What the next datagrams meet; None for those that leave.
        self.errors: list[int | None] = []
        self.open = True

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        if not self.incoming:
            raise BlockingIOError
        found = self.incoming.pop(0)
        if isinstance(found, OSError):
            raise found
        return found

    def sendto(self, data: bytes, peer: tuple[str, int]) -> int:
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise OSError(error, errno.errorcode[error])
        self.happened.append(f"sent {data.split()[0].decode()} to {peer[0][-2:]}")
        return len(data)

    def fileno(self) -> int:
        return 7 if self.open else -1

    def close(self) -> None:
        self.open = False


class User(Recorder):
    """Says something for each message that comes."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self.wire = wire
        self.says: list[bytes] = [ANSWER]
        self.failed: list[str] = []

    def message_received(self, message: Message, flow: IFlow) -> None:
        super().message_received(message, flow)
        self.wire.happened.append("read")
        for data in self.says:
            try:
                if data is ANSWER:
                    flow.send_soon(data)
                else:
                    flow.send(data)
            except TransportFailed as error:
                self.failed.append(error.reason)


class TurnTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.wire = Wire()
        self.user = User(self.wire)
        made = connections(Clock(), self.user)
        self.delivery = made.delivery
        self.reactor = FakeReactor()
        self.port = udp_port(made, self.reactor)
        self.port._socket.close()
        port: Any = self.port
        port._socket = self.wire
        self.addCleanup(self.port.stop)

    def turn(self, *peers: tuple[str, int]) -> list[str]:
        """What happens when from each of these something comes at once."""
        self.wire.incoming += [(OPTIONS, peer) for peer in peers]
        self.wire.happened.clear()
        self.port.doRead()
        return self.wire.happened

    def test_alone(self) -> None:
        """Its answer leaves when it is made, before whoever made it does anything else."""
        self.user.says = [ANSWER, ANSWER]
        self.assertEqual(self.turn(PEER), ["read", "sent SIP/2.0 to 50", "sent SIP/2.0 to 50"])

    def test_many(self) -> None:
        """Answers leave after all of them were read, in their order."""
        self.assertEqual(
            self.turn(PEER, ANOTHER, PEER),
            ["read"] * 3 + ["sent SIP/2.0 to 50", "sent SIP/2.0 to 51", "sent SIP/2.0 to 50"],
        )
        self.assertEqual(self.turn(ANOTHER), ["read", "sent SIP/2.0 to 51"])
        self.assertFalse(self.reactor.writing)
        self.assertEqual((self.delivery.sent, self.port.queued), (4, 0))

    def test_request(self) -> None:
        """It leaves at once, and what was said before it before it."""
        self.user.says = [ANSWER, REQUEST]
        self.assertEqual(
            self.turn(PEER, ANOTHER),
            [
                *("read", "sent SIP/2.0 to 50", "sent NOTIFY to 50"),
                *("read", "sent SIP/2.0 to 51", "sent NOTIFY to 51"),
            ],
        )

    def test_answer_to_invite(self) -> None:
        """As a request: who sends it says that it is urgent."""
        self.user.says = [ANSWER, b"SIP/2.0 180 Ringing\r\n"]
        self.assertEqual(
            self.turn(PEER, ANOTHER),
            [
                *("read", "sent SIP/2.0 to 50", "sent SIP/2.0 to 50"),
                *("read", "sent SIP/2.0 to 51", "sent SIP/2.0 to 51"),
            ],
        )

    def test_budget(self) -> None:
        """What is more waits for the next turn, and nothing is lost between two."""
        happened = self.turn(*[PEER] * (BUDGET + 5))
        self.assertEqual(happened, ["read"] * BUDGET + ["sent SIP/2.0 to 50"] * BUDGET)
        self.assertEqual(self.turn(), ["read"] * 5 + ["sent SIP/2.0 to 50"] * 5)

    def test_kernel_is_full(self) -> None:
        """Answers wait for it, and those of later turns behind them."""
        self.wire.errors = [None, errno.EAGAIN]
        self.assertEqual(self.turn(PEER, PEER, PEER), ["read"] * 3 + ["sent SIP/2.0 to 50"])
        self.assertTrue(self.reactor.writing)
        self.assertEqual(self.port.queued, 2 * len(ANSWER))
        self.wire.errors = [errno.EAGAIN]
        self.user.says = [REQUEST]
        self.assertEqual(self.turn(ANOTHER), ["read"])
        self.port.doWrite()
        self.assertTrue(self.reactor.writing)
        self.port.doWrite()
        self.assertEqual(self.wire.happened[1:], ["sent SIP/2.0 to 50"] * 2 + ["sent NOTIFY to 51"])
        self.assertFalse(self.reactor.writing)

    def test_kernel_is_full_for_a_request(self) -> None:
        """In the middle of a turn: it waits behind the answers."""
        self.user.says = [ANSWER, REQUEST]
        self.wire.errors = [errno.ENOBUFS] * 3
        self.assertEqual(self.turn(PEER, ANOTHER), ["read", "read"])
        self.assertTrue(self.reactor.writing)
        self.port.doWrite()
        self.assertEqual([entry[-2:] for entry in self.wire.happened[2:]], ["50"] * 2 + ["51"] * 2)
        self.assertFalse(self.reactor.writing)

    def test_full_queue(self) -> None:
        """It is bounded, and who sends hears of it."""
        self.user.says = [ANSWER] * (MAX_QUEUED // 2)
        self.wire.errors = [errno.EAGAIN] * 10
        self.turn(PEER, PEER)
        self.assertEqual(self.user.failed, [])
        self.user.says = [ANSWER]
        self.turn(PEER, PEER)
        self.assertEqual(self.user.failed, ["Send Queue Full"] * 2)
        self.assertEqual(self.delivery.send_failures, 2)

    def test_refused(self) -> None:
        """The ICMP error of another datagram costs none, alone or with others."""
        self.wire.errors = [errno.ECONNREFUSED, None]
        self.assertEqual(self.turn(PEER), ["read", "sent SIP/2.0 to 50"])
        self.wire.errors = [errno.ECONNREFUSED, None, errno.ECONNREFUSED]
        self.assertEqual(len(self.turn(PEER, ANOTHER)), 4)
        self.wire.incoming.append(OSError(errno.ECONNREFUSED, "refused"))
        self.assertEqual(len(self.turn(PEER, ANOTHER)), 4)
        self.assertEqual((self.delivery.send_failures, self.user.failed), (0, []))

    def test_no_way(self) -> None:
        """Who sends hears of it; in a turn of many it is counted, and the others leave."""
        self.wire.errors = [errno.ENETUNREACH]
        self.assertEqual(self.turn(PEER), ["read"])
        self.assertEqual(self.user.failed, ["ENETUNREACH"])
        self.wire.errors = [errno.ENETUNREACH]
        self.assertEqual(self.turn(PEER, ANOTHER), ["read", "read", "sent SIP/2.0 to 51"])
        self.assertEqual(self.delivery.send_failures, 2)
        self.user.says = [REQUEST]
        self.wire.errors = [errno.ENETUNREACH]
        self.assertEqual(self.turn(PEER, ANOTHER), ["read", "read", "sent NOTIFY to 51"])
        self.assertEqual(self.user.failed, ["ENETUNREACH"] * 2)

    def test_broken_socket(self) -> None:
        """Errors without an end are left for the next turn."""
        self.wire.incoming = [OSError(errno.ENOMEM, "no memory") for _ in range(1000)]
        self.port.doRead()
        self.assertGreater(len(self.wire.incoming), 900)

    def test_stopped(self) -> None:
        """In the middle of a turn: what was said leaves, and nothing fails."""
        received = self.user.message_received

        def stop_at_the_second(message: Message, flow: IFlow) -> None:
            received(message, flow)
            if len(self.user.messages) == 2:
                self.port.stop()

        self.user.message_received = stop_at_the_second  # type: ignore[method-assign]
        self.assertEqual(
            self.turn(PEER, ANOTHER), ["read"] * 2 + ["sent SIP/2.0 to 50", "sent SIP/2.0 to 51"]
        )
        self.assertFalse(self.wire.open)
