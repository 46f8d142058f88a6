"""The ``[drouting]`` table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class DroutingSettings:
    """The ``[drouting]`` table."""

    default_group: int = 0
    """Rule group of callers that ``dr_groups`` does not name."""
    use_domain: bool = True
    """Compare the domain of callers with ``dr_groups``, too."""
    plus: Literal["strip", "keep"] = "strip"
    """What becomes of a leading + before rules and gateways see a number. A gateway that wants
    one has it in ``pri_prefix``."""
    extra_prefix_chars: str = ""
    """Characters that prefixes may have beside digits."""
    rule_fallback: bool = False
    """When no gateway of the best rule is up, try the next best one and shorter prefixes."""
    disable_codes: tuple[int, ...] = (408, 503)
    """Failures by which a gateway is left alone until a probe succeeds: 408 when it was silent,
    others also when it said so. Gateways with ``probe_mode`` 0 are never left alone."""
    use_partitions: bool = False
    """Read ``dr_partitions``: further sets of dr_ tables, by name, in the same database (``db_url``
    is not used). A policy names the partition; the default one has the usual tables."""
    persistent_state: bool = True
    """Write the states of gateways and carriers to the database."""
    probing_interval: float = 30.0
    """Seconds between probes of a gateway; 0 never."""
    probing_method: str = "OPTIONS"
    """Request that asks a gateway whether it lives."""
    probing_from: str = "sip:prober@localhost"
    """From of probes."""
    probing_reply_codes: tuple[int, ...] = ()
    """Codes that mean alive beside 200."""
    probing_timeout: float = 4.0
    """Seconds to wait for the answer to a probe."""
    resolve_interval: float = 60.0
    """Seconds after which the names of gateways are looked up again."""

    def __post_init__(self) -> None:
        if self.probing_interval < 0 or self.resolve_interval <= 0 or self.probing_timeout <= 0:
            raise ValueError("intervals and probing_timeout: expected more than 0")
