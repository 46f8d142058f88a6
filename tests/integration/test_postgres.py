"""The PostgreSQL backend against a real server; and SQLite's thread with a real reactor."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.internet.task import deferLater
from twisted.protocols.portforward import (
    ProxyClient,
    ProxyClientFactory,
    ProxyFactory,
    ProxyServer,
)
from twisted.trial.unittest import TestCase

from pbx.errors import DatabaseError, Kind
from pbx.events import Events, TableChanged
from pbx.interfaces import IDatabase, IHealth, IStatistics
from pbx.storage.layout import schema_files
from pbx.storage.open import open_database
from pbx.storage.postgres import PostgresDatabase
from pbx.storage.sqlite import SQLiteDatabase
from pbx.storage.urls import server_url
from pbx.storage.watcher import TableWatcher
from pbx.storage.write_behind import WriteBehind
from tests.integration.servers import postgres_server
from tests.storage.database_rules import ACCOUNT, SUBSCRIBER, DatabaseRules, reactor_tests

CLOCK = IReactorTime(reactor)
_NUMBERS = itertools.count(1)


async def until(question: Callable[[], bool], patience: float = 15.0) -> None:
    """Wait until the answer is yes."""
    deadline = CLOCK.seconds() + patience
    while not question():
        if CLOCK.seconds() > deadline:
            raise AssertionError("it did not happen in time")
        await deferLater(CLOCK, 0.02)


class _ForgetfulClient(ProxyClient):
    """The server's side of a proxy that can lose answers."""

    lose_answers = False

    def dataReceived(self, data: bytes) -> None:
        if _ForgetfulClient.lose_answers:
            _ForgetfulClient.lose_answers = False
            assert self.transport is not None
            self.transport.loseConnection()
        else:
            super().dataReceived(data)


class _ForgetfulClientFactory(ProxyClientFactory):
    protocol = _ForgetfulClient


class _ForgetfulServer(ProxyServer):
    clientProtocolFactory = _ForgetfulClientFactory  # noqa: N815


class _ForgetfulFactory(ProxyFactory):
    protocol = _ForgetfulServer


@reactor_tests
class SQLiteThreadTests(DatabaseRules, TestCase):
    """The rules of `DatabaseRules` in a file, through the thread."""

    def setUp(self) -> Deferred[tuple[str, ...]]:  # type: ignore[override]
        database = SQLiteDatabase(os.path.abspath(self.mktemp()), CLOCK)
        self.database: IDatabase = database
        self.addCleanup(self.flushLoggedErrors)
        self.addCleanup(database.close)
        return database.start()

    async def test_many_at_once(self) -> None:
        """Operations are done in order."""
        results = [
            self.database.execute("INSERT INTO domain (domain) VALUES (?)", (f"d{number}",))
            for number in range(100)
        ]
        rows = await self.database.query("SELECT count(*) FROM domain")
        self.assertEqual(rows, [(100,)])
        for result in results:
            self.assertEqual(await result, 1)


class PostgresTestCase(TestCase):
    """One server for all tests, a new database for each test."""

    timeout = 100

    async def setUp(self) -> None:  # type: ignore[override]
        self.server = postgres_server()
        self.name = f"pbx{next(_NUMBERS)}"
        self.server.sql(f"CREATE DATABASE {self.name}")
        self.addCleanup(self.flushLoggedErrors)
        self.database: IDatabase = await self.opened()

    async def opened(self, **settings: float) -> IDatabase:
        url = server_url(self.server.url(self.name), 5432)
        database = PostgresDatabase(url, CLOCK, **settings)  # type: ignore[arg-type]
        self.addCleanup(database.close)
        await database.start()
        return database

    def sql(self, statement: str) -> str:
        return self.server.sql(statement, self.name)

    def behind(self, table: str, *columns: str) -> WriteBehind:
        return WriteBehind(self.database, CLOCK, table, (), columns, 0.05)


@reactor_tests
class PostgresRuleTests(DatabaseRules, PostgresTestCase):
    """The rules of `DatabaseRules`."""


class PostgresTests(PostgresTestCase):
    """What is different with a server."""

    async def test_open_by_url(self) -> None:
        """`open_database` knows the schemes; the password is not shown."""
        url = self.server.url(self.name).replace("pbx@", "pbx:se%40cret@")
        database = open_database(url, CLOCK)
        self.addCleanup(database.close)
        self.assertEqual(list(await database.start()), [])
        self.assertNotIn("cret", database.url)

    async def test_long_texts(self) -> None:
        """Informational columns are clipped, keys are not: their row is refused (rule 7)."""
        self.sql("ALTER TABLE acc ALTER callid TYPE varchar(64)")
        database = await self.opened()
        columns = ("method", "callid", "sip_reason", "time")
        row = ("INVITE", "c" * 100, "r" * 300, "2026-01-01 00:00:00")
        await database.write("acc", (), columns, [row])
        self.assertEqual(
            await database.query("SELECT length(callid), length(sip_reason) FROM acc"), [(64, 255)]
        )
        await database.write("subscriber", ACCOUNT, SUBSCRIBER, [("u" * 65, "d", "x")])
        self.assertEqual(await database.query("SELECT * FROM subscriber"), [])
        self.assertEqual(IStatistics(database).statistics()["sql:rows_dropped"], 1)

    async def test_fraction_in_integer_column(self) -> None:
        """Is rounded, as by any assignment."""
        columns = ("id", "username", "inc_time")
        await self.database.write("silo", ("id",), columns, [(1, "a", 1000.7)])
        self.assertEqual(await self.database.query("SELECT inc_time FROM silo"), [(1001,)])

    async def test_existing_database(self) -> None:
        """Tables of OpenSIPS stay as they are; what is missing is added and named."""
        self.server.sql(f"CREATE DATABASE {self.name}old")
        old = "".join(
            (
                "CREATE TABLE version (table_name VARCHAR(32) NOT NULL, table_version INTEGER",
                " DEFAULT 0 NOT NULL, CONSTRAINT version_t_name_idx UNIQUE (table_name));",
                "INSERT INTO version VALUES ('subscriber', 7), ('domain', 3);",
                "CREATE TABLE subscriber (id SERIAL PRIMARY KEY NOT NULL, username VARCHAR(64)",
                " DEFAULT '' NOT NULL, domain VARCHAR(64) DEFAULT '' NOT NULL, password",
                " VARCHAR(25) DEFAULT '' NOT NULL, ha1 VARCHAR(64) DEFAULT '' NOT NULL, CONSTRAINT",
                " subscriber_account_idx UNIQUE (username, domain));",
                "INSERT INTO subscriber VALUES (5, '1001', 'a', 'p', '')",
            )
        )
        self.server.sql(old, f"{self.name}old")
        database = PostgresDatabase(server_url(self.server.url(f"{self.name}old"), 5432), CLOCK)
        self.addCleanup(database.close)
        added = await database.start()
        self.assertIn(
            "ALTER TABLE subscriber ADD COLUMN ha1_sha256 varchar(64) NOT NULL DEFAULT ''", added
        )
        self.assertIn("table location", added)
        await database.execute("INSERT INTO subscriber (username) VALUES ('next')")
        self.assertEqual(
            await database.query("SELECT id FROM subscriber WHERE username = 'next'"), [(6,)]
        )
        self.assertEqual(
            await database.query("SELECT table_version FROM version WHERE table_name='subscriber'"),
            [(7,)],
        )

    async def test_two_nodes_start_at_once(self) -> None:
        """Both find the schema complete."""
        self.server.sql(f"CREATE DATABASE {self.name}two")
        url = server_url(self.server.url(f"{self.name}two"), 5432)
        nodes = [PostgresDatabase(url, CLOCK) for _ in range(2)]
        starts = [node.start() for node in nodes]
        for node, start in zip(nodes, starts, strict=True):
            await start
            self.addCleanup(node.close)
        rows = await nodes[0].query("SELECT count(*) FROM pbx_schema")
        self.assertEqual(rows, [(len(schema_files()),)])
        rows = await nodes[1].query("SELECT count(*) FROM pbx_tally")
        self.assertEqual(rows, [(0,)])

    async def test_changes_are_heard_at_once(self) -> None:
        """An INSERT by another program is an event within a second, by NOTIFY."""
        heard: list[str] = []
        events = Events()
        events.subscribe(TableChanged, lambda event: heard.append(event.table))
        watcher = TableWatcher(self.database, events, CLOCK, ("subscriber", "domain"), 60.0)
        await watcher.start()
        self.addCleanup(watcher.stop)
        await until(lambda: len(heard) == 2)
        heard.clear()
        self.sql("INSERT INTO subscriber (username, domain) VALUES ('1001', 'a')")
        self.sql("INSERT INTO dispatcher (setid) VALUES (1)")
        await until(lambda: heard == ["subscriber"], 1.0)

    async def test_changes_are_polled_without_the_right_to_triggers(self) -> None:
        """The fall-back: counters of the server's statistics."""
        self.sql("CREATE ROLE weak LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO weak")
        self.addCleanup(lambda: self.sql("DROP OWNED BY weak; DROP ROLE weak"))
        url = self.server.url(self.name).replace("pbx@", "weak@")
        database = PostgresDatabase(server_url(url, 5432), CLOCK)
        await database.start()
        heard: list[str] = []
        events = Events()
        events.subscribe(TableChanged, lambda event: heard.append(event.table))
        watcher = TableWatcher(database, events, CLOCK, ("subscriber", "domain"), 0.2)
        await watcher.start()
        self.sql("INSERT INTO domain (domain) VALUES ('a')")
        await until(lambda: heard == ["domain"], 5.0)
        await watcher.stop()
        await database.close()


class FaultTests(PostgresTestCase):
    """The server fails and comes back."""

    async def test_restart(self) -> None:
        """Changes wait and are written when it is back, none twice; health says why."""
        queue = self.behind("acc", "method", "callid", "time")
        for number in range(300):
            if number == 100:
                self.server.stop()
            if number == 200:
                self.assertEqual(IHealth(self.database).health()[0], "degraded")
                self.assertNotEqual(self.database.trouble, "")
                with self.assertRaises(DatabaseError) as raised:
                    await self.database.query("SELECT 1")
                self.assertIs(raised.exception.kind, Kind.UNAVAILABLE)
                self.server.start()
            queue.insert(("INVITE", f"call-{number}", "2026-01-01 00:00:00"))
            await deferLater(CLOCK, 0.004)
        await until(lambda: queue.waiting == 0, 30)
        self.assertEqual(self.sql("SELECT count(*), count(DISTINCT callid) FROM acc"), "300|300")
        self.assertEqual(IHealth(self.database).health(), ("ok", ""))
        self.assertEqual(queue.dropped, 0)

    async def test_killed_backends_lose_and_repeat_nothing(self) -> None:
        """Connections are cut in the middle of batches."""
        queue = self.behind("acc", "method", "callid", "time")
        for number in range(600):
            queue.insert(("INVITE", f"call-{number}", "2026-01-01 00:00:00"))
            if number % 60 == 0:
                self.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                    " application_name = 'pbx' AND datname = current_database()"
                )
            await deferLater(CLOCK, 0.003)
        await until(lambda: queue.waiting == 0, 30)
        self.assertEqual(self.sql("SELECT count(*), count(DISTINCT callid) FROM acc"), "600|600")

    async def test_lost_answer(self) -> None:
        """Rows that were committed when the connection broke are not inserted again."""
        factory: Any = _ForgetfulFactory("127.0.0.1", self.server.port)
        proxy = IReactorTCP(reactor).listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(proxy.stopListening)
        host = proxy.getHost()
        assert isinstance(host, IPv4Address)
        url = server_url(f"postgresql://pbx@127.0.0.1:{host.port}/{self.name}", 5432)
        self.database = PostgresDatabase(url, CLOCK, connections=1)
        self.addCleanup(self.database.close)
        await self.database.start()
        queue = self.behind("acc", "method", "callid", "time")
        queue.insert(("INVITE", "call-1", "2026-01-01 00:00:00"))
        _ForgetfulClient.lose_answers = True
        await queue.flush()
        self.assertEqual((queue.waiting, self.database.available), (1, False))
        self.assertEqual(self.sql("SELECT count(*) FROM acc"), "1")
        queue.insert(("INVITE", "call-2", "2026-01-01 00:00:00"))
        await until(lambda: queue.waiting == 0)
        self.assertEqual(self.sql("SELECT callid FROM acc ORDER BY 1"), "call-1\ncall-2")

    async def test_hanging_server(self) -> None:
        """An operation without an answer is given up; the next ones work when it goes on."""
        database = await self.opened(timeout=1.0, connections=1)
        backend = await database.query("SELECT pg_backend_pid()")
        os.kill(backend[0][0], signal.SIGSTOP)
        try:
            with self.assertRaises(DatabaseError) as raised:
                await database.query("SELECT 1")
            self.assertEqual(
                (raised.exception.kind, raised.exception.message),
                (Kind.UNAVAILABLE, "no answer in time"),
            )
        finally:
            os.kill(backend[0][0], signal.SIGCONT)
        await until(lambda: database.available)
        self.assertEqual(await database.query("SELECT 1"), [(1,)])

    async def test_slow_queries_are_counted(self) -> None:
        """And bounded in number while they last."""
        database = await self.opened(slow=0.1, connections=1, limit=2)
        slow = [database.query("SELECT 1 FROM pg_sleep(0.3)") for _ in range(3)]
        with self.assertRaises(DatabaseError) as raised:
            await database.query("SELECT 1")
        self.assertEqual(raised.exception.message, "too many operations wait")
        for result in slow:
            self.assertEqual(await result, [(1,)])
        self.assertEqual(IStatistics(database).statistics()["sql:slow_queries"], 3)

    async def test_no_server_at_start(self) -> None:
        """`start` fails with the reason after its patience; connecting goes on."""
        self.server.stop()
        try:
            url = server_url(self.server.url(self.name), 5432)
            database = PostgresDatabase(url, CLOCK, patience=0.5)
            self.addCleanup(database.close)
            with self.assertRaises(DatabaseError) as raised:
                await database.start()
            self.assertIn("refused", raised.exception.message)
        finally:
            self.server.start()
        await until(lambda: database.available)
        self.assertEqual(list(await database.start()), [])

    async def test_read_only_server(self) -> None:
        """A standby takes no rows: they wait."""
        self.server.sql(f"ALTER DATABASE {self.name} SET default_transaction_read_only = on")
        database = await self.opened_without_start()
        with self.assertRaises(DatabaseError) as raised:
            await database.write("subscriber", ACCOUNT, SUBSCRIBER, [("a", "b", "c")])
        self.assertIs(raised.exception.kind, Kind.FULL)

    async def opened_without_start(self) -> IDatabase:
        """Started, before its connections were made read-only, is not what we want here."""
        self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'pbx' AND datname = current_database()"
        )
        await until(lambda: not self.database.available)
        await until(lambda: self.database.available)
        return self.database
