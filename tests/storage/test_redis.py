"""What waits for Redis, what goes there together, and what comes of failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import txredisapi
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from pbx.storage import redis
from pbx.storage.redis import GATHER, LONGEST_PAUSE, MOST_KEYS, MOST_SINGLE, RedisCache
from pbx.storage.urls import server_url

Rows = list[tuple[str, str, int]]


class FakeConnection:
    """Keeps the commands until the test answers them."""

    def __init__(self) -> None:
        self.connected = 1
        self.transport = StringTransport()
        self.commands: list[tuple[tuple[object, ...], Deferred[object]]] = []

    def execute_command(self, *command: object) -> Deferred[object]:
        reply: Deferred[object] = Deferred()
        self.commands.append((command, reply))
        return reply

    def set(self, key: str, value: str, pexpire: int | None = None) -> Deferred[object]:
        return self.execute_command("SET", key, value, pexpire)

    def delete(self, key: str) -> Deferred[object]:
        return self.execute_command("DEL", key)

    def get(self, key: str) -> Deferred[object]:
        return self.execute_command("GET", key)

    def rows(self) -> Rows:
        """Those of the one script call under way."""
        [((name, script, keys, text), _)] = self.commands
        assert (name, keys) == ("EVAL", 0)
        assert "redis.pcall" in str(script)
        row = json.loads(str(text))
        return list(zip(row[::3], row[1::3], row[2::3], strict=True))

    def answer(self, *answers: object) -> None:
        """Those under way, in their order; errors when they are exceptions."""
        commands, self.commands = self.commands, []
        for (_, reply), answer in zip(commands, answers, strict=True):
            if isinstance(answer, Exception):
                reply.errback(answer)
            else:
                reply.callback(answer)


class RedisCacheTests(SynchronousTestCase):
    """Changes gather and go together."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.cache = RedisCache(server_url("redis://h/0", 6379), self.clock, limit=2000)
        self.connection = FakeConnection()
        self.cache.connected(self.connection)

    def lost(self) -> None:
        """The connection fails what is under way, then it is gone."""
        self.connection.connected = 0
        error = txredisapi.ConnectionError("Lost connection")
        self.connection.answer(*[error for _ in self.connection.commands])
        self.cache.disconnected()
        self.connection = FakeConnection()

    def gathered(self) -> Rows:
        self.clock.advance(GATHER)
        return self.connection.rows()

    def statistic(self, name: str) -> int:
        return self.cache.statistics()[f"cdb:{name}"]

    def value(self, key: str) -> str | None:
        return self.successResultOf(self.cache.get(key))

    @contextmanager
    def logged(self, *expected: str) -> Iterator[None]:
        """These lines are written, in this order; no others of that weight."""
        with capturedLogs() as events:
            yield
        lines = [formatEvent(event) for event in events if event["log_level"] >= LogLevel.warn]
        self.assertEqual(len(lines), len(expected), lines)
        for line, words in zip(lines, expected, strict=True):
            self.assertIn(words, line)

    def test_one_command(self) -> None:
        """What changes within a moment goes together, of each key the newest."""
        self.cache.set("a", "old", 10)
        self.cache.set("a", "new", 60)
        self.cache.set("b", "\u00fc\ud800")
        self.clock.advance(GATHER / 2)
        self.cache.delete("c")
        self.assertEqual(self.connection.commands, [])
        self.clock.advance(GATHER / 2)
        self.assertEqual(
            self.connection.rows(), [("a", "new", 59950), ("b", "\u00fc?", 0), ("c", "", -1)]
        )
        self.assertEqual((self.statistic("queries"), self.statistic("waiting")), (1, 3))
        self.connection.answer([])
        self.assertEqual((self.statistic("waiting"), self.statistic("failures")), (0, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_get_sees_set(self) -> None:
        """What waits and what is under way is known without Redis."""
        self.cache.set("a", "1", 10)
        self.cache.set("gone", "1")
        self.assertEqual(self.value("a"), "1")
        self.gathered()
        self.assertEqual(self.value("a"), "1")
        self.cache.delete("gone")
        self.assertEqual(self.value("gone"), None)
        self.cache.set("a", "2", 10)
        self.assertEqual(self.value("a"), "2")
        self.clock.advance(10)
        self.assertEqual(self.value("a"), None)
        asked = self.cache.get("other")
        self.assertEqual(self.statistic("waiting"), 5)
        self.connection.answer([], "there")
        self.assertEqual(self.successResultOf(asked), "there")

    def test_get_fails(self) -> None:
        """None, and counted."""
        asked = self.cache.get("a")
        self.lost()
        self.assertEqual(self.successResultOf(asked), None)
        self.assertEqual(self.value("a"), None)
        self.assertEqual(self.statistic("waiting"), 0)

    def test_order(self) -> None:
        """What changes while a batch is under way goes when that is answered."""
        self.cache.set("a", "1")
        self.gathered()
        self.cache.delete("a")
        self.clock.advance(1)
        self.assertEqual(self.connection.rows(), [("a", "1", 0)])
        self.connection.answer([])
        self.assertEqual(self.gathered(), [("a", "", -1)])

    def test_over(self) -> None:
        """A value that is over when it goes is deleted: an older one may be there."""
        self.lost()
        self.cache.set("a", "1", 10)
        self.clock.advance(10)
        self.cache.connected(self.connection)
        [(key, _, milliseconds)] = self.gathered()
        self.assertEqual((key, milliseconds), ("a", -1))

    def test_batches(self) -> None:
        """Many keys go in batches, one after the other without a pause."""
        for number in range(MOST_KEYS + 1):
            self.cache.set(f"k{number}", "x")
        self.cache.set("large", "x" * redis.MOST_CHARACTERS * 2)
        self.cache.set("last", "x")
        self.assertEqual(len(self.gathered()), MOST_KEYS)
        self.cache.set("k0", "y")
        self.connection.answer([])
        self.assertEqual([key for key, _, _ in self.gathered()], ["k500", "large"])
        self.connection.answer([])
        self.assertEqual(self.gathered(), [("last", "x", 0), ("k0", "y", 0)])

    def test_no_pause_between_full_batches(self) -> None:
        for number in range(1000):
            self.cache.set(f"k{number}", "x")
        self.gathered()
        self.connection.answer([])
        self.clock.advance(0)
        self.assertEqual(len(self.connection.rows()), MOST_KEYS)

    def test_bound(self) -> None:
        """Counts what is under way too, so that all of it can come back."""
        for number in range(1500):
            self.cache.set(f"k{number}", "x")
        self.gathered()
        for number in range(1500, 2001):
            self.cache.set(f"k{number}", "x")
        self.cache.set("k700", "y")
        self.assertEqual((self.statistic("waiting"), self.statistic("dropped")), (2000, 1))
        self.lost()
        self.assertEqual((self.statistic("waiting"), self.statistic("dropped")), (2000, 1))

    def test_lost(self) -> None:
        """What was under way waits for the next connection, unless it changed meanwhile."""
        self.cache.set("a", "1")
        self.cache.set("b", "1", 10)
        self.gathered()
        self.cache.set("a", "2")
        self.lost()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.cache.set("c", "3")
        self.clock.advance(5)
        self.assertEqual(self.connection.commands, [])
        self.cache.connected(self.connection)
        self.clock.advance(redis.FIRST_PAUSE)
        self.assertEqual(self.connection.rows(), [("a", "2", 0), ("b", "1", 4850), ("c", "3", 0)])
        self.assertEqual(self.cache.health(), ("ok", ""))

    def test_pauses(self) -> None:
        """Each failure makes the pause longer, and a success ends that."""
        tries = 0
        self.cache.set("a", "1")
        for _ in range(600):
            self.clock.advance(0.1)
            if self.connection.commands:
                tries += 1
                self.connection.answer(txredisapi.ResponseError("LOADING Redis is loading"))
        self.assertLess(tries, 20)
        self.assertEqual(self.cache.health()[0], "degraded")
        self.clock.advance(LONGEST_PAUSE)
        self.connection.answer([])
        self.assertEqual(self.cache.health(), ("ok", ""))
        self.assertEqual(self.statistic("dropped"), 0)
        self.cache.set("a", "2")
        self.assertEqual(self.gathered(), [("a", "2", 0)])

    def test_timeout_of_the_library(self) -> None:
        """It fails its commands in a loop while there are any: none may be added from within."""
        connection = txredisapi.BaseRedisProtocol(replyTimeout=3.0)
        connection.factory = self
        connection.callLater = self.clock.callLater
        connection.transport = transport = StringTransport()
        connection.connected = 1
        self.cache.connected(connection)
        self.cache.set("a", "1")
        self.clock.advance(GATHER)
        asked = self.cache.get("b")
        self.assertEqual(transport.value().count(b"EVAL"), 1)
        self.clock.advance(3.0)
        self.assertTrue(transport.disconnected)
        self.assertEqual(self.successResultOf(asked), None)
        self.assertEqual(self.statistic("waiting"), 1)
        self.assertIn("Not received", self.cache.health()[1])
        self.assertEqual(transport.value().count(b"EVAL"), 1)

    def test_refused_keys(self) -> None:
        """Are dropped, counted and told at times; the others of the batch are stored."""
        for key in "abc":
            self.cache.set(key, "1")
        self.gathered()
        with self.logged("refuses a: OOM command not allowed"):
            self.connection.answer([0, "OOM command not allowed", 2, "OOM command not allowed"])
            self.cache.set("d", "1")
            self.gathered()
            self.connection.answer([0, "OOM command not allowed"])
        self.assertEqual((self.statistic("dropped"), self.statistic("failures")), (3, 3))
        self.cache.set("d", "1")
        self.clock.advance(redis.QUIET)
        with self.logged("refuses d: OOM"):
            self.connection.answer([0, "OOM command not allowed"])
        self.assertEqual((self.statistic("waiting"), self.cache.health()), (0, ("ok", "")))

    def test_no_scripts(self) -> None:
        """Redis lets us not call EVAL: keys go one by one, as long as it is this connection."""
        for number in range(MOST_SINGLE + 1):
            self.cache.set(f"k{number}", "x")
        self.cache.delete("k0")
        self.cache.set("k1", "x", 10)
        self.gathered()
        with self.logged("runs no scripts: NOPERM no permission"):
            self.connection.answer(txredisapi.ResponseError("NOPERM no permission for 'eval'"))
        self.clock.advance(0)
        commands = [command for command, _ in self.connection.commands]
        self.assertEqual(len(commands), MOST_SINGLE)
        self.assertEqual(commands[0], ("DEL", "k0"))
        self.assertEqual(commands[1], ("SET", "k1", "x", 9950))
        self.assertEqual(commands[2], ("SET", "k2", "x", None))
        with self.logged("refuses k1: OOM"):
            self.connection.answer(1, txredisapi.ResponseError("OOM"), *["OK"] * (MOST_SINGLE - 2))
        self.assertEqual((self.statistic("dropped"), self.statistic("failures")), (1, 2))
        self.clock.advance(GATHER)
        [(command, _)] = self.connection.commands
        self.assertEqual(command, ("SET", f"k{MOST_SINGLE}", "x", None))
        self.assertEqual(self.statistic("queries"), 1 + MOST_SINGLE + 1)
        self.lost()
        self.cache.connected(self.connection)
        self.clock.advance(redis.FIRST_PAUSE)
        self.assertEqual(self.connection.rows(), [(f"k{MOST_SINGLE}", "x", 0)])

    def test_one_by_one_and_lost(self) -> None:
        """All of the batch waits again; to store a key twice does no harm."""
        for key in "abc":
            self.cache.set(key, "1")
        self.gathered()
        self.connection.answer(txredisapi.ResponseError("unknown command 'EVAL'"))
        self.clock.advance(GATHER)
        self.cache.set("b", "2")
        lost = txredisapi.ConnectionError("Lost connection")
        self.connection.answer("OK", lost, lost)
        self.lost()
        self.cache.connected(self.connection)
        self.clock.advance(redis.FIRST_PAUSE)
        self.assertEqual(self.connection.rows(), [("a", "1", 0), ("b", "2", 0), ("c", "1", 0)])
        self.assertEqual(self.statistic("dropped"), 0)

    def test_strange_answer(self) -> None:
        """Something between us and Redis does not know EVAL."""
        self.cache.set("a", "1")
        self.gathered()
        self.connection.answer("PONG")
        self.clock.advance(GATHER)
        self.assertEqual([c[0] for c, _ in self.connection.commands], ["SET"])

    def test_demoted(self) -> None:
        """A master that became a standby is left, and nothing is lost."""
        # Redis 7, Redis 6, and one by one.
        said = "READONLY You can't write against a read only replica."
        answers: list[object] = [
            [0, said],
            [0, f"@user_script: 9: -{said}"],
            txredisapi.ResponseError(said),
        ]
        self.cache.set("a", "1")
        for answer in answers:
            self.clock.advance(LONGEST_PAUSE)
            self.connection.answer(answer)
            self.assertTrue(self.connection.transport.disconnecting)
            self.lost()
            self.assertEqual(self.cache.health()[0], "degraded")
            self.cache.connected(self.connection)
        self.clock.advance(LONGEST_PAUSE)
        self.assertEqual(self.connection.rows(), [("a", "1", 0)])
        self.assertEqual(self.statistic("dropped"), 0)
