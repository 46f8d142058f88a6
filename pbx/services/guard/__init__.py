"""Who may talk to us at all: limits and bans by source address."""

from pbx.services.guard.known import KnownHosts
from pbx.services.guard.service import Guard
from pbx.services.guard.settings import GuardSettings

__all__ = ["Guard", "GuardSettings", "KnownHosts"]
