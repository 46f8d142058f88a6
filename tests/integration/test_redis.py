"""The Redis cache against a real server."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from pbx.interfaces import ICache, IHealth, IStartable, IStatistics
from pbx.storage.open import open_cache
from pbx.storage.redis import RedisCache
from pbx.storage.urls import server_url
from tests.integration.servers import RedisServer, redis_server
from tests.integration.test_postgres import until

CLOCK = IReactorTime(reactor)


class RedisTests(TestCase):
    """Nobody waits for Redis, and what it missed is made up for."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        self.server = redis_server()
        self.addCleanup(self.flushLoggedErrors)
        self.server.cli("FLUSHALL")
        self.cache = await self.opened(self.server.url())
        await until(lambda: self.cache.health() == ("ok", ""))

    async def opened(self, url: str, limit: int = 1000, timeout: float = 1.0) -> RedisCache:
        cache = RedisCache(server_url(url, 6379), CLOCK, limit, timeout)
        self.addCleanup(cache.stop)
        await cache.start()
        return cache

    async def test_values(self) -> None:
        """The keys and values of the old system, with a time to live (O12)."""
        for interface in (ICache, IHealth, IStartable, IStatistics):
            self.assertTrue(verifyObject(interface, self.cache))
        self.cache.set("pbx.example:1001", "sip:1001@192.0.2.1:5060", 60)
        self.cache.set("pbx.example:1002", "sip:\u00fc@192.0.2.1\udc80")
        self.cache.set("number", "12345")
        self.assertEqual(await self.cache.get("pbx.example:1001"), "sip:1001@192.0.2.1:5060")
        self.assertEqual(await self.cache.get("number"), "12345")
        await self.stored()
        self.assertEqual(await self.cache.get("pbx.example:1001"), "sip:1001@192.0.2.1:5060")
        self.assertEqual(await self.cache.get("number"), "12345")
        self.assertEqual(await self.cache.get("\ud800"), None)
        self.assertEqual(self.server.cli("GET", "pbx.example:1001"), "sip:1001@192.0.2.1:5060")
        self.assertEqual(self.server.cli("GET", "pbx.example:1002"), "sip:\u00fc@192.0.2.1?")
        self.assertIn(int(self.server.cli("TTL", "pbx.example:1001")), range(55, 61))
        self.assertEqual(self.server.cli("TTL", "pbx.example:1002"), "-1")
        self.cache.delete("pbx.example:1001")
        self.assertEqual(await self.cache.get("pbx.example:1001"), None)
        await self.stored()
        self.assertEqual(await self.cache.get("pbx.example:1001"), None)
        self.assertEqual(self.cache.statistics()["cdb:dropped"], 0)

    async def test_texts(self) -> None:
        """Any text arrives as it is, together and one by one."""
        texts = [chr(code) for code in range(1, 0x180)]
        texts += ["", "\0", "a\0b", "\u2028", "\U0001f600", "\\u0041", '"', "null", "1e5", " 12 "]
        await self.stores(texts)
        await self.without_scripts()
        await self.stores(texts)

    async def stores(self, texts: Sequence[str]) -> None:
        self.server.cli("FLUSHALL")
        for number, text in enumerate(texts):
            self.cache.set(f"{text}-{number}", text)
        await self.stored()
        for number, text in enumerate(texts):
            self.assertEqual(await self.cache.get(f"{text}-{number}"), text)
        self.assertEqual(self.cache.statistics()["cdb:dropped"], 0)

    async def without_scripts(self) -> None:
        """The cache is that of a user who may not call EVAL."""
        rules = ["on", ">pw", "~*", "+@all", "-@scripting"]
        self.server.cli("ACL", "SETUSER", "plain", *rules)
        self.addCleanup(self.server.cli, "ACL", "DELUSER", "plain")
        url = f"redis://plain:pw@127.0.0.1:{self.server.port}/0"
        self.cache = await self.opened(url, timeout=30.0)
        await until(lambda: self.cache.health() == ("ok", ""))

    async def stored(self) -> None:
        await until(lambda: self.cache.statistics()["cdb:waiting"] == 0)

    async def test_many_at_once(self) -> None:
        """10,000 keys are there in a moment, in few commands."""
        cache = await self.opened(self.server.url(), limit=20_000, timeout=30.0)
        await until(lambda: cache.health() == ("ok", ""))
        for number in range(10_000):
            cache.set(f"k{number}", f"v{number}", 600)
        await until(lambda: cache.statistics()["cdb:waiting"] == 0)
        self.assertEqual(self.server.cli("DBSIZE"), "10000")
        self.assertEqual(self.server.cli("GET", "k9999"), "v9999")
        self.assertIn(int(self.server.cli("TTL", "k9999")), range(550, 601))
        self.assertEqual(cache.statistics()["cdb:queries"], 20)
        self.assertEqual(cache.statistics()["cdb:dropped"], 0)

    async def test_stop_sends_what_waits(self) -> None:
        """Nothing is left behind, and nothing comes after it."""
        for number in range(1000):
            self.cache.set(f"k{number}", "x")
        await self.cache.stop()
        self.assertEqual(self.server.cli("DBSIZE"), "1000")
        self.cache.set("late", "x")
        self.assertEqual(self.cache.statistics()["cdb:waiting"], 1)

    async def test_stop_does_not_wait_long(self) -> None:
        """A second for a Redis that does not answer."""
        cache = await self.opened(self.server.url(), timeout=30.0)
        await until(lambda: cache.health() == ("ok", ""))
        self.server.signal(signal.SIGSTOP)
        try:
            cache.set("a", "1")
            began = CLOCK.seconds()
            await cache.stop()
            self.assertLess(CLOCK.seconds() - began, 5.0)
        finally:
            self.server.signal(signal.SIGCONT)

    async def test_no_scripts_allowed(self) -> None:
        """Keys go one by one then, in their order, and all arrive."""
        await self.without_scripts()
        for number in range(200):
            self.cache.set(f"k{number}", f"v{number}", 600)
        self.cache.set("for ever", "x")
        await self.stored()
        self.assertEqual(self.server.cli("DBSIZE"), "201")
        self.assertEqual(self.server.cli("GET", "k199"), "v199")
        self.assertEqual(self.server.cli("TTL", "for ever"), "-1")
        self.cache.delete("k199")
        self.cache.set("k198", "new")
        await self.stored()
        self.assertEqual(self.server.cli("GET", "k199"), "")
        self.assertEqual(self.server.cli("GET", "k198"), "new")
        found = self.cache.statistics()
        # One failure: the script is tried once for each connection.
        self.assertEqual((found["cdb:failures"], found["cdb:dropped"]), (1, 0))
        self.assertEqual(self.cache.health(), ("ok", ""))

    async def test_least_rights(self) -> None:
        """What docs/storage.md says that a user needs."""
        rules = ["on", ">pw", "~pbx.*", "+eval", "+set", "+del", "+get", "+select"]
        self.server.cli("ACL", "SETUSER", "least", *rules)
        self.addCleanup(self.server.cli, "ACL", "DELUSER", "least")
        self.cache = await self.opened(f"redis://least:pw@127.0.0.1:{self.server.port}/0")
        await until(lambda: self.cache.health() == ("ok", ""))
        self.cache.set("pbx.a", "1", 60)
        self.cache.set("pbx.b", "1")
        await self.stored()
        self.cache.delete("pbx.b")
        await self.stored()
        self.assertEqual(await self.cache.get("pbx.a"), "1")
        self.assertEqual(await self.cache.get("pbx.b"), None)
        self.assertEqual(self.cache.statistics()["cdb:failures"], 0)

    async def test_keys_that_are_not_allowed(self) -> None:
        """Each key counts for itself, with scripts and without."""
        for name, rule in (("some", "+@all"), ("less", "-@scripting")):
            rules = ["on", ">pw", "~pbx.*", "+@all", rule]
            self.server.cli("ACL", "SETUSER", name, *rules)
            self.addCleanup(self.server.cli, "ACL", "DELUSER", name)
            self.server.cli("FLUSHALL")
            self.cache = await self.opened(f"redis://{name}:pw@127.0.0.1:{self.server.port}/0")
            await until(lambda: self.cache.health() == ("ok", ""))
            for number in range(60):
                self.cache.set(f"pbx.{number}", "x")
                self.cache.set(f"other.{number}", "x")
            await self.stored()
            self.assertEqual(self.server.cli("DBSIZE"), "60")
            self.assertEqual(self.cache.statistics()["cdb:dropped"], 60)
            self.assertEqual(self.cache.health(), ("ok", ""))
            self.cache.set("pbx.1", "new")
            await self.stored()
            self.assertEqual(self.server.cli("GET", "pbx.1"), "new")

    async def test_demoted(self) -> None:
        """A standby takes nothing; what waits is stored when there is a master again."""
        self.server.cli("REPLICAOF", "127.0.0.1", "1")
        self.addCleanup(self.server.cli, "REPLICAOF", "NO", "ONE")
        self.cache.set("a", "1")
        await until(lambda: self.cache.health()[0] == "degraded")
        self.cache.set("b", "1")
        self.cache.set("a", "2")
        self.server.cli("REPLICAOF", "NO", "ONE")
        await self.stored()
        self.assertEqual(self.server.cli("MGET", "a", "b"), "2\n1")
        await until(lambda: self.cache.health() == ("ok", ""))
        self.assertEqual(self.cache.statistics()["cdb:dropped"], 0)

    async def test_memory_full(self) -> None:
        """New values are dropped and counted, deletes work, and the next values are taken."""
        self.cache.set("old", "x")
        await self.stored()
        self.server.cli("CONFIG", "SET", "maxmemory", "1")
        self.addCleanup(self.server.cli, "CONFIG", "SET", "maxmemory", "0")
        self.cache.set("new", "x")
        self.cache.set("newer", "x")
        self.cache.delete("old")
        await self.stored()
        self.assertEqual(self.cache.statistics()["cdb:dropped"], 2)
        self.assertEqual(self.cache.health(), ("ok", ""))
        self.assertEqual(self.server.cli("DBSIZE"), "0")
        self.server.cli("CONFIG", "SET", "maxmemory", "0")
        self.cache.set("new", "x")
        await self.stored()
        self.assertEqual(self.server.cli("GET", "new"), "x")

    async def test_killed_under_load(self) -> None:
        """The newest value of every key that was set since is there when Redis is back."""
        newest: dict[str, str] = {}
        count = 0

        def load() -> None:
            nonlocal count
            for _ in range(20):
                count += 1
                key = f"k{count % 700}"
                newest[key] = f"v{count}"
                self.cache.set(key, newest[key], 600)

        loop = LoopingCall(load)
        done = loop.start(0.005)
        await until(lambda: self.server.cli("DBSIZE") == "700")
        for _ in range(3):
            self.server.stop(signal.SIGKILL)
            # Without a disk the old keys are gone: what was set from now on must be there.
            newest.clear()
            await until(lambda: self.cache.health()[0] == "degraded" and len(newest) == 700)
            self.server.start()
            await until(lambda: self.cache.health() == ("ok", "") and len(newest) == 700)
        loop.stop()
        await done
        await self.stored()
        for key, value in newest.items():
            self.assertEqual(await self.cache.get(key), value)
        self.assertEqual(self.cache.statistics()["cdb:dropped"], 0)
        self.assertEqual(self.server.cli("DBSIZE"), "700")

    async def test_database_number(self) -> None:
        """Is the path of the URL."""
        cache = await self.opened(self.server.url(3))
        cache.set("a", "three")
        await until(lambda: self.server.cli("GET", "a", number=3) == "three")
        self.assertEqual(self.server.cli("GET", "a"), "")

    async def test_url_without_password_shown(self) -> None:
        """The password is nowhere to be seen."""
        self.assertEqual(self.cache.url, f"redis://127.0.0.1:{self.server.port}/0")
        self.assertNotIn("s3cret", str(open_cache(self.server.url(), CLOCK).__dict__["_parts"]))

    async def test_restart(self) -> None:
        """While it is away the newest change of each key waits; bounded."""
        self.cache.set("stays", "old")
        await self.cache.get("stays")
        self.server.stop()
        await until(lambda: self.cache.health()[0] == "degraded")
        for number in range(5):
            self.cache.set("stays", f"new{number}")
        self.cache.delete("gone")
        self.assertEqual(await self.cache.get("stays"), "new4")
        self.assertEqual(await self.cache.get("other"), None)
        for number in range(2000):
            self.cache.set(f"k{number}", "x")
        self.assertEqual(self.cache.statistics()["cdb:dropped"], 1002)
        self.server.start()
        await until(lambda: self.cache.health() == ("ok", ""))
        await until(lambda: self.cache.statistics()["cdb:waiting"] == 0)
        self.assertEqual(await self.cache.get("stays"), "new4")
        self.assertEqual(self.server.cli("DBSIZE"), "999")

    async def test_hanging(self) -> None:
        """A Redis that does not answer is given up, and gets the change later."""
        cache = await self.opened(self.server.url(), timeout=0.5)
        await until(lambda: cache.health() == ("ok", ""))
        self.server.signal(signal.SIGSTOP)
        try:
            cache.set("a", "1")
            cache.set("a", "2")
            self.assertEqual(await cache.get("a"), "2")
            started = CLOCK.seconds()
            self.assertEqual(await cache.get("b"), None)
            self.assertLess(CLOCK.seconds() - started, 2.0)
            await until(lambda: cache.health()[0] == "degraded")
            self.assertEqual(await cache.get("b"), None)
        finally:
            self.server.signal(signal.SIGCONT)
        await until(lambda: self.server.cli("GET", "a") == "2")

    async def test_wrong_password(self) -> None:
        """Degraded with a reason, and no exception for anybody."""
        cache = await self.opened(f"redis://:wrong@127.0.0.1:{self.server.port}/0")
        cache.set("a", "1")
        await until(lambda: "could not auth" in cache.health()[1])
        self.assertEqual(await cache.get("b"), None)

    async def test_no_server(self) -> None:
        """Neither a start nor a command fails."""
        cache = await self.opened("redis://127.0.0.1:1/0")
        cache.set("a", "1")
        cache.delete("b")
        self.assertEqual(await cache.get("a"), "1")
        self.assertEqual(await cache.get("b"), None)
        self.assertEqual(await cache.get("c"), None)
        self.assertEqual(cache.health(), ("degraded", f"cache {cache.url}: not connected"))


class ScriptlessServer(RedisServer):
    """One whose owner took EVAL away, as some that sell Redis do."""

    def command(self) -> list[str]:
        """What to run."""
        return [*super().command(), "--rename-command", "EVAL", ""]


class ScriptlessTests(TestCase):
    """Redis without scripts."""

    timeout = 60

    async def test_unknown_command(self) -> None:
        """Keys go one by one."""
        server = ScriptlessServer()
        self.addCleanup(server.remove)
        server.start()
        cache = RedisCache(server_url(server.url(), 6379), CLOCK, timeout=30.0)
        self.addCleanup(cache.stop)
        await cache.start()
        await until(lambda: cache.health() == ("ok", ""))
        for number in range(120):
            cache.set(f"k{number}", "x", 60)
        await until(lambda: cache.statistics()["cdb:waiting"] == 0)
        self.assertEqual(server.cli("DBSIZE"), "120")
        found = cache.statistics()
        self.assertEqual((found["cdb:failures"], found["cdb:dropped"]), (1, 0))


class SlowlyLoadingServer(RedisServer):
    """One that needs seconds to read its data when it starts again."""

    slow: Sequence[str] = ()

    def command(self) -> list[str]:
        """What to run."""
        return [*super().command(), "--dbfilename", "dump.rdb", *self.slow]


class LoadingTests(TestCase):
    """Redis reads its data."""

    timeout = 60

    async def test_loading(self) -> None:
        """It lets us in and refuses every command: what changes waits."""
        server = SlowlyLoadingServer()
        self.addCleanup(server.remove)
        self.addCleanup(self.flushLoggedErrors)
        server.start()
        server.cli(
            "MSET", *[word for number in range(3000) for word in (f"old{number}", "x" * 100)]
        )
        server.cli("SAVE")
        server.stop(signal.SIGKILL)
        delay = ("--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024")
        server.slow = delay
        server.start()
        cache = RedisCache(server_url(server.url(), 6379), CLOCK, timeout=30.0)
        self.addCleanup(cache.stop)
        await cache.start()
        cache.set("a", "1")
        await until(lambda: "LOADING" in cache.health()[1])
        cache.set("a", "2")
        cache.set("b", "2")
        await until(lambda: cache.statistics()["cdb:waiting"] == 0, 40)
        self.assertEqual(server.cli("MGET", "a", "b"), "2\n2")
        self.assertEqual(server.cli("DBSIZE"), "3002")
        self.assertEqual(cache.health(), ("ok", ""))
        self.assertEqual(cache.statistics()["cdb:dropped"], 0)


class SecureRedisServer(RedisServer):
    """Redis that speaks TLS only, with a certificate for 127.0.0.1 by an authority of its own."""

    def __init__(self) -> None:
        super().__init__()
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), 1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False
            )
            .sign(key, hashes.SHA256())
        )
        self.certificate = self.folder / "redis.pem"
        self.certificate.write_bytes(made.public_bytes(Encoding.PEM))
        self._key = self.folder / "redis.key"
        self._key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def command(self) -> list[str]:
        """What to run."""
        plain = super().command()
        plain[plain.index("--port")] = "--tls-port"
        files = ["--tls-cert-file", str(self.certificate), "--tls-key-file", str(self._key)]
        return [*plain, "--port", "0", *files, "--tls-auth-clients", "no"]

    def secure_url(self, ca_file: str = "") -> str:
        """Where it is."""
        url = self.url().replace("redis://", "rediss://")
        return f"{url}?ca_file={ca_file}" if ca_file else url


class SecureRedisTests(TestCase):
    """``rediss://``."""

    timeout = 60

    async def test_tls(self) -> None:
        """Values go to a server that the named authority signed, and to no other."""
        server = SecureRedisServer()
        self.addCleanup(server.remove)
        server.start()
        cache = RedisCache(server_url(server.secure_url(str(server.certificate)), 6379), CLOCK)
        stranger = RedisCache(server_url(server.secure_url(), 6379), CLOCK)
        for one in (cache, stranger):
            self.addCleanup(one.stop)
            await one.start()
        await until(lambda: cache.health() == ("ok", ""))
        cache.set("a", "secret")
        await until(lambda: cache.statistics()["cdb:waiting"] == 0)
        self.assertEqual(await cache.get("a"), "secret")
        await until(lambda: stranger.health()[0] == "degraded")
        self.assertEqual(await stranger.get("a"), None)
        self.flushLoggedErrors()

    def test_bad_files(self) -> None:
        """Told at the start."""
        empty = self.mktemp()
        open(empty, "w").close()
        for path, fault in (("/nowhere.pem", "No such file"), (empty, "no certificate in it")):
            error = self.assertRaises(
                ValueError, open_cache, f"rediss://127.0.0.1/0?ca_file={path}", CLOCK
            )
            self.assertIn(fault, str(error))
