"""PostgreSQL for a server that is measured, and its subscribers."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg2
from psycopg2.extras import execute_batch

PORT = 27064
SCHEMAS = Path("/usr/share/kamailio/postgres")
TABLES = ("standard", "auth_db", "usrloc", "domain", "dialog", "acc", "dispatcher")


class PostgreSQL:
    """A server with a data folder of its own; ``pid`` is the postmaster."""

    def __init__(self, folder: Path, port: int = PORT) -> None:
        self._port = port
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        data = folder / "postgres"
        data.mkdir()
        user = None
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres").pw_name
            os.chown(data, pwd.getpwnam("postgres").pw_uid, -1)
        subprocess.run(
            [str(programs / "initdb"), "-D", str(data), "-U", "bench", "-A", "trust", "-N"],
            check=True,
            stdout=subprocess.DEVNULL,
            user=user,
            cwd="/",
        )
        with (folder / "postgres.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(str(programs / "postgres"), "-D", str(data), "-p", str(port)),
                    *("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={data}"),
                ],
                stdout=log,
                stderr=log,
                user=user,
                cwd="/",
            )
        self.pid = self._process.pid
        for _ in range(100):
            with contextlib.suppress(psycopg2.OperationalError):
                psycopg2.connect(self.url("postgres")).close()
                return
            time.sleep(0.1)
        raise RuntimeError("PostgreSQL does not start")

    def url(self, name: str) -> str:
        """Of one of its databases."""
        return f"postgres://bench@127.0.0.1:{self._port}/{name}"

    def create(self, name: str) -> str:
        """The URL of a new database."""
        connection = psycopg2.connect(self.url("postgres"))
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        connection.close()
        return self.url(name)

    def stop(self) -> None:
        """By its PID."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def insert(url: str, statements: Sequence[tuple[str, Sequence[Sequence[object]]]]) -> None:
    """Execute each statement for all its rows."""
    if url.startswith("sqlite:"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:"))) as database:
            for sql, rows in statements:
                database.executemany(sql, rows)
            database.commit()
        return
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        for sql, rows in statements:
            # Many in one message.
            execute_batch(cursor, sql.replace("?", "%s"), rows, page_size=500)
    connection.close()


def count_rows(url: str, tables: Sequence[str], since: str = "") -> dict[str, int]:
    """How many rows these tables have; modified ``since`` that moment, when it is given."""
    counts: dict[str, int] = {}
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        for table in tables:
            where = " WHERE last_modified >= %s" if since else ""
            cursor.execute(f"SELECT count(*) FROM {table}{where}", (since,) if since else None)
            found = cursor.fetchone()
            counts[table] = found[0] if found else 0
    connection.close()
    return counts


def _users(users: int, domain: str, password: str) -> list[tuple[str, str, str]]:
    return [(f"u{at:06d}", domain, password) for at in range(users)]


def fill_pbx(
    project: Path, url: str, users: int, domain: str, password: str, node_port: int
) -> None:
    """Our schema, subscribers and one node."""
    subprocess.run(
        [sys.executable, "-m", "bench.make_schema", url], cwd=project, check=True, timeout=60
    )
    insert(
        url,
        [
            (
                "INSERT INTO subscriber (username, domain, password) VALUES (?, ?, ?)",
                _users(users, domain, password),
            ),
            (
                "INSERT INTO load_balancer (group_id, dst_uri, resources, probe_mode) "
                "VALUES (1, ?, 'pstn=100000', 0)",
                [(f"sip:127.0.0.1:{node_port}",)],
            ),
        ],
    )


def fill_kamailio(url: str, users: int, domain: str, password: str) -> None:
    """Its own schema from Debian's package, subscribers and the domain."""
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        for name in TABLES:
            cursor.execute((SCHEMAS / f"{name}-create.sql").read_text())
    connection.close()
    insert(
        url,
        [
            (
                "INSERT INTO subscriber (username, domain, password) VALUES (?, ?, ?)",
                _users(users, domain, password),
            ),
            ("INSERT INTO domain (domain) VALUES (?)", [(domain,)]),
        ],
    )
