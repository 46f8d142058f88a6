"""The calls in progress (RFC 3261 section 12, the ``dialog`` table)."""

from __future__ import annotations

from pbx.services.dialogs.call import Call
from pbx.services.dialogs.rows import DIALOG_COLUMNS, DIALOG_KEY
from pbx.services.dialogs.service import Dialogs
from pbx.services.dialogs.settings import DialogSettings

__all__ = ["DIALOG_COLUMNS", "DIALOG_KEY", "Call", "DialogSettings", "Dialogs"]
