"""The ``[load_balancer]`` table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancerSettings:
    """How nodes are watched."""

    probing_method: str = "OPTIONS"
    """Request that asks a node whether it lives."""
    probing_interval: float = 30.0
    """Seconds between probes of a node; 0 never."""
    probing_from: str = "sip:prober@localhost"
    """From of probes."""
    probing_reply_codes: tuple[int, ...] = ()
    """Codes that mean alive beside 200."""
    probing_timeout: float = 4.0
    """Seconds to wait for the answer to a probe."""
    lenient: bool = False
    """Take any answer but 408 and 503 for a sign of life."""
    resolve_interval: float = 60.0
    """Seconds after which the names of nodes are looked up again."""

    def __post_init__(self) -> None:
        """Reject what cannot work."""
        if self.probing_interval < 0 or self.resolve_interval <= 0 or self.probing_timeout <= 0:
            raise ValueError("intervals and probing_timeout: expected more than 0")
