"""The proxy core on the real transaction layer, with fake flows and a policy in a lambda."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pbx.events import Events
from pbx.interfaces import IDialogs, IRoutingPolicy
from pbx.proxy.core import ProxyCore
from pbx.proxy.forward import Forwarder
from pbx.proxy.relay import Relayer
from pbx.proxy.replies import Replier
from pbx.proxy.settings import ProxySettings
from pbx.sip.address import Address
from pbx.sip.message import Message, Request, Response, response_to
from pbx.sip.via import mark_received
from pbx.timing import TimerWheel
from pbx.transaction.layer import TransactionLayer
from pbx.transaction.timers import Timers
from pbx.verdicts import Arrival, Reply, Verdict
from tests.fakes import FakeFlow, FakeFlows, request

ALICE = Address("UDP", "192.0.2.50", 5060)
BOB = Address("UDP", "192.0.2.60", 5060)
CAROL = Address("UDP", "192.0.2.61", 5060)


@implementer(IRoutingPolicy)
class ScriptedPolicy:
    """Does what ``decide`` says and remembers what it was asked."""

    def __init__(self) -> None:
        self.decide: Callable[[Request, Arrival], Verdict] = lambda request, arrival: Reply(404)
        self.asked: list[tuple[Request, Arrival]] = []

    async def route_request(self, request: Request, arrival: Arrival) -> Verdict:
        self.asked.append((request, arrival))
        return self.decide(request, arrival)


class ProxyTestCase(SynchronousTestCase):
    """``send`` plays a peer; ``at`` reads what a peer got."""

    dialogs: IDialogs | None = None

    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = TimerWheel(self.clock)
        self.events = Events()
        self.flows = FakeFlows()
        self.policy = ScriptedPolicy()
        self.layer = TransactionLayer(Timers(), self.clock, self.wheel)
        relayer = Relayer(
            transactions=self.layer,
            flows=self.flows,
            forwarder=Forwarder(lambda realm: realm == "pbx.test"),
            dialogs=self.dialogs,
            events=self.events,
            timers=self.wheel,
            settings=ProxySettings(),
            replier=Replier(),
        )
        self.core = ProxyCore(relayer, self.policy)
        self.layer.deliver_to(self.core)

    def send(self, message: Message, peer: Address = ALICE) -> None:
        """A message of a peer arrives."""
        if isinstance(message, Request):
            mark_received(message, peer)
        self.layer.message_received(message, self.flows.flow(peer))

    def at(self, peer: Address) -> list[Message]:
        """What a peer received since the last look."""
        return list(self.flow(peer).messages())

    def flow(self, peer: Address) -> FakeFlow:
        return self.flows.flow(peer)

    def requests(self, peer: Address) -> list[Request]:
        return [message for message in self.at(peer) if isinstance(message, Request)]

    def one_request(self, peer: Address) -> Request:
        (found,) = self.requests(peer)
        return found

    def statuses(self, peer: Address) -> list[int]:
        return [message.status for message in self.at(peer) if isinstance(message, Response)]

    def one_response(self, peer: Address = ALICE) -> Response:
        (found,) = (message for message in self.at(peer) if isinstance(message, Response))
        return found

    def answer(
        self,
        asked: Request,
        status: int,
        peer: Address = BOB,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """A peer answers a request that it got."""
        response = response_to(asked, status, headers=headers, to_tag=f"tag-{peer.host}")
        self.send(response, peer)

    def invite(self, headers: str = "", branch: str = "1") -> Request:
        """An INVITE of alice with public addresses."""
        return request(
            "INVITE sip:1002@pbx.test",
            f"{headers}\nContact: <sip:1001@192.0.2.50:5060>",
            via=f"SIP/2.0/UDP 192.0.2.50:5060;branch=z9hG4bK-{branch};rport",
        )

    def advance(self, seconds: float) -> None:
        """Time passes, in steps that let every timer of the wheel fire."""
        steps = max(1, int(seconds / 0.05))
        for _ in range(steps):
            self.clock.advance(seconds / steps)
