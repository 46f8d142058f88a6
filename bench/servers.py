"""The servers that are compared: how each is configured, started and stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

PROJECT = Path(__file__).parent.parent
DOMAIN = "pbx.bench"
PASSWORD = "bench-secret"
SOCKET = "bench.sock"


class Server(Protocol):
    """One of the compared."""

    name: str
    port: int

    def start(self) -> None:
        """Until it answers."""

    def stop(self) -> None:
        """By its PID."""

    def pids(self) -> Sequence[int]:
        """Root processes."""


def wait_for_udp(port: int, seconds: float = 30.0) -> None:
    """Until OPTIONS gets any answer."""
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        probe.settimeout(0.3)
        own = probe.getsockname()[1]
        while time.monotonic() < deadline:
            text = (
                f"OPTIONS sip:{DOMAIN} SIP/2.0\r\n"
                f"Via: SIP/2.0/UDP 127.0.0.1:{own};branch=z9hG4bK{os.urandom(6).hex()}\r\n"
                "Max-Forwards: 70\r\nFrom: <sip:probe@monitor.invalid>;tag=p\r\n"
                f"To: <sip:{DOMAIN}>\r\nCall-ID: {os.urandom(6).hex()}\r\nCSeq: 1 OPTIONS\r\n"
                "Content-Length: 0\r\n\r\n"
            )
            try:
                probe.sendto(text.encode(), ("127.0.0.1", port))
                probe.recv(65536)
                return
            except OSError:
                time.sleep(0.1)
    raise RuntimeError(f"nothing answers on port {port}")


def _spawn(
    arguments: Sequence[str], log: Path, folder: Path, site: Path | None = None
) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            arguments,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Both write times of day into rows: in one zone.
            env={**os.environ, "PYTHONPATH": str(site or PROJECT), "TZ": "UTC"},
        )


def run_with(site: Path | None, module: str, *arguments: str) -> str:
    """What a module prints in an interpreter of its own, on a compiled build if there is one."""
    with tempfile.TemporaryDirectory(prefix="pbx-bench-") as folder:
        checkout = Path(folder)
        for name in ("bench", "etc", "tools"):
            (checkout / name).symlink_to(PROJECT / name)
        path = str(PROJECT) if site is None else os.pathsep.join((str(site), folder))
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=PROJECT if site is None else folder,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    return done.stdout


def ask(folder: Path, method: str, *params: object) -> Any:
    """The result of a management command of the PBX in that folder."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(folder / SOCKET))
        asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        connection.sendall(json.dumps(asked).encode() + b"\n")
        answer = json.loads(connection.makefile("rb").readline())
    return answer["result"]


def _stop(process: subprocess.Popen[bytes] | None) -> None:
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class PBX:
    """This project."""

    name = "pbx"

    def __init__(
        self,
        folder: Path,
        port: int,
        database: str,
        node_port: int,
        cache: str = "memory:",
        listen: Sequence[str] = (),
        site: Path | None = None,
        more: Mapping[str, dict[str, object]] | None = None,
    ) -> None:
        self.port = port
        self._folder = folder
        self._site = site
        self._process: subprocess.Popen[bytes] | None = None
        tables: dict[str, dict[str, object]] = {
            "sip": {"domain": DOMAIN, "listen": [f"udp:127.0.0.1:{port}", *listen]},
            "storage": {"database": database, "cache": cache},
            "registrar": {"contact_cache": cache != "memory:"},
            "routing": {"policy": str(PROJECT / "etc" / "routing.py")},
            "http": {"listen": []},
            "management": {"socket": str(folder / SOCKET)},
            "auth": {"algorithms": ["MD5"]},
            "plugins": {"enabled": []},
            "load_balancer": {"probing_interval": 5},
            **(more or {}),
        }
        lines: list[str] = []
        for name, table in tables.items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
        (folder / "pbx.toml").write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        twistd = Path(sys.executable).parent / "twistd"
        arguments = [str(twistd), "-n", "--pidfile=", "pbx", "-c", str(self._folder / "pbx.toml")]
        log = self._folder / "pbx.log"
        self._process = _spawn(arguments, log, self._folder, self._site)
        try:
            wait_for_udp(self.port)
        except RuntimeError as error:
            raise RuntimeError(f"{error}:\n{log.read_text()}") from None

    def stop(self) -> None:
        _stop(self._process)

    def pids(self) -> Sequence[int]:
        return [self._process.pid] if self._process is not None else []


class Kamailio:
    """Debian's kamailio with bench/peer/kamailio.cfg."""

    name = "kamailio"

    def __init__(
        self,
        folder: Path,
        port: int,
        database: str,
        node_port: int,
        redis: int,
        children: int = 4,
    ) -> None:
        self.port = port
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        modules = next(Path("/usr/lib").glob("*/kamailio/modules"))
        dispatcher = folder / "dispatcher.list"
        dispatcher.write_text(f"1 sip:127.0.0.1:{node_port}\n")
        text = (PROJECT / "bench" / "peer" / "kamailio.cfg").read_text()
        for key, value in {
            "CHILDREN": children,
            "HOST": "127.0.0.1",
            "PORT": port,
            "MODULES": modules,
            "DATABASE": database,
            "DISPATCHER": dispatcher,
            "REDIS": f"addr=127.0.0.1;port={redis};db=0",
        }.items():
            text = text.replace(f"@{key}@", str(value))
        (folder / "kamailio.cfg").write_text(text)

    def start(self) -> None:
        program = shutil.which("kamailio") or "/usr/sbin/kamailio"
        arguments = [program, "-DD", "-E", "-f", str(self._folder / "kamailio.cfg")]
        arguments += ["-m", "256", "-M", "16", "-Y", str(self._folder)]
        arguments += ["-P", str(self._folder / "kamailio.pid")]
        log = self._folder / "kamailio.log"
        self._process = _spawn(arguments, log, self._folder)
        try:
            wait_for_udp(self.port)
        except RuntimeError as error:
            raise RuntimeError(f"{error}:\n{log.read_text()}") from None

    def stop(self) -> None:
        _stop(self._process)

    def pids(self) -> Sequence[int]:
        return [self._process.pid] if self._process is not None else []
