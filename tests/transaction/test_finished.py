"""What is kept of finished transactions: the same bytes for a repeat, within bounds."""

from __future__ import annotations

import gc

from hypothesis import given
from hypothesis import strategies as some
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pbx.interfaces import (
    IClientTransaction,
    IClientUser,
    IFlow,
    IServerTransaction,
    ITransactionUser,
)
from pbx.sip.message import Message, Request, Response, response_to
from pbx.sip.parser import parse
from pbx.timing import TimerWheel
from pbx.transaction.client import ClientTransaction
from pbx.transaction.finished import Finished, restored, shortened
from pbx.transaction.layer import TransactionLayer
from pbx.transaction.server import ServerTransaction
from pbx.transaction.timers import Timers
from tests.fakes import FakeFlow

NONCE = "0123456789" * 4
CHALLENGE = (("WWW-Authenticate", f'Digest realm="pbx.test", nonce="{NONCE}", algorithm=MD5'),)


def register(number: int = 1, more: str = "", to: str = "<sip:1001@pbx.test>") -> bytes:
    """As a phone sends it."""
    return (
        "REGISTER sip:pbx.test SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 192.0.2.50:5060;branch=z9hG4bK-{number};rport\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:1001@pbx.test>;tag=f{number}\r\n{more}"
        f"To: {to}\r\nCall-ID: call-{number}@192.0.2.50\r\nCSeq: 1 REGISTER\r\n"
        "Contact: <sip:1001@192.0.2.50>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def read(data: bytes) -> Request:
    found = parse(data)
    assert isinstance(found, Request)
    return found


class ShortenedTests(SynchronousTestCase):
    def kept(self, sent: bytes, response: Response) -> bytes:
        """What is kept of a response, which says the same when the request comes again."""
        data = bytes(response)
        kept = shortened(read(sent), response, data)
        self.assertEqual(restored(read(sent), kept), data)
        return kept

    def test_own_response(self) -> None:
        """Status, tag and own headers are kept: less than 60 % of a challenge."""
        response = response_to(read(register()), 401, headers=CHALLENGE, to_tag="abc-1")
        kept = self.kept(register(), response)
        self.assertNotIn(b"call-1", kept)
        self.assertIn(b";tag=abc-1", kept)
        self.assertLess(len(kept), 0.6 * len(bytes(response)))

    def test_many_kinds(self) -> None:
        """Bodies, tags of the request, folds, compact names, headers in between, lists."""
        for more, to in (
            ("", "<sip:1001@pbx.test>;tag=known"),
            ("", "<sip:1001@pbx.test>\r\n ;x=1"),
            ("Subject: x\r\nv: SIP/2.0/UDP 192.0.2.51;branch=z9hG4bK-2\r\n", "sip:1001@pbx.test"),
            ("".join(f"X-Filler: {at}\r\n" for at in range(60)), "<sip:1001@pbx.test>"),
            ("Subject: \u00e4\r\n", '"\u00e4" <sip:1001@pbx.test>'),
        ):
            sent = register(more=more, to=to)
            for status, reason, body in (
                (200, "", b""),
                (404, "Nobody", b"\xff\0"),
                (486, "", b"x"),
            ):
                for tag in ("", "t", "t" * 300):
                    response = response_to(read(sent), status, reason, CHALLENGE, body, tag)
                    self.kept(sent, response)

    def test_relayed_response(self) -> None:
        """The lines of who answered, in any order, spelt in any way."""
        lines = bytes(response_to(read(register()), 200, to_tag="far")).split(b"\r\n")
        head, echoed = lines[:1], lines[1:6]
        for order in (echoed, echoed[::-1], [*echoed[3:], b"Server: x", *echoed[:3]]):
            data = b"\r\n".join([*head, *order, b"l: 2", b"", b"ok"])
            response = parse(data)
            assert isinstance(response, Response)
            self.kept(register(), response)

    @given(some.lists(some.sampled_from(register().decode().split("\r\n")[1:]), max_size=12))
    def test_any_order(self, lines: list[str]) -> None:
        """Whatever lines a response has, nothing is lost."""
        found = [line for line in lines if line]
        names = [line.partition(":")[0].lower() for line in found]
        self.kept(register(), Response(200, "OK", names, found))

    def test_another_request(self) -> None:
        """One that is shorter is no repeat: it gets no answer rather than half of one."""
        request = read(register(more="Subject: x\r\n"))
        kept = shortened(request, response_to(request, 200), bytes(response_to(request, 200)))
        other = Request(request.method, request.uri_text, request.names[:3], request.lines[:3])
        self.assertEqual(restored(other, kept), b"")


class FinishedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = TimerWheel(self.clock)

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds * 10):
            self.clock.advance(0.1)

    def test_bytes(self) -> None:
        """The oldest go when there is too much; one that is too large takes all the room."""
        found = Finished(self.wheel, 32, 100, 1000)
        for number in range(20):
            found.add(f"key-{number}", bytes(100))
            self.pass_time(1)
        self.assertEqual((len(found), found.bytes), (10, 1000))
        self.assertIsNone(found.find("key-9"))
        self.assertEqual(found.find("key-10"), bytes(100))
        found.add("key-19", bytes(50))
        self.assertEqual((len(found), found.bytes), (10, 950))
        found.add("large", bytes(2000))
        self.assertEqual((len(found), found.bytes), (0, 0))
        found.add("after", b"x")
        self.assertEqual(found.find("after"), b"x")
        self.pass_time(35)
        self.assertEqual((len(found), found.bytes, len(self.wheel)), (0, 0, 0))

    def test_each_its_time(self) -> None:
        """32 s, and up to one more."""
        found = Finished(self.wheel, 32, 100, 1000)
        for number in range(5):
            found.add(f"key-{number}", b"x")
            self.pass_time(7)
        kept = [found.find(f"key-{number}") is not None for number in range(5)]
        self.assertEqual(kept, [False, True, True, True, True])


@implementer(ITransactionUser, IClientUser)
class Answerer:
    """Answers every request at once, an INVITE with 486, and keeps nothing."""

    def request_received(self, transaction: IServerTransaction) -> None:
        request = transaction.request
        if request.method == "INVITE":
            transaction.respond(response_to(request, 486, to_tag="t"))
        else:
            transaction.respond(response_to(request, 401, headers=CHALLENGE, to_tag="t"))

    def cancel_received(
        self, cancel: IServerTransaction, invite: IServerTransaction | None
    ) -> None:
        cancel.respond(response_to(cancel.request, 481))

    def ack_received(self, ack: Request, flow: IFlow) -> None:
        pass

    def stray_response(self, response: Response, flow: IFlow) -> None:
        pass

    def acknowledged(self, transaction: IServerTransaction) -> None:
        pass

    def flow_closed(self, flow: IFlow) -> None:
        pass

    def response_received(self, transaction: IClientTransaction, response: Response) -> None:
        pass

    def transaction_failed(self, transaction: IClientTransaction, status: int) -> None:
        pass


def held() -> int:
    """Transactions and messages that the collector knows, dead or alive."""
    kinds = (ServerTransaction, ClientTransaction, Message)
    return sum(isinstance(one, kinds) for one in gc.get_objects())


class BoundTests(SynchronousTestCase):
    """High rates: what is held stays within the bounds, and all of it is given back."""

    RATE, SECONDS = 400, 40

    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = TimerWheel(self.clock)
        self.timers = Timers(max_finished=4000, max_finished_bytes=500_000)
        self.layer = TransactionLayer(self.timers, self.clock, self.wheel)
        self.layer.deliver_to(Answerer())
        self.flow = FakeFlow()
        # What is counted must go without the collector's help.
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)

    def operation(self, number: int) -> None:
        """A REGISTER, a refused call, and a request of our own with its answer."""
        layer, flow = self.layer, self.flow
        layer.message_received(read(register(number)), flow)
        invite = read(register(number).replace(b"REGISTER", b"INVITE"))
        layer.message_received(invite, flow)
        ack = response_to(invite, 486, to_tag="t")
        lines = [line.replace("1 INVITE", "1 ACK") for line in ack.lines]
        layer.message_received(Request("ACK", invite.uri_text, ack.names, lines), flow)
        own = read(register(number).replace(b"z9hG4bK", b"z9hG4bK-own"))
        layer.send(own, flow, Answerer())
        layer.message_received(response_to(own, 200), flow)
        flow.sent.clear()

    def test_high_rate(self) -> None:
        """16,000 operations at 400/s, three transactions each."""
        before = held()
        most = most_bytes = most_waiting = 0
        number = 0
        for _ in range(self.SECONDS * 10):
            for _ in range(self.RATE // 10):
                number += 1
                self.operation(number)
            self.clock.advance(0.1)
            most = max(most, len(self.layer._done_servers))
            most_bytes = max(most_bytes, self.layer._done_servers.bytes)
            most_waiting = max(most_waiting, self.layer.counts()["inuse_transactions"])
        self.assertEqual(number, 16_000)
        # It came up to a bound and stayed there; INVITEs wait for timer I, 5 s.
        self.assertLessEqual(most, self.timers.max_finished)
        self.assertLessEqual(most_bytes, self.timers.max_finished_bytes)
        self.assertGreater(most_bytes, 0.99 * self.timers.max_finished_bytes)
        self.assertLessEqual(most_waiting, 5.2 * self.RATE)
        # The newest are answered again, as before; the oldest were forgotten.
        self.layer.message_received(read(register(number)), self.flow)
        self.assertTrue(self.flow.sent[0].startswith(b"SIP/2.0 401 "))
        self.assertEqual(self.layer.counts()["received_retransmissions"], 1)
        for _ in range(380):
            self.clock.advance(0.1)
        counts = self.layer.counts()
        for name in ("inuse_transactions", "finished_transactions", "finished_bytes"):
            self.assertEqual(counts[name], 0, name)
        self.assertEqual(len(self.wheel), 0)
        self.assertEqual(held(), before)
