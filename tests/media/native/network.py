"""A network in memory: the engine's ports, and peers at any address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pbx.errors import MediaFailed
from pbx.media.native.port import Port, Received

Sockaddr = tuple[Any, ...]


class FakePort:
    """A port of the engine."""

    def __init__(self, network: Network, host: str, port: int, received: Received) -> None:
        self._network = network
        self.host = host
        self.port = port
        self.received = received

    def send(self, data: bytes, sockaddr: Sockaddr) -> None:
        self._network.sent((self.host, self.port), data, sockaddr)

    def close(self) -> None:
        self._network.ports.pop(self.port, None)


class Network:
    """Packets arrive at once, in order. ``lost`` counts those for nobody."""

    def __init__(self) -> None:
        self.ports: dict[int, FakePort] = {}
        self.peers: dict[Sockaddr, Callable[[bytes, Sockaddr], object]] = {}
        self.lost: list[tuple[Sockaddr, bytes]] = []
        self.full = False
        self._next = 20000
        self._queue: list[Callable[[], object]] = []
        self._busy = False

    # pbx.media.native.port.Ports

    def single(self, host: str, received: Received) -> Port:
        return self._port(host, received, 2)

    def pair(self, host: str, rtp: Received, rtcp: Received) -> tuple[Port, Port]:
        return self._port(host, rtp, 1), self._port(host, rtcp, 1)

    def _port(self, host: str, received: Received, step: int) -> FakePort:
        if self.full:
            raise MediaFailed("No Media Port Left", status=503)
        port = self.ports[self._next] = FakePort(self, host, self._next, received)
        self._next += step
        return port

    # Traffic

    def send(self, source: Sockaddr, data: bytes, target: Sockaddr) -> None:
        """From a peer to the engine."""

        def arrive() -> None:
            port = self.ports.get(target[1])
            if port is None:
                self.lost.append((target, data))
            else:
                port.received(data, source)

        self._later(arrive)

    def sent(self, source: Sockaddr, data: bytes, target: Sockaddr) -> None:
        """From the engine."""

        def arrive() -> None:
            peer = self.peers.get(target)
            if peer is None:
                self.lost.append((target, data))
            else:
                peer(data, source)

        self._later(arrive)

    def _later(self, call: Callable[[], object]) -> None:
        self._queue.append(call)
        if self._busy:
            return
        self._busy = True
        while self._queue:
            self._queue.pop(0)()
        self._busy = False

    def sender(self, source: Sockaddr) -> Callable[[bytes, Sockaddr], None]:
        """How a peer at this address sends."""

        def send(data: bytes, target: Sockaddr) -> None:
            self.send(source, data, target)

        return send
