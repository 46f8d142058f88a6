"""Requests within calls, of the peers and of our own (RFC 3261 section 12.2)."""

from __future__ import annotations

from typing import Any

from pbx.events import CallEnded
from pbx.services.dialogs import Call, DialogSettings
from pbx.sip.errors import SIPError
from pbx.sip.message import response_to
from tests.services.dialog_case import CALLEE, CALLER, DialogCase


class StrictTests(DialogCase):
    def setUp(self) -> None:
        super().setUp()
        self.build(DialogSettings(strict=True))

    def refused(self, call: Call, method: str, **about: Any) -> None:
        error = self.assertRaises(SIPError, self.within, call, method, **about)
        self.assertEqual(error.status, 481)

    def test_unknown_requests_are_refused(self) -> None:
        """O17; subscriptions and ACK are not ours to refuse."""
        call = self.talk()
        self.refused(call, "BYE", cseq=3, call_id="else")
        for method in ("SUBSCRIBE", "NOTIFY", "ACK"):
            self.assertEqual(self.within(call, method, cseq=3, call_id="else")[1], "")

    def test_cseq_must_rise(self) -> None:
        """validate_dialog -1."""
        call = self.talk()
        self.refused(call, "INFO", cseq=2)
        self.within(call, "INFO", cseq=3)
        self.refused(call, "INFO", cseq=3)
        self.within(call, "INFO", cseq=1, by="callee")
        self.refused(call, "INFO", cseq=1, by="callee")

    def test_the_target_must_be_the_contact(self) -> None:
        """validate_dialog -2; equivalent spellings are the same (19.1.4)."""
        call = self.talk()
        self.refused(call, "INFO", cseq=3, uri="sip:1002@198.51.100.1")
        self.within(call, "INFO", cseq=4, uri="sip:1002@192.0.2.60:5060;x=1")
        self.refused(call, "INFO", cseq=1, by="callee", uri="sip:1001@198.51.100.1")

    def test_the_route_must_be_the_route_set(self) -> None:
        """validate_dialog -3: what is left behind our own Route."""
        call = self.begin()
        self.ok(call, above="<sip:p3.test;lr>, <sip:p2.test;lr>")
        self.refused(call, "INFO", cseq=3)
        self.refused(call, "INFO", cseq=4, headers="Route: <sip:p3.test;lr>")
        routes = "Route: <sip:p2.test;lr>, <sip:p3.test;lr>"
        self.assertEqual(self.within(call, "INFO", cseq=5, headers=routes)[1], call.did)

    def test_an_unknown_tag(self) -> None:
        """validate_dialog -4."""
        self.refused(self.talk(), "INFO", cseq=3, tag="other")

    def test_a_refused_bye_ends_nothing(self) -> None:
        call = self.talk()
        self.refused(call, "BYE", cseq=1)
        self.assertEqual(call.state, 4)

    def test_faults_are_counted_and_pass_when_not_strict(self) -> None:
        self.build(DialogSettings())
        call = self.talk()
        self.assertEqual(self.within(call, "INFO", cseq=1)[1], call.did)
        self.assertEqual(self.dialogs.statistics()["pbx:dialog_faults"], 1)


class RefreshTests(DialogCase):
    """Target refresh by re-INVITE and UPDATE (12.2)."""

    def modify(self, call: Call, method: str, status: int, by: str = "caller") -> None:
        headers = "Contact: <sip:asking@192.0.2.99>"
        made, did = self.within(call, method, cseq=9, by=by, headers=headers)
        answer = response_to(made, status, headers=[("Contact", "<sip:answering@192.0.2.98>")])
        self.dialogs.completed(did, made, answer)

    def targets(self, call: Call) -> tuple[str, str]:
        return call.caller_side().target, call.callees[0].target

    def test_accepted(self) -> None:
        for method in ("INVITE", "UPDATE"):
            call = self.talk()
            self.modify(call, method, 200)
            self.assertEqual(
                self.targets(call), ("sip:asking@192.0.2.99", "sip:answering@192.0.2.98")
            )

    def test_by_the_callee(self) -> None:
        call = self.talk()
        self.modify(call, "INVITE", 200, by="callee")
        self.assertEqual(self.targets(call), ("sip:answering@192.0.2.98", "sip:asking@192.0.2.99"))

    def test_refused(self) -> None:
        """Only a 2xx refreshes."""
        call = self.talk()
        before = self.targets(call)
        self.modify(call, "INVITE", 488)
        self.assertEqual(self.targets(call), before)

    def test_other_methods_refresh_nothing(self) -> None:
        call = self.talk()
        before = self.targets(call)
        for method in ("INFO", "REFER", "MESSAGE", "PRACK"):
            call.caller_leg.cseq = 2
            self.modify(call, method, 200)
        self.assertEqual(self.targets(call), before)

    def test_behind_nat_the_target_is_where_it_came_from(self) -> None:
        """What the other side gets to see is the repaired Contact (rule R2)."""
        invite = self.invite("Contact: <sip:1001@10.0.0.5:5062;x=1>")
        did = self.dialogs.begin(invite, self.arrival(behind_nat=True), True)
        call = self.dialogs.find(did)
        assert call is not None
        self.ok(call)
        self.assertEqual(call.caller_side().target, "sip:1001@192.0.2.50:5060;x=1")


class EndTests(DialogCase):
    """BYE and CANCEL of our own."""

    def test_timeout_sends_bye_to_both_sides(self) -> None:
        """Caller first; CSeq of the other leg plus one, Contact of each leg, Reason."""
        call = self.talk()
        self.within(call, "INFO", cseq=8)
        self.within(call, "INFO", cseq=4, by="callee")
        self.advance(21599)
        self.assertEqual(self.agent.sent, [])
        self.advance(3)
        first, second = self.agent.requests()
        self.assertEqual(first.start_line, "BYE sip:1001@192.0.2.50:5060 SIP/2.0")
        self.assertEqual(
            (str(first.from_), str(first.to), str(first.cseq)),
            ("<sip:1002@pbx.test>;tag=b", "<sip:1001@pbx.test>;tag=a", "5 BYE"),
        )
        self.assertEqual(second.start_line, "BYE sip:1002@192.0.2.60:5060 SIP/2.0")
        self.assertEqual(
            (str(second.from_), str(second.to), str(second.cseq)),
            ("<sip:1001@pbx.test>;tag=a", "<sip:1002@pbx.test>;tag=b", "9 BYE"),
        )
        self.assertEqual(second.get("reason"), 'SIP;cause=408;text="Dialog Timeout"')
        self.assertEqual(self.seen[-1], CallEnded(call, "timeout"))
        self.assertEqual((self.stat("expired"), self.stat("active")), (1, 0))

    def test_timeout_without_bye(self) -> None:
        """create_dialog without B: the entry just disappears."""
        self.build(DialogSettings(bye_on_timeout=False, default_timeout=10))
        self.talk()
        self.advance(13)
        self.assertEqual(self.agent.sent, [])
        self.assertEqual(self.stat("active"), 0)

    def test_a_call_that_ended_does_not_time_out(self) -> None:
        self.build(DialogSettings(default_timeout=10))
        call = self.talk()
        self.within(call, "BYE", cseq=3)
        self.advance(15)
        self.assertEqual((self.stat("expired"), self.agent.sent), (0, []))

    def test_over_the_flow_that_is_open(self) -> None:
        call = self.talk()
        self.dialogs.end(call.did)
        flows = [flow for _, _, flow in self.agent.sent]
        self.assertEqual(flows, [self.flows.flow(CALLER), self.flows.flow(CALLEE)])

    def test_along_the_route_set_of_each_side(self) -> None:
        """Record-Route of others above and below ours."""
        headers = """
            Record-Route: <sip:p1.test;lr>, <sip:p0.test;lr>
            Contact: <sip:a@a.test>
        """
        call = self.begin(self.invite(headers))
        self.ok(
            call,
            above="<sip:p3.test;lr>, <sip:p2.test;lr>",
            below="<sip:p1.test;lr>, <sip:p0.test;lr>",
        )
        self.assertTrue(self.dialogs.end(call.did))
        hops = [(str(hop), flow) for _, hop, flow in self.agent.sent]
        self.assertEqual(hops, [("sip:p1.test;lr", None), ("sip:p2.test;lr", None)])
        first, second = self.agent.requests()
        self.assertEqual(first.get_all("route"), ["<sip:p1.test;lr>", "<sip:p0.test;lr>"])
        self.assertEqual(second.get_all("route"), ["<sip:p2.test;lr>", "<sip:p3.test;lr>"])

    def test_every_branch_that_answered_gets_bye(self) -> None:
        call = self.begin()
        self.ok(call, "b")
        self.ok(call, "c")
        self.dialogs.end(call.did)
        self.assertEqual([bye.to.tag for bye in self.agent.requests()], ["a", "b", "c"])

    def test_before_the_answer_it_is_cancelled(self) -> None:
        """Spec 40: dlg_end_dlg on an early dialog."""
        call = self.begin()
        reasons: list[str] = []
        self.dialogs.cancel_with(call.did, reasons.append)
        self.assertTrue(self.dialogs.end(call.did, "admin", 'so "be" it'))
        self.assertEqual(reasons, ['SIP;cause=200;text="so \\"be\\" it"'])
        self.dialogs.failed(call.did, 487, "Request Terminated", True)
        self.assertEqual(call.ended_by, "admin")

    def test_nothing_to_end(self) -> None:
        self.assertFalse(self.dialogs.end("1.1"))
        call = self.talk()
        self.assertTrue(self.dialogs.end(call.did))
        self.assertFalse(self.dialogs.end(call.did))
        self.assertEqual(self.seen[-1], CallEnded(call, "admin"))


class PingTests(DialogCase):
    """OPTIONS within a call (flags P and p)."""

    def setUp(self) -> None:
        super().setUp()
        self.build(DialogSettings(ping_interval=30))

    def test_both_sides_are_pinged(self) -> None:
        """With a CSeq that is in use: the next request of the real peer stays in order."""
        call = self.talk()
        self.within(call, "INFO", cseq=7)
        self.advance(32)
        to_caller, to_callee = self.agent.requests()
        self.assertEqual(to_caller.start_line, "OPTIONS sip:1001@192.0.2.50:5060 SIP/2.0")
        self.assertEqual(to_callee.start_line, "OPTIONS sip:1002@192.0.2.60:5060 SIP/2.0")
        self.assertEqual(str(to_callee.cseq), "7 OPTIONS")
        self.assertEqual(call.caller_leg.cseq, 7)
        self.advance(31)
        self.assertEqual(len(self.agent.requests()), 2)

    def test_a_side_that_does_not_know_the_call_ends_it(self) -> None:
        """408 and 481 end the call with BYE to both."""
        for status in (408, 481):
            self.agent.status = 200
            call = self.talk()
            self.agent.status = status
            self.advance(32)
            self.assertIn(CallEnded(call, "pbx"), self.seen)
            methods = [sent.method for sent in self.agent.requests()]
            self.assertEqual(methods.count("BYE"), 2)

    def test_any_other_answer_shows_life(self) -> None:
        call = self.talk()
        for status in (200, 405, 500):
            self.agent.status = status
            self.advance(31)
            self.assertEqual(call.state, 4)

    def test_out_of_reach_three_times(self) -> None:
        self.agent.status = 503
        call = self.talk()
        self.advance(62)
        self.assertEqual(call.state, 4)
        self.advance(32)
        self.assertEqual(call.state, 5)

    def test_ended_calls_are_not_pinged(self) -> None:
        call = self.talk()
        self.within(call, "BYE", cseq=3)
        self.advance(65)
        self.assertEqual(self.agent.sent, [])

    def test_one_side_only(self) -> None:
        self.build(DialogSettings(ping_interval=30, ping_caller=False))
        self.talk()
        self.advance(32)
        self.assertEqual([sent.to.tag for sent in self.agent.requests()], ["b"])
