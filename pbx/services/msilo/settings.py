"""The ``[msilo]`` table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSiloSettings:
    """What is kept for users who are away, and how it is delivered."""

    enabled: bool = True
    """Keep messages for users who are away; otherwise the sender hears 480."""
    expire_time: int = 259200
    """Most seconds that a message is kept; its Expires header may ask for less."""
    max_messages: int = 200
    """Most messages kept for one user; 0 for no limit."""
    max_size: int = 65536
    """Most bytes of a message's body."""
    add_date_to_body: bool = False
    """Begin plain text with the time it was sent, for phones that do not show the Date header."""
    delay: float = 0.5
    """Seconds between a registration and the first message."""
    retry_interval: float = 60.0
    """Seconds until a failed delivery is tried again; each further time twice as long."""
    retries: int = 5
    """How often it is tried again before the next registration."""
    parallel: int = 50
    """Users who get their messages at the same time."""
    check_time: float = 30.0
    """Seconds between looks for messages that other programs put into the table."""
    clean_period: int = 5
    """Expired messages are removed every so many looks."""
    shared: bool = False
    """Several PBX nodes use the table: each claims a message (by a negative ``snd_time``) before
    it sends it, so that only one does. Always so in a cluster."""

    def __post_init__(self) -> None:
        if self.retry_interval <= 0 or self.check_time <= 0:
            raise ValueError("retry_interval, check_time: expected more than 0")
        if self.parallel < 1 or self.clean_period < 1:
            raise ValueError("parallel, clean_period: expected at least 1")
