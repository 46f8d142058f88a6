"""Matching, refusal and bounds of the transaction layer (RFC 3261 sections 17.1.3, 17.2.3)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pbx.config import ConfigError, settings
from pbx.interfaces import (
    IClientTransaction,
    IClientUser,
    IFlow,
    IServerTransaction,
    IStatistics,
    ITransactions,
    ITransactionUser,
    ITransportUser,
)
from pbx.sip.address import Address
from pbx.sip.errors import MalformedMessage, TransportFailed
from pbx.sip.message import Request, Response, response_to
from pbx.timing import TimerWheel
from pbx.transaction.layer import TransactionLayer
from pbx.transaction.nobody import Nobody
from pbx.transaction.timers import Timers
from tests.fakes import FakeFlow, FakeFlows, message, request


@implementer(ITransactionUser, IClientUser)
class Recorder:
    """A user that answers with ``status`` at once (0: not at all) and keeps what it hears."""

    def __init__(self) -> None:
        self.status = 0
        self.respond_at_once: Callable[[IServerTransaction], object] | None = None
        self.requests: list[IServerTransaction] = []
        self.acks: list[Request] = []
        self.strays: list[int] = []
        self.responses: list[int] = []
        self.failures: list[int] = []
        self.cancels: list[IServerTransaction | None] = []
        self.closed: list[IFlow] = []
        self.server: IServerTransaction | None = None

    def request_received(self, transaction: IServerTransaction) -> None:
        self.requests.append(transaction)
        if self.respond_at_once is not None:
            self.respond_at_once(transaction)
        elif self.status:
            transaction.respond(response_to(transaction.request, self.status, to_tag="t"))

    def cancel_received(
        self, cancel: IServerTransaction, invite: IServerTransaction | None
    ) -> None:
        self.cancels.append(invite)

    def ack_received(self, ack: Request, flow: IFlow) -> None:
        self.acks.append(ack)

    def stray_response(self, response: Response, flow: IFlow) -> None:
        self.strays.append(response.status)

    def acknowledged(self, transaction: IServerTransaction) -> None:
        pass

    def flow_closed(self, flow: IFlow) -> None:
        self.closed.append(flow)

    def response_received(self, transaction: IClientTransaction, response: Response) -> None:
        self.responses.append(response.status)
        if self.server is not None:
            self.server.respond(response_to(self.server.request, response.status))

    def transaction_failed(self, transaction: IClientTransaction, status: int) -> None:
        self.failures.append(status)


class LayerTestCase(SynchronousTestCase):
    """A layer with a recording user and one UDP flow."""

    timers = Timers()

    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = TimerWheel(self.clock)
        self.layer = TransactionLayer(self.timers, self.clock, self.wheel)
        self.user = Recorder()
        self.layer.deliver_to(self.user)
        self.flow = FakeFlow()

    def receive(self, received: Request | Response, flow: FakeFlow | None = None) -> None:
        self.layer.message_received(received, flow or self.flow)

    def statuses(self, flow: FakeFlow | None = None) -> list[int]:
        return [response.status for response in (flow or self.flow).responses()]

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)


class InterfaceTests(LayerTestCase):
    def test_promises(self) -> None:
        """What the appliance connects is complete."""
        for interface in (ITransactions, ITransportUser, IStatistics):
            verifyObject(interface, self.layer)
        verifyObject(ITransactionUser, Nobody())
        verifyObject(IClientUser, Nobody())
        self.receive(request("OPTIONS sip:pbx.test"))
        verifyObject(IServerTransaction, self.user.requests[0])
        client = self.layer.send(request("OPTIONS sip:a.test"), self.flow, self.user)
        verifyObject(IClientTransaction, client)

    def test_without_a_user(self) -> None:
        """Before the core is connected nothing is answered but with 100."""
        layer = TransactionLayer(Timers(), self.clock, self.wheel)
        layer.message_received(request("INVITE sip:bob@pbx.test"), self.flow)
        layer.flow_closed(self.flow)
        self.assertEqual(self.statuses(), [100])


class ServerMatchingTests(LayerTestCase):
    """17.2.3: branch, sent-by and method."""

    def via(self, sent_by: str = "192.0.2.50:5060", branch: str = "z9hG4bK-1") -> str:
        return f"SIP/2.0/UDP {sent_by};branch={branch}"

    def test_same_branch_and_sent_by(self) -> None:
        """Host names compare without regard to case, parameters besides branch do not count."""
        self.receive(request("OPTIONS sip:pbx.test", via=self.via("Phone.test")))
        self.receive(request("OPTIONS sip:pbx.test", via=self.via("phone.TEST") + ";x=1"))
        self.assertEqual(len(self.user.requests), 1)

    def test_other_sent_by(self) -> None:
        """Somebody else may use the same branch."""
        self.receive(request("OPTIONS sip:pbx.test", via=self.via()))
        self.receive(request("OPTIONS sip:pbx.test", via=self.via("192.0.2.50:5062")))
        self.receive(request("OPTIONS sip:pbx.test", via=self.via("192.0.2.51:5060")))
        self.assertEqual(len(self.user.requests), 3)

    def test_other_method(self) -> None:
        """The method is part of the key."""
        self.receive(request("OPTIONS sip:pbx.test", via=self.via()))
        self.receive(request("MESSAGE sip:pbx.test", via=self.via()))
        self.assertEqual(len(self.user.requests), 2)

    def test_bare_cookie_identifies_nothing(self) -> None:
        """``branch=z9hG4bK`` alone is the same in every request of such a peer."""
        for call_id in ("1", "2"):
            self.receive(
                request("OPTIONS sip:pbx.test", via=self.via(branch="z9hG4bK"), call_id=call_id)
            )
        self.assertEqual(len(self.user.requests), 2)

    def test_cookie_in_another_case(self) -> None:
        """Tokens compare without regard to case (7.3.1), also the cookie."""
        for call_id in ("1", "2"):
            self.receive(
                request("OPTIONS sip:pbx.test", via=self.via(branch="Z9HG4BK-7"), call_id=call_id)
            )
        self.assertEqual(len(self.user.requests), 1)

    def test_cancel_of_another_method(self) -> None:
        """CANCEL has no effect on anything but INVITE (9.2)."""
        self.receive(request("MESSAGE sip:pbx.test", via=self.via()))
        self.receive(request("CANCEL sip:pbx.test", via=self.via()))
        self.assertEqual(self.user.cancels, [None])

    def test_repeat_on_another_connection(self) -> None:
        """The response goes to where the request came from last."""
        first, second = (FakeFlow(Address("TCP", "192.0.2.50", port)) for port in (1, 2))
        self.receive(request("MESSAGE sip:pbx.test"), first)
        self.receive(request("MESSAGE sip:pbx.test"), second)
        transaction = self.user.requests[0]
        transaction.respond(response_to(transaction.request, 200))
        self.assertEqual((self.statuses(first), self.statuses(second)), ([], [200]))

    def test_ack_before_final_response(self) -> None:
        """It acknowledges nothing and goes nowhere."""
        self.receive(request("INVITE sip:pbx.test"))
        self.receive(request("ACK sip:pbx.test"))
        self.assertEqual(self.user.acks, [])
        self.user.requests[0].respond(response_to(self.user.requests[0].request, 486))
        self.assertEqual(self.statuses(), [100, 486])


class Auto100Tests(LayerTestCase):
    timers = Timers(auto_100=False)

    def test_off(self) -> None:
        """``auto_100 = false``: the user is on its own."""
        self.receive(request("INVITE sip:bob@pbx.test"))
        self.assertEqual(self.statuses(), [])


class RefusalTests(LayerTestCase):
    """Stateless answers."""

    def test_malformed_is_answered(self) -> None:
        """With the status, reason and headers of the error."""
        error = MalformedMessage(
            "Bad CSeq", headers=[("Warning", "399 x y")], request=request("OPTIONS sip:pbx.test")
        )
        self.layer.malformed_received(error, self.flow)
        (response,) = self.flow.responses()
        self.assertEqual((response.status, response.reason), (400, "Bad CSeq"))
        self.assertEqual(response.get("warning"), "399 x y")
        self.assertTrue(response.to.tag)

    def test_malformed_ack_is_not(self) -> None:
        """Never a response to an ACK."""
        error = MalformedMessage("Bad CSeq", request=request("ACK sip:pbx.test"))
        self.layer.malformed_received(error, self.flow)
        self.layer.malformed_received(MalformedMessage("Noise"), self.flow)
        self.assertEqual(self.flow.sent, [])

    def test_repeat_that_is_none(self) -> None:
        """A later request with the same branch and fewer lines: silence, not an empty datagram."""
        first = request("MESSAGE sip:pbx.test")
        self.receive(first)
        self.user.requests[0].respond(response_to(first, 200))
        short = request("MESSAGE sip:pbx.test")
        for name in ("cseq", "call-id", "to", "from"):
            short.remove(name)
        self.assertLess(len(short.lines), len(first.lines))
        self.receive(short)
        self.assertEqual(self.statuses(), [200])
        self.assertEqual(self.layer.counts()["sent_retransmissions"], 0)

    def test_repeat_gets_the_same_tag(self) -> None:
        """8.2.7: a stateless answer is the same for every repeat; its ACK is absorbed."""
        bad = request("INVITE sip:pbx.test")
        for _ in range(2):
            self.layer.malformed_received(MalformedMessage("Bad", request=bad), self.flow)
        first, second = self.flow.responses()
        self.assertEqual(first.get("to"), second.get("to"))
        self.receive(request("ACK sip:pbx.test", to=first.get("to") or ""))
        self.assertEqual(self.user.acks, [])
        found = self.layer.statistics()
        self.assertEqual((found["sl:4xx_replies"], found["sl:received_ACKs"]), (2, 1))

    def test_bad_via_in_a_request(self) -> None:
        """Found while matching; nothing escapes."""
        self.receive(broken("OPTIONS", "via", "SIP/2.0"))
        self.assertEqual(self.flow.sent.pop()[:11], b"SIP/2.0 400")
        self.receive(broken("ACK", "via", "SIP/2.0"))
        self.assertEqual(self.flow.sent, [])

    def test_bad_to_in_a_refused_request(self) -> None:
        """The tag has nowhere to go, the answer is sent all the same."""
        bad = broken("OPTIONS", "to", "<sip:a")
        self.layer.malformed_received(MalformedMessage("Bad To", request=bad), self.flow)
        self.assertEqual(self.flow.sent.pop()[:11], b"SIP/2.0 400")

    def test_ack_with_bad_to(self) -> None:
        """Dropped."""
        self.receive(broken("ACK", "to", "<sip:a"))
        self.assertEqual((self.user.acks, self.flow.sent), ([], []))

    def test_gone_before_the_answer(self) -> None:
        """Nobody is there to be told."""
        self.flow.closed = True
        error = MalformedMessage("Bad", request=request("OPTIONS sip:pbx.test"))
        self.layer.malformed_received(error, self.flow)
        self.assertEqual(self.layer.counts()["refused_requests"], 1)


class StatelessTests(LayerTestCase):
    """8.2.7: challenges, which anybody can ask for, cost no memory."""

    def answer(self, received: Request, status: int = 407) -> None:
        self.receive(received)
        self.user.requests[-1].respond_statelessly(status, "", (("X", "1"),))

    def test_nothing_is_kept(self) -> None:
        """Neither a transaction nor a timer nor the response."""
        self.user.respond_at_once = lambda asked: asked.respond_statelessly(407, "", ())
        for method in ("INVITE", "REGISTER"):
            self.receive(request(f"{method} sip:pbx.test"))
        self.assertEqual(self.statuses(), [407, 407])
        found = self.layer.counts()
        self.assertEqual((found["server_transactions"], found["finished_transactions"]), (0, 0))
        self.assertEqual(len(self.wheel), 0)
        statistics = self.layer.statistics()
        self.assertEqual((statistics["sl:4xx_replies"], statistics["tm:4xx_transactions"]), (2, 2))

    def test_repeat(self) -> None:
        """Is a new request, and gets the same To tag."""
        for _ in range(2):
            self.answer(request("INVITE sip:pbx.test"), 486)
        first, second = (one for one in self.flow.responses() if one.status == 486)
        self.assertEqual(first.get("to"), second.get("to"))

    def test_headers(self) -> None:
        self.user.respond_at_once = lambda asked: asked.respond_statelessly(
            401, "No", (("Retry-After", "1"),)
        )
        self.receive(request("REGISTER sip:pbx.test"))
        (response,) = self.flow.responses()
        self.assertEqual((response.reason, response.get("retry-after")), ("No", "1"))

    def test_ack_is_absorbed(self) -> None:
        self.user.respond_at_once = lambda asked: asked.respond_statelessly(407, "", ())
        self.receive(request("INVITE sip:pbx.test"))
        (response,) = self.flow.responses()
        self.receive(request("ACK sip:pbx.test", to=response.get("to") or ""))
        self.assertEqual(self.user.acks, [])
        self.assertEqual(self.layer.statistics()["sl:received_ACKs"], 1)

    def test_decided_later(self) -> None:
        """A request other than INVITE that nobody was told of: the timer of its late 100 stops."""
        self.answer(request("REGISTER sip:pbx.test"))
        self.pass_time(10)
        self.assertEqual(self.statuses(), [407])
        self.assertEqual(len(self.wheel), 0)

    def test_after_100(self) -> None:
        """Who was told to wait gets the answer again until the ACK (17.2.1)."""
        self.answer(request("INVITE sip:pbx.test"))
        self.pass_time(1)
        self.assertEqual(self.statuses(), [100, 407, 407])
        self.assertEqual(self.layer.counts()["server_transactions"], 1)

    def test_within_a_dialog(self) -> None:
        """The ACK has the tag of the dialog, so that only the transaction can tell it."""
        self.user.respond_at_once = lambda asked: asked.respond_statelessly(407, "", ())
        within = "<sip:1002@pbx.test>;tag=theirs"
        self.receive(request("INVITE sip:pbx.test", to=within))
        self.receive(request("ACK sip:pbx.test", to=within))
        self.assertEqual((self.statuses(), self.user.acks), ([407], []))

    def test_gone_before_the_answer(self) -> None:
        """Nobody is there to be told."""
        self.flow.closed = True
        self.answer(request("OPTIONS sip:pbx.test"), 200)
        self.assertEqual(self.layer.counts()["server_transactions"], 0)


class BadResponseTests(LayerTestCase):
    def response(self, status: str) -> Response:
        made = message(
            f"""
            SIP/2.0 {status} X
            Via: SIP/2.0/UDP a.test;branch=z9hG4bK-q
            From: <sip:a@b>;tag=1
            To: <sip:c@d>
            Call-ID: c
            CSeq: 1 INVITE
            """
        )
        assert isinstance(made, Response)
        return made

    def test_dropped(self) -> None:
        """Status codes outside 100 to 699 and unreadable Via; a good one is the user's."""
        for status in (99, 700, 999):
            bad = self.response("200")
            bad.status = status
            self.receive(bad)
        bad = self.response("200")
        bad.set("via", "nonsense")
        self.receive(bad)
        self.assertEqual(self.user.strays, [])
        self.receive(self.response("200"))
        self.assertEqual(self.user.strays, [200])
        self.assertEqual(self.layer.counts()["stray_replies"], 5)


class CapacityTests(LayerTestCase):
    timers = Timers(max_transactions=2, max_finished=3, retry_after=7)

    def test_overload(self) -> None:
        """503 with Retry-After, without a transaction; an ACK still gets nothing."""
        for number in range(3):
            self.receive(request("INVITE sip:pbx.test", via=via(number)))
        responses = self.flow.responses()
        self.assertEqual([response.status for response in responses], [100, 100, 503])
        self.assertEqual(responses[2].get("retry-after"), "7")
        self.assertEqual(self.layer.counts()["server_transactions"], 2)

    def test_repeats_are_not_overload(self) -> None:
        """What is in progress goes on."""
        for number in (0, 1, 1):
            self.receive(request("INVITE sip:pbx.test", via=via(number)))
        self.assertEqual(self.statuses(), [100, 100, 100])

    def test_finished_are_bounded(self) -> None:
        """The oldest answer goes first; the rest is kept for its whole time."""
        self.user.status = 200
        for number in range(5):
            self.receive(request("OPTIONS sip:pbx.test", via=via(number)))
            self.pass_time(1)
        self.assertEqual(self.layer.counts()["finished_transactions"], 3)
        for number in (2, 3, 4):
            self.receive(request("OPTIONS sip:pbx.test", via=via(number)))
        self.assertEqual(len(self.user.requests), 5)
        self.receive(request("OPTIONS sip:pbx.test", via=via(1)))
        self.assertEqual(len(self.user.requests), 6)
        self.pass_time(31.5)
        self.assertEqual(self.layer.counts()["finished_transactions"], 2)
        self.pass_time(3)
        self.assertEqual(self.layer.counts()["finished_transactions"], 0)
        self.assertEqual(len(self.wheel), 0)


class ConnectionTests(LayerTestCase):
    """18.2.2: the response finds another way when its connection is gone."""

    def setUp(self) -> None:
        super().setUp()
        self.flow = FakeFlow(Address("TCP", "192.0.2.50", 40000))
        self.flows = FakeFlows()
        self.receive(
            request(
                "MESSAGE sip:pbx.test",
                via="SIP/2.0/TCP phone.test:5070;branch=z9hG4bK-1;received=192.0.2.50",
            )
        )
        self.flow.closed = True
        self.layer.flow_closed(self.flow)

    def respond(self) -> None:
        transaction = self.user.requests[0]
        transaction.respond(response_to(transaction.request, 200))

    def test_open_connection(self) -> None:
        """To the address it came from and the port of sent-by."""
        self.layer.flows = self.flows
        self.respond()
        flow = self.flows.find(Address("TCP", "192.0.2.50", 5070))
        assert isinstance(flow, FakeFlow)
        self.assertEqual(self.statuses(flow), [200])

    def test_answered_call(self) -> None:
        """Also a 2xx that comes again, when nothing of its INVITE is left."""
        via = "SIP/2.0/TCP phone.test:5070;branch=z9hG4bK-2;received=192.0.2.50"
        invite = request("INVITE sip:pbx.test", via=via)
        self.layer.flows = self.flows
        self.receive(invite)
        for _ in range(2):
            self.user.requests[1].respond(response_to(invite, 200))
        flow = self.flows.find(Address("TCP", "192.0.2.50", 5070))
        assert isinstance(flow, FakeFlow)
        self.assertEqual(self.statuses(flow), [100, 200, 200])
        self.assertFalse(self.user.requests[1].request.has("via"))

    def test_nothing_to_connect_with(self) -> None:
        """The transaction is over."""
        self.respond()
        self.assertEqual(self.layer.counts()["inuse_transactions"], 0)
        self.assertEqual(self.user.closed, [self.flow])


class ClientTests(LayerTestCase):
    def test_abandon(self) -> None:
        """Nothing more is sent, heard or kept."""
        client = self.layer.send(request("INVITE sip:bob@a.test"), self.flow, self.user)
        client.abandon()
        client.abandon()
        self.receive(response_to(client.request, 200))
        self.pass_time(40)
        self.assertEqual((self.user.responses, self.user.failures), ([], []))
        self.assertEqual((self.user.strays, len(self.wheel)), ([200], 0))
        self.assertEqual(len(self.flow.sent), 1)

    def test_status(self) -> None:
        """The last status received; what comes after the final response does not change it."""
        client = self.layer.send(request("INVITE sip:bob@a.test"), self.flow, self.user)
        seen = [client.status]
        for status in (180, 486, 180, 200):
            self.receive(response_to(client.request, status))
            seen.append(client.status)
        self.assertEqual(seen, [0, 180, 486, 486, 486])

    def test_cancelled_while_it_is_told(self) -> None:
        """cancel() from within response_received() is as good as any other."""
        layer, flow = self.layer, self.flow

        class Canceller(Recorder):
            def response_received(
                self, transaction: IClientTransaction, response: Response
            ) -> None:
                transaction.cancel()

        client = layer.send(request("INVITE sip:bob@a.test"), flow, Canceller())
        self.receive(response_to(client.request, 180))
        methods = [sent.method for sent in flow.messages() if isinstance(sent, Request)]
        self.assertEqual(methods, ["INVITE", "CANCEL"])

    def test_user_that_raises(self) -> None:
        """Its mistake costs no timer: the transaction still ends."""

        class Careless(Recorder):
            def response_received(
                self, transaction: IClientTransaction, response: Response
            ) -> None:
                raise ValueError("oops")

        client = self.layer.send(request("INVITE sip:bob@a.test"), self.flow, Careless())
        with self.assertRaises(ValueError):
            self.receive(response_to(client.request, 486))
        self.pass_time(33)
        self.assertEqual(self.layer.counts()["inuse_transactions"], 0)

    def test_send_ack(self) -> None:
        """One packet, no transaction, no error."""
        self.layer.send_ack(request("ACK sip:bob@a.test"), self.flow)
        self.assertEqual(len(self.flow.sent), 1)
        self.flow.closed = True
        self.layer.send_ack(request("ACK sip:bob@a.test"), self.flow)
        self.assertEqual(len(self.wheel), 0)

    def test_flow_closed_fails_only_its_own(self) -> None:
        """Each connection by itself; what has ended is not told again."""
        flows = [FakeFlow(Address("TCP", "192.0.2.60", port)) for port in (1, 2)]
        for number, flow in enumerate(flows):
            self.layer.send(request("OPTIONS sip:a.test", via=via(number)), flow, self.user)
        self.layer.flow_closed(flows[0])
        self.assertEqual(self.user.failures, [503])
        self.assertEqual(self.layer.counts()["client_transactions"], 1)
        self.layer.flow_closed(flows[0])
        self.assertEqual(self.user.failures, [503])

    def test_retransmission_that_fails(self) -> None:
        """The user hears of it once (17.1.4)."""

        class Failing(FakeFlow):
            def send(self, data: bytes) -> None:
                if self.sent:
                    raise TransportFailed("unreachable")
                super().send(data)

        self.layer.send(request("INVITE sip:a.test"), Failing(), self.user)
        self.pass_time(40)
        self.assertEqual((self.user.failures, len(self.wheel)), ([503], 0))


class UrgencyTests(LayerTestCase):
    """What may wait for the end of a turn of the UDP listener."""

    def soon(self, received: Request) -> tuple[int, int]:
        """Responses to a request and to its repeat, and how many of them may wait."""
        flow = FakeFlow()
        self.receive(received, flow)
        self.receive(received, flow)
        return len(flow.sent), len(flow.sent_soon)

    def test_by_method(self) -> None:
        self.user.status = 404
        self.assertEqual(self.soon(request("MESSAGE sip:bob@pbx.test")), (2, 2))
        self.assertEqual(self.soon(request("INVITE sip:bob@pbx.test")), (2, 0))

    def test_challenges(self) -> None:
        self.user.respond_at_once = lambda transaction: transaction.respond_statelessly(
            407, "Proxy Authentication Required", ()
        )
        self.assertEqual(self.soon(request("BYE sip:bob@pbx.test")), (2, 2))
        self.assertEqual(self.soon(request("INVITE sip:bob@pbx.test")), (2, 0))


class StatisticsTests(LayerTestCase):
    def test_names_of_the_reference(self) -> None:
        """Group tm: transactions by kind and final class, replies received, relayed and local."""
        self.receive(request("MESSAGE sip:bob@pbx.test"))
        self.user.server = self.user.requests[0]
        client = self.layer.send(request("MESSAGE sip:bob@a.test"), self.flow, self.user)
        self.receive(response_to(client.request, 202))
        self.user.status = 404
        self.receive(request("INVITE sip:eve@pbx.test"))
        counts = self.layer.statistics()
        expected = {
            "tm:received_replies": 1,
            "tm:relayed_replies": 1,
            "tm:local_replies": 1,
            "tm:UAS_transactions": 2,
            "tm:UAC_transactions": 1,
            "tm:2xx_transactions": 1,
            "tm:4xx_transactions": 1,
            "tm:inuse_transactions": 1,
            "tm:finished_transactions": 2,
        }
        self.assertEqual({name: counts[name] for name in expected}, expected)


class TimersTests(SynchronousTestCase):
    def test_what_cannot_work(self) -> None:
        """Settings are checked when they are read."""
        for name, value in (
            *(("t1", 0.0), ("t1", 5.0), ("t4", 0.0), ("fr_timeout", -1.0)),
            *(("max_transactions", 0), ("max_finished", 0), ("max_finished_bytes", 0)),
            ("retry_after", 0),
        ):
            with self.assertRaises(ConfigError):
                settings(Timers, {name: value}, "transaction")


def via(number: int) -> str:
    return f"SIP/2.0/UDP 192.0.2.50:5060;branch=z9hG4bK-{number}"


def broken(method: str, name: str, value: str) -> Request:
    """A request with a header that the parser would not let through."""
    made = request(f"{method} sip:pbx.test")
    made.set(name, value)
    return made
