"""The ``[cluster]`` table."""

from __future__ import annotations

from dataclasses import dataclass

from pbx.sip.errors import MalformedURI
from pbx.sip.uri import split_host_port


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """Who the other nodes on the same database are."""

    node: str = ""
    """Name of this PBX among the nodes that share its database; empty when it is alone."""
    address: str = ""
    """Where the other nodes send SIP to, as host:port; empty for the first UDP or TCP listener. An
    address of this machine only: not one that moves or is shared."""
    peers: tuple[str, ...] = ()
    """Names of the nodes that are listened to; empty for all that reach Redis or the database."""
    heartbeat: float = 1.0
    """Seconds between two signs of life."""
    dead_after: float = 3.5
    """Seconds of silence after which a node counts as dead."""

    def __post_init__(self) -> None:
        for name in (self.node, *self.peers):
            if len(name) > 64 or (not name.replace("-", "").replace("_", "").isalnum() and name):
                raise ValueError(f"{name!r}: names of nodes are letters, digits, - and _")
        if self.heartbeat <= 0 or self.dead_after < 2 * self.heartbeat:
            raise ValueError("dead_after: expected at least two heartbeats")
        if self.address:
            try:
                split_host_port(self.address)
            except MalformedURI:
                raise ValueError("address: expected host:port") from None
