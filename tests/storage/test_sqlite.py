"""SQLite in memory and in a file, done at once; threads are tested in tests/integration."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pbx.errors import DatabaseError, Kind
from pbx.storage.layout import SchemaMismatch
from pbx.storage.memory import memory_database
from pbx.storage.sqlite import SQLiteDatabase
from tests.storage.database_rules import ACCOUNT, SUBSCRIBER, DatabaseRules, sync_result


class MemoryTests(DatabaseRules, SynchronousTestCase):
    """The rules of `DatabaseRules`, in memory."""

    def setUp(self) -> None:
        self.database = memory_database(Clock())

    def test_rules(self) -> None:
        """Each rule, with a database of its own."""
        for name in vars(DatabaseRules):
            if name.startswith("rule_"):
                self.database = memory_database(Clock())
                sync_result(self, getattr(self, name)(self))
        self.flushLoggedErrors()


class FileTests(DatabaseRules, SynchronousTestCase):
    """The same in a file."""

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())
        self.database = self.opened()

    def opened(self) -> SQLiteDatabase:
        database = SQLiteDatabase(self.path, Clock(), busy_timeout=0.01)
        sync_result(self, database.start())
        self.addCleanup(database.close)
        return database

    def other(self, *statements: str) -> None:
        """Another program works on the file."""
        connection = sqlite3.connect(self.path)
        for sql in statements:
            connection.execute(sql)
        connection.commit()
        connection.close()

    def failure(self, database: SQLiteDatabase) -> DatabaseError:
        """How a write fails."""
        row = ("1001", "pbx.example", "x")
        failure = self.failureResultOf(
            database.write("subscriber", ACCOUNT, SUBSCRIBER, [row]), DatabaseError
        )
        error: DatabaseError = failure.value
        return error

    def test_rules(self) -> None:
        """Each rule, with a file of its own."""
        for name in vars(DatabaseRules):
            if name.startswith("rule_"):
                self.path = os.path.abspath(self.mktemp())
                self.database = self.opened()
                sync_result(self, getattr(self, name)(self))
        self.flushLoggedErrors()

    def test_folder_is_made(self) -> None:
        """The folder of the file need not exist."""
        database = SQLiteDatabase(os.path.join(self.mktemp(), "var", "pbx.db"), Clock())
        self.assertEqual(sync_result(self, database.start()), ())

    def test_rows_survive(self) -> None:
        """What was written is there for the next process."""
        sync_result(self, self.database.execute("INSERT INTO domain (domain) VALUES ('a')"))
        self.assertEqual(
            sync_result(self, self.opened().query("SELECT domain FROM domain")), [("a",)]
        )

    def test_locked(self) -> None:
        """Another program keeps it locked: unavailable, and fine again afterwards."""
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert isinstance(self.database, SQLiteDatabase)
        error = self.failure(self.database)
        self.assertIs(error.kind, Kind.UNAVAILABLE)
        self.assertFalse(self.database.available)
        self.assertEqual(
            self.database.health(),
            ("degraded", f"database sqlite:{self.path}: database is locked"),
        )
        other.execute("ROLLBACK")
        other.close()
        row = ("1001", "pbx.example", "x")
        sync_result(self, self.database.write("subscriber", ACCOUNT, SUBSCRIBER, [row]))
        self.assertEqual(self.database.health(), ("ok", ""))

    def test_full(self) -> None:
        """No room: reads go on, writes fail with `Kind.FULL`."""
        assert isinstance(self.database, SQLiteDatabase)
        ((pages,),) = sync_result(self, self.database.query("PRAGMA page_count"))
        sync_result(self, self.database.query(f"PRAGMA max_page_count = {pages}"))
        rows: Sequence[Sequence[object]] = [
            (f"user{number}", "pbx.example", "x" * 100) for number in range(2000)
        ]
        failure = self.failureResultOf(
            self.database.write("subscriber", ACCOUNT, SUBSCRIBER, rows), DatabaseError
        )
        self.assertIs(failure.value.kind, Kind.FULL)
        self.assertFalse(self.database.available)
        self.assertEqual(sync_result(self, self.database.query("SELECT * FROM subscriber")), [])

    def test_not_a_database(self) -> None:
        """A file of something else is unavailable with a reason, not an exception."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(b"this is no database" * 100)
        database = SQLiteDatabase(path, Clock())
        error = self.failureResultOf(database.start(), DatabaseError).value
        self.assertIs(error.kind, Kind.UNAVAILABLE)
        self.assertEqual(database.trouble, "file is not a database")

    def test_folder_instead_of_file(self) -> None:
        """Neither is a folder."""
        path = self.mktemp()
        os.mkdir(path)
        error = self.failureResultOf(SQLiteDatabase(path, Clock()).start(), DatabaseError).value
        self.assertEqual((error.kind, error.message), (Kind.UNAVAILABLE, f"{path} is not a file"))

    def test_unknown_version(self) -> None:
        """A layout that we do not know stops the start, with table and numbers (rule 2c)."""
        self.other("UPDATE version SET table_version = 99 WHERE table_name = 'dialog'")
        error = self.failureResultOf(self.database.start(), SchemaMismatch).value
        self.assertEqual(
            str(error), "table dialog: layout version 99 found, 12 or 10 or 11 expected"
        )

    def test_newer_schema(self) -> None:
        """A database that a newer version of ours has used is not touched."""
        self.other("INSERT INTO pbx_schema (number) VALUES (9999)")
        error = self.failureResultOf(self.database.start(), SchemaMismatch).value
        self.assertIn("table pbx_schema: schema file 9999 found", str(error))

    def test_changes_of_others_are_counted(self) -> None:
        """Whoever changes a watched table changes its mark."""
        assert isinstance(self.database, SQLiteDatabase)
        tables = ("subscriber", "domain")
        sync_result(self, self.database.watch(tables, lambda table: None))
        before = sync_result(self, self.database.change_marks(tables))
        self.other(
            "INSERT INTO subscriber (username) VALUES ('1001')",
            "UPDATE subscriber SET password = 'x'",
            "DELETE FROM subscriber",
        )
        after = sync_result(self, self.database.change_marks(tables))
        self.assertEqual((before, after), ({}, {"subscriber": 3}))


class ExistingTests(SynchronousTestCase):
    """A database that OpenSIPS made."""

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())
        connection = sqlite3.connect(self.path)
        connection.executescript(
            """
            CREATE TABLE version (table_name CHAR(32) NOT NULL, table_version INTEGER DEFAULT 0,
                CONSTRAINT version_t_name_idx UNIQUE (table_name));
            INSERT INTO version VALUES ('domain', 3), ('subscriber', 7), ('stranger', 1);
            CREATE TABLE domain (id INTEGER PRIMARY KEY AUTOINCREMENT, domain CHAR(64) NOT NULL,
                attrs CHAR(255), last_modified DATETIME NOT NULL);
            CREATE TABLE subscriber (id INTEGER PRIMARY KEY AUTOINCREMENT, username CHAR(64),
                domain CHAR(64), password CHAR(25), ha1 CHAR(64), ha1b CHAR(64),
                email_address CHAR(64), rpid CHAR(64), CONSTRAINT a UNIQUE (username, domain));
            INSERT INTO subscriber (username, domain, password) VALUES ('1001', 'a', 'secret');
            """
        )
        connection.close()
        self.database = SQLiteDatabase(self.path, Clock())
        self.addCleanup(self.database.close)

    def test_only_what_is_missing_is_added(self) -> None:
        """Columns and tables are added and named; version rows stay (rule 2b)."""
        added = sync_result(self, self.database.start())
        self.assertIn("table location", added)
        self.assertNotIn("table subscriber", added)
        self.assertEqual(
            [line for line in added if line.startswith("ALTER")],
            [
                "ALTER TABLE subscriber ADD COLUMN ha1_sha256 varchar(64) NOT NULL DEFAULT ''",
                "ALTER TABLE subscriber ADD COLUMN ha1_sha512t256 varchar(64) NOT NULL DEFAULT ''",
                "ALTER TABLE domain ADD COLUMN accept_subdomain integer NOT NULL DEFAULT 0",
            ],
        )
        versions = dict(
            sync_result(self, self.database.query("SELECT table_name, table_version FROM version"))
        )
        self.assertEqual(
            [versions[name] for name in ("domain", "subscriber", "stranger", "location")],
            [3, 7, 1, 1013],
        )
        self.assertEqual(
            sync_result(self, self.database.query("SELECT password, ha1_sha256 FROM subscriber")),
            [("secret", "")],
        )

    def test_upsert_uses_their_keys(self) -> None:
        """A unique constraint of the table backs the key."""
        sync_result(self, self.database.start())
        row = ("1001", "a", "changed")
        sync_result(self, self.database.write("subscriber", ACCOUNT, SUBSCRIBER, [row]))
        self.assertEqual(
            sync_result(self, self.database.query("SELECT id, password FROM subscriber")),
            [(1, "changed")],
        )
