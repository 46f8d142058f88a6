"""Reads the ``dr_*`` tables. Everything raises DatabaseError."""

from __future__ import annotations

import gc
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TableNames:
    """The tables of one partition. Raises ValueError for what is no name of a table."""

    gateways: str = "dr_gateways"
    carriers: str = "dr_carriers"
    groups: str = "dr_groups"
    rules: str = "dr_rules"

    def __post_init__(self) -> None:
        for name in (self.gateways, self.carriers, self.groups, self.rules):
            if not (name.isidentifier() and name.isascii()):
                raise ValueError(f"{name!r} is no name of a table")


async def read_gateways(database: IDatabase, table: str) -> dict[str, Gateway]:
    """Gateways by name."""
    return make_gateways(await database.query(f"SELECT {GATEWAY_COLUMNS} FROM {table} ORDER BY id"))


async def read_carriers(database: IDatabase, table: str) -> dict[str, Carrier]:
    """Carriers by name; the version row says what their flags mean."""
    version = await database.query(
        "SELECT table_version FROM version WHERE table_name = 'dr_carriers'"
    )
    rows = await database.query(f"SELECT {CARRIER_COLUMNS} FROM {table} ORDER BY id")
    return make_carriers(rows, int(version[0][0]) if version else 3)


async def read_callers(
    database: IDatabase, table: str, with_domain: bool
) -> dict[tuple[str, str], int]:
    """Rule groups by user and domain of callers."""
    rows = await database.query(f"SELECT username, domain, groupid FROM {table} ORDER BY id DESC")
    return {
        (str(user or ""), str(domain or "").lower() if with_domain else ""): int(group or 0)
        for user, domain, group in rows
    }


async def read_rules(
    database: IDatabase, table: str, plus: bool, extra: str
) -> tuple[dict[int, Prefixes], int]:
    """Rules by group, and how many. Page by page: what somebody changes meanwhile is noticed
    and read again.
    """
    # Nothing of this is garbage, and looking for some would hold up calls.
    collecting = gc.isenabled()
    sql = f"SELECT {RULE_COLUMNS} FROM {table} WHERE ruleid > ? ORDER BY ruleid LIMIT {PAGE}"
    gc.disable()
    try:
        made: dict[int, Prefixes] = {}
        count, last = 0, -(1 << 31)
        while True:
            rows = await database.query(sql, (last,))
            count += add_rules(made, rows, plus, extra)
            if len(rows) < PAGE:
                return made, count
            last = rows[-1][0]
    finally:
        if collecting:
            gc.enable()
