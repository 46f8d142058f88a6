"""Presence, busy lamps and message waiting: the event server."""

from __future__ import annotations

from pbx.services.presence.rows import (
    PRESENTITY_COLUMNS,
    PRESENTITY_KEY,
    WATCHERS_COLUMNS,
    WATCHERS_KEY,
)
from pbx.services.presence.service import EventServer
from pbx.services.presence.settings import PresenceSettings
from pbx.services.presence.waiting import WAITING_COLUMNS, WAITING_KEY

__all__ = [
    "PRESENTITY_COLUMNS",
    "PRESENTITY_KEY",
    "WAITING_COLUMNS",
    "WAITING_KEY",
    "WATCHERS_COLUMNS",
    "WATCHERS_KEY",
    "EventServer",
    "PresenceSettings",
]
