"""RFC 3261 section 16 on the wire: what a proxy receives and sends."""

from __future__ import annotations

import gc
from collections.abc import Sequence

from twisted.internet.defer import Deferred

from pbx.proxy.branch import BranchClient
from pbx.proxy.relay import RelayedRequest
from pbx.sip.address import Address
from pbx.sip.forking import ResponseContext
from pbx.sip.message import Request, Response
from pbx.sip.uri import URI
from pbx.verdicts import Arrival, Drop, Relay, Reply, Target, Verdict
from tests.fakes import request
from tests.proxy.system import ALICE, BOB, CAROL, ProxyTestCase

TO_BOB = Target(URI.parse("sip:1002@192.0.2.60:5060"))
VIA = "SIP/2.0/UDP 192.0.2.50:5060;branch=z9hG4bK"
TO_CAROL = Target(URI.parse("sip:1002@192.0.2.61:5060"))


class RelayTestCase(ProxyTestCase):
    """Everything goes to bob unless a test says otherwise."""

    def setUp(self) -> None:
        super().setUp()
        self.relay(TO_BOB)

    def relay(self, *targets: Target, **more: object) -> None:
        verdict = Relay(targets, **more)  # type: ignore[arg-type]
        self.policy.decide = lambda request, arrival: verdict


class ForwardingTests(RelayTestCase):
    def forwarded(self, asked: Request, peer: Address = BOB) -> Request:
        self.send(asked)
        return self.one_request(peer)

    def test_what_is_changed(self) -> None:
        """16.6: Request-URI, Max-Forwards, Record-Route and Via; Max-Breadth stays away."""
        asked = self.invite("X-Custom: yes\nSubject:   spaced   out")
        before = dict(zip(asked.names, asked.lines, strict=True))
        sent = self.forwarded(asked)
        self.assertEqual(sent.uri_text, "sip:1002@192.0.2.60:5060")
        self.assertEqual(sent.get("max-forwards"), "69")
        record_route = sent.get("record-route") or ""
        self.assertTrue(record_route.startswith("<sip:192.0.2.1;lr"), record_route)
        self.assertEqual(len(sent.get_all("via")), 2)
        self.assertEqual((sent.via.host, sent.via.port), ("192.0.2.1", 5060))
        changed = {"via", "max-forwards", "record-route"}
        for name, line in zip(sent.names, sent.lines, strict=True):
            if name not in changed:
                self.assertEqual(line, before[name])

    def test_missing_max_forwards(self) -> None:
        """Rule R3: added with 10."""
        asked = self.invite()
        asked.remove("max-forwards")
        self.assertEqual(self.forwarded(asked).get("max-forwards"), "10")

    def test_large_max_forwards(self) -> None:
        """Rule R3: lowered to 256 first."""
        self.assertEqual(
            self.forwarded(self.invite("Max-Forwards: 4711")).get("max-forwards"), "255"
        )

    def test_no_hops_left(self) -> None:
        """R3: 483."""
        self.send(self.invite("Max-Forwards: 0"))
        self.assertEqual(self.statuses(ALICE), [483])
        self.assertEqual(self.policy.asked, [])

    def test_own_credentials_stay_here(self) -> None:
        """R7: consume_credentials; those for another realm go on (22.3)."""
        sent = self.forwarded(
            self.invite(
                'Proxy-Authorization: Digest username="1001", realm="pbx.test", nonce="n", uri="u", response="r"\n'
                'Proxy-Authorization: Digest username="x", realm="other.test", nonce="n", uri="u", response="r"'
            )
        )
        (left,) = sent.get_all("proxy-authorization")
        self.assertIn("other.test", left)

    def test_nat(self) -> None:
        """R2, R20: Contact of a phone behind a NAT is where it is, and the route says so."""
        asked = request(
            "INVITE sip:1002@pbx.test",
            "Contact: <sip:1001@10.0.0.9:5070;ob>",
            via="SIP/2.0/UDP 10.0.0.9:5070;branch=z9hG4bK-1",
        )
        sent = self.forwarded(asked)
        self.assertEqual(sent.get("contact"), "<sip:1001@192.0.2.50:5060;ob>")
        self.assertIn(";nat=yes", sent.get("record-route") or "")

    def test_nat_of_the_callee(self) -> None:
        """R19: a phone that registered from behind a NAT marks the route too."""
        self.relay(Target(TO_BOB.uri, behind_nat=True))
        sent = self.forwarded(self.invite())
        self.assertIn(";nat=yes", sent.get("record-route") or "")

    def test_what_is_recorded(self) -> None:
        """R9: every method but REGISTER, and nothing that we answer ourselves (O27)."""
        for method in ("INVITE", "MESSAGE", "SUBSCRIBE", "REFER", "NOTIFY", "OPTIONS", "PUBLISH"):
            sent = self.forwarded(request(f"{method} sip:1002@pbx.test"))
            self.assertEqual(len(sent.get_all("record-route")), 1, method)
        sent = self.forwarded(request("REGISTER sip:pbx.test"))
        self.assertEqual(sent.get_all("record-route"), [])
        self.policy.decide = lambda request, arrival: Reply(202)
        self.send(request("MESSAGE sip:1002@pbx.test", cseq=2, via=f"{VIA}-2"))
        (answer,) = (one for one in self.at(ALICE) if one.start_line == "SIP/2.0 202 Accepted")
        self.assertEqual(answer.get_all("record-route"), [])

    def test_path(self) -> None:
        """RFC 3327: the stored Path becomes the Route, its first element the next hop."""
        self.relay(Target(TO_BOB.uri, path=("<sip:192.0.2.61;lr>", "<sip:192.0.2.9;lr>")))
        self.send(self.invite())
        sent = self.one_request(CAROL)
        self.assertEqual(sent.get_list("route"), ["<sip:192.0.2.61;lr>", "<sip:192.0.2.9;lr>"])
        self.assertEqual(sent.uri_text, "sip:1002@192.0.2.60:5060")

    def test_next_hop(self) -> None:
        """The packet goes elsewhere than the Request-URI says."""
        self.relay(Target(URI.parse("sip:1002@pbx.test"), next_hop=URI.parse("sip:192.0.2.61")))
        self.send(self.invite())
        self.assertEqual(self.one_request(CAROL).uri_text, "sip:1002@pbx.test")

    def test_uri_headers_do_not_leave(self) -> None:
        """19.1.1: neither headers nor method in a Request-URI."""
        self.relay(Target(URI.parse("sip:1002@192.0.2.60;method=BYE;x=1?Subject=y")))
        self.send(self.invite())
        self.assertEqual(self.one_request(BOB).uri_text, "sip:1002@192.0.2.60;x=1")

    def test_large_request(self) -> None:
        """18.1.1: by TCP, Via and Record-Route say so."""
        asked = self.invite()
        asked.set_body(b"v" * 20000, "application/sdp")
        self.flows.own = (*self.flows.own, Address("TCP", "192.0.2.1", 5060))
        self.send(asked)
        sent = self.one_request(Address("TCP", "192.0.2.60", 5060))
        self.assertEqual((sent.via.transport, sent.body), ("TCP", b"v" * 20000))
        self.assertIn("transport=tcp;r2=on", sent.get_list("record-route")[0])

    def test_large_request_to_a_phone_without_tcp(self) -> None:
        """18.1.1: over UDP when TCP is refused."""
        asked = self.invite()
        asked.set_body(b"v" * 20000, "application/sdp")
        self.flows.refused.add(Address("TCP", "192.0.2.60", 5060))
        self.assertEqual(self.forwarded(asked).via.transport, "UDP")

    def test_large_request_where_the_transport_is_given(self) -> None:
        """18.1.1 leaves what a URI names."""
        asked = self.invite()
        asked.set_body(b"v" * 20000, "application/sdp")
        self.relay(Target(URI.parse("sip:1002@192.0.2.60;transport=udp")))
        self.assertEqual(self.forwarded(asked).via.transport, "UDP")

    def test_next_hop_is_ourselves(self) -> None:
        """O3: 482 instead of a loop."""
        self.relay(Target(URI.parse("sip:1002@192.0.2.1")))
        self.send(self.invite())
        self.assertEqual(self.statuses(ALICE), [482])

    def test_loop(self) -> None:
        """16.3 step 4: what we sent comes back unchanged."""
        self.relay(Target(URI.parse("sip:1002@pbx.test"), next_hop=URI.parse("sip:192.0.2.60")))
        self.send(self.invite())
        back = self.one_request(BOB)
        back.remove("record-route")
        back.prepend("via", "SIP/2.0/UDP 192.0.2.60;branch=z9hG4bK-bob")
        self.send(back, BOB)
        self.assertEqual(self.statuses(BOB), [482])

    def test_spiral(self) -> None:
        """16.3 step 4: with another Request-URI it may come again."""
        self.send(self.invite())
        back = self.one_request(BOB)
        back.prepend("via", "SIP/2.0/UDP 192.0.2.60;branch=z9hG4bK-bob")
        back.set_uri(URI.parse("sip:1003@pbx.test"))
        self.relay(TO_CAROL)
        self.send(back, BOB)
        self.assertEqual(len(self.requests(CAROL)), 1)

    def test_two_transports(self) -> None:
        """Record-Route of both sides, the outgoing one on top (16.6 step 4, RFC 5658)."""
        ws = Address("WS", "192.0.2.70", 40000)
        self.flows.own = (*self.flows.own, Address("WS", "192.0.2.1", 5062))
        self.relay(Target(URI.parse("sip:x@abc.invalid;transport=ws"), flow=self.flows.flow(ws)))
        self.send(self.invite())
        sent = self.one_request(ws)
        top, below = sent.get_list("record-route")
        self.assertIn("<sip:token-40000@192.0.2.1:5062;transport=ws;r2=on;lr", top)
        self.assertIn("<sip:192.0.2.1;r2=on;lr", below)
        self.assertEqual(sent.via.transport, "WS")


class ResponseTests(RelayTestCase):
    def ring(self, *targets: Target) -> Request:
        if targets:
            self.relay(*targets)
        self.send(self.invite())
        self.assertEqual(self.statuses(ALICE), [100])
        return self.one_request(BOB)

    def test_upstream(self) -> None:
        """16.7: our Via removed, nothing else touched."""
        self.answer(self.ring(), 180)
        response = self.one_response()
        self.assertEqual(response.status, 180)
        self.assertEqual(len(response.get_all("via")), 1)

    def test_browser_contact(self) -> None:
        """O10: the .invalid Contact of a browser becomes its connection's address."""
        ws = Address("WS", "192.0.2.70", 40000)
        self.relay(Target(URI.parse("sip:x@abc.invalid;transport=ws"), flow=self.flows.flow(ws)))
        self.send(self.invite())
        self.at(ALICE)
        self.answer(
            self.one_request(ws), 200, ws, (("Contact", "<sip:x7@abc.invalid;transport=ws>"),)
        )
        self.assertEqual(
            self.one_response().get("contact"), "<sip:x7@192.0.2.70:40000;transport=ws>"
        )

    def test_forks(self) -> None:
        """16.7: one answers, the others are cancelled with the reason."""
        sent = self.ring(TO_BOB, TO_CAROL)
        other = self.one_request(CAROL)
        self.answer(other, 180, CAROL)
        self.answer(sent, 180)
        self.answer(sent, 200)
        self.assertEqual(self.statuses(ALICE), [180, 180, 200])
        cancel = self.one_request(CAROL)
        self.assertEqual(cancel.method, "CANCEL")
        self.assertEqual(cancel.via.branch, other.via.branch)
        self.assertIn("Call completed elsewhere", cancel.get("reason") or "")

    def test_serial(self) -> None:
        """Falling q: the second when the first is busy."""
        self.ring(TO_BOB, Target(TO_CAROL.uri, q=0.5))
        self.assertEqual(self.requests(CAROL), [])

    def test_serial_goes_on(self) -> None:
        sent = self.ring(TO_BOB, Target(TO_CAROL.uri, q=0.5))
        self.answer(sent, 486)
        self.answer(self.one_request(CAROL), 480, CAROL)
        self.assertEqual(self.statuses(ALICE), [480])

    def test_503_of_a_branch(self) -> None:
        """16.7 step 6: 500 upstream."""
        self.answer(self.ring(), 503)
        self.assertEqual(self.statuses(ALICE), [500])

    def test_nobody_answers(self) -> None:
        """Timer B: 408 after 32 s, and nothing is left."""
        self.ring()
        self.advance(33)
        self.assertEqual(self.statuses(ALICE)[-1], 408)

    def test_policy_is_in_a_hurry(self) -> None:
        """`Relay.timeout` ends other requests than INVITE sooner than timer F."""

        async def instead(asked: Request, failed: Response) -> Verdict:
            return Reply(202)

        self.relay(TO_BOB, timeout=16.0, on_failure=instead)
        self.send(request("MESSAGE sip:1002@pbx.test"))
        self.advance(15)
        self.assertNotIn(202, self.statuses(ALICE))
        self.advance(2)
        self.assertIn(202, self.statuses(ALICE))

    def test_timer_c(self) -> None:
        """16.8: a phone that only rings is cancelled."""
        self.answer(self.ring(), 180)
        self.advance(181)
        methods = [sent.method for sent in self.requests(BOB)]
        self.assertIn("CANCEL", methods)
        self.assertIn(408, self.statuses(ALICE))

    def test_second_address(self) -> None:
        """RFC 3263 section 4.3: the next address when the first fails."""
        self.flows.names["phones.test"] = [BOB, CAROL]
        self.ring(Target(URI.parse("sip:1002@phones.test")))
        self.assertEqual(self.requests(CAROL), [])
        self.advance(32.2)
        self.answer(self.requests(CAROL)[0], 200, CAROL)
        self.assertIn(200, self.statuses(ALICE))

    def test_second_address_after_503(self) -> None:
        """RFC 3263 section 4.3."""
        self.flows.names["phones.test"] = [BOB, CAROL]
        sent = self.ring(Target(URI.parse("sip:1002@phones.test")))
        self.answer(sent, 503)
        self.assertEqual(len([r for r in self.requests(CAROL) if r.method == "INVITE"]), 1)

    def test_dead_flow(self) -> None:
        """RFC 5626 section 5.3: 430 becomes 480 for the caller."""
        ws = Address("WS", "192.0.2.70", 40000)
        flow = self.flows.flow(ws)
        flow.closed = True
        self.relay(Target(TO_BOB.uri, flow=flow, flow_required=True))
        self.send(self.invite())
        self.assertEqual(self.statuses(ALICE), [480])

    def test_unresolvable(self) -> None:
        """503 without a way."""
        self.relay(Target(URI.parse("sip:1002@nowhere.test")))
        self.send(self.invite())
        self.assertEqual(self.statuses(ALICE), [503])

    def test_no_targets(self) -> None:
        self.relay()
        self.send(self.invite())
        self.assertEqual(self.statuses(ALICE), [480])

    def test_2xx_after_all_failed(self) -> None:
        """Nobody hears of an answer that comes after the final response."""
        sent = self.ring()
        self.answer(sent, 180)
        self.advance(181)
        self.at(ALICE)
        self.answer(sent, 200)
        self.assertNotIn(200, self.statuses(ALICE))


class OnFailureTests(RelayTestCase):
    def failing_over(self, outcome: Verdict | None) -> list[Response]:
        heard: list[Response] = []

        async def on_failure(request: Request, response: Response) -> Verdict | None:
            heard.append(response)
            return outcome

        self.relay(TO_BOB, on_failure=on_failure)
        self.send(self.invite())
        self.answer(self.one_request(BOB), 486)
        return heard

    def test_pass_on(self) -> None:
        """None: the caller gets the response."""
        (heard,) = self.failing_over(None)
        self.assertEqual((heard.status, heard.local), (486, False))
        self.assertEqual(self.statuses(ALICE), [100, 486])

    def test_relay_again(self) -> None:
        """Another target for the same transaction."""
        self.failing_over(Relay([TO_CAROL]))
        self.answer(self.one_request(CAROL), 200, CAROL)
        self.assertEqual(self.statuses(ALICE), [100, 200])

    def test_reply(self) -> None:
        self.failing_over(Reply(503, headers=(("Retry-After", "30"),)))
        self.assertEqual(self.statuses(ALICE), [100, 503])

    def test_cancel_of_the_second_try(self) -> None:
        """CANCEL reaches whatever branch is pending now."""
        self.failing_over(Relay([TO_CAROL]))
        self.answer(self.one_request(CAROL), 180, CAROL)
        self.at(ALICE)
        cancel = self.invite()
        cancel.method = "CANCEL"
        cancel.set("cseq", "1 CANCEL")
        self.send(cancel)
        self.assertEqual(self.one_request(CAROL).method, "CANCEL")


class CancelTests(RelayTestCase):
    def cancel(self, headers: str = "") -> None:
        cancel = self.invite(headers)
        cancel.method = "CANCEL"
        cancel.set("cseq", "1 CANCEL")
        self.send(cancel)

    def test_ringing(self) -> None:
        """16.10 and 9.2: 200 for the CANCEL, 487 for the INVITE, Reason passed on."""
        self.send(self.invite())
        sent = self.one_request(BOB)
        self.answer(sent, 180)
        self.at(ALICE)
        self.cancel('Reason: SIP;cause=480;text="gone"')
        self.assertEqual(self.statuses(ALICE), [200])
        cancel = self.one_request(BOB)
        self.assertEqual(
            (cancel.method, cancel.get("reason")), ("CANCEL", 'SIP;cause=480;text="gone"')
        )
        self.answer(sent, 487)
        self.assertEqual(self.statuses(ALICE), [487])

    def test_before_any_response(self) -> None:
        """9.1: the CANCEL waits for a provisional response."""
        self.send(self.invite())
        sent = self.one_request(BOB)
        self.cancel()
        self.assertEqual(self.requests(BOB), [])
        self.answer(sent, 100)
        self.assertEqual(self.one_request(BOB).method, "CANCEL")

    def test_nothing_to_cancel(self) -> None:
        """O30: 481."""
        self.cancel()
        self.assertEqual(self.statuses(ALICE), [481])

    def test_while_the_policy_thinks(self) -> None:
        """The INVITE ends with 487 and is never sent."""
        thinking: Deferred[Verdict] = Deferred()

        async def slow(request: Request, arrival: Arrival) -> Verdict:
            return await thinking

        self.core._policy.route_request = slow  # type: ignore[method-assign]
        self.send(self.invite())
        self.cancel()
        thinking.callback(Relay([TO_BOB]))
        self.assertEqual(sorted(self.statuses(ALICE)), [100, 200, 487])
        self.assertEqual(self.requests(BOB), [])

    def test_answer_crosses_the_cancel(self) -> None:
        """9.1: a 200 that was under way is still the caller's."""
        self.send(self.invite())
        sent = self.one_request(BOB)
        self.answer(sent, 180)
        self.cancel()
        self.answer(sent, 200)
        self.assertIn(200, self.statuses(ALICE))


class AnsweredTests(RelayTestCase):
    """RFC 6026: for 32 s after a 2xx only its repeats go back, and little is kept for them."""

    def answered(self, *headers: tuple[str, str]) -> Request:
        """The INVITE as bob got it, answered."""
        self.send(self.invite())
        sent = self.one_request(BOB)
        self.at(ALICE)
        self.answer(sent, 200, headers=headers)
        self.assertEqual(self.statuses(ALICE), [200])
        return sent

    def test_repeats(self) -> None:
        """Each goes back, as the first did; and none after 32 s."""
        contact = "Contact", "<sip:1002@10.0.0.9:5060>"
        sent = self.answered(contact)
        for _ in range(2):
            self.answer(sent, 200, headers=(contact,))
            response = self.one_response()
            self.assertEqual(len(response.get_all("via")), 1)
            self.assertEqual(response.get("contact"), "<sip:1002@192.0.2.60:5060>")
        self.advance(33)
        self.answer(sent, 200)
        self.assertEqual(self.statuses(ALICE), [])

    def test_behind_a_proxy(self) -> None:
        """Who is beyond it is its business."""
        self.relay(Target(TO_BOB.uri, path=("<sip:192.0.2.60;lr>",)))
        contact = "Contact", "<sip:1002@10.0.0.9:5060>"
        sent = self.answered(contact)
        self.answer(sent, 200, headers=(contact,))
        self.assertEqual(self.one_response().get("contact"), contact[1])

    def test_other_answers_are_late(self) -> None:
        sent = self.answered()
        for status in (180, 486):
            self.answer(sent, status)
        self.assertEqual(self.statuses(ALICE), [])

    def test_repeated_invite(self) -> None:
        """Is absorbed; a CANCEL for it is answered and does nothing (9.2)."""
        self.answered()
        self.send(self.invite())
        cancel = self.invite()
        cancel.method = "CANCEL"
        cancel.set("cseq", "1 CANCEL")
        self.send(cancel)
        self.assertEqual((self.statuses(ALICE), self.at(BOB)), ([200], []))

    def test_what_is_kept(self) -> None:
        """Neither the requests nor the branches, and no cycle that the collector had to find."""
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        sent = self.answered()
        del sent
        kinds = (RelayedRequest, BranchClient, ResponseContext)
        self.policy.asked.clear()
        self.policy.decide = lambda request, arrival: Reply(404)
        self.assertEqual([one for one in gc.get_objects() if type(one) in kinds], [])
        self.assertEqual(self.layer.counts()["inuse_transactions"], 2)

    def test_a_branch_is_pending(self) -> None:
        """Everything is kept until the other phone has confirmed that it was cancelled."""
        self.relay(TO_BOB, TO_CAROL)
        self.send(self.invite())
        sent, other = self.one_request(BOB), self.one_request(CAROL)
        self.answer(other, 180, CAROL)
        self.answer(sent, 200)
        self.assertEqual(self.one_request(CAROL).method, "CANCEL")
        self.answer(other, 487, CAROL)
        self.answer(sent, 200)
        self.assertEqual(self.statuses(ALICE), [100, 180, 200, 200])


class DialogTests(RelayTestCase):
    def within(self, method: str, route: str = "<sip:192.0.2.1;lr>") -> Request:
        return request(
            f"{method} sip:1002@192.0.2.60:5060",
            f"Route: {route}",
            to="<sip:1002@pbx.test>;tag=b",
            via=f"SIP/2.0/UDP 192.0.2.50:5060;branch=z9hG4bK-{method}",
        )

    def test_along_the_route(self) -> None:
        """16.12: our Route is gone, and the policy is told."""
        self.policy.decide = lambda request, arrival: Relay([Target(request.uri)])
        self.send(self.within("BYE"))
        sent = self.one_request(BOB)
        self.assertEqual((sent.get_all("route"), sent.get_all("record-route")), ([], []))
        self.assertIsNotNone(self.policy.asked[0][1].own_route)

    def test_ack_of_a_2xx(self) -> None:
        """17: end to end, without transaction, and the policy is not asked."""
        self.send(self.within("ACK"))
        self.assertEqual(self.one_request(BOB).method, "ACK")
        self.assertEqual(self.policy.asked, [])

    def test_ack_without_our_route(self) -> None:
        """R4.2: nothing, and never an answer."""
        ack = self.within("ACK")
        ack.remove("route")
        self.send(ack)
        self.assertEqual((self.at(BOB), self.at(ALICE)), ([], []))

    def test_flow_token(self) -> None:
        """RFC 5626 section 5.3: the connection that the dialog began with, not another one to the
        same place; without it, wherever the Request-URI leads."""
        self.policy.decide = lambda request, arrival: Relay([Target(request.uri)])
        browser = Address("WS", "192.0.2.70", 40000)
        flow = self.flows.flow(browser)
        route = f"<sip:192.0.2.1;r2=on;lr>, <sip:{flow.token}@192.0.2.1;r2=on;lr>"
        self.send(self.within("INFO", route))
        self.assertEqual(self.one_request(browser).method, "INFO")
        self.send(self.within("ACK", route))
        self.assertEqual(self.one_request(browser).method, "ACK")
        flow.closed = True
        self.send(self.within("BYE", route))
        self.assertEqual(self.one_request(BOB).method, "BYE")

    def test_flow_token_of_the_sender(self) -> None:
        """RFC 5626 section 5.3.1: a request is not sent back over the flow it came by."""
        self.policy.decide = lambda request, arrival: Relay([Target(request.uri)])
        browser = Address("WS", "192.0.2.70", 40000)
        route = (
            f"<sip:{self.flows.flow(browser).token}@192.0.2.1;r2=on;lr>, <sip:192.0.2.1;r2=on;lr>"
        )
        self.send(self.within("BYE", route), browser)
        self.assertEqual(self.one_request(BOB).method, "BYE")

    def test_preloaded_own_route(self) -> None:
        """R8: "outbound proxy = us" is no preloaded route."""
        asked = self.invite("Route: <sip:192.0.2.1;lr>")
        self.send(asked)
        self.assertEqual(self.policy.asked[0][1].preloaded, False)
        self.assertIsNone(self.policy.asked[0][1].own_route)

    def test_preloaded_foreign_route(self) -> None:
        """R8."""
        self.send(self.invite("Route: <sip:192.0.2.1;lr>, <sip:192.0.2.99;lr>"))
        self.assertTrue(self.policy.asked[0][1].preloaded)


class PolicyTests(RelayTestCase):
    def decide(self, verdict: object) -> None:
        self.policy.decide = lambda request, arrival: verdict  # type: ignore[assignment,return-value]

    def test_reply(self) -> None:
        """8.2.6: To gets a tag, the reason is the standard one."""
        self.decide(Reply(480))
        self.send(self.invite())
        response = self.one_response()
        self.assertEqual((response.status, response.reason), (480, "Temporarily Unavailable"))
        self.assertTrue(response.to.tag)

    def test_drop(self) -> None:
        self.decide(Drop())
        self.send(request("OPTIONS sip:pbx.test"))
        self.assertEqual(self.at(ALICE), [])

    def test_raises(self) -> None:
        """500, and the process goes on."""

        def broken(request: Request, arrival: Arrival) -> Verdict:
            raise KeyError("oops")

        self.policy.decide = broken
        self.send(self.invite())
        self.assertEqual(self.statuses(ALICE), [500])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_returns_nonsense(self) -> None:
        self.decide(None)
        self.send(self.invite())
        self.assertEqual(self.statuses(ALICE), [500])


class LeakTests(RelayTestCase):
    def outcomes(self) -> Sequence[int]:
        return (200, 486, 603, 302)

    def test_nothing_is_left(self) -> None:
        """Every table is empty after calls of every outcome, and a while."""
        for at, status in enumerate(self.outcomes()):
            invite = self.invite(branch=str(at))
            self.send(invite)
            sent = self.requests(BOB)[-1]
            self.answer(sent, 180)
            self.answer(sent, status)
            if status >= 300:
                ack = self.invite(branch=str(at))
                ack.method = "ACK"
                ack.set("cseq", "1 ACK")
                self.send(ack)
        self.advance(240)
        counts = self.layer.counts()
        self.assertEqual(counts["inuse_transactions"], 0)
        self.assertEqual(self.core.statistics()["pbx:pending_invites"], 0)
        self.assertEqual(len(self.wheel), 0)


class CycleTests(RelayTestCase):
    """Whatever becomes of a request, reference counts free all of it at once: what waits for the
    collector costs its passes, and fresh memory for each request until the next.
    """

    def setUp(self) -> None:
        super().setUp()
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        gc.set_debug(gc.DEBUG_SAVEALL)
        self.addCleanup(gc.garbage.clear)
        self.addCleanup(gc.set_debug, 0)
        self.addCleanup(self.assert_no_garbage)

    def assert_no_garbage(self) -> None:
        """After each test: nothing of ours waits for the collector."""
        gc.collect()
        types = {type(one) for one in gc.garbage}
        self.assertEqual([one for one in types if one.__module__.startswith("pbx.")], [])

    def message(self, cseq: int = 1) -> Request:
        """A MESSAGE as bob got it."""
        self.send(request("MESSAGE sip:1002@pbx.test", cseq=cseq, via=f"{VIA}-{cseq}"))
        return self.one_request(BOB)

    def rings(self, peer: Address = BOB) -> Request:
        """An INVITE as a phone got it that now rings."""
        sent = self.one_request(peer)
        self.answer(sent, 180, peer)
        return sent

    def follow(self, method: str) -> None:
        """ACK or CANCEL for the INVITE."""
        sent = self.invite()
        sent.method = method
        sent.set("cseq", f"1 {method}")
        self.send(sent)

    def test_the_test(self) -> None:
        """A cycle is found."""
        one = Response(200, "OK", [], [])
        one.names.append(one)  # type: ignore[arg-type]
        del one
        with self.assertRaises(self.failureException):
            self.assert_no_garbage()
        for found in gc.garbage:
            if isinstance(found, Response):
                found.names.clear()
        gc.garbage.clear()

    def test_answered(self) -> None:
        self.answer(self.message(), 200)

    def test_refused(self) -> None:
        self.answer(self.message(), 404)

    def test_provisional_response(self) -> None:
        sent = self.message()
        self.answer(sent, 100)
        self.answer(sent, 200)

    def test_never_answered(self) -> None:
        self.message()
        self.advance(33)

    def test_connection_lost(self) -> None:
        """Before the answer, and after it."""
        flow = self.flow(BOB)
        flow.reliable = True
        self.answer(self.message(), 200)
        self.message(2)
        self.layer.flow_closed(flow)

    def test_refused_call(self) -> None:
        self.send(self.invite())
        self.answer(self.rings(), 486)
        self.follow("ACK")

    def test_refused_and_not_acknowledged(self) -> None:
        self.send(self.invite())
        self.answer(self.rings(), 486)
        self.advance(33)

    def test_cancelled_call(self) -> None:
        self.send(self.invite())
        sent = self.rings()
        self.follow("CANCEL")
        self.answer(self.one_request(BOB), 200)
        self.answer(sent, 487)
        self.follow("ACK")

    def test_answered_by_one_of_two(self) -> None:
        self.relay(TO_BOB, TO_CAROL)
        self.send(self.invite())
        sent, other = self.rings(), self.rings(CAROL)
        self.answer(sent, 200)
        self.answer(self.one_request(CAROL), 200, CAROL)
        self.answer(other, 487, CAROL)
        self.advance(33)

    def test_rings_for_ever(self) -> None:
        """Timer C, and no answer to the CANCEL."""
        self.send(self.invite())
        self.rings()
        self.advance(250)

    def test_second_try(self) -> None:
        async def elsewhere(request: Request, response: Response) -> Verdict:
            return Relay([TO_CAROL])

        self.relay(TO_BOB, on_failure=elsewhere)
        self.send(self.invite())
        self.answer(self.rings(), 486)
        self.answer(self.rings(CAROL), 200, CAROL)
