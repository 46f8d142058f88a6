"""Media relays as programs of their own, on free loopback ports."""

from __future__ import annotations

import socket
import sys

from tests.integration.servers import Server

#: An RTPProxy with its control port on UDP, in a process of its own; it ends with its standard input.
RTPPROXY = """
import sys, time
from rtp.io import rtpproxy
ports = [int(word) for word in sys.argv[2:]]
one = rtpproxy(
    debug_level="err",
    port_min=ports[0],
    port_max=ports[1],
    modules=("catch_dtmf", "dtls_gw", "ice_lite"),
    extra_args=("-F", "-l", "127.0.0.1", "-s", f"udp:127.0.0.1:{sys.argv[1]}"),
)
while True:
    time.sleep(60)
"""


class Relay(Server):
    """A server that answers over UDP. ``ports`` are for its media."""

    hello = b""

    def __init__(self, ports: range) -> None:
        super().__init__()
        self.ports = ports

    def answers(self) -> bool:
        """Whether it answers a command."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.3)
            sock.connect(("127.0.0.1", self.port))
            try:
                sock.send(b"hello_1 " + self.hello)
                return sock.recv(1000).startswith(b"hello_1 ")
            except OSError:
                return False


class RtpengineServer(Relay):
    """rtpengine without the kernel."""

    hello = b"d7:command4:pinge"

    def command(self) -> list[str]:
        """What to run."""
        return [
            "rtpengine",
            "--foreground",
            "--interface=127.0.0.1",
            f"--listen-ng=127.0.0.1:{self.port}",
            "--table=-1",
            f"--port-min={self.ports[0]}",
            f"--port-max={self.ports[-1]}",
            "--log-stderr",
            "--log-level=4",
            "--no-redis-required",
            f"--pidfile={self.folder / 'pid'}",
        ]


class RtpproxyServer(Relay):
    """RTPProxy as another program would run it."""

    hello = b"V"

    def command(self) -> list[str]:
        """What to run."""
        ports = [str(port) for port in (self.port, self.ports[0], self.ports[-1])]
        return [sys.executable, "-c", RTPPROXY, *ports]
