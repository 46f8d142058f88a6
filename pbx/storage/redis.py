"""Redis through txredisapi: nobody waits for it, and its failures fail nobody.

Commands go to one connection in order, as they come (Redis pipelines by itself). While it is away
the newest command of each key is kept, up to a bound, and sent when it is back.
"""

from __future__ import annotations

from collections.abc import Mapping

import txredisapi
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from pbx.errors import DatabaseError, Kind
from pbx.interfaces import ICache, IHealth, IStartable, IStatistics
from pbx.storage.condition import Condition
from pbx.storage.redis_link import LinkFactory, OneOfMany, is_demoted, trust_root
from pbx.storage.urls import ServerURL

#: A command that waits: value and the time it is good for (None: for ever); None deletes.
_Change = tuple[str, float | None] | None

#: Seconds after which an operation of the cache is one of the slow ones.
SLOW = 1.0


@implementer(ICache, IHealth, IStartable, IStatistics)
class RedisCache:
    """At most ``limit`` keys wait while Redis is away, and ``limit`` commands are under way; what
    comes beyond is dropped and counted. A reply must come within ``timeout`` seconds.
    """

    def __init__(
        self, url: ServerURL, clock: IReactorTime, limit: int = 50_000, timeout: float = 3.0
    ) -> None:
        # A bad file of certificates is told before anything starts.
        trust_root(url)
        self.url = url.shown
        self.dropped = 0
        self._parts = url
        self._clock = clock
        self._limit = limit
        self._condition = Condition(f"cache {self.url}")
        self._factory = LinkFactory(self, url, timeout)
        self._connection: txredisapi.RedisProtocol | None = None
        self._waiting: dict[str, _Change] = {}
        self._under_way = 0
        self._started = False

    def start(self) -> Deferred[None]:
        """Begin to connect; nobody waits for it."""
        if not self._started:
            self._started = True
            self._factory.startConnecting(OneOfMany(self._parts, self._clock))
        return succeed(None)

    def set(self, key: str, value: str, ttl: float | None = None) -> None:
        """Keep for ``ttl`` seconds, for ever when None."""
        self._send(key, (value, None if ttl is None else self._clock.seconds() + ttl))

    def delete(self, key: str) -> None:
        """Forget."""
        self._send(key, None)

    def get(self, key: str) -> Deferred[str | None]:
        """None when absent or out of reach."""
        if self._connection is None or self._under_way >= self._limit:
            return succeed(None)
        return self._began(self._connection.get(key)).addErrback(lambda failure: None)

    def stop(self) -> Deferred[None]:
        """After the commands under way are answered, or a second."""
        if not self._started:
            return succeed(None)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._connection is not None:
            last = self._began(self._connection.ping())
            last.addTimeout(1.0, self._clock).addErrback(lambda failure: None)
            await last
        await self._factory.disconnect()

    def health(self) -> tuple[str, str]:
        """("ok" | "degraded", why)."""
        if self._started and self._connection is None and self._condition.available:
            return "degraded", f"cache {self.url}: not connected"
        return self._condition.health()

    def statistics(self) -> Mapping[str, int]:
        """Counters and gauges by name."""
        return {
            "cdb:available": int(self._connection is not None),
            "cdb:queries": self._condition.queries,
            "cdb:slow_queries": self._condition.slow,
            "cdb:failures": self._condition.failures,
            "cdb:waiting": len(self._waiting) + self._under_way,
            "cdb:dropped": self.dropped,
        }

    # Its connection

    def connected(self, connection: txredisapi.RedisProtocol) -> None:
        """The connection is up: send what waits."""
        self._connection = connection
        self._condition.worked()
        waiting, self._waiting = self._waiting, {}
        for key, change in waiting.items():
            self._send(key, change)

    def refused(self, why: str) -> None:
        """Redis does not let us in; the next attempt follows."""
        self._condition.failed(DatabaseError(Kind.UNAVAILABLE, why))

    def disconnected(self) -> None:
        """The connection is gone; another one is being made."""
        if self._connection is not None:
            self._connection = None
            if not self._factory.stopped:
                self._condition.failed(DatabaseError(Kind.UNAVAILABLE, "connection lost"))

    def _send(self, key: str, change: _Change) -> None:
        connection = self._connection
        if connection is None:
            self._keep(key, change)
            return
        if self._under_way >= self._limit:
            self.dropped += 1
            return
        key = _encodable(key)
        if change is None:
            self._began(connection.delete(key)).addErrback(self._failed, key, change)
            return
        value, due = change
        value = _encodable(value)
        milliseconds = None
        if due is not None:
            milliseconds = int((due - self._clock.seconds()) * 1000)
            if milliseconds <= 0:
                return
        self._began(connection.set(key, value, pexpire=milliseconds)).addErrback(
            self._failed, key, change
        )

    def _keep(self, key: str, change: _Change) -> None:
        if key in self._waiting or len(self._waiting) < self._limit:
            self._waiting[key] = change
        else:
            self.dropped += 1

    def _began(self, reply: Deferred[str | None]) -> Deferred[str | None]:
        self._condition.queries += 1
        self._under_way += 1
        return reply.addBoth(self._ended, self._clock.seconds())

    def _ended(self, result: str | Failure | None, began: float) -> str | Failure | None:
        self._under_way -= 1
        self._condition.finished(self._clock.seconds() - began, SLOW)
        return result

    def _failed(self, failure: Failure, key: str, change: _Change) -> None:
        refused = failure.check(txredisapi.ResponseError) is not None  # type: ignore[no-untyped-call]
        if is_demoted(failure) and self._connection is not None:
            refused = False
            self._connection.transport.loseConnection()
        kind = Kind.REFUSED if refused else Kind.UNAVAILABLE
        self._condition.failed(DatabaseError(kind, str(failure.value) or "no answer in time"))
        if refused:
            self.dropped += 1
        else:
            self._keep(key, change)


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
