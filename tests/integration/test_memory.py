"""What is not configured takes no memory: programs that list what they have loaded."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.harness import PROJECT

_BUILD = """
import sys, tomllib
from pathlib import Path
from twisted.internet import reactor
from pbx.appliance import build
build(tomllib.loads(sys.argv[1]), Path(sys.argv[2]), reactor)
"""
_LIST = "print(*sys.modules)"
_COMMON = f"""
[sip]
domain = "pbx.test"
listen = ["udp:127.0.0.1:0"]
[routing]
policy = "{PROJECT}/etc/routing.py"
[http]
listen = []
[plugins]
enabled = []
"""
_SERVERS = f"""{_COMMON}
[storage]
database = "postgres://pbx@127.0.0.1:1/pbx"
cache = "redis://127.0.0.1:1/0"
"""
_FILE = f"""{_COMMON}
[storage]
database = "sqlite:pbx.db"
"""


class LoadedTests(SynchronousTestCase):
    def loaded(self, program: str, *arguments: str) -> frozenset[str]:
        """The modules that a program has loaded when it ends."""
        done = subprocess.run(
            [sys.executable, "-c", program + _LIST, *arguments],
            cwd=self.base,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return frozenset(done.stdout.split())

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.base = Path(folder.name)

    def test_servers(self) -> None:
        """With PostgreSQL and Redis no SQLite; without browsers and documents nothing for them."""
        loaded = self.loaded(_BUILD, _SERVERS, str(self.base))
        self.assertLessEqual({"psycopg2", "txredisapi", "pbx.media.native"}, loaded)
        unused = {"sqlite3", "lxml.etree", "pylibsrtp", "pbx.media.native.dtls", "autobahn"}
        self.assertEqual(unused & loaded, set())

    def test_file(self) -> None:
        """With SQLite no clients of servers."""
        loaded = self.loaded(_BUILD, _FILE, str(self.base))
        self.assertIn("sqlite3", loaded)
        self.assertEqual({"psycopg2", "txpostgres", "txredisapi"} & loaded, set())

    def test_a_document(self) -> None:
        """The first one loads what reads it."""
        program = """
import sys
from pbx.services.xcap.trees import parse, serialise
assert "lxml.etree" not in sys.modules
print(serialise(parse(b"<a/>")))
"""
        self.assertIn("lxml.etree", self.loaded(program))
