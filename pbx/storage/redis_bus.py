"""What the nodes of a cluster say to each other, by publish/subscribe of Redis, and what they count
together, in hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import txredisapi
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from pbx.errors import DatabaseError, Kind
from pbx.interfaces import IBus, ITally
from pbx.storage.condition import Condition
from pbx.storage.redis_link import LinkFactory, OneOfMany, is_demoted
from pbx.storage.urls import ServerURL

CHANNEL = "pbx:nodes"
#: Seconds that a call may wait for an answer before it goes on without.
PATIENCE = 0.3

#: KEYS[1]: hash of "node name" -> number. ARGV: node, then name, number and limit by turns.
_TAKE = """
local others = {}
local mine = ARGV[1] .. " "
local all = redis.call("HGETALL", KEYS[1])
for i = 1, #all, 2 do
    if all[i]:sub(1, #mine) ~= mine then
        local name = all[i]:match(" (.*)$")
        others[name] = (others[name] or 0) + tonumber(all[i + 1])
    end
end
local full = false
local sums = {}
for i = 2, #ARGV, 3 do
    local sum = others[ARGV[i]] or 0
    sums[#sums + 1] = sum
    if sum + tonumber(ARGV[i + 1]) > tonumber(ARGV[i + 2]) then full = true end
end
if full then return sums end
for i = 2, #ARGV, 3 do redis.call("HSET", KEYS[1], mine .. ARGV[i], ARGV[i + 1]) end
return {}
"""
_FORGET = """
local mine = ARGV[1] .. " "
for _, field in ipairs(redis.call("HKEYS", KEYS[1])) do
    if field:sub(1, #mine) == mine then redis.call("HDEL", KEYS[1], field) end
end
return 0
"""


class _Subscriber(txredisapi.SubscriberProtocol):  # type: ignore[misc]
    """Hands on what is published."""

    def messageReceived(self, pattern: object, channel: object, message: object) -> None:
        self.factory.received(message)


class _Subscription(LinkFactory):
    """The connection that hears; commands are not allowed on it."""

    received: Callable[[object], None]


class _Saying:
    """Owner of the connection for commands."""

    def __init__(self, bus: RedisBus) -> None:
        self._bus = bus

    def connected(self, connection: txredisapi.RedisProtocol) -> None:
        self._bus.saying = connection
        self._bus.let_in()

    def disconnected(self) -> None:
        self._bus.saying = None

    def refused(self, why: str) -> None:
        self._bus.refused(why)


class _Hearing:
    """Owner of the connection that hears."""

    def __init__(self, bus: RedisBus) -> None:
        self._bus = bus

    def connected(self, connection: txredisapi.RedisProtocol) -> None:
        self._bus.hearing = connection
        # The answer comes like a message; a failure closes the connection.
        connection.subscribe(CHANNEL).addErrback(lambda failure: None)

    def disconnected(self) -> None:
        self._bus.hearing = None

    def refused(self, why: str) -> None:
        self._bus.refused(why)


@implementer(IBus, ITally)
class RedisBus:
    """Two connections: one hears, the other says and counts."""

    limit = 256 * 1024

    def __init__(self, url: ServerURL, clock: IReactorTime) -> None:
        self.url = url.shown
        self.hearing: txredisapi.RedisProtocol | None = None
        self.saying: txredisapi.RedisProtocol | None = None
        self._parts = url
        self._clock = clock
        self._condition = Condition(f"bus {self.url}")
        self._saying = LinkFactory(_Saying(self), url, 3.0)
        self._hearing = _Subscription(_Hearing(self), url, None, _Subscriber)
        self._hearing.received = self._received
        self._deliver: Callable[[str], None] = lambda text: None
        self._started = False

    @property
    def connected(self) -> bool:
        """Both connections are up."""
        return self.hearing is not None and self.saying is not None

    @property
    def trouble(self) -> str:
        """Why not."""
        return "" if self.connected else self._condition.trouble or "not connected"

    def start(self) -> Deferred[None]:
        """Begin to connect."""
        self._started = True
        for factory in (self._saying, self._hearing):
            factory.startConnecting(OneOfMany(self._parts, self._clock))
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """What was said is sent."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self.saying is not None:
            last = self.saying.ping().addTimeout(1.0, self._clock)
            await last.addErrback(lambda failure: None)
        if self._started:
            await self._saying.disconnect()
            await self._hearing.disconnect()

    def deliver_to(self, received: Callable[[str], None]) -> None:
        """Who hears what the nodes say."""
        self._deliver = received

    def publish(self, text: str) -> None:
        """Say it to all nodes."""
        if self.saying is not None:
            self.saying.publish(CHANNEL, text).addErrback(self._failed)

    def reconnect(self) -> None:
        """Drop both connections; new ones are made."""
        for connection in (self.hearing, self.saying):
            if connection is not None:
                connection.transport.abortConnection()

    def _received(self, message: object) -> None:
        if isinstance(message, str):
            self._deliver(message)

    # ITally

    def put(self, key: str, node: str, numbers: Mapping[str, int]) -> None:
        """These are the node's numbers now."""
        if self.saying is not None and numbers:
            fields = {f"{node} {name}": number for name, number in numbers.items()}
            self.saying.hmset(_counted(key), fields).addErrback(self._failed)

    def take(
        self, key: str, node: str, numbers: Mapping[str, int], limits: Mapping[str, int]
    ) -> Deferred[Mapping[str, int] | None]:
        """The same unless a sum gets too large."""
        if self.saying is None:
            return succeed(None)
        names = list(numbers)
        arguments = [node]
        for name in names:
            arguments += [name, str(numbers[name]), str(limits[name])]
        answer: Deferred[Any] = Deferred()

        def answered(result: object) -> None:
            # One that comes too late is nobody's any more.
            if not answer.called:
                answer.callback(result)

        self.saying.eval(_TAKE, [_counted(key)], arguments).addErrback(self._failed).addBoth(
            answered
        )
        answer.addTimeout(PATIENCE, self._clock, lambda result, seconds: None)

        def sums(found: object) -> Mapping[str, int] | None:
            if not isinstance(found, list):
                return None
            return dict(zip(names, map(int, found), strict=False))

        return answer.addCallback(sums)

    def forget(self, key: str, node: str) -> None:
        """The node counts no more."""
        if self.saying is not None:
            self.saying.eval(_FORGET, [_counted(key)], [node]).addErrback(self._failed)

    # Its connections

    def let_in(self) -> None:
        """Redis lets us in."""
        self._condition.worked()

    def refused(self, why: str) -> None:
        """Redis does not let us in."""
        self._condition.failed(DatabaseError(Kind.UNAVAILABLE, why))

    def _failed(self, failure: Failure) -> None:
        if is_demoted(failure) and self.saying is not None:
            self.saying.transport.loseConnection()
        self._condition.failures += 1


def _counted(key: str) -> str:
    return f"pbx:count:{key}"
