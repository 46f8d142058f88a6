"""PostgreSQL's statements: batches as one jsonb parameter, catalogue look-ups, triggers. No I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from pbx.storage.dialect import key_positions, on_conflict

#: NOTIFY channel of changed tables; the payload is the table's name.
CHANNEL = "pbx_changed"

_INTEGERS = frozenset(("smallint", "integer", "bigint"))

COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, NULL),
    CASE WHEN a.atttypid IN (1042, 1043) AND a.atttypmod > 4 THEN a.atttypmod - 4 END,
    c.relkind::text
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v')
    AND a.attnum > 0 AND NOT a.attisdropped
"""

UNIQUE_KEYS = """
SELECT c.relname, array_agg(a.attname::text)
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
WHERE c.relnamespace = current_schema()::regnamespace AND i.indisunique AND i.indpred IS NULL
GROUP BY c.relname, i.indexrelid
"""

#: Every sequence goes on behind the largest id (spec 20, rule 4); {only} narrows it to one table.
RESYNCHRONISE = """
DO $$
DECLARE
    r record;
    top bigint;
BEGIN
    FOR r IN
        SELECT c.relname AS t, a.attname AS k, s.oid::regclass AS q, p.seqmax AS most,
            has_sequence_privilege(s.oid, 'UPDATE') AS may
        FROM pg_depend d
        JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
        JOIN pg_sequence p ON p.seqrelid = s.oid
        JOIN pg_class c ON c.oid = d.refobjid
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
        WHERE d.deptype IN ('a', 'i') AND c.relnamespace = current_schema()::regnamespace
            AND c.relname <> 'location'{only}
    LOOP
        CONTINUE WHEN NOT r.may;
        EXECUTE format('SELECT max(%I) FROM %I', r.k, r.t) INTO top;
        IF top <= r.most THEN
            EXECUTE format(
                'SELECT setval(%L, %s) FROM %s WHERE last_value < %s OR NOT is_called',
                r.q, top, r.q, top);
        END IF;
    END LOOP;
END $$
"""

#: Remembers that a batch of inserted rows was committed, in case the answer gets lost.
REMEMBER = "INSERT INTO pbx_batches (token) VALUES (%s); "
WAS_COMMITTED = "SELECT 1 FROM pbx_batches WHERE token = %s"
FORGET = "DELETE FROM pbx_batches WHERE written < CURRENT_TIMESTAMP - interval '1 day'"

CHANGE_MARKS = """
SELECT relname, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables
WHERE schemaname = current_schema() AND relname = ANY (%s)
"""


def resynchronise(table: str = "") -> str:
    """Move sequences behind the largest id, of all tables or one."""
    return RESYNCHRONISE.format(only=f" AND c.relname = '{table}'" if table else "")


def trigger_statements(tables: Sequence[str]) -> str:
    """Triggers that send NOTIFY, installed where they are missing."""
    installs = "\n".join(
        f"IF NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgname = 'pbx_changed'"
        f" AND tgrelid = '{table}'::regclass) THEN"
        f" CREATE TRIGGER pbx_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}"
        f" FOR EACH STATEMENT EXECUTE FUNCTION pbx_notify_changed(); END IF;"
        for table in tables
    )
    return f"""
CREATE OR REPLACE FUNCTION pbx_notify_changed() RETURNS trigger LANGUAGE plpgsql AS $f$
BEGIN PERFORM pg_notify('{CHANNEL}', TG_TABLE_NAME); RETURN NULL; END $f$;
DO $$ BEGIN {installs} END $$
"""


@lru_cache(maxsize=1024)
def translate(sql: str) -> str:
    """``?`` placeholders as ``%s``, outside of quotes; a literal ``%`` is doubled."""
    parts = sql.split("'")
    parts[::2] = [part.replace("%", "%%").replace("?", "%s") for part in parts[::2]]
    parts[1::2] = [part.replace("%", "%%") for part in parts[1::2]]
    return "'".join(parts)


@dataclass(frozen=True, slots=True)
class Table:
    """What the catalogue says about one table: column types and widths, sets of unique columns."""

    types: dict[str, str]
    widths: dict[str, int | None]
    unique: frozenset[frozenset[str]]


def write_statement(
    name: str,
    table: Table,
    key: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    deletes: Sequence[Sequence[object]],
) -> tuple[str, tuple[str, ...]]:
    """Deletes and upserts as one text with one or two jsonb parameters: the server does all of it
    or nothing.
    """
    statements: list[str] = []
    params: list[str] = []
    backed = not key or frozenset(key) in table.unique
    places = key_positions(key, columns) if rows and key else []
    doomed = list(deletes)
    if not backed:
        doomed += [[row[place] for place in places] for row in rows]
    if doomed:
        statements.append(_delete(name, table, key, doomed))
        params.append(recordset(key, doomed))
    if rows:
        names = ", ".join(columns)
        insert = (
            f"INSERT INTO {name} ({names}) SELECT {names} FROM {_recordset(table, columns, True)}"
        )
        statements.append(insert + (on_conflict(key, columns) if key and backed else ""))
        params.append(recordset(columns, rows))
    return "; ".join(statements), tuple(params)


def _delete(name: str, table: Table, key: Sequence[str], doomed: Sequence[Sequence[object]]) -> str:
    # "IS NOT DISTINCT FROM" finds NULLs but cannot use an index.
    equals = "IS NOT DISTINCT FROM" if any(None in values for values in doomed) else "="
    match = " AND ".join(f"t.{column} {equals} r.{column}" for column in key)
    return f"DELETE FROM {name} t USING {_recordset(table, key, False)} WHERE {match}"


def _recordset(table: Table, columns: Sequence[str], wide: bool) -> str:
    """The parameter as a table; ``wide`` lets a fraction into an integer column, rounded."""
    types = (table.types.get(column.lower(), "text") for column in columns)
    kinds = ("numeric" if wide and kind in _INTEGERS else kind for kind in types)
    named = ", ".join(f"{column} {kind}" for column, kind in zip(columns, kinds, strict=True))
    return f"jsonb_to_recordset(%s::jsonb) AS r({named})"


def recordset(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as JSON: bytes as hexadecimal input of bytea, names as PostgreSQL folds them."""
    names = [column.lower() for column in columns]
    return json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=_hexadecimal)


def _hexadecimal(value: object) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "\\x" + bytes(value).hex()
    return str(value)
