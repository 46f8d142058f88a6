"""A TCP proxy that a test can make slow, closed or silent."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import deque


class Gate(threading.Thread):
    """Passes connections of its ``port`` on to a server.

    ``delay`` seconds pass before an answer of the server is handed on; ``refuse`` closes every
    connection; `cut` breaks those that stand.
    """

    def __init__(self, server_port: int, host: str = "127.0.0.1") -> None:
        super().__init__(daemon=True)
        self.delay = 0.0
        self.refuse = False
        self._server = (host, server_port)
        self._listener = socket.create_server((host, 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._late: deque[tuple[float, socket.socket, bytes]] = deque()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._to_cut = False
        self._ended = False

    def run(self) -> None:
        while not self._ended:
            for key, _ in self._selector.select(0.02):
                if key.data is None:
                    self._accept()
                else:
                    self._pass(key.fileobj, *key.data)  # type: ignore[arg-type]
            now = time.monotonic()
            while self._late and self._late[0][0] <= now:
                _, sock, data = self._late.popleft()
                with contextlib.suppress(OSError):
                    sock.sendall(data)
            if self._to_cut or self.refuse:
                self._to_cut = False
                self._late.clear()
                for pair in list(self._pairs):
                    self._close(pair)
        for pair in list(self._pairs):
            self._close(pair)
        self._listener.close()

    def cut(self) -> None:
        """Break every connection."""
        self._to_cut = True

    def end(self) -> None:
        """No further connection."""
        self._ended = True
        self.join(5)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(self._server, 1)
        except OSError:
            client.close()
            return
        pair = (client, server)
        self._pairs.add(pair)
        self._selector.register(client, selectors.EVENT_READ, (server, False, pair))
        self._selector.register(server, selectors.EVENT_READ, (client, True, pair))

    def _pass(
        self,
        source: socket.socket,
        other: socket.socket,
        answers: bool,
        pair: tuple[socket.socket, socket.socket],
    ) -> None:
        if pair not in self._pairs:
            return
        try:
            data = source.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._close(pair)
        elif answers and (self.delay or self._late):
            self._late.append((time.monotonic() + self.delay, other, data))
        else:
            with contextlib.suppress(OSError):
                other.sendall(data)

    def _close(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self._pairs.discard(pair)
        for sock in pair:
            self._selector.unregister(sock)
            sock.close()
