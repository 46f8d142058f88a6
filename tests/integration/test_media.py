"""Browsers and phones hear each other through a real PBX: sound, keys, hold, and the CDR."""

from __future__ import annotations

import time
from pathlib import Path

from tests.integration.harness import PBXTestCase, until
from tests.integration.media import Lab, Peer, RTPBrowser, RTPPhone, hears
from tests.integration.phone import Dialog, Phone

LOW, HIGH = 400, 1000


class MediaTestCase(PBXTestCase):
    """alice has a browser, bob a desk phone."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.pbx(users=("alice", "bob"))
        self.alice = self.registered(self.server, "alice", "ws")
        self.bob = self.registered(self.server, "bob")
        self.lab = Lab()
        self.addCleanup(self.lab.close)
        self.browser = RTPBrowser(LOW)
        self.desk = RTPPhone(HIGH)
        self.lab.add(self.browser)
        self.lab.add(self.desk)

    def descriptors(self) -> int:
        """How many files and sockets the PBX has open."""
        assert self.server.process is not None
        return len(list(Path(f"/proc/{self.server.process.popen.pid}/fd").iterdir()))

    def sessions(self) -> int:
        return self.server.statistic("media:sessions")

    # Calls

    def browser_calls(self) -> tuple[Dialog, Dialog]:
        """alice calls bob; the dialogs of both."""
        invite = self.alice.invite("bob", body=self.browser.peer.offer().decode())
        arrived = self.bob.request("INVITE")
        self.assertNotIn(b"SAVP", arrived.body)
        called = self.bob.answer(arrived, self.desk.description())
        self.lab.do(lambda: self.desk.accept(arrived.body))
        answered = self.alice.response(200)
        calling = self.alice.called(invite, answered)
        self.bob.request("ACK")
        self.lab.do(lambda: self.accept(answered.body))
        return calling, called

    def phone_calls(self, setup: str = "active") -> tuple[Dialog, Dialog]:
        """bob calls alice; the dialogs of both."""
        invite = self.bob.invite("alice", body=self.desk.description())
        arrived = self.alice.request("INVITE")
        self.assertIn(b"UDP/TLS/RTP/SAVPF", arrived.body)
        self.lab.do(lambda: self.accept(arrived.body, setup))
        called = self.alice.answer(arrived, self.browser.peer.answer(setup).decode())
        answered = self.bob.response(200)
        calling = self.bob.called(invite, answered)
        self.alice.request("ACK")
        self.lab.do(lambda: self.desk.accept(answered.body))
        return calling, called

    def accept(self, sdp: bytes, setup: str = "") -> None:
        self.browser.peer.accept(sdp, setup)
        self.browser.ready = True

    def until_they_hear(self) -> None:
        """Each the other's tone."""
        until(lambda: hears(self.desk, LOW), "the phone hears the browser", 15)
        until(lambda: hears(self.browser, HIGH), "the browser hears the phone", 15)

    def hang_up(self, one: Phone, dialog: Dialog, other: Phone) -> None:
        one.send(one.within(dialog, "BYE"))
        other.respond(other.request("BYE"), 200)
        one.response(200)

    def cdr(self) -> tuple[object, ...]:
        """The one row, once the media is in it."""
        query = "SELECT caller, callee, disposition, ended_by, packets, loss, jitter, mos FROM cdr"
        until(lambda: self.server.sql(f"{query} WHERE packets > 0"), "the cdr", 10)
        (row,) = self.server.sql(query)
        return row

    def heard_again(self, peer: Peer) -> None:
        """What it got so far does not count."""
        self.lab.do(peer.heard().clear)


class CallTests(MediaTestCase):
    def test_browser_calls_a_phone(self) -> None:
        """Sound both ways, RTCP, no extension bit and 20 ms frames at the phone; the CDR says how
        it was; everything is freed.
        """
        before = self.descriptors()
        calling, _ = self.browser_calls()
        self.until_they_hear()
        packet = self.desk.packets[-1]
        self.assertEqual((packet[0], packet[1] & 127, len(packet)), (0x80, 0, 172))
        until(lambda: self.browser.peer.rtcp, "the browser gets the phone's reports", 10)
        self.assertEqual(self.sessions(), 1)
        time.sleep(1.0)
        self.hang_up(self.alice, calling, self.bob)
        caller, callee, disposition, ended_by, packets, loss, jitter, mos = self.cdr()
        self.assertEqual(
            (caller, callee, disposition, ended_by), ("alice", "bob", "answered", "caller")
        )
        assert isinstance(packets, int)
        assert isinstance(mos, float)
        self.assertTrue(packets > 100, packets)
        # The peers share two cores with much else, and their jitter counts.
        self.assertTrue(mos > 2.0, (mos, loss, jitter))
        self.assertEqual(self.sessions(), 0)
        until(lambda: self.descriptors() == before, "no socket is left", 5)

    def test_phone_calls_a_browser(self) -> None:
        """In both DTLS roles, and the callee hangs up."""
        for setup in ("active", "passive"):
            self.browser.peer.role = ""
            _, called = self.phone_calls(setup)
            self.until_they_hear()
            self.hang_up(self.alice, called, self.bob)
            self.assertEqual(self.sessions(), 0)
            self.lab.do(self.replace_browser)
            self.heard_again(self.desk)
        query = "SELECT COUNT(*) FROM cdr WHERE packets > 40 AND mos > 2"
        until(lambda: self.server.sql(query) == [(2,)], "both in the cdr", 10)

    def replace_browser(self) -> None:
        self.browser.ready = False
        self.browser = RTPBrowser(LOW)
        self.lab._peers.append(self.browser)
        for one in self.browser.sockets:
            one.setblocking(False)
            self.lab._selector.register(one, 1, self.browser)

    def test_keys_both_ways(self) -> None:
        """RFC 4733 passes and is counted; payload numbers are those of each side."""
        self.browser_calls()
        self.until_they_hear()
        self.lab.do(lambda: self.browser.peer.send_key(126, "7"))
        until(
            lambda: [one for one in self.desk.packets if one[1] & 127 == 101 and one[12] == 7],
            "the phone gets the key",
            5,
        )
        self.lab.do(lambda: self.desk.press("#"))
        until(
            lambda: [one for one in self.browser.peer.rtp if one[1] & 127 == 126 and one[12] == 11],
            "the browser gets the key",
            5,
        )
        until(lambda: self.server.statistic("media:digits") == 2, "both are told", 5)

    def test_hold_and_resume(self) -> None:
        """The browser holds, silence; it resumes, and is heard again."""
        calling, _ = self.browser_calls()
        self.until_they_hear()
        self.browser.peer.direction = "sendonly"
        self.reinvite(calling, "recvonly")
        self.desk.talking = False
        self.heard_again(self.browser)
        time.sleep(0.5)
        self.assertFalse(hears(self.browser, HIGH))
        self.browser.peer.direction = "sendrecv"
        self.reinvite(calling, "sendrecv")
        self.desk.talking = True
        self.heard_again(self.desk)
        self.until_they_hear()

    def reinvite(self, dialog: Dialog, answer: str) -> None:
        """alice changes the call."""
        offer = self.browser.peer.offer().decode()
        self.alice.send(self.alice.within(dialog, "INVITE", body=offer))
        again = self.bob.request("INVITE")
        self.bob.respond(again, 200, body=self.desk.description(answer))
        answered = self.alice.response(200)
        self.assertIn(f"a={answer}".encode(), answered.body)
        self.alice.send(self.alice.within(dialog, "ACK"))
        self.bob.request("ACK")
        self.lab.do(lambda: self.browser.peer.accept(answered.body))

    def test_ice_restart(self) -> None:
        """New credentials in the middle of the call: the sound goes on."""
        calling, _ = self.browser_calls()
        self.until_they_hear()
        self.lab.do(self.browser.peer.restart)
        self.reinvite(calling, "sendrecv")
        self.heard_again(self.desk)
        self.heard_again(self.browser)
        self.lab.do(self.browser.peer.check)
        self.until_they_hear()

    def test_no_common_codec(self) -> None:
        """488 with a Warning, never a silent call, and no port is left."""
        before = self.descriptors()
        self.bob.invite("alice", body=self.desk.description(codecs="18"))
        refused = self.bob.response(488)
        self.assertEqual(refused.get("warning"), '305 pbx "No Common Codec"')
        self.assertTrue(self.alice.silent())
        self.assertEqual(self.sessions(), 0)
        until(lambda: self.descriptors() == before, "no socket is left", 5)

    def test_cancelled_and_refused(self) -> None:
        """Calls that never come about leave no port."""
        before = self.descriptors()
        invite = self.alice.invite("bob", body=self.browser.peer.offer().decode())
        arrived = self.bob.request("INVITE")
        self.bob.ring(arrived)
        self.alice.response(180)
        self.assertEqual(self.sessions(), 1)
        self.alice.cancel(invite)
        self.alice.response(200)
        self.bob.respond(self.bob.request("CANCEL"), 200)
        self.bob.respond(arrived, 487)
        self.bob.request("ACK")
        self.alice.acknowledge(invite, self.alice.response(487))
        until(lambda: self.sessions() == 0, "the session is freed", 5)
        invite = self.bob.invite("alice", body=self.desk.description())
        arrived = self.alice.request("INVITE")
        self.alice.respond(arrived, 486)
        self.alice.request("ACK")
        self.bob.acknowledge(invite, self.bob.response(486))
        self.assertEqual(self.sessions(), 0)
        until(lambda: self.descriptors() == before, "no socket is left", 5)

    def test_restart(self) -> None:
        """After kill -9 the sockets are gone: both sides are told that the call is over."""
        _, called = self.browser_calls()
        self.until_they_hear()
        kept = "SELECT 1 FROM dialog WHERE profiles LIKE '%media%'"
        until(lambda: self.server.sql(kept), "the call is kept", 10)
        self.server.kill()
        port = self.server.ports["udp"]
        self.server.tables["sip"]["listen"] = [f"udp:127.0.0.1:{port}", "ws:127.0.0.1:0"]
        self.server.write_config()
        self.server.start()
        bye = self.bob.request("BYE", 15)
        self.assertIn("Media Lost In Restart", bye.get("reason") or "")
        self.bob.respond(bye, 200)
        until(lambda: self.server.sql("SELECT 1 FROM cdr WHERE ended_by = 'pbx'"), "the cdr", 10)
        self.assertEqual(called.call_id, bye.call_id)
        self.assertEqual(self.sessions(), 0)

    def test_callee_behind_the_wrong_certificate(self) -> None:
        """Whoever answers the media port without the announced certificate is not heard, and the
        call is ended.
        """
        self.browser.peer.announced = "00" + self.browser.peer.announced[2:]
        self.browser_calls()
        bye = self.bob.request("BYE", 15)
        self.assertIn("Media Timeout", bye.get("reason") or "")
        self.assertEqual(self.desk.packets, [])


class HostileTests(MediaTestCase):
    def test_descriptions(self) -> None:
        """488 with a Warning for each, and the next call is as good as any."""
        good = self.browser.peer.offer().decode()
        before = self.descriptors()
        for bad in (
            good + "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n" * 100,
            good + "a=" + "x" * 5000 + "\r\n",
            good.replace("v=0", "v=7"),
            good.replace("fingerprint", "fingerpaint"),
            good.replace("m=audio", "m=video"),
            good.replace(" 0 8 ", " 0 300 "),
            "UDP/TLS/RTP/SAVPF",
        ):
            invite = self.alice.invite("bob", body=bad)
            refused = self.alice.response(488)
            self.assertTrue(refused.get("warning"), bad)
            self.alice.acknowledge(invite, refused)
        self.assertEqual(self.sessions(), 0)
        until(lambda: self.descriptors() == before, "no socket is left", 5)
        self.browser_calls()
        self.until_they_hear()
        assert self.server.process is not None
        self.assertNotIn("Traceback", self.server.output())

    def test_closed_tab(self) -> None:
        """The connection of a browser dies in a call without BYE: the other side hears of the end
        within 5 s.
        """
        self.browser_calls()
        self.until_they_hear()
        self.browser.ready = False
        self.alice.close()
        self.bob.request("BYE", 5)
