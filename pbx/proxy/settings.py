"""Settings of the proxy: the table ``[proxy]``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """The ``[proxy]`` table."""

    fr_timeout: float = 32.0
    """Seconds until a branch that answers nothing at all has failed with 408."""
    fr_inv_timeout: float = 180.0
    """Seconds until an INVITE that only rings is cancelled (timer C)."""
    restart_fr_on_each_reply: bool = True
    """Every provisional response restarts ``fr_inv_timeout`` (RFC 3261 section 16.7, step 2)."""
    server_header: str = "pbx"
    """Server header of responses that the PBX makes itself, empty for none."""
