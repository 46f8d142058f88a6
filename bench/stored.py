"""Bindings that are there before the PBX starts."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.databases import insert
from bench.servers import DOMAIN
from pbx.services.registrar.store import LOCATION_COLUMNS

STORED = 100_000


def rows(first: int, end: int, expires: int) -> Iterator[tuple[object, ...]]:
    """Rows of ``location`` for users that nobody else uses."""
    values: dict[str, object] = dict.fromkeys(LOCATION_COLUMNS)
    values.update(domain=DOMAIN, expires=expires, q=-1.0, cseq=1, flags=0, user_agent="bench")
    values.update(last_modified="2026-11-01 12:00:00", socket="udp:127.0.0.1:5060")
    for at in range(first, end):
        user = f"s{at:07d}"
        values.update(contact_id=at + 1, username=user, callid=f"stored-{at}@10.0.0.1")
        values["contact"] = f"sip:{user}@10.{at >> 16}.{at >> 8 & 255}.1:5060"
        yield tuple(values.values())


def store(url: str, count: int) -> None:
    """So many bindings of nobody else into a database, good for two hours."""
    marks = ", ".join("?" * len(LOCATION_COLUMNS))
    sql = f"INSERT INTO location ({', '.join(LOCATION_COLUMNS)}) VALUES ({marks})"
    insert(url, [(sql, list(rows(0, count, int(time.time()) + 7200)))])
