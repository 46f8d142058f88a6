"""The states of a call, and which requests belong to it (spec 30, section 11)."""

from __future__ import annotations

import random

from pbx.events import BalancerCounted, CallEnded, CallFailed
from pbx.services.dialogs import Call, DialogSettings
from pbx.sip.dialog import cookie_number
from pbx.sip.message import response_to
from tests.services.dialog_case import CALLEE, CALLER, NODE, NODE_OUT, START, DialogCase


class BeginTests(DialogCase):
    def test_what_a_call_knows_from_its_invite(self) -> None:
        call = self.begin()
        self.assertEqual((call.call_id, call.from_tag, call.to_tag, call.state), ("c1", "a", "", 1))
        self.assertEqual(call.from_uri, "sip:1001@pbx.test")
        self.assertEqual(call.to_uri, "sip:1002@pbx.test")
        self.assertEqual(call.request_uri, "sip:1002@pbx.test")
        self.assertEqual(call.from_display, "Alice")
        self.assertEqual((call.caller, call.callee), (CALLER, None))
        self.assertEqual((call.created, call.answered, call.ended), (START, 0.0, 0.0))
        self.assertTrue(call.accounted)
        self.assertEqual(self.names(), ["CallStarted"])
        self.assertEqual((self.stat("early"), self.stat("processed")), (1, 1))

    def test_the_cookie_is_the_number_of_the_row(self) -> None:
        """Spec 20, dlg_id."""
        self.assertIsNotNone(cookie_number(self.begin().did))

    def test_the_core_may_have_chosen_the_cookie(self) -> None:
        did = self.dialogs.begin(self.invite(), self.arrival(call="abc.00000010"), False)
        self.assertEqual(did, "abc.00000010")

    def test_beginning_twice_only_updates_flags(self) -> None:
        """Spec 30: create_dialog."""
        invite = self.invite()
        for account in (False, True):
            self.dialogs.begin(invite, self.arrival(call="abc.1"), account)
        call = self.dialogs.find("abc.1")
        assert call is not None
        self.assertTrue(call.accounted)
        self.assertEqual(self.stat("processed"), 1)

    def test_unanswered_calls_are_bounded(self) -> None:
        """Beyond the bound calls go on untracked."""
        self.build(DialogSettings(max_early=2))
        calls = [self.dialogs.begin(self.invite(), self.arrival(), True) for _ in range(3)]
        self.assertTrue(calls[0] and calls[1])
        self.assertEqual(calls[2], "")
        self.dialogs.failed(calls[0], 486, "Busy Here", False)
        self.assertTrue(self.dialogs.begin(self.invite(), self.arrival(), True))

    def test_an_unanswered_call_does_not_live_for_ever(self) -> None:
        call = self.begin()
        self.advance(902)
        self.assertEqual((call.state, call.sip_code), (5, 408))
        self.advance(10)
        self.assertEqual(self.dialogs.statistics()["pbx:kept_calls"], 0)


class CorrelationTests(DialogCase):
    def test_the_header_joins_the_second_leg(self) -> None:
        """Spec 50, section 2: FreeSWITCH copies X-PBX-Call."""
        first = self.begin()
        self.assertEqual(first.correlation, first.did)
        second = self.begin(self.invite(f"X-PBX-Call: {first.did}"), NODE_OUT)
        self.assertEqual(second.correlation, first.did)

    def test_an_unknown_call_is_no_correlation(self) -> None:
        call = self.begin(self.invite("X-PBX-Call: 1.2"), NODE_OUT)
        self.assertEqual(call.correlation, call.did)

    def test_a_caller_cannot_hide_calls_behind_another_of_its_own(self) -> None:
        first = self.begin()
        second = self.begin(self.invite(f"X-PBX-Call: {first.did}"), CALLER)
        self.assertEqual(second.correlation, second.did)


class StateTests(DialogCase):
    def test_an_ordinary_call(self) -> None:
        """States 1, 2, 3, 4, 5."""
        call = self.begin()
        states = [call.state]
        self.dialogs.provisional(call.did, self.response(call, 180))
        states.append(call.state)
        self.clock.advance(5)
        self.ok(call)
        states.append(call.state)
        self.within(call, "ACK", cseq=2)
        states.append(call.state)
        self.assertEqual((self.stat("active"), self.stat("early")), (1, 0))
        self.clock.advance(10)
        self.within(call, "BYE", cseq=3)
        states.append(call.state)
        self.assertEqual(states, [1, 2, 3, 4, 5])
        self.assertEqual(self.names(), ["CallStarted", "CallRinging", "CallAnswered", "CallEnded"])
        self.assertEqual((call.answered, call.ended), (START + 5, START + 15))
        self.assertEqual((call.ended_by, call.sip_code, call.callee), ("caller", 200, CALLEE))
        self.assertEqual(self.stat("active"), 0)

    def test_the_callee_hangs_up(self) -> None:
        call = self.talk()
        self.within(call, "BYE", cseq=1, by="callee")
        self.assertEqual(self.seen[-1], CallEnded(call, "callee"))

    def test_ringing_is_told_once(self) -> None:
        call = self.begin()
        self.dialogs.provisional(call.did, response_to(self.last_invite, 183))
        for tag in ("b", "c"):
            self.dialogs.provisional(call.did, self.response(call, 180, tag))
        self.assertEqual(self.names(), ["CallStarted", "CallRinging"])

    def test_refused(self) -> None:
        call = self.begin()
        self.dialogs.failed(call.did, 486, "Busy Here", False)
        self.assertEqual(self.seen[-1], CallFailed(call, 486, "Busy Here", False))
        self.assertEqual((call.state, call.ended_by, call.sip_code), (5, "callee", 486))
        self.assertEqual((self.stat("failed"), self.stat("early")), (1, 0))

    def test_given_up_by_the_caller(self) -> None:
        call = self.begin()
        self.dialogs.failed(call.did, 487, "Request Terminated", True)
        self.assertEqual(call.ended_by, "caller")

    def test_a_failure_after_the_answer_changes_nothing(self) -> None:
        call = self.talk()
        self.dialogs.failed(call.did, 408, "Request Timeout", False)
        self.assertEqual((call.state, self.stat("failed")), (4, 0))

    def test_a_repeated_2xx_changes_nothing(self) -> None:
        call = self.talk()
        self.names()
        self.clock.advance(1)
        self.ok(call)
        self.assertEqual(self.names(), [])
        self.assertEqual((call.answered, len(call.callees)), (START, 1))

    def test_bye_before_the_answer_is_remembered(self) -> None:
        """Spec 30: the INVITE still has to fail; the caller has given up."""
        call = self.begin()
        self.dialogs.provisional(call.did, self.response(call, 180))
        self.within(call, "BYE", cseq=3)
        self.assertEqual(call.state, 2)
        self.dialogs.failed(call.did, 487, "Request Terminated", False)
        self.assertEqual((call.state, call.ended_by), (5, "caller"))

    def test_bye_that_crosses_the_answer_ends_the_call(self) -> None:
        """RFC 5407 section 3.1.2."""
        call = self.begin()
        self.dialogs.provisional(call.did, self.response(call, 180))
        self.within(call, "BYE", cseq=3)
        self.ok(call)
        self.assertEqual(self.names()[-2:], ["CallAnswered", "CallEnded"])
        self.assertEqual(self.stat("active"), 0)

    def test_bye_to_one_early_branch_leaves_the_answer_of_another(self) -> None:
        call = self.begin()
        self.within(call, "BYE", cseq=3, tag="x")
        self.ok(call, "b")
        self.assertEqual(call.state, 3)

    def test_a_2xx_after_a_failure_revives_the_call(self) -> None:
        """Spec 30: back to 3 unless BYE was seen."""
        call = self.begin()
        self.dialogs.failed(call.did, 408, "Request Timeout", False)
        self.clock.advance(1)
        self.ok(call)
        self.assertEqual((call.state, call.ended, self.stat("active")), (3, 0.0, 1))
        self.advance(60)
        self.assertIs(self.dialogs.find(call.did), call)
        self.within(call, "BYE", cseq=3)
        self.assertEqual(self.stat("active"), 0)

    def test_a_2xx_after_bye_does_not(self) -> None:
        call = self.talk()
        self.within(call, "BYE", cseq=3)
        self.ok(call, "late")
        self.assertEqual(call.state, 5)

    def test_an_ended_call_is_kept_for_a_while(self) -> None:
        """delete_delay: late requests still find it."""
        call = self.talk()
        self.within(call, "BYE", cseq=3)
        self.assertEqual(self.within(call, "ACK", cseq=2)[1], call.did)
        self.advance(7)
        self.assertIsNone(self.dialogs.find(call.did))
        self.assertEqual(self.within(call, "ACK", cseq=2)[1], "")

    def test_no_delay(self) -> None:
        self.build(DialogSettings(delete_delay=0))
        call = self.talk()
        self.within(call, "BYE", cseq=3)
        self.assertIsNone(self.dialogs.find(call.did))


class ForkTests(DialogCase):
    """Several 2xx to one INVITE (13.2.2.4)."""

    def test_the_call_goes_on_until_its_last_branch_ends(self) -> None:
        call = self.begin()
        self.ok(call, "b")
        self.ok(call, "c")
        self.assertEqual([leg.tag for leg in call.callees], ["b", "c"])
        self.within(call, "BYE", cseq=3, tag="b")
        self.assertEqual((call.state, call.to_tag), (3, "c"))
        self.assertEqual(self.stat("active"), 1)
        self.within(call, "BYE", cseq=4, tag="c")
        self.assertEqual(call.state, 5)
        self.assertEqual(self.names().count("CallEnded"), 1)

    def test_bye_to_an_unknown_branch_ends_nothing(self) -> None:
        call = self.talk()
        self.within(call, "BYE", cseq=3, tag="other")
        self.assertEqual(call.state, 4)

    def test_the_second_bye_of_a_branch_ends_nothing_more(self) -> None:
        call = self.begin()
        self.ok(call, "b")
        self.ok(call, "c")
        self.within(call, "BYE", cseq=3, tag="b")
        self.within(call, "BYE", cseq=4, tag="b")
        self.assertEqual(call.state, 3)


class MatchTests(DialogCase):
    def test_by_cookie(self) -> None:
        call = self.talk()
        self.assertEqual(self.within(call, "INFO", cseq=3)[1], call.did)
        self.assertEqual(self.within(call, "INFO", cseq=1, by="callee")[1], call.did)

    def test_by_call_id_and_tags_when_the_cookie_says_nothing(self) -> None:
        """dlg_match_mode 1."""
        call = self.talk()
        self.assertEqual(self.within(call, "INFO", cseq=3, did="0.0")[1], call.did)
        self.assertEqual(self.within(call, "INFO", cseq=1, by="callee", did="")[1], call.did)
        self.assertIs(self.dialogs.find_by_tags("c1", "a", "b"), call)
        self.assertIs(self.dialogs.find_by_tags("c1", "b", "a"), call)
        self.assertIsNone(self.dialogs.find_by_tags("c1", "a", "x"))

    def test_by_cookie_only(self) -> None:
        """dlg_match_mode 0."""
        self.build(DialogSettings(dlg_match_mode=0))
        call = self.talk()
        self.assertEqual(self.within(call, "INFO", cseq=3, did="0.0")[1], "")
        self.assertEqual(self.within(call, "INFO", cseq=4)[1], call.did)

    def test_by_identifiers_only(self) -> None:
        """dlg_match_mode 2."""
        self.build(DialogSettings(dlg_match_mode=2))
        call, other = self.talk(), self.talk()
        self.assertEqual(self.within(call, "INFO", cseq=3, did=other.did)[1], call.did)

    def test_a_cookie_of_another_call_does_not_match(self) -> None:
        call, other = self.talk(), self.talk()
        self.assertEqual(self.within(call, "BYE", cseq=3, did=other.did)[1], call.did)
        self.assertEqual((call.state, other.state), (5, 4))

    def test_unknown_requests_pass(self) -> None:
        """O17: unless strict."""
        call = self.talk()
        self.assertEqual(self.within(call, "BYE", cseq=3, call_id="else")[1], "")
        self.assertEqual(call.state, 4)


class CountedTests(DialogCase):
    """What the balancer counts is kept with the call."""

    def test_counted_before_the_call_begins(self) -> None:
        """The policy asks the balancer first."""
        self.events.publish(BalancerCounted("abc.1", 1, ("pstn", "all"), 7))
        self.dialogs.begin(self.invite(), self.arrival(call="abc.1"), True)
        call = self.dialogs.find("abc.1")
        assert call is not None
        self.assertEqual(call.profiles, {"lb1:pstn": "7", "lb1:all": "7"})

    def test_moved_to_another_destination(self) -> None:
        call = self.begin()
        for destination in (7, 8):
            self.events.publish(BalancerCounted(call.did, 1, ("pstn",), destination))
        self.assertEqual(call.profiles, {"lb1:pstn": "8"})

    def test_calls_that_never_begin_are_forgotten(self) -> None:
        for number in range(10050):
            self.events.publish(BalancerCounted(f"{number:x}.1", 1, ("pstn",), 7))
        self.dialogs.begin(self.invite(), self.arrival(call="1.1"), True)
        early = self.dialogs.find("1.1")
        assert early is not None
        self.assertEqual(early.profiles, {})


class RandomTests(DialogCase):
    def test_counters_and_tables_come_back_to_nothing(self) -> None:
        """Whatever happens in whatever order: no call is lost, each has one end and one CDR."""
        for seed in range(30):
            self.setUp()
            chance = random.Random(seed)
            calls: list[Call] = []
            for _ in range(150):
                self._step(chance, calls)
            for call in self.dialogs.all():
                self.ok(call, "z")
                self.dialogs.end(call.did)
            self.assertEqual((self.stat("active"), self.stat("early")), (0, 0))
            self.assertEqual(self.dialogs.all(), [])
            ends = {call.did: 0 for call in calls}
            for event in self.seen:
                if isinstance(event, (CallEnded, CallFailed)):
                    ends[event.dialog.did] += 1
            revived = {event.dialog.did for event in self.seen if isinstance(event, CallFailed)}
            for did, count in ends.items():
                self.assertIn(count, (1, 2) if did in revived else (1,), (seed, did))
            self.assertEqual(
                {did for (did,) in self.rows("SELECT did FROM pbx_cdr")}, set(ends), seed
            )
            self.assertEqual(self.rows("SELECT * FROM dialog"), [])
            self.advance(10)
            self.assertEqual(self.dialogs.statistics()["pbx:kept_calls"], 0)

    def _step(self, chance: random.Random, calls: list[Call]) -> None:
        what = chance.randrange(9)
        if what == 0 or not calls:
            calls.append(self.begin(peer=chance.choice((CALLER, NODE))))
            return
        call = chance.choice(calls[-6:])
        tag = chance.choice(("b", "c"))
        if what == 1:
            self.dialogs.provisional(call.did, self.response(call, 180, tag))
        elif what in (2, 3):
            self.ok(call, tag)
        elif what == 4:
            self.dialogs.failed(call.did, 486, "Busy Here", chance.random() < 0.3)
        elif what == 5:
            self.within(call, "ACK", cseq=2, tag=tag)
        elif what == 6:
            by = chance.choice(("caller", "callee"))
            self.within(call, "BYE", cseq=chance.randrange(20), by=by, tag=tag)
        elif what == 7:
            self.dialogs.end(call.did)
        else:
            self.advance(chance.random() * 3)
