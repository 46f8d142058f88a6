"""``twistd pbx`` as an operator starts it: first start, exit status, faults, stop."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.integration.harness import PBX, PROJECT, PBXTestCase, until

TWISTD = str(Path(sys.executable).parent / "twistd")


class StartTests(PBXTestCase):
    def make(self, **tables: dict[str, object]) -> PBX:
        pbx = PBX(self.folder, {"plugins": {"enabled": []}, **tables})
        self._started.append(pbx)
        return pbx

    def run_to_end(self, *arguments: str, seconds: float = 30) -> tuple[int, str, str]:
        done = subprocess.run(
            [TWISTD, "-n", "pbx", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=seconds,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )
        return done.returncode, done.stdout, done.stderr

    def refused(self, pbx: PBX, text: str) -> str:
        """The start fails with status 1 and one line with the text."""
        status, _, err = self.run_to_end("-c", str(pbx.config))
        self.assertEqual(status, 1, err)
        found = [line for line in err.splitlines() if text in line]
        self.assertEqual(len(found), 1, err)
        self.assertNotIn("Traceback", err)
        return found[0]

    def greeting(self, pbx: PBX) -> str:
        """What it says at last, when commands are answered already."""
        until(lambda: "Web address: " in pbx.output(), "the PBX says where it is")
        return pbx.output()

    def test_first_and_second_start(self) -> None:
        """Three extensions with random passwords, printed once with the web address."""
        pbx = self.make().start()
        greeting = self.greeting(pbx)
        passwords = dict(re.findall(r"(100[123])\s+password\s+(\S+)", greeting))
        self.assertEqual(sorted(passwords), ["1001", "1002", "1003"])
        self.assertEqual(len(set(passwords.values())), 3)
        rows = pbx.sql("SELECT username, domain, password FROM subscriber ORDER BY username")
        self.assertEqual(
            rows, [(name, "pbx.test", password) for name, password in sorted(passwords.items())]
        )
        self.assertIn("Web address: http://127.0.0.1:", greeting)
        self.assertEqual(pbx.stop(), 0)
        second = self.make().start()
        text = self.greeting(second).replace(greeting, "")
        self.assertNotIn("password", text.split("Server Shut Down")[-1])
        self.assertEqual(len(second.sql("SELECT * FROM subscriber")), 3)

    def test_files_are_private(self) -> None:
        """Passwords stand in the database."""
        pbx = self.make().start()
        for name in ("pbx.db", "pbx.sock"):
            mode = stat.S_IMODE((pbx.folder / name).stat().st_mode)
            self.assertEqual(mode & 0o007, 0, name)

    def test_health(self) -> None:
        pbx = self.make().start()
        found = re.search(r"Web address: (\S+)", self.greeting(pbx))
        assert found is not None
        with urllib.request.urlopen(f"{found[1]}health", timeout=10) as answer:
            self.assertEqual(answer.status, 200)
            self.assertEqual(json.load(answer)["status"], "ok")

    def test_bad_configuration(self) -> None:
        """A line per fault, status 1, nothing bound or written."""
        pbx = self.make(sip={"domian": "x"}, registrar={"max_contact": 1})
        status, _, err = self.run_to_end("-c", str(pbx.config))
        self.assertEqual(status, 1)
        self.assertEqual(len(err.splitlines()), 2, err)
        self.assertIn("[sip] domian: unknown; did you mean domain?", err)
        self.assertIn("[registrar] max_contact: unknown; did you mean max_contacts?", err)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["pbx.toml"])

    def test_bad_policy(self) -> None:
        """A syntax error is one line with its place, also for --check."""
        policy = self.folder / "routing.py"
        policy.write_text("class Policy:\n    def\n")
        pbx = self.make(routing={"policy": str(policy)})
        self.assertIn("routing.py:2", self.refused(pbx, "routing.py"))
        status, _, err = self.run_to_end("--check", "-c", str(pbx.config))
        self.assertEqual((status, len(err.splitlines())), (1, 1))
        self.assertFalse((self.folder / "pbx.db").exists())

    def test_check_writes_nothing(self) -> None:
        pbx = self.make()
        status, out, err = self.run_to_end("--check", "-c", str(pbx.config))
        self.assertEqual((status, err), (0, ""))
        self.assertIn("good", out)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["pbx.toml"])

    def test_usage(self) -> None:
        self.assertEqual(self.run_to_end("--none")[0], 2)

    def test_port_in_use(self) -> None:
        """For SIP and for HTTP."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            for tables in (
                {"sip": {"listen": [f"tcp:127.0.0.1:{port}"]}},
                {"http": {"listen": [f"tcp:127.0.0.1:{port}"]}},
            ):
                line = self.refused(self.make(**tables), str(port))  # type: ignore[arg-type]
                self.assertIn("in use", line)

    def test_database_that_is_none(self) -> None:
        (self.folder / "pbx.db").write_text("this is no database " * 100)
        self.refused(self.make(), "pbx.db")

    def test_socket_of_another_pbx(self) -> None:
        """The second does not steal the first one's management socket."""
        first = self.make().start()
        other = self.folder / "other"
        other.mkdir()
        second = PBX(other, {"plugins": {"enabled": []}})
        second.tables["management"]["socket"] = str(self.folder / "pbx.sock")
        second.write_config()
        status, _, err = self.run_to_end("-c", str(second.config))
        self.assertEqual(status, 1)
        self.assertIn("pbx.sock", err)
        self.assertEqual(first.mi("pwd"), {"WD": str(self.folder)})

    def test_stop(self) -> None:
        """SIGTERM, SIGINT and the command: status 0, and the socket is gone."""
        for way in (signal.SIGTERM, signal.SIGINT, None):
            pbx = self.make().start()
            assert pbx.process is not None
            if way is None:
                pbx.mi("kill")
            else:
                pbx.process.popen.send_signal(way)
            self.assertEqual(pbx.process.wait(20), 0)
            self.assertFalse((self.folder / "pbx.sock").exists())

    def test_start_after_kill(self) -> None:
        """The stale socket is no hindrance."""
        pbx = self.make().start()
        pbx.kill()
        self.assertTrue((self.folder / "pbx.sock").exists())
        self.make().start()

    def test_reload_by_signal_and_command(self) -> None:
        """SIGHUP loads the policy again; a bad one is refused and the old one goes on."""
        policy = self.folder / "routing.py"
        policy.write_text((PROJECT / "etc" / "routing.py").read_text())
        pbx = self.make(routing={"policy": str(policy)}).start()
        assert pbx.process is not None
        pbx.process.popen.send_signal(signal.SIGHUP)
        until(lambda: "reloaded" in pbx.output(), "the policy is reloaded")
        self.assertEqual(pbx.mi("reload"), "OK")
        policy.write_text("class Policy:\n    def\n")
        with self.assertRaises(ValueError) as caught:
            pbx.mi("reload")
        self.assertIn("routing.py:2", str(caught.exception))
        self.assertEqual(pbx.mi("status")["health"]["status"], "ok")

    def test_debug_is_not_logged_before_it_is_asked_for(self) -> None:
        pbx = self.make().start()
        self.assertNotIn("#debug]", pbx.output())
        self.assertEqual(pbx.mi("log_level", 4), {"New global log level": 4})
