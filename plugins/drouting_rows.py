"""Reads the ``dr_*`` tables. Everything raises DatabaseError."""

from __future__ import annotations

import gc
from typing import Final

from pbx.interfaces import IDatabase
from plugins.drouting_table import (
    CARRIER_COLUMNS,
    GATEWAY_COLUMNS,
    RULE_COLUMNS,
    Carrier,
    Gateway,
    Prefixes,
    add_rules,
    make_carriers,
    make_gateways,
)

#: Rules that are read and prepared at once, so that calls go on meanwhile.
PAGE: Final = 500
RULES_SQL: Final = (
    f"SELECT {RULE_COLUMNS} FROM dr_rules WHERE ruleid > ? ORDER BY ruleid LIMIT {PAGE}"
)


async def read_gateways(database: IDatabase) -> dict[str, Gateway]:
    """Gateways by name."""
    return make_gateways(
        await database.query(f"SELECT {GATEWAY_COLUMNS} FROM dr_gateways ORDER BY id")
    )


async def read_carriers(database: IDatabase) -> dict[str, Carrier]:
    """Carriers by name; the version row says what their flags mean."""
    version = await database.query(
        "SELECT table_version FROM version WHERE table_name = 'dr_carriers'"
    )
    rows = await database.query(f"SELECT {CARRIER_COLUMNS} FROM dr_carriers ORDER BY id")
    return make_carriers(rows, int(version[0][0]) if version else 3)


async def read_callers(database: IDatabase, with_domain: bool) -> dict[tuple[str, str], int]:
    """Rule groups by user and domain of callers."""
    rows = await database.query("SELECT username, domain, groupid FROM dr_groups ORDER BY id DESC")
    return {
        (str(user or ""), str(domain or "").lower() if with_domain else ""): int(group or 0)
        for user, domain, group in rows
    }


async def read_rules(
    database: IDatabase, plus: bool, extra: str
) -> tuple[dict[int, Prefixes], int]:
    """Rules by group, and how many. Page by page: what somebody changes meanwhile is noticed
    and read again.
    """
    # Nothing of this is garbage, and looking for some would hold up calls.
    collecting = gc.isenabled()
    gc.disable()
    try:
        made: dict[int, Prefixes] = {}
        count, last = 0, -(1 << 31)
        while True:
            rows = await database.query(RULES_SQL, (last,))
            count += add_rules(made, rows, plus, extra)
            if len(rows) < PAGE:
                return made, count
            last = rows[-1][0]
    finally:
        if collecting:
            gc.enable()
