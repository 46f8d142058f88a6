"""The PBX as a process of its own, and the programs that call it. Blocking: nothing here needs a
reactor.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.phone import Datagrams, Phone, Stream, WebSocket

PROJECT = Path(__file__).parent.parent.parent
SCENARIOS = Path(__file__).parent / "scenarios"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(PROJECT),
    "PYTHONUNBUFFERED": "1",
    "TERM": "xterm",
}


def free_port(kind: int = socket.SOCK_DGRAM, host: str = "127.0.0.1") -> int:
    """A port that nobody listens on just now, for UDP and TCP alike."""
    for _ in range(50):
        with socket.socket(socket.AF_INET, kind) as first:
            first.bind((host, 0))
            port: int = first.getsockname()[1]
            other = socket.SOCK_STREAM if kind == socket.SOCK_DGRAM else socket.SOCK_DGRAM
            with socket.socket(socket.AF_INET, other) as second:
                try:
                    second.bind((host, port))
                except OSError:
                    continue
                return port
    raise OSError("no free port")


def free_block(count: int, host: str = "127.0.0.1") -> int:
    """The first of so many free ports in a row, even, below those that the system gives away."""
    for _ in range(200):
        base = 2 * random.randrange(10_000, 16_000)
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + count):
                    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                        stack.enter_context(socket.socket(socket.AF_INET, kind)).bind((host, port))
            except OSError:
                continue
            return base
    raise OSError("no free ports in a row")


def program(name: str) -> str:
    """The path of a program that the set-up installs."""
    path = shutil.which(name)
    if path is None:
        raise SkipTest(f"{name} is not installed")
    return path


def until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """The first true value of a condition, asked ten times a second."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)


class Process:
    """A started program; output goes to a file."""

    def __init__(self, arguments: Sequence[str], folder: Path, name: str) -> None:
        self.output = folder / f"{name}.out"
        self._file = self.output.open("ab")
        self.popen = subprocess.Popen(
            arguments,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
        )

    def text(self) -> str:
        """What it wrote so far."""
        return self.output.read_text("utf-8", "replace")

    def wait_for(self, text: str, seconds: float = 20.0) -> None:
        """Until it has written some text."""
        try:
            until(lambda: text in self.text() or self.popen.poll() is not None, text, seconds)
            assert text in self.text()
        except AssertionError:
            raise AssertionError(f"never wrote {text!r}:\n{self.text()[-4000:]}") from None

    def wait(self, seconds: float = 60.0) -> int:
        """Its exit status."""
        try:
            return self.popen.wait(seconds)
        finally:
            self.close()

    def stop(self, sign: int = signal.SIGTERM, seconds: float = 20.0) -> int:
        """End it by its PID; its exit status."""
        if self.popen.poll() is None:
            self.popen.send_signal(sign)
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        self.close()
        return self.popen.returncode

    def close(self) -> None:
        """Let go of its files."""
        self._file.close()
        if self.popen.stdin is not None:
            with contextlib.suppress(OSError):
                self.popen.stdin.close()


class PBX:
    """A PBX with a configuration of its own in a folder of its own.

    ``tables`` are merged over a small default configuration: SIP on free loopback ports, SQLite in
    the folder, domain ``pbx.test``, the shipped policy, MD5 only (sipp knows no other digest).
    """

    def __init__(self, folder: Path, tables: dict[str, dict[str, Any]] | None = None) -> None:
        self.folder = folder
        self.host = "127.0.0.1"
        #: Words in front of the command.
        self.prefix: Sequence[str] = ()
        self.socket = folder / "pbx.sock"
        self.tables: dict[str, dict[str, Any]] = {
            "sip": {
                "domain": "pbx.test",
                "listen": [f"{kind}:127.0.0.1:0" for kind in ("udp", "tcp", "ws")],
            },
            "storage": {"database": f"sqlite:{folder}/pbx.db", "write_interval": 0.2},
            "routing": {"policy": str(PROJECT / "etc" / "routing.py")},
            "http": {"listen": ["tcp:127.0.0.1:0"]},
            "management": {"socket": str(folder / "pbx.sock")},
            "auth": {"algorithms": ["MD5"]},
            "plugins": {"enabled": ["nat_ping"]},
        }
        for name, table in (tables or {}).items():
            self.tables.setdefault(name, {}).update(table)
        self.config = folder / "pbx.toml"
        self.write_config()
        self.process: Process | None = None
        self.ports: dict[str, int] = {}

    def write_config(self) -> None:
        """The tables as TOML."""
        lines: list[str] = []
        for name, table in self.tables.items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
        self.config.write_text("\n".join(lines) + "\n")

    def start(self) -> PBX:
        """Until it answers; ``ports`` says where ("udp", "tcp", ...)."""
        twistd = str(Path(sys.executable).parent / "twistd")
        arguments = [*self.prefix, twistd, "-n", "--pidfile=", "pbx"]
        self.process = Process([*arguments, "-c", str(self.config)], self.folder, "pbx")
        until(self.is_ready, f"the PBX starts\n{self.process.text()}", 30)
        return self

    def is_ready(self) -> bool:
        """Whether it answers; then ``ports`` are known."""
        assert self.process is not None
        if self.process.popen.poll() is not None:
            raise AssertionError(f"the PBX ended:\n{self.process.text()}")
        try:
            status = self.mi("status")
        except (OSError, ValueError):
            return False
        for listener in status["listeners"]:
            kind, _, place = listener.partition(":")
            self.ports[kind] = int(place.rpartition(":")[2])
        return True

    def mi(self, method: str, /, *params: Any, **named: Any) -> Any:
        """The result of a management command. Raises ValueError with the error's message."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": named or list(params)}
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.socket))
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(connection.makefile("rb").readline())
        if "error" in answer:
            raise ValueError(answer["error"]["message"])
        return answer["result"]

    def statistic(self, name: str) -> int:
        """One counter or gauge."""
        return int(self.mi("get_statistics", [name]).get(name, 0))

    def add_user(self, user: str, password: str = "secret") -> None:
        """A subscriber, by plain SQL as provisioning does it."""
        self.sql(
            "INSERT INTO subscriber (username, domain, password) VALUES (?, 'pbx.test', ?)",
            user,
            password,
        )

    def sql(self, statement: str, *params: object) -> list[tuple[Any, ...]]:
        """A statement on the database file, from outside the PBX."""
        import sqlite3

        with contextlib.closing(sqlite3.connect(self.folder / "pbx.db", timeout=20)) as database:
            rows = database.execute(statement, params).fetchall()
            database.commit()
        return rows

    def add_node(self, id: int, group: int, port: int, mode: int = 1) -> None:
        """A row of load_balancer, as the reference deployment has them."""
        self.sql(
            "INSERT INTO load_balancer (id, group_id, dst_uri, resources, probe_mode, description)"
            " VALUES (?, ?, ?, 'vm=100;conf=100;transc=100;pstn=500', ?, 'test')",
            id,
            group,
            f"sip:127.0.0.1:{port}",
            mode,
        )

    def load(self) -> dict[str, tuple[bool, int]]:
        """For each node whether it is enabled and its pstn load."""
        found: dict[str, tuple[bool, int]] = {}
        for node in self.mi("lb_list")["Destinations"]:
            load = {item["name"]: item["load"] for item in node["Resources"]}
            found[node["uri"]] = (node["enabled"] == "yes", load["pstn"])
        return found

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.stop(signal.SIGKILL)

    def stop(self) -> int:
        """Its exit status."""
        return self.process.stop() if self.process is not None else 0

    def output(self) -> str:
        """What it wrote to the terminal."""
        return self.process.text() if self.process is not None else ""


class PBXTestCase(SynchronousTestCase):
    """Stops what a test started, and shows what the PBX said when it failed."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pbx-test-"))
        self._started: list[Process | PBX] = []

    def tearDown(self) -> None:
        for one in reversed(self._started):
            one.stop()
        if "KEEP" not in os.environ:
            shutil.rmtree(self.folder, ignore_errors=True)

    def pbx(
        self, tables: dict[str, dict[str, Any]] | None = None, users: Sequence[str] = ()
    ) -> PBX:
        """A running PBX with these users (password "secret")."""
        pbx = PBX(self.folder, tables)
        self._started.append(pbx)
        pbx.start()
        for user in users:
            pbx.add_user(user)
        if users:
            # Provisioning takes effect within 5 s (design contract); wait for the last one.
            until(lambda: pbx.mi("auth_knows", f"{users[-1]}@pbx.test"), "the users are known", 6)
        return pbx

    def run_program(self, arguments: Sequence[str], name: str) -> Process:
        """A program that is stopped when the test ends."""
        process = Process(arguments, self.folder, name)
        self._started.append(process)
        return process

    def phone(self, pbx: PBX, user: str, kind: str = "udp", password: str = "secret") -> Phone:
        """A phone of a user, switched on and not registered."""
        ways: dict[str, type[Datagrams | Stream | WebSocket]] = {
            "udp": Datagrams,
            "tcp": Stream,
            "ws": WebSocket,
        }
        phone = Phone(user, ways[kind](pbx.host, pbx.ports[kind]), password)
        self.addCleanup(phone.close)
        return phone

    def registered(self, pbx: PBX, user: str, kind: str = "udp", parameters: str = "") -> Phone:
        """A phone that can be called."""
        phone = self.phone(pbx, user, kind)
        phone.register(parameters=parameters)
        return phone

    def sipp(
        self,
        scenario: str,
        pbx: PBX,
        *more: str,
        port: int = 0,
        transport: str = "udp",
        fills: dict[str, str] | None = None,
    ) -> Sipp:
        """SIPp with a scenario; ``@name@`` in it is replaced by ``fills``."""
        text = (SCENARIOS / f"{scenario}.xml").read_text()
        for key, value in (fills or {}).items():
            text = text.replace(f"@{key}@", value)
        port = port or free_port()
        name = f"{scenario}-{port}"
        path = self.folder / f"{name}.xml"
        path.write_text(text)
        process = Sipp(
            [
                program("sipp"),
                f"{pbx.host}:{pbx.ports[transport]}",
                *("-sf", str(path), "-i", "127.0.0.1", "-p", str(port)),
                *(
                    "-t",
                    "t1" if transport == "tcp" else "u1",
                    "-nostdin",
                    "-timeout_error",
                    "-trace_msg",
                    "-trace_screen",
                ),
                *("-trace_err", "-error_file", str(self.folder / f"{name}.err"), "-timeout", "60s"),
                *more,
            ],
            self.folder,
            name,
        )
        process.port = port
        self._started.append(process)
        return process

    def succeeds(self, process: Sipp, seconds: float = 60.0) -> None:
        """A SIPp run ends, with every call as its scenario says."""
        status = process.wait(seconds)
        self.assertEqual(status, 0, process.errors())


class Sipp(Process):
    """A SIPp of which the port and the errors are known."""

    port = 0

    def listening(self) -> bool:
        """Whether its port is taken by now."""
        assert self.popen.poll() is None, self.errors() + self.text()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError:
                return True
        return False

    def errors(self) -> str:
        """What went wrong."""
        files = sorted(self.output.parent.glob("*.err"))
        return "\n".join(f"{path.name}: {path.read_text()[-3000:]}" for path in files)


@contextlib.contextmanager
def capture(folder: Path, ports: Sequence[int]) -> Iterator[Path]:
    """A packet capture of loopback traffic of these ports, by tshark."""
    path = folder / "capture.pcap"
    ports_filter = " or ".join(f"port {port}" for port in ports)
    process = Process(
        [program("tshark"), "-q", "-i", "lo", "-f", ports_filter, "-w", str(path)], folder, "tshark"
    )
    process.wait_for("Capturing on")
    time.sleep(0.5)
    try:
        yield path
    finally:
        time.sleep(0.5)
        process.stop(signal.SIGINT)
