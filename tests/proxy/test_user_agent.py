"""Requests of our own (RFC 3261 section 8.1)."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from pbx.proxy.user_agent import UserAgent
from pbx.sip.address import Address
from pbx.sip.message import Request, Response
from pbx.sip.uri import URI
from tests.proxy.system import BOB, CAROL, ProxyTestCase

STREAM = Address("TCP", "192.0.2.60", 5060)


class UserAgentTests(ProxyTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.agent = UserAgent(self.layer, self.flows)

    def ask(self, uri: str = "sip:bob@192.0.2.60", body: bytes = b"") -> Deferred[Response]:
        headers = [("From", "<sip:pbx@pbx.test>"), ("To", f"<{uri}>")]
        return Deferred.fromCoroutine(self.agent.send(Request.make("NOTIFY", uri, headers, body)))

    def test_what_is_filled_in(self) -> None:
        """8.1.1: Via, Max-Forwards, Call-ID, CSeq and the From tag."""
        answer = self.ask()
        sent = self.one_request(BOB)
        self.assertEqual((sent.max_forwards, str(sent.cseq)), (70, "1 NOTIFY"))
        self.assertTrue(sent.from_.tag)
        self.assertTrue(sent.call_id)
        self.answer(sent, 200)
        self.assertEqual(self.successResultOf(answer).status, 200)

    def test_nobody_answers(self) -> None:
        """Timer F: 408, made up."""
        answer = self.ask()
        self.advance(33)
        response = self.successResultOf(answer)
        self.assertEqual((response.status, response.local), (408, True))

    def test_next_address(self) -> None:
        """RFC 3263 section 4.3: after 503 the next one."""
        self.flows.names["phones.test"] = [BOB, CAROL]
        answer = self.ask("sip:bob@phones.test")
        self.answer(self.one_request(BOB), 503)
        self.answer(self.one_request(CAROL), 200, CAROL)
        self.assertEqual(self.successResultOf(answer).status, 200)

    def test_large_request(self) -> None:
        """18.1.1: by TCP, over UDP where that is refused."""
        self.flows.own = (*self.flows.own, Address("TCP", "192.0.2.1", 5060))
        self.ask(body=b"x" * 2000)
        self.assertEqual(self.one_request(STREAM).via.transport, "TCP")
        self.flows.flows.clear()
        self.flows.refused.add(STREAM)
        self.ask(body=b"x" * 2000)
        self.assertEqual(self.one_request(BOB).via.transport, "UDP")

    def test_large_request_where_the_transport_is_given(self) -> None:
        self.ask("sip:bob@192.0.2.60;transport=udp", b"x" * 2000)
        self.assertEqual(self.one_request(BOB).via.transport, "UDP")

    def test_dead_flow(self) -> None:
        """430, made up."""
        flow = self.flows.flow(BOB)
        flow.closed = True
        request = Request.make(
            "NOTIFY", URI.parse("sip:b@192.0.2.60"), [("From", "<sip:p@x>"), ("To", "<sip:b@y>")]
        )
        answer = Deferred.fromCoroutine(self.agent.send(request, flow=flow))
        self.assertEqual(self.successResultOf(answer).status, 430)
