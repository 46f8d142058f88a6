"""Redis through txredisapi: nobody waits for it, and its failures fail nobody.

The newest change of each key waits: a moment while Redis is there, so that many go together, and
up to a bound while it is away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import txredisapi
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pbx.errors import DatabaseError, Kind
from pbx.interfaces import ICache, IHealth, IStartable, IStatistics
from pbx.storage.condition import Condition
from pbx.storage.redis_batch import (
    Change,
    Refusal,
    encodable,
    is_passing,
    send_singly,
    send_together,
)
from pbx.storage.redis_link import LinkFactory, OneOfMany, is_demoted, trust_root
from pbx.storage.urls import ServerURL

#: Seconds after which an operation of the cache is one of the slow ones.
SLOW = 1.0
#: Seconds that changes gather. Other programs read a contact so much later; at 1000 REGISTER/s some
#: 50 keys go together, and the command is a small part of what they cost.
GATHER = 0.05
#: Most keys of one batch: Redis serves nobody else for the 2 to 3 ms that they take.
MOST_KEYS = 500
#: A batch takes no further key when its values have so many characters.
MOST_CHARACTERS = 1_000_000
#: Most keys of a batch that go one by one: this process serves nobody else for the 1 to 2 ms.
MOST_SINGLE = 50
#: Seconds of pause after a failure: the first, doubled by each that follows, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
#: Seconds from one line about refused keys to the next: each REGISTER may bring one.
QUIET = 60.0
#: Seconds that stopping waits for what was not sent yet.
LAST = 1.0


@implementer(ICache, IHealth, IStartable, IStatistics)
class RedisCache:
    """At most ``limit`` keys wait, those under way included; what comes beyond is dropped and
    counted. One batch is under way at a time, so the changes of a key arrive in their order. A
    reply must come within ``timeout`` seconds.
    """

    log = Logger()

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
        self._waiting: dict[str, Change] = {}
        #: What is under way.
        self._batch: dict[str, Change] = {}
        self._reading = 0
        self._timer: IDelayedCall | None = None
        self._pause = 0.0
        self._together = True
        self._quiet_until = 0.0
        #: Somebody waits until nothing does.
        self._drained: Deferred[None] | None = None
        self._started = False

    def start(self) -> Deferred[None]:
        """Begin to connect; nobody waits for it."""
        if not self._started:
            self._started = True
            self._factory.startConnecting(OneOfMany(self._parts, self._clock))
        return succeed(None)

    def set(self, key: str, value: str, ttl: float | None = None) -> None:
        """Keep for ``ttl`` seconds, for ever when None."""
        self._keep(key, (value, None if ttl is None else self._clock.seconds() + ttl))

    def delete(self, key: str) -> None:
        """Forget."""
        self._keep(key, None)

    def get(self, key: str) -> Deferred[str | None]:
        """What is about to be there; None when absent or out of reach."""
        for changes in (self._waiting, self._batch):
            if key in changes:
                value, due = changes[key] or (None, None)
                over = due is not None and due <= self._clock.seconds()
                return succeed(None if over else value)
        connection = self._connection
        if connection is None or not connection.connected or self._reading >= self._limit:
            return succeed(None)
        self._reading += 1
        self._condition.queries += 1
        reply: Deferred[str | None] = connection.get(encodable(key))
        return reply.addBoth(self._read, self._clock.seconds())

    def stop(self) -> Deferred[None]:
        """After what waits is sent and answered, or a second."""
        if not self._started or self._factory.stopped:
            return succeed(None)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._connection is not None and self._busy:
            drained: Deferred[None] = Deferred()
            self._drained = drained
            drained.addTimeout(LAST, self._clock).addErrback(lambda failure: None)
            self._disarm()
            self._pause = 0.0
            self._arm(0.0)
            await drained
        await self._factory.disconnect()

    def health(self) -> tuple[str, str]:
        """("ok" | "degraded", why)."""
        if self._started and self._connection is None and self._condition.available:
            return "degraded", f"cache {self.url}: not connected"
        return self._condition.health()

    def statistics(self) -> Mapping[str, int]:
        """Counters and gauges by name; a batch is one query."""
        return {
            "cdb:available": int(self._connection is not None),
            "cdb:queries": self._condition.queries,
            "cdb:slow_queries": self._condition.slow,
            "cdb:failures": self._condition.failures,
            "cdb:waiting": len(self._waiting) + len(self._batch) + self._reading,
            "cdb:dropped": self.dropped,
        }

    # Its connection

    def connected(self, connection: txredisapi.RedisProtocol) -> None:
        """The connection is up: send what waits."""
        self._connection = connection
        self._together = True
        self._condition.worked()
        if self._waiting:
            self._arm(0.0)

    def refused(self, why: str) -> None:
        """Redis does not let us in; the next attempt follows."""
        self._condition.failed(DatabaseError(Kind.UNAVAILABLE, why))

    def disconnected(self) -> None:
        """The connection is gone; another one is being made."""
        if self._connection is not None:
            self._connection = None
            self._disarm()
            self._give_up()
            if not self._factory.stopped:
                self._condition.failed(DatabaseError(Kind.UNAVAILABLE, "connection lost"))

    @property
    def _busy(self) -> bool:
        return bool(self._waiting or self._batch or self._reading)

    @property
    def _most(self) -> int:
        return MOST_KEYS if self._together else MOST_SINGLE

    # What waits

    def _keep(self, key: str, change: Change) -> None:
        waiting = self._waiting
        if key not in waiting and len(waiting) + len(self._batch) >= self._limit:
            self.dropped += 1
            return
        waiting[key] = change
        if self._timer is None and self._connection is not None and not self._batch:
            self._arm(GATHER)

    def _arm(self, delay: float) -> None:
        """Send a batch then. Never at once: txredisapi fails its commands in a loop that goes on
        while there are any, and one that was sent from within would keep it going.
        """
        if self._timer is None and self._connection is not None and not self._batch:
            self._timer = self._clock.callLater(max(delay, self._pause), self._flush)

    def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _flush(self) -> None:
        self._timer = None
        if self._connection is None or not self._waiting:
            return
        self._batch = batch = self._taken()
        self._condition.queries += 1 if self._together else len(batch)
        send = send_together if self._together else send_singly
        now = self._clock.seconds()
        answer = maybeDeferred(send, self._connection, batch, now)
        answer.addBoth(self._answered, now).addCallbacks(self._stored, self._failed)

    def _taken(self) -> dict[str, Change]:
        most = self._most
        taken: dict[str, Change] = {}
        size = 0
        for key, change in self._waiting.items():
            if len(taken) >= most or size > MOST_CHARACTERS:
                for sent in taken:
                    del self._waiting[sent]
                return taken
            taken[key] = change
            if change is not None:
                size += len(change[0])
        self._waiting = {}
        return taken

    def _answered(
        self, result: Sequence[Refusal] | Failure, began: float
    ) -> Sequence[Refusal] | Failure:
        self._condition.finished(self._clock.seconds() - began, SLOW)
        return result

    def _stored(self, refused: Sequence[Refusal]) -> None:
        self._batch = {}
        self._pause = 0.0
        self._condition.worked()
        self.dropped += len(refused)
        for one in refused:
            self._condition.failed(DatabaseError(Kind.REFUSED, one.why))
        if refused and self._clock.seconds() >= self._quiet_until:
            self._quiet_until = self._clock.seconds() + QUIET
            key, why = refused[0].key, refused[0].why
            self.log.warn(
                "{name} refuses {key}: {why}", name=self._condition.name, key=key, why=why
            )
        self._go_on()

    def _failed(self, failure: Failure) -> None:
        """All of the batch waits again, but for what changed in the meantime."""
        self._waiting = {**self._batch, **self._waiting}
        self._batch = {}
        why = str(failure.value) or "no answer in time"
        refused = failure.check(txredisapi.ResponseError) is not None  # type: ignore[no-untyped-call]
        if refused and self._together and not is_passing(why):
            self._together = False
            self._condition.failed(DatabaseError(Kind.REFUSED, why))
            self.log.warn(
                "{name} runs no scripts: {why}; keys go one by one",
                name=self._condition.name,
                why=why,
            )
            self._go_on()
            return
        self._condition.failed(DatabaseError(Kind.UNAVAILABLE, why))
        self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)
        if is_demoted(failure) and self._connection is not None:
            self._connection.transport.loseConnection()
        self._give_up()
        self._arm(GATHER)

    def _go_on(self) -> None:
        if self._waiting:
            hurry = self._drained is not None or len(self._waiting) >= self._most
            self._arm(0.0 if hurry else GATHER)
        elif not self._busy:
            self._give_up()

    def _give_up(self) -> None:
        """Nobody waits longer for the rest."""
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.callback(None)

    def _read(self, result: str | Failure | None, began: float) -> str | None:
        self._reading -= 1
        self._condition.finished(self._clock.seconds() - began, SLOW)
        if not self._busy:
            self._give_up()
        if isinstance(result, Failure):
            self._condition.failures += 1
            return None
        return result
