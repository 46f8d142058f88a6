"""Settings of traces: the table ``[trace]``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSettings:
    """The ``[trace]`` table."""

    messages: int = 4096
    """SIP messages kept in memory for `pbxctl trace --past`; 0: none but while somebody traces."""

    def __post_init__(self) -> None:
        if not 0 <= self.messages <= 1_000_000:
            raise ValueError("messages: expected 0 to 1000000")
