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
#: How many pieces come from the kernel by themselves, as mallinfo2(3) has it, after much was freed.
_MAPPED = """
import ctypes, sys
class Info(ctypes.Structure):
    _fields_ = [(f"field{at}", ctypes.c_size_t) for at in range(10)]
library = ctypes.CDLL(None)
library.mallinfo2.restype = Info
def mapped():
    return library.mallinfo2().field3
if sys.argv[1] == "dense":
    from pbx import heap
    heap.keep_dense()
large = bytes(8_000_000)
del large
before = mapped()
pieces = [bytes(200_000) for _ in range(10)]
print(mapped() - before)
del pieces
print(mapped() - before)
"""
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


class ProgramTestCase(SynchronousTestCase):
    def loaded(self, program: str, *arguments: str) -> frozenset[str]:
        """The modules that a program has loaded when it ends."""
        return frozenset(self.said(program + _LIST, *arguments))

    def said(self, program: str, *arguments: str) -> list[str]:
        """The words that a program prints."""
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=self.base,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.split()

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.base = Path(folder.name)


class LoadedTests(ProgramTestCase):
    def test_servers(self) -> None:
        """With PostgreSQL and Redis no SQLite; without browsers and documents nothing for them."""
        loaded = self.loaded(_BUILD, _SERVERS, str(self.base))
        self.assertLessEqual({"psycopg2", "txredisapi", "pbx.media.native"}, loaded)
        unused = {"sqlite3", "lxml.etree", "pylibsrtp", "pbx.media.native.dtls", "autobahn"}
        unused |= {"prometheus_client", "twisted.web.server", "pbx.http.site", "plugins.mi_http"}
        self.assertEqual(unused & loaded, set())

    def test_site(self) -> None:
        """With a listener the site and its pages; a plugin's page alone has nobody to show it to."""
        listening = _SERVERS.replace("[http]\nlisten = []", '[http]\nlisten = ["tcp:127.0.0.1:0"]')
        loaded = self.loaded(_BUILD, listening, str(self.base))
        self.assertLessEqual({"pbx.http.site", "pbx.http.api"}, loaded)
        plugin = _SERVERS.replace("enabled = []", 'enabled = ["mi_http"]')
        loaded = self.loaded(_BUILD, plugin, str(self.base))
        self.assertIn("plugins.mi_http", loaded)
        self.assertNotIn("pbx.http.site", loaded)

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


class HeapTests(ProgramTestCase):
    """What is large goes back to the kernel when it is freed, however much was freed before."""

    def test_left_alone(self) -> None:
        """What it is for: malloc by itself takes such pieces from the heap after a while."""
        self.assertEqual(self.said(_MAPPED, "left"), ["0", "0"])

    def test_dense(self) -> None:
        """Each piece by itself."""
        self.assertEqual(self.said(_MAPPED, "dense"), ["10", "0"])

    def test_give_back(self) -> None:
        """A hole below something that is in use."""
        program = """
import os
from pbx import heap
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
pieces = [b"x" * 100_000 for _ in range(400)]
top = b"x" * 100_000
del pieces
before = resident()
heap.give_back()
print(before - resident())
"""
        [given_back] = self.said(program)
        self.assertGreater(int(given_back), 30_000_000)
