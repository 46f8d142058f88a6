"""The schema: what the numbered SQL files hold, and what a given database lacks of it. No I/O.

A new database gets every table and the ``version`` rows of OpenSIPS 3.6. One that exists is taken
as it is (spec 20, rule 2): missing tables, columns and version rows are added, nothing is changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from pbx.storage.dialect import Dialect

#: Number that is written for a table, and older numbers whose layout will do (spec 20 section 2).
VERSIONS: Mapping[str, tuple[int, ...]] = {
    "subscriber": (8, 7),
    "uri": (2,),
    "domain": (4, 3),
    "dbaliases": (2,),
    "address": (5,),
    "grp": (3,),
    "re_grp": (2,),
    "usr_preferences": (3,),
    "speed_dial": (2, 3),
    "userblacklist": (2,),
    "globalblacklist": (2,),
    "location": (1013,),
    "dialog": (12, 10, 11),
    "acc": (7,),
    "missed_calls": (5,),
    "dispatcher": (9, 8),
    "load_balancer": (3, 2),
    "dr_gateways": (6,),
    "dr_rules": (4, 3),
    "dr_carriers": (3, 2),
    "dr_groups": (2,),
    "dr_partitions": (1,),
    "dialplan": (5,),
    "presentity": (5,),
    "active_watchers": (12,),
    "watchers": (4,),
    "xcap": (4,),
    "pua": (9, 8),
    "rls_presentity": (1,),
    "rls_watchers": (2,),
    "silo": (6,),
    "registrant": (3, 1),
    "rtpengine": (1,),
    "rtpproxy_sockets": (0,),
    "tls_mgm": (3,),
    "clusterer": (4,),
    "sip_trace": (5,),
    "sockets": (1,),
    "tcp_mgm": (1,),
    "cpl": (2,),
    "cachedb": (2,),
    "freeswitch": (1,),
}

_CREATE = re.compile(r"CREATE (TABLE|VIEW) (\w+)")
_DROP = re.compile(r"DROP VIEW IF EXISTS (\w+)")
_INDEX = re.compile(r"CREATE (?:UNIQUE )?INDEX \w+ ON (\w+)")


class SchemaMismatch(Exception):
    """A table of the database has a layout that we do not know; one line per table."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a schema file: which table, view or index it makes, if it makes one."""

    sql: str
    kind: str
    name: str
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SchemaFile:
    """One numbered file."""

    number: int
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Present:
    """What a database holds: columns by table (lower case), views, version and file numbers."""

    tables: Mapping[str, frozenset[str]]
    views: frozenset[str] = frozenset()
    versions: Mapping[str, int] | None = None
    applied: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, in order, and one line for each thing that it adds to an existing database."""

    statements: tuple[tuple[str, tuple[object, ...]], ...]
    added: tuple[str, ...]


@cache
def schema_files() -> tuple[SchemaFile, ...]:
    """All numbered files in order."""
    folder = resources.files("pbx.storage").joinpath("schema")
    files = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    return tuple(
        SchemaFile(int(entry.name.partition("_")[0]), _statements(entry.read_text("utf-8")))
        for entry in files
    )


def _statements(text: str) -> tuple[Statement, ...]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    parts = (part.strip() for part in "\n".join(lines).split(";\n"))
    return tuple(_statement(part.rstrip(";")) for part in parts if part)


def _statement(sql: str) -> Statement:
    if index := _INDEX.match(sql):
        return Statement(sql, "INDEX", index[1])
    if drop := _DROP.match(sql):
        return Statement(sql, "DROP", drop[1])
    create = _CREATE.match(sql)
    if create is None:
        return Statement(sql, "", "")
    if create[1] == "VIEW":
        return Statement(sql, "VIEW", create[2])
    lines = (line.strip().rstrip(",") for line in sql.splitlines()[1:-1])
    columns = tuple((line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line)
    return Statement(sql, "TABLE", create[2], columns)


def check_versions(present: Present) -> None:
    """Raises SchemaMismatch for a layout number that we do not know (spec 20, rule 2c)."""
    faults = [
        f"table {table}: layout version {found} found, {_expected(VERSIONS[table])} expected"
        for table, found in sorted((present.versions or {}).items())
        if table in VERSIONS and table in present.tables and found not in VERSIONS[table]
    ]
    newest = max(file.number for file in schema_files())
    if present.applied and max(present.applied) > newest:
        faults.append(
            f"table pbx_schema: schema file {max(present.applied)} found, {newest} expected:"
            " the database was used by a newer version"
        )
    if faults:
        raise SchemaMismatch("\n".join(faults))


def _expected(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers))


def plan(present: Present, dialect: Dialect) -> Plan:
    """What must be run to make the database complete. Raises SchemaMismatch."""
    check_versions(present)
    statements: list[tuple[str, tuple[object, ...]]] = []
    added: list[str] = []
    dropped: set[str] = set()
    for file in schema_files():
        made: set[str] = set()
        here = {statement.name for statement in file.statements if statement.kind == "TABLE"}
        for statement in file.statements:
            sql = dialect.translate(statement.sql)
            if statement.kind == "TABLE":
                if statement.name in present.tables:
                    for addition in _missing_columns(statement, present, dialect):
                        statements.append((addition, ()))
                        added.append(addition)
                    continue
                made.add(statement.name)
                added.append(f"table {statement.name}")
            elif statement.kind == "INDEX":
                if statement.name in here and statement.name not in made:
                    continue
                if statement.name not in here and file.number in present.applied:
                    continue
            elif statement.kind == "VIEW":
                known = statement.name in present.views and statement.name not in dropped
                if known or statement.name in present.tables:
                    continue
            elif statement.kind == "DROP":
                if file.number in present.applied or statement.name in present.tables:
                    continue
                dropped.add(statement.name)
            elif file.number in present.applied:
                continue
            statements.append((sql, ()))
        if file.number not in present.applied:
            statements.append(("INSERT INTO pbx_schema (number) VALUES (?)", (file.number,)))
    return Plan((*_schema_table_first(statements), *_version_rows(present)), tuple(added))


def unknown_columns(present: Present) -> tuple[str, ...]:
    """One line for each column that somebody else added to a table of ours."""
    lines: list[str] = []
    for file in schema_files():
        for statement in file.statements:
            found = present.tables.get(statement.name, frozenset())
            if statement.kind == "TABLE":
                more = found - {name.lower() for name, _ in statement.columns}
                lines += [
                    f"column {statement.name}.{name} is unknown and left alone"
                    for name in sorted(more)
                ]
    return tuple(lines)


def _schema_table_first(
    statements: Sequence[tuple[str, tuple[object, ...]]],
) -> list[tuple[str, tuple[object, ...]]]:
    return sorted(statements, key=lambda entry: entry[0].startswith("INSERT INTO pbx_schema"))


def _missing_columns(statement: Statement, present: Present, dialect: Dialect) -> list[str]:
    found = present.tables[statement.name]
    additions = []
    for name, kind in statement.columns:
        if name not in found:
            kind = dialect.translate(kind).replace(" PRIMARY KEY", "")
            if "DEFAULT" not in kind:
                kind = kind.replace(" NOT NULL", "")
            additions.append(f"ALTER TABLE {statement.name} ADD COLUMN {name} {kind}")
    return additions


def _version_rows(present: Present) -> list[tuple[str, tuple[object, ...]]]:
    known = present.versions or {}
    sql = "INSERT INTO version (table_name, table_version) VALUES (?, ?)"
    return [(sql, (table, numbers[0])) for table, numbers in VERSIONS.items() if table not in known]
