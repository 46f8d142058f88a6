"""One SQLite connection, used from one thread: the synchronous half of both SQLite backends."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pbx.errors import DatabaseError, Kind
from pbx.storage import dialect, layout

Row = tuple[Any, ...]

_SYSTEM_TABLES = "sqlite_"
_KINDS = {
    sqlite3.SQLITE_FULL: Kind.FULL,
    sqlite3.SQLITE_READONLY: Kind.FULL,
    sqlite3.SQLITE_IOERR: Kind.FULL,
    sqlite3.SQLITE_BUSY: Kind.UNAVAILABLE,
    sqlite3.SQLITE_LOCKED: Kind.UNAVAILABLE,
    sqlite3.SQLITE_CANTOPEN: Kind.UNAVAILABLE,
    sqlite3.SQLITE_CORRUPT: Kind.UNAVAILABLE,
    sqlite3.SQLITE_NOTADB: Kind.UNAVAILABLE,
    sqlite3.SQLITE_NOMEM: Kind.UNAVAILABLE,
    sqlite3.SQLITE_PERM: Kind.FULL,
    sqlite3.SQLITE_PROTOCOL: Kind.UNAVAILABLE,
}


def database_error(error: Exception) -> DatabaseError:
    """What an exception of sqlite3 means."""
    code = getattr(error, "sqlite_errorcode", None)
    kind = Kind.REFUSED if code is None else _KINDS.get(code & 0xFF, Kind.REFUSED)
    return DatabaseError(kind, str(error))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning, OverflowError, UnicodeError, ValueError) as error:
        raise database_error(error) from error


def _prepare(path: str) -> None:
    """Make the folder of the file; raises DatabaseError when the path is no file."""
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        regular = not os.path.exists(path) or stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        raise DatabaseError(Kind.UNAVAILABLE, f"{path}: {error.strerror}") from error
    if not regular:
        raise DatabaseError(Kind.UNAVAILABLE, f"{path} is not a file")


class Session:
    """One connection. Every method raises DatabaseError; a lost file is opened again."""

    def __init__(self, path: str, busy_timeout: float = 5.0, synchronous: str = "NORMAL") -> None:
        self._path = path
        self._busy_timeout = busy_timeout
        self._synchronous = synchronous
        self._connection: sqlite3.Connection | None = None
        self._unique: dict[str, set[frozenset[str]]] = {}

    @property
    def connection(self) -> sqlite3.Connection:
        """The open connection."""
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        memory = self._path == ":memory:"
        if not memory:
            _prepare(self._path)
        with _translated():
            connection = sqlite3.connect(
                self._path,
                timeout=self._busy_timeout,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                connection.execute("PRAGMA foreign_keys = OFF")
                if not memory:
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            except sqlite3.Error as error:
                # A read-only file cannot change its journal mode but answers reads.
                if database_error(error).kind is not Kind.FULL:
                    connection.close()
                    raise
            return connection

    def close(self) -> None:
        """Nothing when it is not open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with _translated():
                connection.close()

    def query(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        """The rows of a SELECT."""
        with _translated():
            return self.connection.execute(sql, _bindable(params)).fetchall()

    def execute(self, sql: str, params: Sequence[object] = ()) -> int:
        """A statement; the number of rows it touched."""
        with _translated():
            return max(self.connection.execute(sql, _bindable(params)).rowcount, 0)

    def write(
        self,
        table: str,
        key: Sequence[str],
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        deletes: Sequence[Sequence[object]],
    ) -> None:
        """Deletes and upserts in one transaction: all or nothing."""
        unique = not key or frozenset(key) in self._unique_keys(table)
        with self._transaction() as connection:
            if deletes:
                connection.executemany(dialect.sqlite_delete(table, key), deletes)
            if rows and not unique:
                places = dialect.key_positions(key, columns)
                doomed = [[row[place] for place in places] for row in rows]
                connection.executemany(dialect.sqlite_delete(table, key), doomed)
            if rows:
                connection.executemany(dialect.sqlite_insert(table, key, columns, unique), rows)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _translated():
            connection = self.connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _unique_keys(self, table: str) -> set[frozenset[str]]:
        """The sets of columns that an upsert may name."""
        known = self._unique.get(table)
        if known is None:
            known = set()
            info = self.query(f"PRAGMA table_info({table})")
            known.add(frozenset(row[1].lower() for row in info if row[5]))
            for index in self.query(f"PRAGMA index_list({table})"):
                if index[2] and not index[4]:
                    named = self.query(f"PRAGMA index_info({index[1]})")
                    known.add(frozenset(str(row[2]).lower() for row in named))
            if info:
                self._unique[table] = known
        return known

    def present(self) -> layout.Present:
        """What the database holds."""
        objects = self.query("SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view')")
        names = [name for kind, name in objects if kind == "table"]
        tables = {
            name.lower(): frozenset(
                row[1].lower() for row in self.query(f'PRAGMA table_info("{name}")')
            )
            for name in names
            if not name.startswith(_SYSTEM_TABLES)
        }
        versions: dict[str, int] = {}
        if "version" in tables:
            versions = dict(self.query("SELECT table_name, table_version FROM version"))
        applied: list[Row] = []
        if "pbx_schema" in tables:
            applied = self.query("SELECT number FROM pbx_schema")
        return layout.Present(
            tables,
            frozenset(name.lower() for kind, name in objects if kind == "view"),
            versions,
            frozenset(number for (number,) in applied),
        )

    def ensure_schema(self) -> tuple[str, ...]:
        """Make the schema complete; what was added to a database that was not empty. Raises
        SchemaMismatch.
        """
        present = self.present()
        plan = layout.plan(present, dialect.SQLITE)
        if plan.statements:
            with self._transaction() as connection:
                for sql, params in plan.statements:
                    connection.execute(sql, params)
        self._unique.clear()
        return (*plan.added, *layout.unknown_columns(present)) if present.tables else ()

    def watch(self, tables: Sequence[str]) -> None:
        """Let triggers count the changes of these tables, whoever makes them."""
        with self._transaction() as connection:
            for table in tables:
                for verb in ("INSERT", "UPDATE", "DELETE"):
                    connection.execute(dialect.sqlite_trigger(table, verb))

    def change_counts(self) -> dict[str, int]:
        """How often each watched table was changed."""
        return dict(self.query("SELECT table_name, counter FROM pbx_changes"))


def _bindable(params: Sequence[object]) -> Sequence[object]:
    for value in params:
        if isinstance(value, str) and not value.isascii():
            return dialect.clean_row(params)
    return params
