"""The other nodes: when they were heard, where they are, and the words that they use."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as BinasciiError
from dataclasses import dataclass
from hashlib import blake2b
from hmac import compare_digest
from typing import Any, Final

from zope.interface import implementer

from pbx.interfaces import INode
from pbx.sip.uri import URI

#: Starts the user part of the Route by which one node sends to another.
PREFIX: Final = "pbx-node."


@implementer(INode)
class Node:
    """Another node. ``boot`` tells its runs apart, ``number`` counts what it says."""

    __slots__ = ("alive", "boot", "hosts", "left", "name", "number", "seen", "sockets", "where")

    def __init__(self, name: str, seen: float) -> None:
        self.name = name
        #: Until it was silent for too long: who has just started knows nobody yet.
        self.alive = True
        self.left = False
        self.seen = seen
        self.boot = ""
        self.number = 0
        self.where = ""
        self.hosts: frozenset[str] = frozenset()
        self.sockets: frozenset[tuple[str, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Word:
    """One thing that a node said."""

    node: str
    boot: str
    number: int
    topic: str
    body: Any

    def text(self) -> str:
        """For the bus."""
        said = [self.node, self.boot, self.number, self.topic, self.body]
        return json.dumps(said, separators=(",", ":"))

    @classmethod
    def read(cls, text: str) -> Word:
        """From the bus. Raises ValueError."""
        said = json.loads(text)
        if not isinstance(said, list) or len(said) != 5:
            raise ValueError("no word of a node")
        node, boot, number, topic, body = said
        kinds = ((node, str), (boot, str), (number, int), (topic, str))
        if not all(isinstance(value, kind) for value, kind in kinds):
            raise ValueError("no word of a node")
        return cls(node, boot, number, topic, body)


class Routes:
    """Route values between nodes: they name a binding, and a signature that only nodes can make.

    An edge proxy's flow token (RFC 5626 section 5.3), except that it outlives the connection: a
    phone that came back has the same binding.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def value(self, node: str, where: str, aor: str, contact_id: int) -> str:
        """The Route to a binding of a node."""
        named = urlsafe_b64encode(aor.encode("utf-8", "surrogateescape")).decode().rstrip("=")
        user = f"{PREFIX}{contact_id:x}.{named}"
        return f"<sip:{user}.{self._signature(node, user)}@{where};lr>"

    def read(self, node: str, route: URI) -> tuple[str, int] | None:
        """AOR and id of the binding that a Route of ours names; None when no node made it."""
        user, _, signature = route.user.rpartition(".")
        if not compare_digest(signature.encode(), self._signature(node, user).encode()):
            return None
        contact_id, _, named = user.removeprefix(PREFIX).partition(".")
        try:
            aor = urlsafe_b64decode(named + "=" * (-len(named) % 4))
            return aor.decode("utf-8", "surrogateescape"), int(contact_id, 16)
        except (ValueError, BinasciiError):
            return None

    def _signature(self, node: str, user: str) -> str:
        text = f"{node} {user}".encode("utf-8", "surrogateescape")
        return blake2b(text, key=self._secret, digest_size=12).hexdigest()
