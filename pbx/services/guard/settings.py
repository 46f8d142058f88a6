"""The ``[guard]`` table."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

#: What tools that look for phone systems call themselves. Some phones have "sip" in their names,
#: so that whole words of the tools stand here.
SCANNERS = (
    "friendly-scanner",
    "friendly-request",
    "sipvicious",
    "sundayddr",
    "sip-scan",
    "sipscan",
    "sipsak",
    "sipcli",
    "sivus",
    "iwar",
    "smap",
    "pplsip",
    "vaxsipuseragent",
    "eyebeamsip",
    "custom-scanner",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """Limits of one source: an IPv4 address, or a /64 of IPv6."""

    enabled: bool = True
    """Limit and ban at all."""
    rate: float = 500.0
    """Messages a second that one source may send for long; 0 for no limit. What is above is
    dropped (UDP) or left waiting in its connection."""
    burst: int = 5000
    """Messages that it may send at once after a quiet time: an office whose phones all start."""
    max_failures: int = 20
    """Wrong passwords and unknown users within ``window``, from where nobody logged in lately, that
    lead to a ban; 0 never."""
    max_failures_known: int = 200
    """The same for a source from which somebody did log in: one phone with an old password must
    not silence its office."""
    max_unproved: int = 200
    """Requests within ``window`` from where nobody ever logs in that lead to a ban; OPTIONS do not
    count, 0 never."""
    window: float = 600.0
    """Seconds after which failures are counted anew."""
    ban_time: float = 600.0
    """Seconds of the first ban; each further one within a day lasts three times as long."""
    max_ban_time: float = 86400.0
    """Seconds of the longest ban."""
    scanners: tuple[str, ...] = SCANNERS
    """Parts of a User-Agent, in lower case, that lead to a ban at once."""
    allow: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks that are never limited nor banned. Nodes, gateways and destinations in the tables
    are not either, nor proxies that ``[websocket] trusted_proxies`` names."""

    def __post_init__(self) -> None:
        if self.rate < 0 or self.burst < 1:
            raise ValueError("rate and burst: expected 0 or more, and 1 or more")
        if min(self.max_failures, self.max_failures_known, self.max_unproved) < 0:
            raise ValueError("max_failures, max_failures_known, max_unproved: expected 0 or more")
        if not 0 < self.ban_time <= self.max_ban_time or self.window <= 0:
            raise ValueError(
                "ban_time, max_ban_time, window: expected more than 0, the first least"
            )
        try:
            for text in self.allow:
                ip_network(text)
        except ValueError as error:
            raise ValueError(f"allow: {error}") from None
