"""Redis for a server that is measured."""

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

    def __init__(self, folder: Path, port: int = PORT) -> None:
        self.port = port
        program = shutil.which("redis-server") or "redis-server"
        with (folder / "redis.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""),
                    *("--appendonly", "no", "--daemonize", "no", "--dir", str(folder)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self._process.pid
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("Redis does not start")

    def url(self) -> str:
        """Its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def keys(self) -> int:
        """How many keys it has."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as link:
            link.sendall(b"DBSIZE\r\n")
            answer = b""
            while not answer.endswith(b"\r\n"):
                answer += link.recv(256)
        return int(answer.removeprefix(b":"))

    def stop(self) -> None:
        """By its PID."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
