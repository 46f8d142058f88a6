"""A PostgreSQL standby and a Redis replica take over: the examples of docs/scaling.md at work."""

from __future__ import annotations

import signal
import subprocess
from functools import partial

from tests.integration.cluster_case import ClusterCase, Node
from tests.integration.harness import until
from tests.integration.phone import Phone
from tests.integration.servers import PostgresServer, RedisServer, Server


class Standby(PostgresServer):
    """A copy of another server that follows it."""

    def __init__(self, primary: PostgresServer) -> None:
        self._primary = primary
        super().__init__()

    def initialise(self) -> None:
        """By pg_basebackup instead of initdb."""
        backup = [str(self.programs / "pg_basebackup"), "-D", str(self.folder / "data"), "-R"]
        where = ["-h", "127.0.0.1", "-p", str(self._primary.port), "-U", "pbx", "-c", "fast"]
        subprocess.run([*self.as_user, *backup, *where], check=True, cwd="/")


class Replica(RedisServer):
    """Follows another Redis."""

    def __init__(self, master: RedisServer) -> None:
        super().__init__()
        self._master = master

    def command(self) -> list[str]:
        follows = ["--replicaof", "127.0.0.1", str(self._master.port)]
        return [*super().command(), *follows, "--masterauth", self.password]


class Sentinel(Server):
    """Watches a master and makes its replica the next one."""

    def __init__(self, master: RedisServer) -> None:
        super().__init__()
        (self.folder / "sentinel.conf").write_text(
            f"""port {self.port}
bind 127.0.0.1
dir {self.folder}
sentinel monitor pbx 127.0.0.1 {master.port} 1
sentinel auth-pass pbx "{master.password}"
sentinel down-after-milliseconds pbx 1000
sentinel failover-timeout pbx 10000
"""
        )

    def command(self) -> list[str]:
        return ["redis-server", str(self.folder / "sentinel.conf"), "--sentinel"]


class StandbyTests(ClusterCase):
    redis = False

    def configured(self, node: Node) -> None:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in (self.postgres, self.standby))
        node.tables["storage"]["database"] = f"postgresql://pbx@{hosts}/{self.database}"
        del node.tables["cluster"]

    def call(self, alice: Phone, bob: Phone) -> None:
        invite = alice.invite("bob")
        called = bob.answer(bob.request("INVITE"))
        alice.called(invite, alice.response(200))
        bob.request("ACK")
        bob.send(bob.within(called, "BYE"))
        alice.respond(alice.request("BYE"), 200)
        bob.response(200)

    def test_promotion(self) -> None:
        """Calls while there is no server, and after the promotion every row, none twice."""
        self.postgres = PostgresServer()
        self.addCleanup(self.postgres.remove)
        self.postgres.start()
        self.postgres.sql(f"CREATE DATABASE {self.database}")
        self.standby = Standby(self.postgres)
        self.addCleanup(self.standby.remove)
        self.standby.start()
        pbx = self.node("")
        self.users("alice", "bob")
        alice, bob = self.registered_at(pbx, "alice"), self.registered_at(pbx, "bob")
        count = "SELECT count(*), count(DISTINCT callid || method) FROM acc"
        for _ in range(3):
            self.call(alice, bob)
        until(lambda: self.standby.sql(count, self.database) == "6|6", "replicated", 20)
        self.postgres.stop(signal.SIGKILL)
        for _ in range(3):
            self.call(alice, bob)
        until(lambda: pbx.mi("status")["health"]["status"] == "degraded", "noticed", 10)
        self.standby.sql("SELECT pg_promote()")
        until(lambda: pbx.mi("status")["health"]["status"] == "ok", "the new primary", 40)
        self.call(alice, bob)
        until(lambda: self.standby.sql(count, self.database) == "14|14", "all rows", 30)
        self.standby.sql(
            "INSERT INTO subscriber (username, domain, password)"
            " VALUES ('carol', 'pbx.test', 'secret')",
            self.database,
        )
        until(lambda: pbx.mi("auth_knows", "carol@pbx.test"), "news come from there", 10)


class SentinelTests(ClusterCase):
    def configured(self, node: Node) -> None:
        master = self.master
        hosts = f"127.0.0.1:{master.port},127.0.0.1:{self.replica.port}"
        node.tables["storage"]["cache"] = f"redis://:{master.password}@{hosts}/0"
        node.tables["registrar"] = {"contact_cache": True}

    def is_(self, node: Node, word: str) -> bool:
        return bool(node.mi("status")["health"]["status"] == word)

    def test_promotion(self) -> None:
        """The nodes hear each other again, and the cache is filled there."""
        self.master = RedisServer()
        self.replica = Replica(self.master)
        self.sentinel = Sentinel(self.master)
        for server in (self.master, self.replica, self.sentinel):
            self.addCleanup(server.remove)
            server.start()
        until(lambda: "master_link_status:up" in self.replica.cli("INFO"), "replication", 20)
        a, b = self.two("alice", "bob")
        bob = self.registered_at(a, "bob", "tcp")
        alice = self.registered_at(b, "alice")
        known = "slaves=1"
        asked = ["redis-cli", "-p", str(self.sentinel.port), "INFO", "sentinel"]
        until(lambda: known in subprocess.check_output(asked, text=True), "it knows both", 20)
        self.master.stop(signal.SIGKILL)
        for node in (a, b):
            until(partial(self.is_, node, "degraded"), "noticed", 10)
        # Nobody was declared dead for the silence, so the way between the nodes is used.
        invite = alice.invite("bob")
        bob.respond(bob.request("INVITE"), 486)
        alice.acknowledge(invite, alice.response(486))
        bob.request("ACK")
        for node in (a, b):
            until(partial(self.is_, node, "ok"), "the new master", 40)
        self.assertIn("role:master", self.replica.cli("INFO"))
        alice.register()
        until(lambda: self.replica.cli("GET", "pbx.test:alice") == alice.contact, "cached", 10)
        carol = "carol"
        self.users(carol)
        self.registered_at(a, carol)
