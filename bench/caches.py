"""One Redis for the compared servers, each on a database of its own."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PORT = 27065


class Redis:
    """A server that keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server") or "redis-server"
        with (folder / "redis.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(program, "--port", str(PORT), "--bind", "127.0.0.1", "--save", ""),
                    *("--appendonly", "no", "--daemonize", "no", "--dir", str(folder)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self._process.pid
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", PORT), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("Redis does not start")

    @staticmethod
    def url(number: int) -> str:
        """A database of its own."""
        return f"redis://127.0.0.1:{PORT}/{number}"

    def keys(self, number: int) -> int:
        """How many keys a database has."""
        with socket.create_connection(("127.0.0.1", PORT), 5) as link:
            link.sendall(b"SELECT %d\r\nDBSIZE\r\n" % number)
            answer = b""
            while answer.count(b"\r\n") < 2:
                answer += link.recv(256)
        return int(answer.split(b":")[1])

    def stop(self) -> None:
        """By its PID."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
