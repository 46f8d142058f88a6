"""Sources of messages: their names, their tokens, and what is remembered of them."""

from __future__ import annotations

import socket
from math import inf
from typing import TYPE_CHECKING

from zope.interface import implementer

from pbx.interfaces import ISource
from pbx.sip.message import Request

if TYPE_CHECKING:
    from pbx.services.guard.service import Guard


def name_of(host: str) -> str:
    """What an address counts as: itself, or its /64 as in ``2001:db8::/64``."""
    if ":" not in host:
        return host
    try:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except OSError:
        return host
    if packed[:12] == b"\0" * 10 + b"\xff\xff":
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    if packed == b"\0" * 15 + b"\1":
        return "::1"
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + b"\0" * 8) + "/64"


@implementer(ISource)
class Source:
    """One address. Flows share and keep it; it goes when the last of them does.

    ``refilled`` is up to when tokens were given, ``asked`` counts requests without a log-in.
    """

    __slots__ = (
        "__weakref__",
        "_guard",
        "asked",
        "asked_since",
        "complained",
        "name",
        "refilled",
        "stranger",
        "tokens",
    )

    def __init__(self, guard: Guard, name: str, tokens: int, now: float) -> None:
        self._guard = guard
        self.name = name
        self.tokens = tokens
        self.stranger = True
        self.refilled = now
        self.asked = 0
        self.asked_since = now
        self.complained = -inf

    def wait(self) -> float:
        """Seconds until it may send again, infinity for a ban."""
        return self._guard.wait(self)

    def meets(self, request: Request) -> bool:
        """Whether a request of a stranger is let in."""
        return self._guard.meets(self, request)
