"""``pbxctl trace`` against a running PBX: live and of late, over both legs, and as a capture file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from tests.integration.harness import Process, until
from tests.integration.harness import program as installed
from tests.integration.test_calls_freeswitch import FreeSWITCHTestCase


class TraceTests(FreeSWITCHTestCase):
    def ctl(self, *arguments: str) -> list[str]:
        return [
            sys.executable,
            *("-m", "pbx.ctl.main", "-c", str(self.server.config)),
            *arguments,
        ]

    def output(self, *arguments: str) -> str:
        """Of a pbxctl that ends by itself, and well."""
        done = subprocess.run(
            self.ctl(*arguments),
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def follow(self, *arguments: str) -> Process:
        """A trace that runs, and is connected by now."""
        process = self.run_program(self.ctl("trace", *arguments), "trace")
        process.wait_for("waiting for calls")
        until(lambda: self.server.statistic("trace:followers"), "it follows")
        return process

    def call_through_node(self) -> None:
        """Alice calls bob through FreeSWITCH; she hangs up."""
        alice = self.registered(self.server, "alice")
        bob = self.registered(self.server, "bob")
        first, _ = self.connect(alice, bob)
        self.hang_up(alice, first, bob)

    def node_in(self, text: str) -> str:
        """The address of the idle node that the call went to."""
        places = [f"127.0.0.1:{node.internal}" for node in self.nodes]
        found = [place for place in places if place in text]
        self.assertEqual(len(found), 1, text)
        return found[0]

    def tshark(self, path: Path, *fields: str, only: str = "sip") -> list[list[str]]:
        """These fields of every packet."""
        done = subprocess.run(
            [
                *(installed("tshark"), "-r", str(path), "-Y", only, "-T", "fields"),
                *(part for field in fields for part in ("-e", field)),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return [line.split("\t") for line in done.stdout.splitlines()]

    def test_live_over_both_legs(self) -> None:
        """Both Call-IDs in one ladder, the password's proof nowhere, the end in one sentence."""
        path = self.folder / "live.pcap"
        trace = self.follow("alice", "--save", str(path), "--full")
        self.call_through_node()
        trace.wait_for("ended by the caller")
        until(lambda: trace.text().count("200 OK (BYE)") >= 4, "both legs end")
        self.assertEqual(trace.stop(signal.SIGINT), 0)
        text = trace.text()
        for expected in (
            "alice -> bob: answered after",
            "Proxy-Authorization: Digest",
            'response="********************************"',
            self.node_in(text),
        ):
            self.assertIn(expected, text)
        self.assertNotIn("Traceback", text)
        calls = {row[0] for row in self.tshark(path, "sip.Call-ID")}
        self.assertEqual(len(calls), 2)
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)

    def test_of_late(self) -> None:
        """A finished call from memory: one sentence on top, then the ladder of both legs."""
        self.call_through_node()
        found = json.loads(self.output("trace", "alice", "--past", "--json"))
        self.assertEqual(len(found["outcomes"]), 1)
        text = self.output("trace", "bob", "--past")
        lines = text.splitlines()
        self.assertIn("alice -> bob: answered after", lines[0])
        self.assertIn("ended by the caller", lines[0])
        self.assertEqual(len(lines[1].removeprefix("Call-ID ").split(", ")), 2)
        self.assertEqual(text.count("INVITE SDP"), 5)
        # By Call-ID and by address, and nothing of a stranger.
        call_id = lines[1].split()[1].rstrip(",")
        self.assertEqual(self.output("trace", call_id, "--past"), text)
        self.assertEqual(self.output("trace", self.node_in(text), "--past"), text)
        self.assertIn("no call of carol is remembered", self.output("trace", "carol", "--past"))

    def test_why_it_failed(self) -> None:
        alice = self.registered(self.server, "alice")
        wrong = self.phone(self.server, "alice", password="guess")
        invite = wrong.invite("bob")
        wrong.acknowledge(invite, wrong.response(407))
        for node in self.nodes:
            node.kill()
        invite = alice.invite("bob")
        alice.acknowledge(invite, alice.response(503, 20.0))
        text = self.output("trace", "alice", "--past")
        self.assertIn("alice -> bob: the phone of alice gave a wrong password (407", text)
        self.assertRegex(
            text, r"alice -> bob: (no answer at all from udp:127|nobody could be).*503"
        )
        everything = self.output("trace", "alice", "--past", "--all")
        self.assertIn("REGISTER of alice: 200 OK", everything)
        self.assertNotIn("REGISTER of alice", text)

    def test_capture_of_every_transport(self) -> None:
        """TCP and WebSocket messages become TCP segments that tshark reads; lengths are right."""
        bob = self.registered(self.server, "bob", "tcp")
        self.registered(self.server, "alice", "ws")
        path = self.folder / "all.pcap"
        self.output("trace", "--past", "--all", "--save", str(path))
        rows = self.tshark(
            path, "tcp.port", "sip.CSeq.method", "sip.Status-Code", only="tcp && sip"
        )
        self.assertEqual([row[2] for row in rows], ["", "401", "", "200"] * 2)
        self.assertEqual({row[1] for row in rows}, {"REGISTER"})
        self.assertIn(bob.way.place.rpartition(":")[2], rows[0][0])
        bad = "ip.checksum.status == 0 || tcp.checksum.status == 0 || udp.checksum.status == 0"
        self.assertEqual(self.tshark(path, "frame.number", only=f"({bad}) || _ws.malformed"), [])

    def test_pbx_goes_away(self) -> None:
        """One clear line and status 1."""
        trace = self.follow("alice")
        self.server.kill()
        until(lambda: trace.popen.poll() is not None, "the trace ends", 40)
        self.assertEqual(trace.stop(), 1)
        self.assertRegex(trace.text(), r"pbxctl: (the PBX is not running|what answers at)")
