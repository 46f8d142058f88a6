"""Calls in the ``dialog`` table, and after a restart (spec 20 section 5, spec 30 section 11)."""

from __future__ import annotations

from pbx.events import BalancerCounted, CallEnded, CallRestored
from pbx.services.dialogs import DIALOG_COLUMNS, Call, DialogSettings
from pbx.services.dialogs.rows import decode, encode
from pbx.sip.dialog import cookie_number, cookie_of
from tests.services.dialog_case import CALLEE, CALLER, START, DialogCase

PLAIN = DIALOG_COLUMNS[: DIALOG_COLUMNS.index("vars")]


class EncodingTests(DialogCase):
    def test_name_type_and_value(self) -> None:
        """Spec 20, column vars."""
        self.assertEqual(encode({"a": "x", "n": 5}), "a#1#x|n#2#5|")

    def test_separators_are_escaped(self) -> None:
        values: dict[str, str | int] = {"a#b": "1|2\\3", "c": "", "d|": -7, "e": "42"}
        self.assertEqual(decode(encode(values)), values)

    def test_without_type(self) -> None:
        """As 2.4 wrote it."""
        self.assertEqual(decode("a#x|b#y|"), {"a": "x", "b": "y"})

    def test_nonsense_is_left_out(self) -> None:
        self.assertEqual(decode("|a|b#2#x|c#1#1#1|d#1"), {"b": "x"})


class RowTests(DialogCase):
    def test_a_row(self) -> None:
        headers = """
            Record-Route: <sip:p1.test;lr>
            Contact: <sip:1001@192.0.2.50:5060>
        """
        call = self.begin(self.invite(headers))
        self.clock.advance(2.5)
        self.ok(call, above="<sip:p2.test;lr>", below="<sip:p1.test;lr>")
        self.within(call, "ACK", cseq=2)
        self.within(call, "INFO", cseq=4, by="callee")
        [row] = self.rows(f"SELECT {', '.join(PLAIN)} FROM dialog")
        self.assertEqual(
            dict(zip(PLAIN, row, strict=True)),
            {
                "dlg_id": cookie_number(call.did),
                "callid": "c1",
                "from_uri": "sip:1001@pbx.test",
                "from_tag": "a",
                "to_uri": "sip:1002@pbx.test",
                "to_tag": "b",
                "caller_cseq": "2",
                "callee_cseq": "4",
                "caller_ping_cseq": 0,
                "callee_ping_cseq": 0,
                "caller_route_set": "<sip:p1.test;lr>",
                "callee_route_set": "<sip:p2.test;lr>",
                "caller_contact": "sip:1001@192.0.2.50:5060",
                "callee_contact": "sip:1002@192.0.2.60:5060",
                "caller_sock": "udp:192.0.2.1:5060",
                "callee_sock": "udp:192.0.2.1:5060",
                "state": 4,
                "start_time": int(START) + 2,
                "timeout": int(START) + 2 + 21600,
            },
        )

    def test_profiles_and_flags(self) -> None:
        """The counts of the balancer; flags: initial, BYE on timeout."""
        call = self.talk()
        self.events.publish(BalancerCounted(call.did, 1, ("pstn",), 7))
        sql = "SELECT profiles, flags, module_flags FROM dialog"
        self.assertEqual(self.rows(sql), [("lb1:pstn#1#7|", 24, 0)])

    def test_unanswered_calls_have_no_row(self) -> None:
        call = self.begin()
        self.dialogs.provisional(call.did, self.response(call, 180))
        self.assertEqual(self.rows("SELECT * FROM dialog"), [])

    def test_an_ended_call_has_no_row(self) -> None:
        call = self.talk()
        self.assertEqual(len(self.rows("SELECT * FROM dialog")), 1)
        self.within(call, "BYE", cseq=3)
        self.assertEqual(self.rows("SELECT * FROM dialog"), [])

    def test_what_does_not_fit_stays_in_memory(self) -> None:
        """Spec 20, rule 7: keys of matching are never clipped."""
        call = self.talk(self.invite(call_id="x" * 300))
        self.assertEqual(self.rows("SELECT * FROM dialog"), [])
        self.assertEqual(self.within(call, "BYE", cseq=3)[1], call.did)

    def test_modes(self) -> None:
        """db_mode 0 never, 1 at once, 2 after the interval, 3 at shutdown."""
        sql = "SELECT state FROM dialog"
        for mode, at_once, later, stopped in (
            (0, 0, 0, 0),
            (1, 1, 1, 1),
            (2, 0, 1, 1),
            (3, 0, 0, 1),
        ):
            self.setUp()
            self.kill(DialogSettings(db_mode=mode))
            self.talk()
            self.assertEqual(len(self.wait(self.database.query(sql))), at_once, mode)
            self.assertEqual(len(self.rows(sql)), later, mode)
            self.wait(self.dialogs.stop())
            self.assertEqual(len(self.wait(self.database.query(sql))), stopped, mode)


class RestartTests(DialogCase):
    def restarted(self, settings: DialogSettings | None = None) -> Call:
        """One call, ``kill -9``, and the call that came back."""
        call = self.talk()
        self.events.publish(BalancerCounted(call.did, 1, ("pstn",), 7))
        self.command("dlg_push_var")("note", "hello", [call.did])
        self.advance(1.5)
        self.kill(settings)
        again = self.dialogs.find(call.did)
        assert again is not None
        self.assertIsNot(again, call)
        return again

    def test_what_was_known_is_known(self) -> None:
        call = self.restarted()
        self.assertEqual(self.seen, [CallRestored(call)])
        self.assertEqual(
            (call.call_id, call.from_tag, call.to_tag, call.state), ("c1", "a", "b", 4)
        )
        self.assertEqual((call.from_uri, call.to_uri), ("sip:1001@pbx.test", "sip:1002@pbx.test"))
        self.assertEqual((call.caller, call.callee), (CALLER, CALLEE))
        self.assertEqual((call.created, call.answered), (START, START))
        self.assertEqual((call.from_display, call.accounted), ("Alice", True))
        self.assertEqual(call.profiles, {"lb1:pstn": "7"})
        self.assertEqual(call.variables, {"note": "hello"})
        self.assertEqual(self.stat("active"), 1)

    def test_bye_matches(self) -> None:
        for by, cseq in (("caller", 3), ("callee", 1)):
            self.setUp()
            call = self.restarted(DialogSettings(strict=True))
            self.assertEqual(self.within(call, "BYE", cseq=cseq, by=by)[1], call.did)
            self.assertEqual(self.seen[-1], CallEnded(call, by))
            self.assertEqual(self.rows("SELECT * FROM dialog"), [])

    def test_the_remaining_time(self) -> None:
        self.restarted()
        self.advance(21590)
        self.assertEqual(self.agent.sent, [])
        self.advance(12)
        byes = [(bye.uri_text, bye.cseq.number) for bye in self.agent.requests()]
        self.assertEqual(byes, [("sip:1001@192.0.2.50:5060", 1), ("sip:1002@192.0.2.60:5060", 3)])

    def test_over_the_flow_of_before(self) -> None:
        call = self.restarted()
        self.dialogs.end(call.did)
        flows = [flow for _, _, flow in self.agent.sent]
        self.assertEqual(flows, [self.flows.flow(CALLER), self.flows.flow(CALLEE)])

    def test_expired_meanwhile(self) -> None:
        """Times out at once, with BYE."""
        call = self.talk()
        self.advance(1.5)
        self.timers.stop()
        for pending in self.clock.getDelayedCalls():
            pending.cancel()
        self.clock.rightNow += 30000
        self.kill()
        self.advance(2)
        self.assertEqual([bye.method for bye in self.agent.requests()], ["BYE", "BYE"])
        self.assertEqual(self.seen[-1].by, "timeout")
        self.assertEqual(self.seen[-1].dialog.did, call.did)

    def test_a_cookie_of_any_form(self) -> None:
        """Of one that is no number, the row remembers the text."""
        did = self.dialogs.begin(self.invite(), self.arrival(call="abc.00000010"), True)
        call = self.dialogs.find(did)
        assert call is not None
        self.ok(call)
        self.advance(1.5)
        self.kill()
        self.assertIsNotNone(self.dialogs.find("abc.00000010"))

    def test_ended_rows_are_removed(self) -> None:
        self.restarted()
        self.wait(self.database.execute("UPDATE dialog SET state = 5"))
        self.kill()
        self.assertEqual(self.stat("active"), 0)
        self.assertEqual(self.rows("SELECT * FROM dialog"), [])

    def test_a_row_of_the_old_system(self) -> None:
        """Any 64-bit dlg_id, no variables of ours; the did is the one in the phones' routes."""
        self.restarted()
        self.wait(
            self.database.execute(
                "UPDATE dialog SET vars = NULL, profiles = NULL, dlg_id = ?", (0xABC << 32 | 0x12,)
            )
        )
        self.kill()
        call = self.dialogs.find("cba.21")
        assert call is not None
        self.assertEqual(cookie_of(call.number), "cba.21")
        self.within(call, "BYE", cseq=3)
        self.assertEqual(self.seen[-1], CallEnded(call, "caller"))

    def test_after_a_fork_the_branch_that_goes_on(self) -> None:
        call = self.begin()
        self.ok(call, "b")
        self.ok(call, "c")
        self.within(call, "BYE", cseq=3, tag="b")
        self.advance(1.5)
        self.kill()
        self.within(call, "BYE", cseq=4, tag="c")
        self.assertEqual(self.names(), ["CallRestored", "CallEnded"])
