"""URLs, the cache in memory and the watcher."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pbx.events import Events, TableChanged
from pbx.interfaces import ICache, IHealth, IStatistics
from pbx.storage.cache import MemoryCache
from pbx.storage.memory import memory_database
from pbx.storage.open import open_cache, open_database
from pbx.storage.watcher import TableWatcher
from tests.storage.database_rules import sync_result


class OpenTests(SynchronousTestCase):
    """The only table of backends."""

    def test_known(self) -> None:
        """The URL, without password, names what was opened."""
        clock = Clock()
        self.assertEqual(open_database("memory:", clock).url, "memory:")
        self.assertEqual(open_database("sqlite:var/pbx.db", clock).url, "sqlite:var/pbx.db")

    def test_unknown(self) -> None:
        """One clear line, and no password in it."""
        for url in ("", "mysql://u:secret@h/d", "sqlite:", "pbx.db", "postgres://h:port/x"):
            error = self.assertRaises(ValueError, open_database, url, Clock())
            self.assertNotIn("secret", str(error))
            self.assertNotIn("\n", str(error))
        for url in ("", "memcached://h", "redis://h:port/0", "redis://h/x", "redis:"):
            self.assertRaises(ValueError, open_cache, url, Clock())


class MemoryCacheTests(SynchronousTestCase):
    """Values expire and the number of keys is bounded."""

    def test_expiry(self) -> None:
        """A value lives for its time, or for ever."""
        clock = Clock()
        cache = MemoryCache(clock)
        for interface in (ICache, IHealth, IStatistics):
            self.assertTrue(verifyObject(interface, cache))
        cache.set("a", "1", 10)
        cache.set("b", "2")
        clock.advance(9)
        self.assertEqual(self.successResultOf(cache.get("a")), "1")
        clock.advance(1)
        self.assertEqual(self.successResultOf(cache.get("a")), None)
        self.assertEqual(self.successResultOf(cache.get("b")), "2")
        cache.delete("b")
        self.assertEqual(self.successResultOf(cache.get("b")), None)

    def test_bound(self) -> None:
        """Expired keys are swept out, and beyond the limit the oldest go."""
        clock = Clock()
        cache = MemoryCache(clock, limit=100)
        for number in range(900):
            cache.set(f"old{number}", "", 1)
        clock.advance(2)
        for number in range(1200):
            cache.set(f"new{number}", "")
        self.assertLess(len(cache), 1500)
        for number in range(1000):
            cache.set(f"newer{number}", "")
        self.assertLessEqual(len(cache), 1100)
        self.assertEqual(self.successResultOf(cache.get("newer999")), "")


class WatcherTests(SynchronousTestCase):
    """`TableChanged` after changes, by anybody."""

    def test_change_is_published_once(self) -> None:
        """One event per table however many rows; other tables are silent."""
        clock = Clock()
        database = memory_database(clock)
        events = Events()
        heard: list[str] = []
        events.subscribe(TableChanged, lambda event: heard.append(event.table))
        watcher = TableWatcher(database, events, clock, ("subscriber", "domain"))
        sync_result(self, watcher.start())
        clock.advance(1)
        self.assertEqual(heard, [])
        for user in ("1001", "1002"):
            sql = "INSERT INTO subscriber (username, domain) VALUES (?, 'a')"
            sync_result(self, database.execute(sql, (user,)))
        sync_result(self, database.execute("INSERT INTO dispatcher (setid) VALUES (1)"))
        clock.advance(1)
        clock.advance(1)
        self.assertEqual(heard, ["subscriber"])
        sync_result(self, database.execute("DELETE FROM subscriber"))
        clock.advance(1)
        self.assertEqual(heard, ["subscriber", "subscriber"])
        sync_result(self, watcher.stop())
        self.assertEqual(clock.getDelayedCalls(), [])
