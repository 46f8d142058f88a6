"""Who called whom, when and for how long: ``acc``, ``missed_calls`` and the joined ``cdr``.

Everything is learnt from events. Rows go to the database behind the calls, never in their way.
"""

from __future__ import annotations

from pbx.services.accounting.columns import (
    ACC_COLUMNS,
    CDR_COLUMNS,
    CDR_KEY,
    MISSED_COLUMNS,
    AccountingSettings,
    acc_columns,
    missed_columns,
)
from pbx.services.accounting.service import Accounting

__all__ = [
    "ACC_COLUMNS",
    "CDR_COLUMNS",
    "CDR_KEY",
    "MISSED_COLUMNS",
    "Accounting",
    "AccountingSettings",
    "acc_columns",
    "missed_columns",
]
