"""PostgreSQL through txpostgres: a few connections that come back by themselves.

While no connection is up every operation fails at once with `Kind.UNAVAILABLE`: nobody waits for a
server that is away. Timestamps are texts, bytea columns bytes, as with SQLite.
"""

from __future__ import annotations

import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pbx.errors import DatabaseError, Kind
from pbx.interfaces import IChangeSource, IDatabase, IHealth, IMetrics, IStatistics
from pbx.metrics import Metric
from pbx.storage import dialect, layout, postgres_sql
from pbx.storage.batches import Batch, write_surviving
from pbx.storage.condition import Condition
from pbx.storage.postgres_link import (
    Connection,
    Interaction,
    Link,
    database_error,
    is_dead,
    libpq_options,
)
from pbx.storage.urls import ServerURL

ResultT = TypeVar("ResultT")
Row = tuple[Any, ...]


@implementer(IDatabase, IChangeSource, IHealth, IStatistics, IMetrics)
class PostgresDatabase:
    """A pool of ``connections``, and one more that listens for changes.

    At most ``limit`` operations wait for a connection; one that takes longer than ``timeout``
    seconds is given up with its connection; `start` waits ``patience`` seconds for the server.
    """

    log = Logger()
    dialect = "postgres"

    def __init__(
        self,
        url: ServerURL,
        reactor: IReactorTime,
        connections: int = 3,
        limit: int = 1000,
        timeout: float = 15.0,
        slow: float = 1.0,
        patience: float = 10.0,
    ) -> None:
        self.url = url.shown
        self._reactor = reactor
        self._limit = limit
        self._timeout = timeout
        self._slow = slow
        self._patience = patience
        self._condition = Condition(f"database {self.url}")
        self._options = libpq_options(url)
        self._links = [
            Link(reactor, self._options, self._connected, self._disconnected)
            for _ in range(connections)
        ]
        self._free: deque[tuple[Link, Connection]] = deque()
        self._wanting: deque[Deferred[tuple[Link, Connection]]] = deque()
        self._busy = 0
        self._closing: Deferred[None] | None = None
        self._doubtful: dict[int, str] = {}
        self._tables: dict[str, postgres_sql.Table] = {}
        self._listener: Link | None = None
        self._watched: tuple[str, ...] = ()
        self._changed: Callable[[str], None] = lambda table: None
        self._opened = False
        self._probing = False
        self.pushes = False

    @property
    def available(self) -> bool:
        """The last operation did not fail for want of the server."""
        return self._condition.available

    @property
    def prompt(self) -> bool:
        """It is available and answers soon."""
        return self._condition.available and not self._condition.lag

    @property
    def trouble(self) -> str:
        """Why it is not available."""
        return self._condition.trouble

    def start(self) -> Deferred[tuple[str, ...]]:
        """Connect and complete the schema: what was added to an existing database. Fails with
        DatabaseError or SchemaMismatch; connecting goes on in the background.
        """
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> tuple[str, ...]:
        if not self._opened:
            self._opened = True
            for link in self._links:
                link.open()
        if not self._free:
            first: Deferred[tuple[Link, Connection]] = Deferred()
            self._wanting.append(first)
            first.addTimeout(self._patience, self._reactor)
            try:
                await self._freed(*await first)
            except Exception:
                why = self.trouble or "no answer in time"
                raise DatabaseError(Kind.UNAVAILABLE, why) from None
        try:
            added = await self._ensure_schema()
        except DatabaseError as error:
            # Another node may have made the tables between our look and our statements.
            if not error.refused:
                raise
            added = await self._ensure_schema()
        await self._run_sql(postgres_sql.resynchronise(), None)
        await self._run_sql(postgres_sql.FORGET, None)
        return added

    async def _ensure_schema(self) -> tuple[str, ...]:
        present = await self._read_catalogue()
        plan = layout.plan(present, dialect.POSTGRES)

        async def apply(connection: Connection) -> None:
            await connection.run("BEGIN")
            try:
                for sql, params in plan.statements:
                    await connection.run(postgres_sql.translate(sql), params)
                await connection.run("COMMIT")
            except Exception:
                await connection.run("ROLLBACK")
                raise

        if plan.statements:
            await self._run(apply)
            await self._read_catalogue()
        return (*plan.added, *layout.unknown_columns(present)) if present.tables else ()

    async def _read_catalogue(self) -> layout.Present:
        columns = await self._run_sql(postgres_sql.COLUMNS, None)
        unique: dict[str, set[frozenset[str]]] = defaultdict(set)
        for table, names in await self._run_sql(postgres_sql.UNIQUE_KEYS, None):
            unique[table].add(frozenset(names))
        types: dict[str, dict[str, str]] = defaultdict(dict)
        widths: dict[str, dict[str, int | None]] = defaultdict(dict)
        views = set()
        for table, column, kind, width, relation in columns:
            types[table][column] = kind
            widths[table][column] = width
            if relation == "v":
                views.add(table)
        self._tables = {
            table: postgres_sql.Table(types[table], widths[table], frozenset(unique[table]))
            for table in types
        }
        present = {table: frozenset(types[table]) for table in types if table not in views}
        versions = applied = []
        if "version" in present:
            versions = await self._run_sql("SELECT table_name, table_version FROM version", None)
        if "pbx_schema" in present:
            applied = await self._run_sql("SELECT number FROM pbx_schema", None)
        return layout.Present(
            present, frozenset(views), dict(versions), frozenset(row[0] for row in applied)
        )

    def query(self, sql: str, params: Sequence[object] = ()) -> Deferred[list[Row]]:
        """The rows of a SELECT."""
        return self._run_sql(postgres_sql.translate(sql), dialect.clean_row(params))

    def execute(self, sql: str, params: Sequence[object] = ()) -> Deferred[int]:
        """A statement; the number of rows it touched."""

        async def statement(connection: Connection) -> int:
            cursor = await connection.run(postgres_sql.translate(sql), dialect.clean_row(params))
            return max(int(cursor.rowcount), 0)

        return self._run(statement)

    def write(
        self,
        table: str,
        key: Sequence[str],
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        deletes: Sequence[Sequence[object]] = (),
    ) -> Deferred[None]:
        """Deletes, then upserts, all in one round trip; a row that is refused is dropped alone."""
        return Deferred.fromCoroutine(self._write(table, key, columns, Batch(rows, deletes)))

    async def _write(
        self, table: str, key: Sequence[str], columns: Sequence[str], batch: Batch
    ) -> None:
        if table not in self._tables:
            await self._read_catalogue()
        known = self._tables.get(table) or postgres_sql.Table({}, {}, frozenset())

        async def attempt(part: Batch) -> None:
            sql, params = postgres_sql.write_statement(
                table, known, key, columns, part.rows, part.deletes
            )
            if key:
                await self._run_sql(sql, params)
            else:
                await self._insert_once(sql, params)

        clipped = dialect.CLIPPED.get(table, set())
        widths = [
            known.widths.get(column) if column in clipped and column not in key else None
            for column in columns
        ]
        await write_surviving(table, batch, attempt, self._condition, widths)

    async def _insert_once(self, sql: str, params: tuple[object, ...]) -> None:
        """Insert rows without a key. When the connection is lost before the answer, nobody knows
        whether they were committed: a token that is written with them tells the next attempt.
        """
        identity = hash((sql, params))
        token = self._doubtful.get(identity, "")
        if token and await self._run_sql(postgres_sql.WAS_COMMITTED, (token,)):
            del self._doubtful[identity]
            return
        token = str(uuid.uuid4())
        try:
            await self._run_sql(postgres_sql.REMEMBER + sql, (token, *params))
            self._doubtful.pop(identity, None)
        except DatabaseError as error:
            if not error.refused:
                self._doubtful[identity] = token
            raise

    def watch(self, tables: Sequence[str], changed: Callable[[str], None]) -> Deferred[None]:
        """Install triggers that send NOTIFY and listen; without the right to, polling has to do."""
        self._watched = tuple(tables)
        self._changed = changed
        return Deferred.fromCoroutine(self._watch())

    async def _watch(self) -> None:
        try:
            await self._run_sql(postgres_sql.trigger_statements(self._watched), None, fetch=False)
        except DatabaseError as error:
            if not error.refused:
                raise
            self.log.warn(
                "triggers cannot be installed, changes are polled: {why}", why=error.message
            )
            return
        if self._listener is None:
            self._listener = Link(self._reactor, self._options, self._listening, self._deaf)
            self._listener.open()

    async def _listening(self, link: Link, connection: Connection) -> None:
        lost = connection.lost

        def deaf() -> None:
            self.pushes = False
            lost()

        connection.lost = deaf
        connection.addNotifyObserver(self._notified)
        await connection.run(f"LISTEN {postgres_sql.CHANNEL}")
        self.pushes = True
        # Nobody told us what changed before this connection was up.
        for table in self._watched:
            self._changed(table)

    def _deaf(self, error: DatabaseError) -> None:
        self.pushes = False

    def _notified(self, notify: Any) -> None:
        if notify.channel == postgres_sql.CHANNEL and notify.payload in self._watched:
            self._changed(notify.payload)
            self._run_sql(postgres_sql.resynchronise(notify.payload), None, fetch=False).addErrback(
                lambda failure: None
            )

    def _probe_listener(self) -> None:
        """A connection that only listens would not notice that its server is gone."""
        link = self._listener
        if link is None or link.connection is None or not self.pushes or self._probing:
            return

        connection = link.connection

        def silent() -> None:
            if link.connection is connection:
                self.pushes = False
                link.drop()

        def answered(result: object) -> None:
            self._probing = False
            if limit.active():
                limit.cancel()
            if isinstance(result, Failure):
                silent()

        self._probing = True
        limit = self._reactor.callLater(self._timeout, silent)

        Deferred.fromCoroutine(connection.run("SELECT 1")).addBoth(answered)

    def change_marks(self, tables: Sequence[str]) -> Deferred[Mapping[str, object]]:
        """How many rows were ever changed, by table."""
        self._probe_listener()
        rows = self._run_sql(postgres_sql.CHANGE_MARKS, (list(tables),))
        return rows.addCallback(dict)

    def close(self) -> Deferred[None]:
        """After what was begun is done."""
        self._closing = Deferred()
        done = self._closing.addCallback(lambda _: self._close_links())
        self._close_when_idle()
        return done

    def _close_when_idle(self) -> None:
        if self._closing is not None and not self._busy and not self._closing.called:
            self._closing.callback(None)

    def _close_links(self) -> None:
        for link in (*self._links, *([self._listener] if self._listener else ())):
            link.close()
        self._free.clear()

    def health(self) -> tuple[str, str]:
        """("ok" | "degraded", why)."""
        return self._condition.health()

    def statistics(self) -> Mapping[str, int]:
        """Counters and gauges by name."""
        counts = self._condition.counts("sql")
        counts["sql:connections"] = sum(link.connection is not None for link in self._links)
        counts["sql:waiting"] = len(self._wanting)
        return counts

    def metrics(self) -> Iterable[Metric]:
        """How long it takes."""
        return self._condition.metrics()

    # The pool

    async def _connected(self, link: Link, connection: Connection) -> None:
        self._condition.worked()
        await self._freed(link, connection)

    def _disconnected(self, error: DatabaseError) -> None:
        if all(link.connection is None for link in self._links):
            self._condition.failed(error)

    async def _freed(self, link: Link, connection: Connection) -> None:
        """A connection is up or has done its work: the next who waits may have it."""
        if link.connection is not connection:
            return
        while self._wanting:
            wanting = self._wanting.popleft()
            if not wanting.called:
                wanting.callback((link, connection))
                return
        self._free.append((link, connection))

    def _acquire(self) -> Deferred[tuple[Link, Connection]]:
        while self._free:
            link, connection = self._free.popleft()
            if link.connection is connection:
                return succeed((link, connection))
        if all(link.connection is None for link in self._links):
            why = self.trouble or "not connected"
            return fail(DatabaseError(Kind.UNAVAILABLE, why))
        if len(self._wanting) >= self._limit:
            return fail(DatabaseError(Kind.UNAVAILABLE, "too many operations wait"))
        wanting: Deferred[tuple[Link, Connection]] = Deferred()
        self._wanting.append(wanting)
        return wanting.addTimeout(self._timeout, self._reactor)

    def _run_sql(
        self, sql: str, params: tuple[object, ...] | None, fetch: bool = True
    ) -> Deferred[list[Row]]:
        async def statement(connection: Connection) -> list[Row]:
            cursor = await connection.run(sql, params)
            if not fetch or cursor.description is None:
                return []
            rows: list[Row] = cursor.fetchall()
            return rows

        return self._run(statement)

    def _run(self, interaction: Interaction[ResultT]) -> Deferred[ResultT]:
        return Deferred.fromCoroutine(self._interact(interaction))

    async def _interact(self, interaction: Interaction[ResultT]) -> ResultT:
        self._condition.queries += 1
        try:
            link, connection = await self._acquire()
        except DatabaseError as error:
            self._condition.failed(error)
            raise
        except Exception as error:
            timeout = DatabaseError(Kind.UNAVAILABLE, "no connection was free in time")
            self._condition.failed(timeout)
            raise timeout from error
        self._busy += 1
        started = self._reactor.seconds()
        limit = self._reactor.callLater(self._timeout, link.drop)
        try:
            result = await interaction(connection)
        except Exception as error:
            translated = database_error(error)
            if not limit.active():
                translated = DatabaseError(Kind.UNAVAILABLE, "no answer in time")
            self._condition.failed(translated)
            if is_dead(error) and link.connection is connection:
                link.drop()
            raise translated from error
        else:
            self._condition.worked()
            return result
        finally:
            if limit.active():
                limit.cancel()
            self._condition.finished(self._reactor.seconds() - started, self._slow)
            self._busy -= 1
            await self._freed(link, connection)
            self._close_when_idle()
