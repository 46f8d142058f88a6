"""Requests between the nodes of a cluster, as the proxy core sees them."""

from __future__ import annotations

from zope.interface import implementer

from pbx.events import TransactionCompleted
from pbx.interfaces import ICluster, INode
from pbx.sip.address import Address
from pbx.sip.message import Request, Response
from pbx.sip.uri import URI
from pbx.verdicts import Relay, Reply, Target, Verdict
from tests.fakes import request
from tests.proxy.system import ALICE, BOB, CAROL, ProxyTestCase


@implementer(ICluster)
class OneOtherNode:
    """Node b at CAROL's address, which sends to bob."""

    name = "a"

    def __init__(self) -> None:
        self.verdict: Verdict | None = Relay([Target(URI.parse("sip:bob@192.0.2.60"))])

    def node(self, name: str) -> INode:
        raise NotImplementedError

    def publish(self, topic: str, body: object) -> None:
        raise NotImplementedError

    def listen(self, topic: str, handler: object) -> None:
        raise NotImplementedError

    def leads(self) -> bool:
        return True

    def is_node(self, peer: Address) -> bool:
        return peer == CAROL

    def deliver_with(self, find: object) -> None:
        raise NotImplementedError

    def route_to(self, node: INode, aor: str, contact_id: int) -> str:
        raise NotImplementedError

    def forwarded(self, route: URI, peer: Address) -> Verdict | None:
        return self.verdict if route.user == "x" else None


class FromNodeTests(ProxyTestCase):
    """What another node of the cluster sends."""

    def setUp(self) -> None:
        super().setUp()
        self.core._cluster = self.cluster = OneOtherNode()

    def forwarded(self, contact: str = "sip:1001@10.1.1.1") -> Request:
        return request(
            "INVITE sip:bob@192.0.2.60",
            f"Route: <sip:x@192.0.2.1;lr>\nContact: <{contact}>",
            via="SIP/2.0/UDP 192.0.2.61:5060;branch=z9hG4bK-n;rport",
        )

    def last_response(self, peer: Address) -> Response:
        found = self.at(peer)[-1]
        assert isinstance(found, Response)
        return found

    def test_policy_is_not_asked(self) -> None:
        """The other node has asked its own; what it repaired is not repaired again."""
        self.send(self.forwarded(), CAROL)
        asked = self.one_request(BOB)
        self.assertEqual(self.policy.asked, [])
        self.assertEqual(asked.get("contact"), "<sip:1001@10.1.1.1>")
        self.assertEqual(asked.get_list("record-route"), ["<sip:192.0.2.1;lr;node=yes>"])
        self.answer(asked, 200, headers=(("Contact", "<sip:bob@10.0.0.9>"),))
        self.assertIn("192.0.2.60", self.last_response(CAROL).get("contact") or "")

    def test_refusal(self) -> None:
        self.cluster.verdict = Reply(403)
        self.send(self.forwarded(), ALICE)
        self.assertEqual(self.statuses(ALICE), [403])

    def test_dead_flow_is_430_between_nodes(self) -> None:
        """And 480 for a caller (RFC 5626 section 11.6)."""
        self.send(self.forwarded(), CAROL)
        self.answer(self.one_request(BOB), 430)
        self.assertEqual(self.statuses(CAROL), [100, 430])
        self.at(BOB)
        self.policy.decide = lambda request, arrival: Relay([Target(URI.parse("sip:b@192.0.2.60"))])
        self.send(self.invite(), ALICE)
        self.answer(self.one_request(BOB), 430)
        self.assertEqual(self.statuses(ALICE), [100, 480])

    def test_bye_is_accounted_by_one_node(self) -> None:
        """The one that the INVITE came to, whose Record-Route has no ``node``."""
        heard: list[object] = []
        self.events.subscribe(TransactionCompleted, heard.append)
        self.policy.decide = lambda request, arrival: Relay([Target(request.uri)], account=True)
        for cseq, params in ((1, ";node=yes"), (2, "")):
            bye = request(
                "BYE sip:bob@192.0.2.60",
                f"Route: <sip:192.0.2.1;lr{params}>",
                to="<sip:bob@pbx.test>;tag=b",
                cseq=cseq,
                via=f"SIP/2.0/UDP 192.0.2.50:5060;branch=z9hG4bK-b{cseq};rport",
            )
            self.send(bye, ALICE)
            self.answer(self.one_request(BOB), 200)
            self.assertEqual(len(heard), cseq - 1)

    def test_reply_of_a_proxy_is_not_repaired(self) -> None:
        """A route goes on beyond us: the proxy there looked after its own device."""
        target = Target(URI.parse("sip:bob@10.0.0.9"), path=("<sip:y@192.0.2.60;lr>",))
        self.policy.decide = lambda request, arrival: Relay([target])
        self.send(self.invite(), ALICE)
        self.answer(self.one_request(BOB), 200, headers=(("Contact", "<sip:bob@10.0.0.9>"),))
        self.assertEqual(self.last_response(ALICE).get("contact"), "<sip:bob@10.0.0.9>")
