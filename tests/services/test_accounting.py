"""Rows of acc, missed_calls and cdr (spec 20 section 5, oddities O14, O15, O34)."""

from __future__ import annotations

import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pbx.config import ConfigError, settings
from pbx.events import MediaEnded
from pbx.legs import MediaStatistics, StreamStatistics
from pbx.services.accounting import AccountingSettings
from pbx.services.accounting.columns import user_of
from pbx.services.dialogs import Call, DialogSettings
from pbx.sip.address import Address
from pbx.sip.message import Request, response_to
from tests.fakes import request
from tests.services.dialog_case import CALLEE, NODE, NODE_OUT, START, DialogCase

ACC = (
    "SELECT method, from_tag, to_tag, callid, sip_code, sip_reason, duration, setuptime FROM acc"
    " ORDER BY id"
)
MISSED = (
    "SELECT method, from_tag, to_tag, callid, sip_code, sip_reason, setuptime FROM missed_calls"
)


def date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


class AccTests(DialogCase):
    def account(self, made: Request, status: int, did: str = "", reason: str = "") -> None:
        self.completed(made, response_to(made, status, reason, to_tag="b"), did)

    def test_an_answered_call_has_two_rows(self) -> None:
        """INVITE 200 and BYE 200 with one Call-ID; setuptime counts from the INVITE."""
        call = self.begin()
        self.clock.advance(4)
        self.ok(call)
        self.account(self.last_invite, 200, call.did)
        self.clock.advance(60)
        bye, _ = self.within(call, "BYE", cseq=3)
        self.account(bye, 200, call.did)
        self.assertEqual(
            self.rows(ACC),
            [
                ("INVITE", "a", "b", "c1", "200", "OK", 0, 4),
                ("BYE", "a", "b", "c1", "200", "OK", 0, 64),
            ],
        )
        self.assertEqual(
            self.rows("SELECT time, created FROM acc ORDER BY id"),
            [(date(START + 4), date(START)), (date(START + 64), date(START))],
        )

    def test_bye_counts_whatever_its_outcome(self) -> None:
        """Rule R4.4."""
        call = self.talk()
        bye, _ = self.within(call, "BYE", cseq=3)
        self.account(bye, 408, call.did)
        sql = "SELECT method, sip_code, sip_reason FROM acc"
        self.assertEqual(self.rows(sql), [("BYE", "408", "Request Timeout")])

    def test_other_failures_have_no_row(self) -> None:
        """Rule R11.5: only success is marked."""
        self.account(self.invite(), 486)
        self.account(request("MESSAGE sip:1002@pbx.test"), 404)
        self.assertEqual(self.rows(ACC), [])
        self.account(request("MESSAGE sip:1002@pbx.test"), 200)
        self.assertEqual(len(self.rows(ACC)), 1)

    def test_a_call_that_we_ended(self) -> None:
        """Local block: one row, 200 Dialog Timeout."""
        for by in ("timeout", "admin"):
            self.setUp()
            call = self.talk()
            self.clock.advance(10)
            self.dialogs.end(call.did, by)
            self.assertEqual(
                self.rows(ACC), [("BYE", "a", "b", "c1", "200", "Dialog Timeout", 0, 10)]
            )

    def test_texts_are_clipped(self) -> None:
        """Spec 20, rule 7: an over-long value must not lose the row."""
        made = self.invite(call_id="x" * 400)
        self.account(made, 200, reason="y" * 400)
        self.assertEqual(
            self.rows("SELECT length(callid), length(sip_reason) FROM acc"), [(255, 255)]
        )

    def test_utc(self) -> None:
        self.build(DialogSettings(), AccountingSettings(utc=True))
        self.account(self.invite(), 200)
        self.assertEqual(self.rows("SELECT time FROM acc"), [("2023-11-14 22:13:20",)])


class MissedTests(DialogCase):
    def test_one_row_for_an_unanswered_invite(self) -> None:
        """O14, O34."""
        call = self.begin()
        self.dialogs.provisional(call.did, self.response(call, 180))
        self.clock.advance(20)
        self.dialogs.failed(call.did, 486, "Busy Here", False)
        self.assertEqual(self.rows(MISSED), [("INVITE", "a", "b", "c1", "486", "Busy Here", 20)])

    def test_a_caller_who_gives_up_counts(self) -> None:
        call = self.begin()
        self.dialogs.failed(call.did, 487, "Request Terminated", True)
        self.assertEqual(len(self.rows(MISSED)), 1)

    def test_no_other_method_does(self) -> None:
        """O34."""
        made = request("MESSAGE sip:1002@pbx.test")
        self.completed(made, response_to(made, 404), "")
        self.assertEqual(self.rows(MISSED), [])

    def test_only_what_the_policy_wants(self) -> None:
        call = self.begin(account=False)
        self.dialogs.failed(call.did, 486, "Busy Here", False)
        self.assertEqual(self.rows(MISSED), [])
        self.assertEqual(self.rows("SELECT * FROM cdr"), [])


class ExtraFieldTests(DialogCase):
    def test_columns_of_the_operator(self) -> None:
        for table in ("acc", "missed_calls"):
            for column in ("caller_id", "src_ip", "agent", "cdr_id"):
                sql = f"ALTER TABLE {table} ADD COLUMN {column} varchar(64)"
                self.wait(self.database.execute(sql))
        fields = {
            "caller_id": "from_user",
            "src_ip": "src_ip",
            "agent": "header:User-Agent",
            "cdr_id": "call",
        }
        self.build(DialogSettings(), AccountingSettings(extra_fields=fields))
        headers = """
            User-Agent: phone/1
            Contact: <sip:1001@192.0.2.50>
        """
        call = self.begin(self.invite(headers))
        self.ok(call)
        self.completed(self.last_invite, response_to(self.last_invite, 200), call.did)
        lost = self.begin(self.invite(headers))
        self.dialogs.failed(lost.did, 486, "Busy Here", False)
        columns = "caller_id, src_ip, agent, cdr_id"
        self.assertEqual(
            self.rows(f"SELECT {columns} FROM acc"), [("1001", "192.0.2.50", "phone/1", call.did)]
        )
        self.assertEqual(
            self.rows(f"SELECT {columns} FROM missed_calls"),
            [("1001", "192.0.2.50", "", lost.did)],
        )

    def test_faults_are_found_at_start(self) -> None:
        for fields in ({"a b": "from_user"}, {"a": "nonsense"}):
            table = {"extra_fields": fields}
            self.assertRaises(ConfigError, settings, AccountingSettings, table, "accounting")


class CdrCase(DialogCase):
    def cdr(self) -> list[dict[str, Any]]:
        names = "caller caller_name callee disposition ended_by sip_code legs duration call_id"
        columns = names.split()
        sql = f"SELECT {', '.join(columns)} FROM cdr ORDER BY started"
        return [dict(zip(columns, row, strict=True)) for row in self.rows(sql)]

    def one(self) -> dict[str, Any]:
        [row] = self.cdr()
        return row

    def check(self, **expected: object) -> None:
        row = self.one()
        self.assertEqual({name: row[name] for name in expected}, expected)


class SingleLegTests(CdrCase):
    """Extension to extension: one leg, one row."""

    def test_answered(self) -> None:
        call = self.begin()
        self.clock.advance(5)
        self.ok(call)
        self.clock.advance(30.25)
        self.within(call, "BYE", cseq=1, by="callee")
        self.assertEqual(
            self.one(),
            {
                "caller": "1001",
                "caller_name": "Alice",
                "callee": "1002",
                "disposition": "answered",
                "ended_by": "callee",
                "sip_code": 200,
                "legs": 1,
                "duration": 30.25,
                "call_id": "c1",
            },
        )
        self.assertEqual(
            self.rows("SELECT start_time, answer_time, end_time FROM cdr"),
            [(date(START), date(START + 5), date(START + 35))],
        )

    def test_dispositions(self) -> None:
        for status, cancelled, disposition, by in (
            (486, False, "busy", "callee"),
            (603, False, "busy", "callee"),
            (480, False, "missed", "callee"),
            (408, False, "missed", "timeout"),
            (487, True, "cancelled", "caller"),
            (404, False, "failed", "callee"),
            (503, False, "failed", "callee"),
        ):
            self.setUp()
            call = self.begin()
            self.dialogs.failed(call.did, status, "", cancelled)
            self.check(disposition=disposition, ended_by=by, sip_code=status, duration=0)
            self.assertEqual(self.rows("SELECT answer_time FROM cdr"), [(None,)])

    def test_ended_by_us(self) -> None:
        for by in ("timeout", "admin", "pbx"):
            self.setUp()
            self.dialogs.end(self.talk().did, by)
            self.check(disposition="answered", ended_by=by)

    def test_how_it_was_heard(self) -> None:
        """Told after the end of the call; zeros for one whose media did not pass here."""
        sql = "SELECT packets, loss, jitter, mos FROM cdr"
        call = self.talk()
        self.within(call, "BYE", cseq=3)
        self.assertEqual(self.rows(sql), [(0, 0, 0, 0)])
        good = StreamStatistics(packets=1500, jitter=0.0041)
        bad = StreamStatistics(packets=1350, lost=150, jitter=0.0253)
        self.events.publish(MediaEnded(call.did, MediaStatistics(good, bad)))
        [(packets, loss, jitter, mos)] = self.rows(sql)
        self.assertEqual((packets, loss, jitter), (2850, 0.05, 25.3))
        self.assertTrue(3.0 < mos < 3.7, mos)
        self.check(disposition="answered", ended_by="caller")

    def test_heard_of_an_unknown_call(self) -> None:
        """One that nobody accounts for makes no row."""
        heard = StreamStatistics(packets=1)
        self.events.publish(MediaEnded("nobody", MediaStatistics(heard, heard)))
        self.assertEqual(self.cdr(), [])

    def test_an_answer_after_the_failure_replaces_the_row(self) -> None:
        """One row for each call, whatever happens."""
        call = self.begin()
        self.dialogs.failed(call.did, 408, "Request Timeout", False)
        self.clock.advance(1)
        self.ok(call)
        self.advance(50)
        self.within(call, "BYE", cseq=3)
        self.check(disposition="answered", duration=50)

    def test_a_restart_during_the_call(self) -> None:
        """The facts are in the row of the dialog."""
        call = self.talk()
        self.advance(20)
        self.kill()
        self.advance(10)
        self.within(call, "BYE", cseq=3)
        self.check(disposition="answered", caller="1001", caller_name="Alice", duration=30)

    def test_nothing_is_kept_of_calls_that_ended(self) -> None:
        for _ in range(3):
            self.within(self.talk(), "BYE", cseq=3)
        self.advance(60)
        self.within(self.talk(), "BYE", cseq=3)
        self.assertEqual(len(self.accounting._legs), 1)


class TwoLegTests(CdrCase):
    """Through FreeSWITCH: it answers leg A and calls the callee with leg B (O15)."""

    def leg_a(self) -> Call:
        call = self.begin()
        self.ok(call, "fs", "<sip:1002@192.0.2.112>", NODE)
        self.clock.advance(1)
        return call

    def leg_b(self, header: str = "", uri: str = "sip:1002@pbx.test") -> Call:
        from_ = '"Alice" <sip:1001@192.0.2.112>;tag=f'
        headers = "Contact: <sip:mod_sofia@192.0.2.112:5080>"
        if header:
            headers = f"X-PBX-Call: {header}\n{headers}"
        return self.begin(self.invite(headers, from_=from_, uri=uri), NODE_OUT)

    def both(self) -> tuple[Call, Call]:
        first = self.leg_a()
        second = self.leg_b(first.did)
        self.clock.advance(6)
        return first, second

    def bye(self, call: Call, by: str) -> None:
        self.within(call, "BYE", cseq=3, by=by, tag=call.to_tag)

    def test_the_answer_is_the_one_of_the_callee(self) -> None:
        first, second = self.both()
        self.ok(second)
        self.clock.advance(60)
        self.bye(first, "caller")
        self.bye(second, "caller")
        self.check(
            disposition="answered",
            ended_by="caller",
            duration=60,
            legs=2,
            caller="1001",
            callee="1002",
            call_id="c1",
        )
        self.assertEqual(
            self.rows("SELECT start_time, answer_time FROM cdr"), [(date(START), date(START + 7))]
        )
        self.assertEqual(self.rows("SELECT callee_address FROM cdr"), [(str(CALLEE),)])

    def test_how_both_legs_were_heard(self) -> None:
        """Packets of both, the worse of each figure."""
        first, second = self.both()
        self.ok(second)
        self.bye(first, "caller")
        self.bye(second, "caller")
        one = StreamStatistics(packets=1000, jitter=0.002)
        two = StreamStatistics(packets=900, lost=100, jitter=0.001)
        self.events.publish(MediaEnded(first.did, MediaStatistics(one, one)))
        [(mos,)] = self.rows("SELECT mos FROM cdr")
        self.assertTrue(mos > 4.3, mos)
        self.events.publish(MediaEnded(second.did, MediaStatistics(two, two)))
        [(packets, loss, jitter, mos)] = self.rows("SELECT packets, loss, jitter, mos FROM cdr")
        self.assertEqual((packets, loss, jitter), (3800, 0.1, 2.0))
        self.assertTrue(mos < 3.5, mos)

    def test_the_callee_hangs_up(self) -> None:
        first, second = self.both()
        self.ok(second)
        self.bye(second, "callee")
        self.bye(first, "callee")
        self.check(ended_by="callee", disposition="answered")

    def test_the_node_hangs_up_on_both(self) -> None:
        first, second = self.both()
        self.ok(second)
        self.bye(second, "caller")
        self.bye(first, "callee")
        self.check(ended_by="pbx")

    def test_busy_then_voicemail(self) -> None:
        """Leg A was answered by the node, but nobody answered the call."""
        first, second = self.both()
        self.dialogs.failed(second.did, 486, "Busy Here", False)
        self.advance(30)
        self.bye(first, "caller")
        self.check(disposition="busy", sip_code=486, duration=0, ended_by="caller")

    def test_the_caller_gives_up(self) -> None:
        """BYE on leg A makes the node CANCEL leg B."""
        first, second = self.both()
        self.bye(first, "caller")
        self.dialogs.failed(second.did, 487, "Request Terminated", True)
        self.check(disposition="cancelled", ended_by="caller")

    def test_the_node_gives_up(self) -> None:
        """call_timeout: CANCEL on leg B while leg A goes on to voicemail."""
        first, second = self.both()
        self.dialogs.failed(second.did, 487, "Request Terminated", True)
        self.advance(20)
        self.bye(first, "caller")
        self.check(disposition="missed", duration=0)

    def test_the_leg_that_was_answered_counts(self) -> None:
        """The node tries one phone after the other."""
        first, second = self.both()
        self.dialogs.failed(second.did, 486, "Busy Here", False)
        third = self.leg_b(first.did)
        self.ok(third)
        self.clock.advance(10)
        self.bye(third, "callee")
        self.bye(first, "callee")
        self.check(disposition="answered", legs=3, duration=10)

    def test_without_header_by_users_and_time(self) -> None:
        """Spec 50, section 5."""
        first = self.leg_a()
        second = self.leg_b()
        self.assertEqual(second.correlation, second.did)
        self.ok(second)
        self.bye(second, "callee")
        self.bye(first, "callee")
        self.check(legs=2, disposition="answered")

    def test_before_the_node_has_answered(self) -> None:
        """Bridging first, as recommended: the node is known by its address in From."""
        first = self.begin()
        second = self.leg_b()
        self.ok(second)
        self.ok(first, "fs", "<sip:1002@192.0.2.112>", NODE)
        self.bye(second, "callee")
        self.bye(first, "callee")
        self.check(legs=2, disposition="answered")

    def test_other_calls_are_not_joined(self) -> None:
        """Another user, too late, another source: two calls."""
        first = self.leg_a()
        others = [self.leg_b(uri="sip:1003@pbx.test")]
        others.append(self.begin(self.invite(from_="<sip:1001@pbx.test>;tag=n"), CALLEE))
        self.clock.advance(11)
        others.append(self.leg_b())
        for call in (first, *others):
            if call is not first:
                self.ok(call)
            self.bye(call, "caller")
        self.assertEqual([row["legs"] for row in self.cdr()], [1, 1, 1, 1])

    def test_each_of_two_equal_calls_gets_its_own_leg(self) -> None:
        firsts = [self.leg_a(), self.leg_a()]
        seconds = [self.leg_b(), self.leg_b()]
        for call in (*firsts, *seconds):
            if call in seconds:
                self.ok(call)
            self.bye(call, "callee")
        self.assertEqual([row["legs"] for row in self.cdr()], [2, 2])

    def test_browsers_that_call_again_are_not_joined(self) -> None:
        """All behind one NAT: the second caller is at the address of the first callee."""
        first = self.begin(peer=Address("WS", "192.0.2.60", 40000))
        self.ok(first, peer=Address("WS", "192.0.2.60", 40001))
        self.bye(first, "callee")
        second = self.begin(peer=Address("WS", "192.0.2.60", 40002))
        self.ok(second, peer=Address("WS", "192.0.2.60", 40001))
        self.bye(second, "caller")
        self.assertEqual([row["legs"] for row in self.cdr()], [1, 1])

    def test_joining_can_be_switched_off(self) -> None:
        self.build(DialogSettings(), AccountingSettings(join_window=0))
        for call in (self.leg_a(), self.leg_b()):
            if not call.answered:
                self.ok(call)
            self.bye(call, "caller")
        self.assertEqual(len(self.cdr()), 2)

    def test_a_restart_between_the_legs(self) -> None:
        for header in (True, False):
            self.setUp()
            first = self.leg_a()
            second = self.leg_b(first.did if header else "")
            self.ok(second)
            self.advance(5)
            self.kill()
            self.bye(second, "callee")
            self.bye(first, "callee")
            self.check(legs=2, disposition="answered", ended_by="callee", duration=5)

    def test_a_leg_whose_main_leg_is_lost_is_a_call(self) -> None:
        """Killed before leg A was written: its answered leg B still has its row."""
        first = self.begin()
        second = self.leg_b(first.did)
        self.ok(second)
        self.advance(5)
        self.kill()
        self.bye(second, "callee")
        self.check(legs=1, disposition="answered", caller="1001")


class UserTests(SynchronousTestCase):
    def test_user_of(self) -> None:
        for uri, user in (
            ("sip:1001@pbx.test", "1001"),
            ("sip:a%20b:pw@pbx.test;x=1", "a b"),
            ("sip:pbx.test", ""),
            ("tel:+4930123", "+4930123"),
            ("", ""),
        ):
            self.assertEqual(user_of(uri), user, uri)
