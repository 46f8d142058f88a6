"""Database servers for tests, on free loopback ports with data folders of their own."""

from __future__ import annotations

import atexit
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path


def free_port() -> int:
    """A TCP port that nobody uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """A process with a folder. ``stop`` and ``start`` restart it with the same data and port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="pbx-test-"))
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """What to run."""
        return []

    def answers(self) -> bool:
        """Whether clients are served."""
        return _answers(self.port)

    def start(self, patience: float = 30.0) -> None:
        """Run it until it serves clients."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + patience
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text(errors="replace"))
            time.sleep(0.05)

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End it; nothing when it does not run."""
        process, self.process = self.process, None
        if process is not None and process.poll() is None:
            process.send_signal(how)
            process.wait(20)

    def signal(self, how: int) -> None:
        """Send a signal, as SIGSTOP, to the process that was started."""
        assert self.process is not None
        self.process.send_signal(how)

    def remove(self) -> None:
        """End it at once and delete its data."""
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


class PostgresServer(Server):
    """PostgreSQL as Debian packages it; as root it runs as the user ``postgres``."""

    def __init__(self) -> None:
        super().__init__()
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        self.programs = Path(found[-1]) if found else Path("/usr/bin")
        self.as_user: list[str] = []
        if os.getuid() == 0:
            account = pwd.getpwnam("postgres")
            self.folder.chmod(0o755)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            self.as_user = [
                "setpriv",
                f"--reuid={account.pw_uid}",
                f"--regid={account.pw_gid}",
                "--init-groups",
                "--pdeathsig=QUIT",
            ]
        self.initialise()

    def initialise(self) -> None:
        """Make its data."""
        initdb = [str(self.programs / "initdb"), "-D", str(self.folder / "data")]
        options = ["-U", "pbx", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            [*self.as_user, *initdb, *options], check=True, stdout=subprocess.DEVNULL, cwd="/"
        )

    def command(self) -> list[str]:
        """What to run."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "max_connections": "60",
        }
        options = [part for item in settings.items() for part in ("-c", "=".join(item))]
        programme = [str(self.programs / "postgres"), "-D", str(self.folder / "data")]
        return [*self.as_user, *programme, *options]

    def answers(self) -> bool:
        """Whether clients are served."""
        ready = [str(self.programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0

    def stop(self, how: int = signal.SIGINT) -> None:
        """End it fast: SIGINT disconnects clients."""
        super().stop(signal.SIGQUIT if how == signal.SIGKILL else how)

    def sql(self, statement: str, database: str = "postgres") -> str:
        """What ``psql`` says: another program works on the database."""
        command = ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "pbx", database, "-c", statement]
        result = subprocess.run([*command, *where], check=True, capture_output=True, text=True)
        return result.stdout.strip()

    def url(self, database: str, options: str = "") -> str:
        """Where it is."""
        return f"postgresql://pbx@127.0.0.1:{self.port}/{database}{options}"


class RedisServer(Server):
    """Redis without persistence, with a password."""

    password = "s3cret/@:"

    def command(self) -> list[str]:
        """What to run."""
        settings = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        where = ["--port", str(self.port), "--dir", str(self.folder)]
        return ["redis-server", *settings, *where, "--requirepass", self.password]

    def cli(self, *command: str, number: int = 0) -> str:
        """What ``redis-cli`` says."""
        where = ["-p", str(self.port), "-n", str(number), "--no-auth-warning", "-a", self.password]
        result = subprocess.run(
            ["redis-cli", *where, *command], check=True, capture_output=True, text=True
        )
        return result.stdout.strip()

    def url(self, number: int = 0) -> str:
        """Where it is; the password unescaped, as OpenSIPS takes it."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{number}"


@cache
def postgres_server() -> PostgresServer:
    """One running server for all tests of this process; removed at its end."""
    server = PostgresServer()
    atexit.register(server.remove)
    server.start()
    return server


@cache
def redis_server() -> RedisServer:
    """The same for Redis."""
    server = RedisServer()
    atexit.register(server.remove)
    server.start()
    return server
