"""PostgreSQL and Redis fail in every way that there is, and phones notice nothing."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from tests.integration.cluster_case import ClusterCase, Node
from tests.integration.gate import Gate
from tests.integration.harness import ENVIRONMENT, PROJECT, until
from tests.integration.phone import Phone
from tests.integration.servers import PostgresServer, RedisServer


class FaultCase(ClusterCase):
    """One PBX with servers of its own, behind gates; alice and bob are registered."""

    def setUp(self) -> None:
        super().setUp()
        self.postgres = PostgresServer()
        self.addCleanup(self.postgres.remove)
        self.postgres.start()
        self.postgres.sql(f"CREATE DATABASE {self.database}")
        self.redis_server = RedisServer()
        self.addCleanup(self.redis_server.remove)
        self.redis_server.start()
        self.to_postgres = self.gate(self.postgres.port)
        self.to_redis = self.gate(self.redis_server.port)
        self.pbx_ = self.node("", self.tables())
        self.users("alice", "bob")
        self.alice = self.registered_at(self.pbx_, "alice")
        self.bob = self.registered_at(self.pbx_, "bob")
        self.calls = 0

    def gate(self, port: int) -> Gate:
        gate = Gate(port)
        gate.start()
        self.addCleanup(gate.end)
        return gate

    def tables(self) -> dict[str, dict[str, Any]]:
        return {"registrar": {"contact_cache": True}}

    def node(self, name: str, *args: Any, **named: Any) -> Node:
        """Alone: no cluster."""
        self.redis = False
        return super().node(name, *args, **named)

    def configured(self, node: Node) -> None:
        url = f"postgresql://pbx@127.0.0.1:{self.to_postgres.port}/{self.database}"
        node.tables["storage"]["database"] = url
        node.tables["storage"]["cache"] = (
            f"redis://:{self.redis_server.password}@127.0.0.1:{self.to_redis.port}/0"
        )
        del node.tables["cluster"]

    # What users and operators see

    def call(self) -> None:
        """Alice calls bob; two rows of acc and one cdr will come of it."""
        began = time.monotonic()
        invite = self.alice.invite("bob")
        called = self.bob.answer(self.bob.request("INVITE"))
        self.alice.called(invite, self.alice.response(200))
        self.bob.request("ACK")
        self.bob.send(self.bob.within(called, "BYE"))
        self.alice.respond(self.alice.request("BYE"), 200)
        self.bob.response(200)
        self.calls += 1
        self.assertLess(time.monotonic() - began, 4.0)

    def everything_works(self) -> None:
        """Those who are known register and call without delay."""
        for phone in (self.alice, self.bob):
            began = time.monotonic()
            phone.register()
            self.assertLess(time.monotonic() - began, 2.0)
        self.call()

    def stranger(self, user: str = "carol") -> tuple[int, str]:
        """Status and Retry-After for a subscriber that the PBX cannot know."""
        phone = self.phone_at(self.pbx_, user)
        contact = [("Contact", f"<{phone.contact}>")]
        phone.authenticated(phone.make("REGISTER", "sip:pbx.test", to=phone.aor, headers=contact))
        answer = phone.receive()
        return getattr(answer, "status", 0), answer.get("retry-after") or ""

    def health(self) -> dict[str, Any]:
        """What GET /health says; it is 200 as long as calls are served."""
        web = self.pbx_.mi("status")["web"].rstrip("/")
        with urllib.request.urlopen(f"{web}/health", timeout=10) as answer:
            self.assertEqual(answer.status, 200)
            found: dict[str, Any] = json.load(answer)
        return found

    def degraded(self, *reasons: str) -> Callable[[], bool]:
        def asked() -> bool:
            found = self.health()
            text = json.dumps(found)
            return found["status"] == "degraded" and any(reason in text for reason in reasons)

        return asked

    def recovered(self) -> None:
        """Healthy again, and every row is there once."""
        until(lambda: self.health()["status"] == "ok", "healthy again", 40)
        until(lambda: self.rows("acc") >= 2 * self.calls, "acc rows", 30)
        until(lambda: self.rows("pbx_cdr") >= self.calls, "cdrs", 30)
        self.assertEqual((self.rows("acc"), self.rows("pbx_cdr")), (2 * self.calls, self.calls))
        until(lambda: self.rows("location") == 2, "bindings", 15)
        until(lambda: self.stranger() == (200, ""), "new subscribers are known", 15)

    def rows(self, table: str) -> int:
        return int(self.pbx_.sql(f"SELECT count(*) FROM {table}")[0][0])

    def add_stranger(self) -> None:
        self.postgres.sql(
            "INSERT INTO subscriber (username, domain, password)"
            " VALUES ('carol', 'pbx.test', 'secret')",
            self.database,
        )


class PostgresFaultTests(FaultCase):
    """Registered users keep registering and calling, whatever happens to the database."""

    def test_stopped_and_restarted(self) -> None:
        self.add_stranger()
        self.postgres.stop()
        until(self.degraded("database"), "noticed", 10)
        self.everything_works()
        self.assertEqual(self.stranger("dave"), (500, "10"))
        shown = subprocess.run(
            [str(PROJECT / ".venv/bin/pbxctl"), "-c", str(self.pbx_.config), "status"],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            check=False,
        ).stdout
        self.assertIn("degraded", shown)
        self.assertIn("database", shown)
        self.postgres.start()
        self.recovered()

    def test_refuses_connections(self) -> None:
        """The server is there and lets nobody in; then there is only a closed port."""
        self.postgres.sql(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS false")
        self.postgres.sql(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname='{self.database}'"
        )
        until(self.degraded("not currently accepting connections"), "the reason", 15)
        self.everything_works()
        self.assertEqual(self.stranger(), (500, "10"))
        self.postgres.sql(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS true")
        until(lambda: self.health()["status"] == "ok", "healthy again", 40)
        self.to_postgres.refuse = True
        until(self.degraded("database"), "noticed", 15)
        self.everything_works()
        self.to_postgres.refuse = False
        self.add_stranger()
        self.recovered()

    def test_slow(self) -> None:
        """5 s per query: nothing that a phone does waits for any."""
        self.to_postgres.delay = 5.0
        self.everything_works()
        until(self.degraded("answers take"), "noticed", 30)
        self.add_stranger()
        self.assertEqual(self.stranger("dave"), (500, "10"))
        for _ in range(3):
            self.everything_works()
        self.to_postgres.delay = 0.0
        self.recovered()

    def test_hangs(self) -> None:
        """No answer at all, and connections that stand."""
        self.postgres.signal(signal.SIGSTOP)
        self.to_postgres.delay = 3600.0
        try:
            self.everything_works()
            until(self.degraded("no answer in time", "database"), "noticed", 40)
            self.assertEqual(self.stranger(), (500, "10"))
            self.everything_works()
        finally:
            self.to_postgres.delay = 0.0
            self.postgres.signal(signal.SIGCONT)
        self.to_postgres.cut()
        self.add_stranger()
        self.recovered()

    def test_disk_full(self) -> None:
        """Reading works, writing does not: rows wait until there is room."""
        with self.small_disk() as fill:
            fill(True)
            self.everything_works()
            until(self.degraded("space", "full"), "noticed", 15)
            self.everything_works()
            fill(False)
            self.add_stranger()
            self.recovered()

    @contextlib.contextmanager
    def small_disk(self) -> Iterator[Callable[[bool], None]]:
        """The tables that are written to lie on a disk of 4 MB, which can be filled and emptied.

        Who may not mount one gets the error of a full disk from a trigger.
        """
        folder = self.postgres.folder / "small"
        folder.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0777", "none", str(folder)],
            check=False,
            capture_output=True,
        )
        tables = ("acc", "pbx_cdr", "dialog", "location")
        if mounted.returncode:
            self.sql(
                "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE"
                " 'could not extend file: No space left on device' USING ERRCODE = '53100';"
                " END $$"
            )
            for table in tables:
                self.sql(
                    f"CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON {table}"
                    " FOR EACH STATEMENT EXECUTE FUNCTION full_disk();"
                    f" ALTER TABLE {table} DISABLE TRIGGER full_disk"
                )

            def by_trigger(full: bool) -> None:
                for table in tables:
                    word = "ENABLE" if full else "DISABLE"
                    self.sql(f"ALTER TABLE {table} {word} TRIGGER full_disk")

            yield by_trigger
            return
        inner = folder / "data"
        inner.mkdir()
        inner.chmod(0o700)
        subprocess.run(["chown", "postgres", str(inner)], check=True)
        self.postgres.sql(f"CREATE TABLESPACE small LOCATION '{inner}'")
        for table in tables:
            self.sql(f"ALTER TABLE {table} SET TABLESPACE small")
        filler = inner / "filler"

        def by_file(full: bool) -> None:
            if not full:
                filler.unlink()
                return
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))

        try:
            yield by_file
        finally:
            self.pbx_.stop()
            self.postgres.stop()
            subprocess.run(["umount", "-l", str(folder)], check=False)

    def sql(self, statement: str) -> str:
        return self.postgres.sql(statement, self.database)

    def test_more_than_the_bound(self) -> None:
        """What is dropped beyond the bound is counted and logged; the rest is written."""
        self.pbx_.stop()
        self.pbx_.tables["storage"]["queue_limit"] = 5
        self.pbx_.write_config()
        self.pbx_.start()
        for phone in (self.alice, self.bob):
            phone.close()
        self.alice = self.registered_at(self.pbx_, "alice")
        self.bob = self.registered_at(self.pbx_, "bob")
        self.postgres.stop()
        until(self.degraded("database"), "noticed", 10)
        for _ in range(6):
            self.call()
        until(lambda: self.pbx_.statistic("storage:acc_dropped") >= 5, "counted", 5)
        self.postgres.start()
        until(lambda: self.health()["status"] == "ok", "healthy again", 40)
        until(lambda: self.rows("acc") >= 5, "acc rows", 20)
        self.assertIn("changes of acc were dropped", self.pbx_.output())
        self.assertLess(self.rows("acc"), 12)


class RedisFaultTests(FaultCase):
    """Redis is never waited for."""

    def cached(self, phone: Phone) -> str:
        return self.redis_server.cli("GET", f"pbx.test:{phone.user}")

    def check(self) -> None:
        self.everything_works()

    def made_up(self) -> None:
        """Healthy, and the contact of the last REGISTER is there."""
        until(lambda: self.health()["status"] == "ok", "healthy again", 40)
        until(lambda: self.cached(self.alice) == self.alice.contact, "the contact", 10)

    def test_stopped_and_restarted(self) -> None:
        until(lambda: self.cached(self.alice) == self.alice.contact, "the contact", 10)
        self.redis_server.stop()
        until(self.degraded("cache"), "noticed", 10)
        self.everything_works()
        self.redis_server.start()
        self.made_up()

    def test_slow_and_hanging(self) -> None:
        self.to_redis.delay = 5.0
        self.everything_works()
        until(self.degraded("cache"), "noticed", 20)
        self.everything_works()
        self.to_redis.delay = 0.0
        self.redis_server.cli("FLUSHALL")
        self.everything_works()
        self.made_up()
        self.redis_server.signal(signal.SIGSTOP)
        try:
            self.everything_works()
            until(self.degraded("cache"), "noticed", 20)
            self.everything_works()
        finally:
            self.redis_server.signal(signal.SIGCONT)
        self.made_up()

    def test_refuses_connections(self) -> None:
        """By a closed port, and by another password."""
        self.to_redis.refuse = True
        until(self.degraded("cache"), "noticed", 10)
        self.everything_works()
        self.redis_server.cli("CONFIG", "SET", "requirepass", "other")
        self.to_redis.refuse = False
        until(self.degraded("could not auth"), "the reason", 15)
        self.everything_works()
        right, self.redis_server.password = self.redis_server.password, "other"
        self.redis_server.cli("CONFIG", "SET", "requirepass", right)
        self.redis_server.password = right
        self.made_up()

    def test_memory_full(self) -> None:
        """Redis takes no more keys; the next REGISTER after that is stored again."""
        self.redis_server.cli("CONFIG", "SET", "maxmemory", "1")
        self.everything_works()
        until(lambda: self.pbx_.statistic("cdb:failures") > 0, "counted", 10)
        self.redis_server.cli("CONFIG", "SET", "maxmemory", "0")
        self.everything_works()
        self.made_up()
