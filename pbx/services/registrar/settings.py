"""The ``[registrar]`` table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class RegistrarSettings:
    """Who may be bound for how long, and what is kept of it."""

    default_expires: int = 3600
    """Seconds granted to a contact that asks for no time."""
    min_expires: int = 60
    """Least seconds granted; a shorter wish is raised to it."""
    max_expires: int = 0
    """Most seconds granted; 0 for no limit."""
    expires_max_deviation: int = 0
    """Granted times vary by up to so many seconds either way, so that phones do not all come back
    at once."""
    interval_too_brief: bool = False
    """Answer 423 with Min-Expires to a wish below ``min_expires`` instead of raising it."""
    default_q: float = -1.0
    """The q of contacts that give none; -1 for unset, which counts as 1."""
    max_contacts: int = 10
    """Most contacts of one user; 0 for no limit."""
    force_registration: bool = True
    """A contact beyond ``max_contacts`` displaces the one that was refreshed least recently.
    Otherwise it is refused with 503, except from browsers, whose new page replaces the old."""
    use_domain: bool = True
    """Users are known as user@domain; otherwise by the user part alone."""
    case_sensitive: bool = True
    """The case of user names counts."""
    realm_prefix: str = ""
    """Taken off the front of the host in To and of looked-up hosts."""
    matching_mode: Literal[0, 1] = 0
    """What makes a contact the same one: 0 its URI, 1 URI and Call-ID."""
    cseq_delay: int = 20
    """Seconds in which a REGISTER with known Call-ID and CSeq counts as retransmission."""
    desc_time_order: bool = False
    """Newest contacts first, whatever their q."""
    path: Literal["off", "lazy", "strict"] = "lazy"
    """Path (RFC 3327) is always kept; the 200 repeats it: never, when the phone supports it, or
    when it does and otherwise the phone is refused with 420."""
    received_param: str = "received"
    """Contact parameter in the 200 that holds the source address."""
    nat_bflag: str = "NAT"
    """Name in the ``cflags`` column of contacts behind a NAT."""
    gruu: bool = True
    """Give public and temporary GRUUs (RFC 5627) to phones that support them."""
    flow_timer: int = 120
    """Seconds between keep-alives that connections with outbound (RFC 5626) are told; 0 for no
    Flow-Timer header."""
    restart_grace: int = 30
    """Seconds after a start in which phones whose connection is gone may register again before
    their contacts are removed."""
    retry_after: int = 0
    """Seconds in Retry-After of 5xx responses; 0 for no such header."""
    max_username_len: int = 64
    """Longest user part of a user."""
    max_domain_len: int = 64
    """Longest domain of a user."""
    max_aor_len: int = 256
    """Longest user@domain."""
    max_contact_len: int = 255
    """Longest Contact URI."""
    db_mode: Literal[0, 1, 2, 3] = 2
    """When contacts go to the database: 0 never; 1 before the 200; 2 within ``[storage]
    write_interval``; 3 before the 200, and what other programs change in ``location`` counts within
    5 seconds. Modes 1 and 3 make phones wait for the database (docs/storage.md)."""
    contact_cache: bool = False
    """Put the first contact of every user into the cache, under ``<From host>:<user>``. Other
    programs see it some 50 ms later."""

    def __post_init__(self) -> None:
        for name in ("default_expires", "min_expires"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1")
        if self.max_expires and self.max_expires < self.min_expires:
            raise ValueError("max_expires: expected 0 or at least min_expires")
        if self.default_q != -1 and not 0 <= self.default_q <= 1:
            raise ValueError("default_q: expected -1 or 0 to 1")
        if self.max_contacts < 0:
            raise ValueError("max_contacts: expected at least 0")
