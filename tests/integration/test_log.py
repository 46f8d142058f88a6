"""The log of a running PBX: calls, JSON, and what an operator turns on."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from tests.integration.harness import ENVIRONMENT, PBX, PROJECT, PBXTestCase, program, until
from tests.integration.phone import exchange


class LogTests(PBXTestCase):
    def call(self, server: PBX) -> str:
        """Alice calls Bob; the Call-ID."""
        alice = self.registered(server, "alice")
        bob = self.registered(server, "bob")
        invite = alice.invite("bob")
        bob.answer(bob.request("INVITE"))
        dialog = alice.called(invite, alice.response(200))
        bob.request("ACK")
        exchange(alice, dialog, bob, "BYE")
        return invite.call_id

    def pbxctl(self, server: PBX, *arguments: str) -> str:
        command = [
            sys.executable,
            "-m",
            "pbx.ctl.main",
            "-c",
            str(server.config),
        ]
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, env=ENVIRONMENT
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def lines(self, server: PBX, word: str) -> list[str]:
        return [line for line in server.output().splitlines() if word in line]

    def test_text(self) -> None:
        """Three lines for a call, with its Call-ID; nothing else for what happened."""
        server = self.pbx(users=["alice", "bob"])
        until(lambda: "HTTP at" in server.output(), "it says that it is up")
        before = len(server.output().splitlines())
        call_id = self.call(server)
        until(lambda: len(self.lines(server, "call ended")) == 1, "the end is logged")
        lines = server.output().splitlines()[before:]
        self.assertEqual(len([line for line in lines if f"call_id={call_id}" in line]), 3, lines)
        self.assertEqual(len([line for line in lines if "[pbx.calls#info]" in line]), 3, lines)
        self.assertNotIn("SIP/2.0", "\n".join(lines))

    def test_json(self) -> None:
        """Every line of the log is an object, the first and the last one too."""
        server = self.pbx({"log": {"format": "json"}, "guard": {"allow": []}}, ["alice", "bob"])
        call_id = self.call(server)
        wrong = self.phone(server, "alice", password="wrong")
        wrong.authenticated(wrong.make("REGISTER", "sip:pbx.test", to=wrong.aor))
        wrong.response(401)
        until(lambda: "call ended" in server.output(), "the end is logged")
        self.assertEqual(server.stop(), 0)
        begun = [line for line in server.output().splitlines() if line.startswith("{")]
        found: list[dict[str, Any]] = [json.loads(line) for line in begun]
        mine = [one for one in found if one.get("call_id") == call_id]
        self.assertEqual(
            [one["message"] for one in mine], ["call started", "call answered", "call ended"]
        )
        for one in mine:
            self.assertEqual(one["logger"], "pbx.calls")
            self.assertTrue(one["leg"])
        [failed] = [one for one in found if one["message"].startswith("failed login: host=127")]
        self.assertEqual(failed["level"], "warn")
        checked = subprocess.run(
            [
                program("fail2ban-regex"),
                str(server.folder / "pbx.out"),
                str(PROJECT / "etc/fail2ban/filter.d/pbx.conf"),
            ],
            capture_output=True,
            text=True,
        )
        self.assertIn(" 1 matched", checked.stdout, checked.stdout + checked.stderr)

    def test_full_disk(self) -> None:
        """A log that cannot be written stops no call."""
        for format in ("text", "json"):
            server = PBX(self.folder, {"log": {"format": format}})
            twistd = str(Path(sys.executable).parent / "twistd")
            with Path("/dev/full").open("wb") as full:
                process = subprocess.Popen(
                    [twistd, "-n", "--pidfile=", "pbx", "-c", str(server.config)],
                    stdout=full,
                    stderr=full,
                    env=ENVIRONMENT,
                    cwd=self.folder,
                )
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            until(partial(self.answers, server), "the PBX starts", 30)
            for user in ("alice", "bob") if format == "text" else ():
                server.add_user(user)
            until(partial(server.mi, "auth_knows", "bob@pbx.test"), "the users are known")
            self.call(server)
            process.terminate()
            self.assertEqual(process.wait(20), 0)

    def answers(self, server: PBX) -> bool:
        """As `PBX.is_ready`, for a process that the PBX object does not know."""
        try:
            listeners = server.mi("status")["listeners"]
        except (OSError, ValueError):
            return False
        for listener in listeners:
            kind, _, place = listener.partition(":")
            server.ports[kind] = int(place.rpartition(":")[2])
        return True

    def test_operator(self) -> None:
        """pbxctl log: levels at run time, and the messages of one user for a while."""
        server = self.pbx({"log": {"calls": False}}, users=["alice", "bob"])
        self.assertIn("info", self.pbxctl(server, "log"))
        self.assertIn("debug", self.pbxctl(server, "log", "debug", "--module", "pbx.transport"))
        self.pbxctl(server, "log", "default", "--module", "pbx.transport")
        self.assertIn("user:bob", self.pbxctl(server, "log", "--user", "bob", "--seconds", "600"))
        other = self.registered(server, "alice")
        other.register()
        bob = self.registered(server, "bob")
        until(lambda: len(self.lines(server, "[pbx.wire#info]")) == 4, "REGISTERs are logged")
        text = "\n".join(self.lines(server, "[pbx.wire#info]"))
        self.assertIn("REGISTER sip:pbx.test", text)
        self.assertNotIn("alice", text)
        self.assertNotIn('response="', text.replace('\\"', '"').replace('response="*', ""))
        self.pbxctl(server, "log", "--off")
        found = json.loads(self.pbxctl(server, "--json", "log"))
        self.assertEqual(found, {"level": 3, "modules": {}, "messages": []})
        bob.register()
        self.assertEqual(len(self.lines(server, "[pbx.wire#info]")), 4)
        self.assertNotIn("call started", server.output())
