"""Settings of the transaction layer: how long timers last, and how much it may hold."""

from __future__ import annotations

from dataclasses import dataclass

from pbx.sip.transactions import Timer, durations


@dataclass(frozen=True, slots=True, kw_only=True)
class Timers:
    """``[transaction]`` in pbx.toml."""

    t1: float = 0.5
    """Estimate of the round-trip time, seconds; first retransmission interval over UDP."""

    t2: float = 4.0
    """Longest retransmission interval of non-INVITE requests and of INVITE responses, seconds."""

    t4: float = 5.0
    """How long a message may stay in the network, seconds."""

    fr_timeout: float = 32.0
    """Seconds to wait for the final response to a non-INVITE request, and for the first response
    to an INVITE (timers F and B)."""

    auto_100: bool = True
    """Answer an INVITE with 100 Trying unless it gets another response at once."""

    max_transactions: int = 50_000
    """Requests in progress at the same time; further ones get 503."""

    max_finished: int = 32_768
    """Finished non-INVITE requests whose response is kept for retransmissions; when there are
    more, the oldest are forgotten."""

    max_finished_bytes: int = 16_777_216
    """Bytes of those responses, without what each repeat brings along again; when they take more,
    the oldest are forgotten."""

    retry_after: int = 5
    """Seconds in the Retry-After header of that 503."""

    def __post_init__(self) -> None:
        """Reject what cannot work."""
        if not 0 < self.t1 <= self.t2:
            raise ValueError("t1: expected more than 0 and at most t2")
        if self.t4 <= 0 or self.fr_timeout <= 0:
            raise ValueError("t4, fr_timeout: expected more than 0")
        for name in ("max_transactions", "max_finished", "max_finished_bytes", "retry_after"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1")

    def seconds(self, reliable: bool) -> tuple[float, ...]:
        """How long each timer lasts, by `pbx.sip.transactions.Timer`."""
        seconds = list(durations(self.t1, self.t2, self.t4, reliable))
        seconds[Timer.B] = seconds[Timer.F] = self.fr_timeout
        return tuple(seconds)
