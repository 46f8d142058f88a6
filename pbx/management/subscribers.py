"""One subscriber of the event interface: a socket, how long, and how it is told."""

from __future__ import annotations

import contextlib
import ipaddress
import json
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from pbx.management.outlets import Datagrams, Stream

_STREAMS = ("tcp", "jsonrpc")


class BadSocket(ValueError):
    """What an event socket may be."""


def parse_socket(text: str) -> str:
    """``udp:IP:PORT``, ``tcp:IP:PORT``, ``jsonrpc:IP:PORT``, ``unix:PATH`` or a path; in one
    spelling. Raises BadSocket.
    """
    if text.startswith("/"):
        text = f"unix:{text}"
    kind, _, place = text.partition(":")
    if kind == "unix" and place.startswith("/") and len(place.encode()) < 108 and "\0" not in place:
        return text
    host, _, port = place.rpartition(":")
    with contextlib.suppress(ValueError):
        if kind in ("udp", *_STREAMS) and 0 < int(port) < 65536:
            return f"{kind}:{ipaddress.ip_address(host.strip('[]'))}:{int(port)}"
    raise BadSocket("Bad socket: udp:IP:PORT, tcp:IP:PORT, jsonrpc:IP:PORT or unix:/PATH")


class Subscriber:
    """Told until it expires. What cannot be delivered is dropped and counted."""

    def __init__(self, place: str, reactor: Any, expired: Callable[[Subscriber], object]) -> None:
        self.place = place
        self.dropped = 0
        self._reactor = reactor
        self._expired = expired
        self._until: IDelayedCall | None = None
        kind, _, where = place.partition(":")
        self._way: Datagrams | Stream
        self._end = b"\n" if kind in _STREAMS else b""
        if kind in _STREAMS:
            host, _, port = where.rpartition(":")
            self._way = Stream(host, int(port), reactor)
        else:
            self._way = Datagrams(kind, where)

    def expire(self, seconds: int) -> None:
        """So long from now."""
        if self._until is not None:
            self._until.cancel()
        self._until = self._reactor.callLater(seconds, self._over)

    def _over(self) -> None:
        self._until = None
        self._expired(self)

    def tell(self, notification: object) -> None:
        """Send one notification."""
        data = json.dumps(notification, separators=(",", ":")).encode() + self._end
        if not self._way.send(data):
            self.dropped += 1

    @property
    def connected(self) -> bool:
        """Whether there is a connection to it."""
        return self._way.connected

    def close(self) -> None:
        """No more."""
        if self._until is not None:
            self._until.cancel()
            self._until = None
        self._way.close()

    def as_json(self) -> dict[str, object]:
        """For ``subscribers_list``."""
        until = self._until
        left = 0 if until is None else int(until.getTime() - self._reactor.seconds())
        return {"socket": self.place, "expires": left, "dropped": self.dropped}
