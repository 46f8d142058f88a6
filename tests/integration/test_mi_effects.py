"""What management commands do to phones, and events that programs are told."""

from __future__ import annotations

import json
import signal
import socket
import threading
from typing import Any

from tests.integration.harness import PBX, PBXTestCase, until
from tests.integration.phone import Phone
from tests.integration.test_opensips_cli import CLI, OpensipsCliTestCase


class Later:
    """A command that waits for phones, in a thread."""

    def __init__(self, pbx: PBX, method: str, /, **params: Any) -> None:
        self.answer: Any = None
        self._thread = threading.Thread(target=self._ask, args=(pbx, method, params), daemon=True)
        self._thread.start()

    def _ask(self, pbx: PBX, method: str, params: dict[str, Any]) -> None:
        try:
            self.answer = pbx.mi(method, **params)
        except ValueError as error:
            self.answer = error

    def result(self) -> Any:
        """What it said."""
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.answer


class RequestTests(PBXTestCase):
    """``t_uac_dlg`` and its relatives."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.pbx({}, ("alice", "bob"))
        self.bob = self.registered(self.server, "bob")

    def send(self, method: str, **more: str) -> Later:
        headers = "From: <sip:desk@pbx.test>\r\nTo: <sip:bob@pbx.test>\r\nCall-ID: c1\r\n"
        headers += f"CSeq: 7 {method}\r\nContact: <sip:desk@pbx.test>\r\nX-Colour: blue\r\n"
        asked = {"method": method, "ruri": self.bob.contact, "headers": headers, **more}
        return Later(self.server, "t_uac_dlg", **asked)

    def test_request_and_its_answer(self) -> None:
        """The final response comes back, as text too; the listener can be chosen."""
        listener = f"udp:127.0.0.1:{self.server.ports['udp']}"
        asked = self.send("MESSAGE", body="hello", socket=listener)
        request = self.bob.request("MESSAGE")
        self.assertEqual((request.get("x-colour"), request.body), ("blue", b"hello"))
        self.bob.respond(request, 202)
        answer = asked.result()
        self.assertEqual(answer["Status"], "202 Accepted")
        self.assertTrue(answer["Message"].startswith("SIP/2.0 202 Accepted\r\n"))
        with self.assertRaisesRegex(ValueError, "Local socket not found"):
            raise self.send("OPTIONS", socket="udp:127.0.0.1:1").result()

    def test_invite_is_confirmed(self) -> None:
        """A 2xx gets its ACK, every time it comes (13.2.2.4)."""
        asked = self.send("INVITE")
        invite = self.bob.request("INVITE")
        self.bob.answer(invite)
        ack = self.bob.request("ACK")
        self.assertEqual((ack.cseq.number, ack.call_id), (7, "c1"))
        self.assertEqual(asked.result()["Status"], "200 OK")
        self.bob.answer(invite)
        self.assertEqual(self.bob.request("ACK").cseq.number, 7)

    def test_cancelled(self) -> None:
        asked = self.send("INVITE")
        invite = self.bob.request("INVITE")
        self.bob.ring(invite)
        until(lambda: self.server.mi("t_hash")[0]["Current"], "it waits")
        self.assertEqual(self.server.mi("t_uac_cancel", "c1", "7"), "OK")
        self.assertEqual(asked.result()["Status"], "487 Request Terminated")
        self.bob.respond(self.bob.request("CANCEL"), 200)
        self.bob.respond(invite, 487)
        self.bob.request("ACK")

    def test_cancelled_too_late(self) -> None:
        """The 200 was on its way: confirmed, and ended at once (15)."""
        asked = self.send("INVITE")
        invite = self.bob.request("INVITE")
        self.bob.ring(invite)
        self.server.mi("t_uac_cancel", "c1", "7")
        asked.result()
        self.bob.request("CANCEL")
        self.bob.answer(invite)
        self.bob.request("ACK")
        self.bob.respond(self.bob.request("BYE"), 200)

    def test_reply_by_hand(self) -> None:
        """The caller hears it, and the phone stops ringing."""
        alice = self.registered(self.server, "alice")
        invite = alice.invite("bob")
        called = self.bob.request("INVITE")
        self.bob.ring(called)
        alice.response(180)
        self.assertEqual(self.server.mi("t_reply", 480, "Gone Home", invite.call_id, "t1"), "OK")
        answer = alice.response(480)
        self.assertEqual((answer.reason, answer.to.tag), ("Gone Home", "t1"))
        alice.acknowledge(invite, answer)
        self.bob.respond(self.bob.request("CANCEL"), 200)
        self.bob.respond(called, 487)
        self.bob.request("ACK")
        self.assertTrue(alice.silent())

    def test_within_a_call(self) -> None:
        """``dlg_send_sequential`` asks one side; the call goes on."""
        alice = self.registered(self.server, "alice")
        invite = alice.invite("bob")
        called = self.bob.answer(self.bob.request("INVITE"))
        calling = alice.called(invite, alice.response(200))
        self.bob.request("ACK")
        body = "custom:application/dtmf-relay:Signal=1"
        asked = Later(
            self.server,
            "dlg_send_sequential",
            callid=invite.call_id,
            method="INFO",
            mode="caller",
            body=body,
        )
        request = alice.request("INFO")
        self.assertEqual((request.body, request.to.tag), (b"Signal=1", invite.from_.tag))
        alice.respond(request, 200)
        self.assertEqual(asked.result()["Status"], "200 OK")
        with self.assertRaisesRegex(ValueError, "Bad method"):
            self.server.mi("dlg_send_sequential", callid=invite.call_id, method="BYE")
        self.hang_up(alice, calling, self.bob)
        self.assertEqual(called.call_id, invite.call_id)

    def hang_up(self, one: Phone, dialog: Any, other: Phone) -> None:
        one.send(one.within(dialog, "BYE"))
        other.respond(other.request("BYE"), 200)
        one.response(200)


class EventTests(PBXTestCase):
    """Notifications by datagrams and by a connection."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.pbx({}, ("alice", "bob"))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.udp.close)
        self.udp.bind(("127.0.0.1", 0))
        self.udp.settimeout(5)
        self.place = f"udp:127.0.0.1:{self.udp.getsockname()[1]}"

    def told(self) -> tuple[str, Any]:
        """The next notification."""
        found = json.loads(self.udp.recv(65535))
        self.assertEqual((found["jsonrpc"], "id" in found), ("2.0", False))
        return found["method"], found["params"]

    def test_registration_and_call(self) -> None:
        names = ["E_UL_AOR_INSERT", "E_UL_CONTACT_INSERT", "E_UL_CONTACT_UPDATE"]
        names += ["E_DLG_STATE_CHANGED", "E_ACC_CDR", "E_UL_AOR_DELETE", "E_UL_CONTACT_DELETE"]
        for name in names:
            self.assertEqual(self.server.mi("event_subscribe", name, self.place), "OK")
        bob = self.registered(self.server, "bob")
        found = self.told(), self.told()
        self.assertEqual(found[0], (names[0], {"domain": "location", "aor": "bob@pbx.test"}))
        self.assertEqual(found[1][0], names[1])
        self.assertEqual(found[1][1]["uri"], bob.contact)
        self.assertEqual(found[1][1]["socket"], f"udp:127.0.0.1:{self.server.ports['udp']}")
        bob.register()
        self.assertEqual(self.told()[0], names[2])
        alice = self.registered(self.server, "alice")
        self.told(), self.told()
        invite = alice.invite("bob")
        bob.answer(bob.request("INVITE"))
        dialog = alice.called(invite, alice.response(200))
        bob.request("ACK")
        alice.send(alice.within(dialog, "BYE"))
        bob.respond(bob.request("BYE"), 200)
        alice.response(200)
        states: list[tuple[int, int]] = []
        record: dict[str, Any] = {}
        while not record:
            name, params = self.told()
            self.assertEqual(params["callid"], invite.call_id)
            if name == "E_ACC_CDR":
                record = params
            else:
                states.append((params["old_state"], params["new_state"]))
        self.assertEqual((states[0], states[-1][1]), ((0, 1), 5))
        self.assertEqual((record["sip_code"], record["ended_by"]), (200, "caller"))
        self.server.mi("ul_rm", "location", "bob@pbx.test")
        self.assertEqual([self.told()[0], self.told()[0]], ["E_UL_CONTACT_DELETE", names[5]])

    def test_connection(self) -> None:
        """Opened with the first event, and again after it broke; JSON values one after another."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(5)
            place = f"tcp:127.0.0.1:{listener.getsockname()[1]}"
            self.server.mi("event_subscribe", "E_ACC_CDR", place, 60)
            for round in ("1", "2"):
                self.server.mi("raise_event", "E_ACC_CDR", [f"round={round}"])
                connection, _ = listener.accept()
                with connection, connection.makefile() as lines:
                    self.server.mi("raise_event", "E_ACC_CDR", ["x", 5])
                    found = [json.loads(lines.readline())["params"] for _ in range(2)]
                self.assertEqual(found, [{"round": round}, ["x", 5]])
                until(self.is_noticed, "the end is noticed")

    def is_noticed(self) -> bool:
        """A broken connection is seen when the other side has closed it."""
        return not self.server.statistic("events:connections")

    def test_unix_and_expiry(self) -> None:
        path = self.folder / "events"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(str(path))
            receiver.settimeout(5)
            self.server.mi("event_subscribe", "E_ACC_CDR", f"unix:{path}", 1)
            self.server.mi("raise_event", "E_ACC_CDR")
            self.assertEqual(json.loads(receiver.recv(65535))["params"], [])
        # A receiver that is gone harms nobody.
        self.server.mi("raise_event", "E_ACC_CDR")
        until(lambda: not self.server.mi("subscribers_list")["Events"], "it expires", 10)

    def test_bad_sockets(self) -> None:
        for bad in (
            "udp:127.0.0.1",
            "udp:localhost:9",
            "ftp:1.2.3.4:5",
            "unix:x",
            "",
            "tcp:[::1]:0",
        ):
            with self.assertRaisesRegex(ValueError, "Bad socket", msg=bad):
                self.server.mi("event_subscribe", "E_ACC_CDR", bad)
        with self.assertRaisesRegex(ValueError, "Bad expire"):
            self.server.mi("event_subscribe", "E_ACC_CDR", "udp:127.0.0.1:9", "-1")


class TraceTests(OpensipsCliTestCase):
    """``opensips-cli trace``: HEPv3 over TCP."""

    def test_filtered_call(self) -> None:
        for user in ("2001", "2002", "2003"):
            self.running.add_user(user)
        until(lambda: self.running.mi("auth_knows", "2003@pbx.test"), "the users are known", 6)
        phones = [self.registered(self.running, user) for user in ("2001", "2002", "2003")]
        chosen = [part for option in self.ways["fifo"] for part in ("-o", option)]
        listens = ["-o", "trace_listen_ip=127.0.0.1", "-o", "trace_listen_port=0"]
        tool = self.run_program(
            [str(CLI), *chosen, *listens, "-x", "trace", "caller=2001"], "trace"
        )
        until(lambda: self.running.statistic("trace:streams"), "it traces")
        for caller, callee in ((phones[2], phones[1]), (phones[0], phones[1])):
            invite = caller.invite("2002")
            callee.respond(callee.request("INVITE"), 486)
            caller.acknowledge(invite, caller.response(486))
            callee.request("ACK")
        tool.wait_for("SIP/2.0 486 Busy Here")
        self.assertEqual(tool.stop(signal.SIGINT), 0)
        text = tool.text()
        self.assertIn('response="****', text)
        self.assertIn("TCP/SIP" if "TCP/SIP" in text else "UDP/SIP", text)
        self.assertNotIn("2003@", text)
        until(lambda: not self.running.statistic("trace:streams"), "nobody is traced any more")

    def test_bad(self) -> None:
        for uri in ("hep:x:1", "hep:127.0.0.1:0", "hep:127.0.0.1:1;version=2", "udp:1.2.3.4:5"):
            with self.assertRaisesRegex(ValueError, "Bad uri", msg=uri):
                self.running.mi("trace_start", "t", uri)
        with self.assertRaisesRegex(ValueError, "Bad filter"):
            self.running.mi("trace_start", "t", "hep:127.0.0.1:9", ["from=x"])
        with self.assertRaisesRegex(ValueError, "Trace not found"):
            self.running.mi("trace_stop", "t")
