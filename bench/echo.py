"""What a datagram costs before anybody looks into it: received and sent back, by three loops.

A bare loop around epoll(7) is the floor of every program in Python; Twisted's reactor and ours are
what a PBX on them would have to add to.

    echo.py LOOP COUNT        an echo; prints its port, then its CPU microseconds for each
"""

from __future__ import annotations

import select
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

#: Bytes of a datagram, as a REGISTER has; seconds between two of them; how many; how often.
SIZE, PAUSE, COUNT, TIMES = 500, 0.0005, 4000, 3
LOOPS = ("epoll", "Twisted's reactor", "pbx.reactor")


class Echo:
    """A socket that answers ``count`` datagrams."""

    direct = True

    def __init__(self, count: int) -> None:
        self._left = count
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(("127.0.0.1", 0))
        self.fileno = self._socket.fileno
        self.port = self._socket.getsockname()[1]

    def logPrefix(self) -> str:
        """For the reactor."""
        return "echo"

    def connectionLost(self, reason: object) -> None:
        """For the reactor."""

    def doRead(self) -> None:
        """All that there are."""
        while True:
            try:
                data, peer = self._socket.recvfrom(65536)
            except BlockingIOError:
                return
            self._socket.sendto(data, peer)
            self._left -= 1
            if not self._left:
                self.finish()

    def finish(self) -> None:
        """The last one."""
        raise SystemExit


def serve(loop: str, count: int) -> None:
    """Echo, then print the CPU microseconds of each."""
    echo = Echo(count)
    print(echo.port, flush=True)
    if loop == "epoll":
        began = _with_epoll(echo)
    else:
        began = _with_reactor(echo, loop == LOOPS[2])
    print((time.process_time() - began) / count * 1e6, flush=True)


def _with_epoll(echo: Echo) -> float:
    poller = select.epoll()
    poller.register(echo.fileno(), select.EPOLLIN)
    began = time.process_time()
    try:
        while True:
            for _ in poller.poll():
                echo.doRead()
    except SystemExit:
        return began


def _with_reactor(echo: Echo, ours: bool) -> float:
    from twisted.internet.interfaces import IReadDescriptor
    from zope.interface import directlyProvides

    if ours:
        from pbx.reactor import install_reactor

        assert install_reactor()
    from twisted.internet import reactor

    found: Any = reactor
    directlyProvides(echo, IReadDescriptor)
    echo.finish = found.stop  # type: ignore[method-assign]
    found.addReader(echo)
    began = time.process_time()
    found.run()
    return began


def echoes() -> str:
    """CPU microseconds of one that comes alone, by loop: the median of some runs in turn."""
    found: dict[str, list[float]] = {loop: [] for loop in LOOPS}
    for _ in range(TIMES):
        for loop in LOOPS:
            found[loop].append(_measured(loop))
    costs = " | ".join(f"{statistics.median(costs):.0f}" for costs in found.values())
    head = f"| a datagram of {SIZE} bytes, one in {PAUSE * 1e3:g} ms | " + " | ".join(LOOPS)
    return f"{head} |\n{'|---' * (1 + len(LOOPS))}|\n| received and sent back | {costs} |"


def _measured(loop: str) -> float:
    command = [sys.executable, "-m", "bench.echo", loop, str(COUNT)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone,
    ):
        assert server.stdout is not None
        phone.connect(("127.0.0.1", int(server.stdout.readline())))
        phone.settimeout(10)
        for _ in range(COUNT):
            phone.send(bytes(SIZE))
            phone.recv(SIZE)
            time.sleep(PAUSE)
        return float(server.stdout.readline())


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
