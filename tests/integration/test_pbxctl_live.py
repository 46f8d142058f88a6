"""pbxctl in a terminal: live views, completion in real shells, views of gateways and dial plan."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path

from tests.integration.harness import PBXTestCase, free_port, program, until

ROOT = Path(__file__).parents[2]


class Terminal:
    """A program in a terminal of its own; ``text`` is everything it drew."""

    def __init__(self, arguments: list[str], rows: int = 12, columns: int = 100) -> None:
        self.master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.text = ""
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        self.popen = subprocess.Popen(
            arguments,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env={**environment, "TERM": "xterm"},
            start_new_session=True,
        )
        os.close(slave)

    def read(self, seconds: float = 0.3) -> str:
        """What came within this time."""
        new, deadline = "", time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.master], [], [], left)[0]:
                try:
                    new += os.read(self.master, 65536).decode("utf-8", "replace")
                except OSError:
                    break
        self.text += new
        return new

    def wait_for(self, text: str, seconds: float = 20.0) -> None:
        """Until it is drawn anew."""
        deadline = time.monotonic() + seconds
        while text not in self.read():
            if time.monotonic() > deadline:
                raise AssertionError(f"never drawn: {text!r}\n{self.text[-3000:]}")

    def stop(self) -> int:
        """Ctrl-C; its exit status."""
        self.popen.send_signal(signal.SIGINT)
        self.read(0.5)
        try:
            return self.popen.wait(10)
        finally:
            os.close(self.master)


class LiveTests(PBXTestCase):
    def setUp(self) -> None:
        super().setUp()
        enabled = ["dialplan", "drouting", "dispatcher"]
        self.server = self.pbx({"plugins": {"enabled": enabled}}, ("alice", "bob"))

    def ctl(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pbx.ctl.main", "-c", str(self.server.config), *arguments]

    def output(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            self.ctl(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_calls(self) -> None:
        """A call appears and disappears; a PBX that is away is waited for; the screen is restored."""
        alice = self.registered(self.server, "alice")
        bob = self.registered(self.server, "bob")
        terminal = Terminal(self.ctl("calls", "--watch", "0.2"))
        terminal.wait_for("no calls")
        invite = alice.invite("bob")
        bob.answer(bob.request("INVITE"))
        dialog = alice.called(invite, alice.response(200))
        bob.request("ACK")
        terminal.wait_for("in call")
        self.assertIn("alice@pbx.test", terminal.text)
        alice.send(alice.within(dialog, "BYE"))
        bob.respond(bob.request("BYE"), 200)
        terminal.wait_for("no calls")
        self.server.kill()
        terminal.wait_for("the PBX is not running")
        self.server.start()
        terminal.wait_for("no calls")
        self.assertEqual(terminal.stop(), 0)
        self.assertTrue(terminal.text.rstrip().endswith("\x1b[?1049l"))

    def test_more_than_fits(self) -> None:
        terminal = Terminal(self.ctl("status", "--watch", "0.2"), rows=8)
        terminal.wait_for(" more")
        self.assertEqual(terminal.stop(), 0)

    def test_without_a_terminal(self) -> None:
        """A line of JSON each time; the end of the PBX is an error."""
        watched = self.run_program(self.ctl("lb", "--watch", "0.2", "--json"), "lb")
        until(lambda: watched.text().count("\n") >= 2, "two answers")
        self.assertEqual(json.loads(watched.text().splitlines()[0]), {"Destinations": []})
        self.server.kill()
        until(lambda: watched.popen.poll() is not None, "it ends")
        self.assertEqual(watched.stop(), 1)
        self.assertIn("pbxctl: the PBX is not running", watched.text())

    def test_gateways_dispatcher_dialplan(self) -> None:
        """Tables for people; what would become of a number."""
        server, gateway = self.server, f"127.0.0.1:{free_port()}"
        server.sql(
            "INSERT INTO dialplan (dpid, pr, match_op, match_exp, match_flags, subst_exp, repl_exp,"
            " attrs, disabled) VALUES (0, 1, 1, '^0(.+)$', 0, '^0(.+)$', '+49\\1', 'de', 0)"
        )
        server.sql("INSERT INTO dr_gateways (gwid, type, address) VALUES ('g1', 1, ?)", gateway)
        server.sql("INSERT INTO dr_rules (groupid, prefix, gwlist) VALUES ('0', '49', 'g1')")
        server.sql(
            "INSERT INTO dispatcher (setid, destination, state, description)"
            " VALUES (3, ?, 0, 'conference')",
            f"sip:{gateway}",
        )
        server.mi("reload")
        self.assertRegex(self.output("dialplan"), r"regex +\^0\(\.\+\)\$ +\^0\(\.\+\)\$ -> \+49")
        self.assertEqual(self.output("dialplan", "030"), "+4930  (de)\n")
        self.assertIn("No translation", self.output("dialplan", "30", status=1))
        self.assertRegex(self.output("gateways"), rf"g1 +{gateway} +Active")
        self.assertEqual(self.output("gateways", "4930"), "prefix 49\n  gateway g1\n")
        self.assertRegex(self.output("dispatcher"), rf"3 +sip:{gateway} +Active .*conference")
        rules = json.loads(self.output("dialplan", "--json"))["Rules"]
        self.assertEqual([(rule["dpid"], rule["attrs"]) for rule in rules], [(0, "de")])

    def test_helpful_errors(self) -> None:
        """What is wrong and what to do, in one line."""
        self.assertIn("expected 0.1 to 3600", self.output("calls", "--watch", "0", status=2))
        self.assertIn("Method not found", self.output("mi", "nothing", status=1))
        self.server.kill()
        text = self.output("calls", status=1)
        self.assertIn("the PBX is not running: no answer at", text)
        self.assertEqual(len(text.splitlines()), 1)
        self.server.socket.unlink(missing_ok=True)
        self.assertIn("-c FILE names another PBX", self.output("calls", status=1))

    # Completion

    def completed(self, shell: str, *words: str) -> list[str]:
        """What the shell offers after these words, with pbxctl on the path."""
        tools = self.folder / "tools"
        tools.mkdir(exist_ok=True)
        wrapper = tools / "pbxctl"
        wrapper.write_text(f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m pbx.ctl.main "$@"\n')
        wrapper.chmod(0o755)
        quoted = " ".join(f"'{word}'" for word in ("pbxctl", *words))
        if shell == "bash":
            script = (
                'eval "$(pbxctl completion bash)"\n'
                f"COMP_WORDS=({quoted}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
                '_pbxctl; printf "%s\\n" "${COMPREPLY[@]}"'
            )
            command = ["bash", "--norc", "-c", script]
        else:
            script = (
                'compdef() {}; compadd() { shift; print -rl -- "$@" }; _files() { print FILES }\n'
                'eval "$(pbxctl completion zsh)"\n'
                f"words=({quoted}); CURRENT=$#words\n_pbxctl"
            )
            command = [program("zsh"), "-f", "-c", script]
        done = subprocess.run(
            command,
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.stderr, "", shell)
        return done.stdout.split()

    def test_completion(self) -> None:
        """Commands, options, methods of the running PBX, users of the database, files."""
        config = ("-c", str(self.server.config))
        for shell in ("bash", "zsh"):
            self.assertLess({"calls", "trace", "import", "mi"}, set(self.completed(shell, "")))
            self.assertIn("--watch", self.completed(shell, "calls", ""))
            self.assertIn("lb_status", self.completed(shell, *config, "mi", ""))
            self.assertIn("alice@pbx.test", self.completed(shell, *config, "user", "remove", ""))
            self.assertEqual(
                set(self.completed(shell, "completion", "")) - {"-h", "--help"}, {"bash", "zsh"}
            )
        self.assertEqual(self.completed("bash", "registr"), ["registrations"])
        self.assertEqual(self.completed("bash", *config, "mi", "lb_st"), ["lb_status"])
        self.assertEqual(self.completed("zsh", "trace", "--save", ""), ["FILES"])
