"""The ``[dialog]`` table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DialogSettings:
    """How calls are tracked."""

    default_timeout: int = 21600
    """Seconds after the answer when a call is ended by force."""
    bye_on_timeout: bool = True
    """Send BYE to both sides of a call that is ended by force; otherwise just forget it."""
    dlg_match_mode: int = 1
    """How requests find their call: 0 by the ``did`` in Route only, 1 by ``did`` and then by
    Call-ID and tags, 2 by Call-ID and tags only."""
    strict: bool = False
    """Refuse requests along our route with 481 that belong to no call or break its CSeq, remote
    target or route set; otherwise they are only logged."""
    delete_delay: float = 5.0
    """Seconds that an ended call is kept for late requests."""
    max_early: int = 20000
    """Most unanswered calls tracked at a time; further ones are relayed untracked."""
    max_early_seconds: float = 900.0
    """Seconds after which an unanswered call is given up for lost."""
    ping_interval: float = 0.0
    """Seconds between OPTIONS within an answered call; 0 for none. A side that answers 408 or 481,
    or cannot be reached three times in a row, ends the call."""
    ping_caller: bool = True
    """Ping the calling side."""
    ping_callee: bool = True
    """Ping the called side."""
    lost_after: float = 3.0
    """Seconds after the WebSocket of a browser closed when its calls end, unless it registers again
    before; 0 keeps them until somebody hangs up."""
    db_mode: int = 2
    """When calls go to the database: 0 never, 1 at every change, 2 within the write-behind
    interval, 3 only at shutdown."""
    profiles_with_value: str = ""
    """Names of profiles with values, separated by ";"."""
    profiles_no_value: str = ""
    """Names of profiles without values, separated by ";"."""

    def __post_init__(self) -> None:
        if self.dlg_match_mode not in (0, 1, 2):
            raise ValueError("dlg_match_mode: expected 0, 1 or 2")
        if self.db_mode not in (0, 1, 2, 3):
            raise ValueError("db_mode: expected 0, 1, 2 or 3")
        if self.lost_after < 0:
            raise ValueError("lost_after: expected 0 or more")
        if self.default_timeout < 1:
            raise ValueError("default_timeout: expected at least 1")
