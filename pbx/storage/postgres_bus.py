"""What the nodes of a cluster say to each other, by NOTIFY of PostgreSQL, and what they count
together, in the table ``pbx_tally``: for clusters without Redis.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from pbx.errors import DatabaseError
from pbx.interfaces import IBus, IDatabase, ITally
from pbx.storage.postgres_link import Connection, Link, is_dead, libpq_options
from pbx.storage.urls import ServerURL

CHANNEL = "pbx_nodes"
#: Texts that may wait for the connection.
MAX_WAITING = 5000
#: Seconds that a call may wait for an answer before it goes on without.
PATIENCE = 0.5
_COLUMNS = ("key", "node", "name", "number")

#: Two statements in one transaction: no other node counts between the look and the change.
_TAKE = """
SELECT pg_advisory_xact_lock(hashtext(?));
WITH wanted AS (
    SELECT * FROM jsonb_to_recordset(?::jsonb) AS w(name text, number bigint, most bigint)
), others AS (
    SELECT w.name, coalesce(sum(t.number), 0) AS number
    FROM wanted w LEFT JOIN pbx_tally t ON t.key = ? AND t.name = w.name AND t.node <> ?
    GROUP BY w.name
), excess AS (
    SELECT 1 FROM wanted w JOIN others o ON o.name = w.name WHERE w.number + o.number > w.most
), done AS (
    INSERT INTO pbx_tally (key, node, name, number)
    SELECT ?, ?, name, number FROM wanted WHERE NOT EXISTS (SELECT 1 FROM excess)
    ON CONFLICT (key, node, name) DO UPDATE SET number = excluded.number
    RETURNING 1
)
SELECT name, number, (SELECT count(*) FROM excess) FROM others
"""


@implementer(IBus, ITally)
class PostgresBus:
    """One connection that listens and notifies; the numbers go through the pool of ``database``."""

    #: NOTIFY takes less than 8000 bytes.
    limit = 7900

    def __init__(self, url: ServerURL, database: IDatabase, reactor: IReactorTime) -> None:
        self.url = url.shown
        self._database = database
        self._reactor = reactor
        self._link = Link(reactor, libpq_options(url), self._ready, self._failed)
        self._waiting: deque[str] = deque()
        self._sending = False
        self._deliver: Callable[[str], None] = lambda text: None
        self._turn = DeferredLock()
        self.failures = 0
        self.trouble = "not connected"

    @property
    def connected(self) -> bool:
        """The connection is up."""
        return not self.trouble

    def start(self) -> Deferred[None]:
        """Begin to connect."""
        self._link.open()
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """No further text is passed on."""
        self._link.close()
        return succeed(None)

    def deliver_to(self, received: Callable[[str], None]) -> None:
        """Who hears what the nodes say."""
        self._deliver = received

    def publish(self, text: str) -> None:
        """Say it to all nodes."""
        if self.trouble or len(self._waiting) >= MAX_WAITING:
            return
        self._waiting.append(text)
        self._send()

    def reconnect(self) -> None:
        """Drop the connection; another one is made."""
        self._failed(None)
        self._link.drop()

    async def _ready(self, link: Link, connection: Connection) -> None:
        lost = connection.lost

        def gone() -> None:
            self._failed(None)
            lost()

        connection.lost = gone
        connection.addNotifyObserver(self._notified)
        await connection.run(f"LISTEN {CHANNEL}")
        self.trouble = ""

    def _failed(self, error: DatabaseError | None) -> None:
        self.trouble = error.message if error is not None else "connection lost"
        self._waiting.clear()

    def _notified(self, notify: Any) -> None:
        if notify.channel == CHANNEL:
            self._deliver(notify.payload)

    def _send(self) -> None:
        if not self._sending:
            self._sending = True
            Deferred.fromCoroutine(self._send_all()).addErrback(self._not_sent)

    async def _send_all(self) -> None:
        try:
            while self._waiting and self._link.connection is not None:
                texts = [self._waiting.popleft() for _ in range(min(len(self._waiting), 50))]
                calls = ", ".join(["pg_notify(%s, %s)"] * len(texts))
                params = tuple(part for text in texts for part in (CHANNEL, text))
                await self._link.connection.run(f"SELECT {calls}", params)
        finally:
            self._sending = False

    def _not_sent(self, failure: Any) -> None:
        if is_dead(failure.value):
            self.reconnect()

    # ITally

    def put(self, key: str, node: str, numbers: Mapping[str, int]) -> None:
        """These are the node's numbers now."""
        rows = [(key, node, name, number) for name, number in numbers.items()]
        self._in_turn(lambda: self._database.write("pbx_tally", _COLUMNS[:3], _COLUMNS, rows))

    def take(
        self, key: str, node: str, numbers: Mapping[str, int], limits: Mapping[str, int]
    ) -> Deferred[Mapping[str, int] | None]:
        """The same unless a sum gets too large."""
        wanted = [
            {"name": name, "number": number, "most": limits[name]}
            for name, number in numbers.items()
        ]
        params = (key, json.dumps(wanted), key, node, key, node)
        answer: Deferred[Mapping[str, int] | None] = Deferred()

        async def ask() -> None:
            others: Mapping[str, int] | None = None
            try:
                rows = await self._database.query(_TAKE, params)
                others = {name: int(number) for name, number, excess in rows if excess}
            finally:
                # One that comes too late is nobody's any more.
                if not answer.called:
                    answer.callback(others)

        self._in_turn(ask)
        return answer.addTimeout(PATIENCE, self._reactor, lambda result, seconds: None)

    def forget(self, key: str, node: str) -> None:
        """The node counts no more."""
        sql = "DELETE FROM pbx_tally WHERE key = ? AND node = ?"
        self._in_turn(lambda: self._database.execute(sql, (key, node)))

    def _in_turn(self, work: Callable[[], Awaitable[object]]) -> None:
        """One after the other, so that an older number does not come after a newer one."""

        async def do() -> None:
            try:
                await self._turn.run(lambda: Deferred.fromCoroutine(_awaited(work())))
            except DatabaseError:
                self.failures += 1

        Deferred.fromCoroutine(do())


async def _awaited(work: Awaitable[object]) -> None:
    await work
