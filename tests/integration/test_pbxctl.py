"""pbxctl as an operator runs it: processes, a temporary SQLite file, a stand-in for the PBX."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any
from unittest import TestCase


class PbxctlTests(TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.base = Path(folder.name)
        (self.base / "etc").mkdir()
        self.config = self.base / "etc" / "pbx.toml"
        self.config.write_text('[sip]\ndomain = "pbx.test"\n')

    def run_ctl(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "pbx.ctl.main", "-c", str(self.config), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            cwd=self.base,
        )
        return done.returncode, done.stdout, done.stderr

    def good(self, *arguments: str, stdin: str = "") -> str:
        status, out, err = self.run_ctl(*arguments, stdin=stdin)
        self.assertEqual((status, err), (0, ""))
        return out

    def test_users_while_the_pbx_is_down(self) -> None:
        """Add, list, change, remove; the database is made where the configuration says."""
        made = json.loads(self.good("user", "add", "1001", "--json"))
        self.assertEqual((made["username"], made["domain"]), ("1001", "pbx.test"))
        self.assertEqual(len(made["password"]), 16)
        self.assertTrue((self.base / "var" / "pbx.db").exists())
        self.good("user", "add", "bob@Other.test", "--password-stdin", stdin="secret\n")
        self.assertEqual(
            json.loads(self.good("--json", "user", "list")),
            [
                {"username": "bob", "domain": "other.test"},
                {"username": "1001", "domain": "pbx.test"},
            ],
        )
        self.assertIn("password: ", self.good("user", "password", "1001"))
        self.assertEqual(self.good("user", "remove", "1001"), "1001@pbx.test is removed\n")
        self.assertNotIn("1001", self.good("user", "list"))

    def test_faults_are_one_line(self) -> None:
        """What is wrong on stderr, status 1; usage is status 2."""
        for arguments, text in (
            (("user", "remove", "9"), "there is no user 9@pbx.test"),
            (("user", "add", "a b"), "'a b' is no user name"),
            (("status",), "the PBX is not running: no answer at var/pbx.sock"),
        ):
            status, out, err = self.run_ctl(*arguments)
            self.assertEqual((status, out), (1, ""))
            self.assertEqual(len(err.splitlines()), 1, err)
            self.assertIn(text, err)
        self.assertEqual(self.run_ctl("user", "add")[0], 2)
        self.assertEqual(self.run_ctl("nothing")[0], 2)

    def test_bad_configuration(self) -> None:
        self.config.write_text("[sip\n")
        status, _, err = self.run_ctl("user", "list")
        self.assertEqual(status, 1)
        self.assertIn("pbx.toml", err)
        self.config.write_text('[sip]\ndomain = "x"\n[storage]\ndatabase = "mysql://u:p@h/d"\n')
        status, _, err = self.run_ctl("user", "list")
        self.assertEqual(status, 1)
        self.assertIn("known: memory:, sqlite:PATH", err)
        self.assertNotIn(":p@", err)

    def answer(self, answer: object) -> list[Any]:
        """Answer one request on the socket; what was asked is in the list."""
        (self.base / "var").mkdir(exist_ok=True)
        path = self.base / "var" / "pbx.sock"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        asked: list[Any] = []

        def serve() -> None:
            with listener, listener.accept()[0] as connection:
                asked.append(json.loads(connection.makefile().readline()))
                connection.sendall(json.dumps(answer).encode() + b"\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 10)
        return asked

    def test_mi(self) -> None:
        """Named values, positional values, and the answer as it came."""
        asked = self.answer({"jsonrpc": "2.0", "id": 1, "result": ["a"]})
        self.assertEqual(json.loads(self.good("mi", "lb_status", "1", "0")), ["a"])
        self.assertEqual((asked[0]["method"], asked[0]["params"]), ("lb_status", ["1", "0"]))
        asked = self.answer({"jsonrpc": "2.0", "id": 1, "result": "OK"})
        self.assertEqual(self.good("mi", "ul_rm", "aor=a@x", "table_name=location"), "OK\n")
        self.assertEqual(asked[0]["params"], {"aor": "a@x", "table_name": "location"})

    def test_error_of_the_pbx(self) -> None:
        self.answer({"jsonrpc": "2.0", "id": 1, "error": {"code": 404, "message": "AOR not found"}})
        status, _, err = self.run_ctl("mi", "ul_show_contact", "location", "x@y")
        self.assertEqual((status, err), (1, "pbxctl: AOR not found\n"))

    def test_removed_user_is_forgotten_by_a_running_pbx(self) -> None:
        self.good("user", "add", "1001")
        asked = self.answer({"jsonrpc": "2.0", "id": 1, "result": "OK"})
        self.good("user", "remove", "1001")
        self.assertEqual(asked[0]["method"], "ul_rm")
        self.assertEqual(asked[0]["params"]["aor"], "1001@pbx.test")
