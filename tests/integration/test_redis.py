"""The Redis cache against a real server."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTime
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
        self.assertEqual(self.server.cli("GET", "pbx.example:1001"), "sip:1001@192.0.2.1:5060")
        self.assertIn(int(self.server.cli("TTL", "pbx.example:1001")), range(55, 61))
        self.assertEqual(self.server.cli("TTL", "pbx.example:1002"), "-1")
        self.cache.delete("pbx.example:1001")
        self.assertEqual(await self.cache.get("pbx.example:1001"), None)

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
        self.assertEqual(await self.cache.get("stays"), None)
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
            started = CLOCK.seconds()
            self.assertEqual(await cache.get("a"), None)
            self.assertLess(CLOCK.seconds() - started, 2.0)
            self.assertEqual(cache.health()[0], "degraded")
        finally:
            self.server.signal(signal.SIGCONT)
        await until(lambda: self.server.cli("GET", "a") == "2")

    async def test_wrong_password(self) -> None:
        """Degraded with a reason, and no exception for anybody."""
        cache = await self.opened(f"redis://:wrong@127.0.0.1:{self.server.port}/0")
        cache.set("a", "1")
        await until(lambda: "could not auth" in cache.health()[1])
        self.assertEqual(await cache.get("a"), None)

    async def test_no_server(self) -> None:
        """Neither a start nor a command fails."""
        cache = await self.opened("redis://127.0.0.1:1/0")
        cache.set("a", "1")
        self.assertEqual(await cache.get("a"), None)
        self.assertEqual(cache.health(), ("degraded", f"cache {cache.url}: not connected"))


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
