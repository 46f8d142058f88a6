"""SQL for both databases: types, statements and values. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SURROGATES = re.compile("[\ud800-\udfff]")

#: Columns whose values only inform: clipped to the width of the column when they do not fit
#: (spec 20, rule 7). Any other value that is too long makes its row refused.
CLIPPED = {
    "acc": {"method", "from_tag", "to_tag", "callid", "sip_code", "sip_reason"},
    "missed_calls": {"method", "from_tag", "to_tag", "callid", "sip_code", "sip_reason"},
    "location": {"user_agent", "sip_instance", "attr", "cflags", "callid", "socket"},
    "dialog": {"mangled_from_uri", "mangled_to_uri", "script_flags", "from_uri", "to_uri"},
    "silo": {"src_addr", "dst_addr", "ctype"},
    "active_watchers": {"callid", "reason", "sharing_tag"},
    "watchers": {"reason"},
    "presentity": {"sender"},
    "load_balancer": {"description", "attrs"},
    "dispatcher": {"description", "attrs"},
    "subscriber": {"email_address", "rpid"},
    "sip_trace": {"trace_attrs", "status", "callid", "method", "fromtag"},
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between the two databases."""

    name: str
    serial: str
    bigserial: str
    bytea: str

    def translate(self, text: str) -> str:
        """A statement of a schema file in this dialect."""
        for word in ("serial", "bigserial", "bytea"):
            text = text.replace("{" + word + "}", getattr(self, word))
        return text


SQLITE = Dialect("sqlite", "integer PRIMARY KEY", "integer PRIMARY KEY", "blob")
POSTGRES = Dialect("postgres", "serial PRIMARY KEY", "bigserial PRIMARY KEY", "bytea")


def sqlite_insert(
    table: str, key: Sequence[str], columns: Sequence[str], unique: bool = True
) -> str:
    """An upsert of one row for executemany; a plain insert where no unique key backs ``key``."""
    marks = ", ".join("?" * len(columns))
    sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
    return sql + (on_conflict(key, columns) if key and unique else "")


def sqlite_delete(table: str, key: Sequence[str]) -> str:
    """A delete by key for executemany; NULL equals NULL."""
    return f"DELETE FROM {table} WHERE " + " AND ".join(f"{name} IS ?" for name in key)


def sqlite_trigger(table: str, verb: str) -> str:
    """A trigger that counts changes in ``pbx_changes``."""
    return (
        f"CREATE TRIGGER IF NOT EXISTS pbx_changed_{table}_{verb.lower()} AFTER {verb} ON {table}"
        f" BEGIN INSERT INTO pbx_changes (table_name, counter) VALUES ('{table}', 1)"
        " ON CONFLICT (table_name) DO UPDATE SET counter = counter + 1; END"
    )


def on_conflict(key: Sequence[str], columns: Sequence[str]) -> str:
    """The upsert clause."""
    changed = [f"{name} = excluded.{name}" for name in columns if name not in key]
    action = "UPDATE SET " + ", ".join(changed) if changed else "NOTHING"
    return f" ON CONFLICT ({', '.join(key)}) DO {action}"


def key_positions(key: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Where the values of the key are in a row."""
    return [columns.index(name) for name in key]


def clean_row(
    row: Sequence[object], widths: Sequence[int | None] | None = None
) -> tuple[object, ...]:
    """A row any database accepts: no lone surrogates and NULs in text; texts clipped to
    ``widths``, where None means any length.
    """
    cleaned = tuple(clean(value) for value in row)
    if widths is None:
        return cleaned
    return tuple(
        value[:width] if width is not None and isinstance(value, str) else value
        for value, width in zip(cleaned, widths, strict=True)
    )


def clean(value: object) -> object:
    """Text without lone surrogates and NULs, which no database can store; the rest as it is."""
    if not isinstance(value, str):
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        value = _SURROGATES.sub("\ufffd", value)
    return value.replace("\0", "\ufffd") if "\0" in value else value
