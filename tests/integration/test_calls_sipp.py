"""Calls between two SIPp through the PBX: digest, outcomes, large messages, loss, dialogs."""

from __future__ import annotations

from typing import Any

from tests.integration.harness import PBX, PBXTestCase, Sipp, free_port, until

USERS = ("alice", "bob")
LARGE = "".join(f"a=x-filler:{number:04d} {'x' * 80}\n" for number in range(205))


class SippTestCase(PBXTestCase):
    """Two users, of which one registers with SIPp; the other one calls."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.pbx({"proxy": {"fr_timeout": 4.0}}, USERS)
        self.bob = free_port()

    def fields(self, user: str, callee: str, reached_at: int) -> tuple[str, ...]:
        """The options that give a scenario its fields."""
        path = self.folder / f"{user}-{callee}.csv"
        auth = f"[authentication username={user} password=secret]"
        path.write_text(f"SEQUENTIAL\n{user};127.0.0.1:{reached_at};{auth};{callee}\n")
        return ("-inf", str(path), "-m", "1")

    def register(self) -> None:
        """REGISTER, 401, REGISTER, 200, from the port where bob is called."""
        options = self.fields("bob", "bob", self.bob)
        self.succeeds(self.sipp("register", self.server, *options, port=self.bob))

    def phone_of_bob(self, scenario: str, *more: str, calls: int = 1) -> Sipp:
        """What answers there."""
        process = self.sipp(scenario, self.server, "-m", str(calls), *more, port=self.bob)
        until(process.listening, "SIPp listens", 5)
        return process

    def call(
        self, scenario: str, callee: str = "bob", transport: str = "udp", **fills: str
    ) -> None:
        """Alice calls; the scenario says how it ends."""
        options = self.fields("alice", callee, 0)
        self.succeeds(self.sipp(scenario, self.server, *options, transport=transport, fills=fills))

    def cdr(self, count: int = 1) -> list[tuple[Any, ...]]:
        """Caller, callee, disposition, who hung up, code, duration of each call."""
        return until_rows(
            self.server,
            "SELECT caller, callee, disposition, ended_by, sip_code, duration FROM cdr",
            count,
        )

    def acc(self, count: int) -> list[tuple[Any, ...]]:
        """Method and code of each row of acc."""
        return until_rows(self.server, "SELECT method, sip_code FROM acc ORDER BY id", count)


def until_rows(pbx: PBX, query: str, count: int) -> list[tuple[Any, ...]]:
    """As many rows, and half a second later no more."""
    until(lambda: len(pbx.sql(query)) >= count, f"{count} rows: {query}", 8)
    return pbx.sql(query)


class CallTests(SippTestCase):
    def test_call(self) -> None:
        """REGISTER, INVITE with digest, 180, 200, ACK, BYE: one cdr row, INVITE and BYE in acc."""
        self.register()
        phone = self.phone_of_bob("answer")
        self.call("call", body="")
        self.succeeds(phone)
        ((caller, callee, disposition, ended_by, code, duration),) = self.cdr()
        self.assertEqual((caller, callee), ("alice", "bob"))
        self.assertEqual((disposition, ended_by, code), ("answered", "caller", 200))
        self.assertLess(duration, 5)
        self.assertEqual(self.acc(2), [("INVITE", "200"), ("BYE", "200")])
        self.assertEqual(self.server.statistic("dialog:active_dialogs"), 0)

    def test_call_over_tcp(self) -> None:
        """From a TCP phone to a UDP phone; the dialog's requests change transport too."""
        self.register()
        phone = self.phone_of_bob("answer")
        self.call("call", transport="tcp", body="")
        self.succeeds(phone)
        self.assertEqual(self.acc(2), [("INVITE", "200"), ("BYE", "200")])

    def test_busy(self) -> None:
        """486 reaches the caller; a missed call."""
        self.register()
        phone = self.phone_of_bob("busy")
        self.call("refused", status="486")
        self.succeeds(phone)
        self.assertEqual([row[2:5] for row in self.cdr()], [("busy", "callee", 486)])
        missed = until_rows(self.server, "SELECT method, sip_code FROM missed_calls", 1)
        self.assertEqual(missed, [("INVITE", "486")])

    def test_caller_gives_up(self) -> None:
        """CANCEL is answered, passed on and ends in 487 (9.2)."""
        self.register()
        phone = self.phone_of_bob("ring")
        self.call("cancel")
        self.succeeds(phone)
        self.assertEqual([row[2:5] for row in self.cdr()], [("cancelled", "caller", 487)])

    def test_not_registered(self) -> None:
        self.call("refused", status="480")

    def test_unknown(self) -> None:
        self.call("refused", callee="nobody", status="404")

    def test_silent_phone(self) -> None:
        """Nobody answers at the contact's address: 408 after fr_timeout."""
        self.register()
        self.call("refused", status="408")

    def test_large_invite(self) -> None:
        """20 kB over UDP, and on to the phone by UDP since nobody listens on TCP (18.1.1)."""
        self.register()
        phone = self.phone_of_bob("answer")
        self.call("call", body=LARGE)
        self.succeeds(phone)
        self.assertEqual(self.acc(2), [("INVITE", "200"), ("BYE", "200")])

    def test_large_invite_over_tcp(self) -> None:
        """20 kB from one TCP phone to another, not a byte of the body changed."""
        bob = self.registered(self.server, "bob", "tcp")
        options = self.fields("alice", "bob", 0)
        caller = self.sipp("call", self.server, *options, transport="tcp", fills={"body": LARGE})
        invite = bob.request("INVITE")
        self.assertIn(LARGE.replace("\n", "\r\n").encode(), invite.body)
        bob.answer(invite)
        bob.request("ACK")
        bob.respond(bob.request("BYE"), 200)
        self.succeeds(caller)
        self.assertEqual(self.acc(2), [("INVITE", "200"), ("BYE", "200")])

    def test_requests_within_a_dialog(self) -> None:
        """100rel and PRACK, re-INVITE, UPDATE, INFO, REFER in both directions, BYE."""
        self.register()
        phone = self.phone_of_bob("dialog_answer")
        self.call("dialog")
        self.succeeds(phone)
        self.assertEqual(self.acc(2)[0], ("INVITE", "200"))
        self.assertEqual([row[2:5] for row in self.cdr()], [("answered", "caller", 200)])
