"""A database in this process's memory, for tests and demonstrations."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from pbx.storage.sqlite import SQLiteDatabase


def memory_database(clock: IReactorTime) -> SQLiteDatabase:
    """An SQLite database in memory with its schema; every Deferred it gives has fired already."""
    database = SQLiteDatabase(":memory:", clock)
    database.start()
    return database
