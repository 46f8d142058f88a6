"""Several PBX processes on one PostgreSQL and one Redis, each on a loopback address of its own."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

from tests.integration.harness import PBX, PBXTestCase, until
from tests.integration.phone import Datagrams, Phone, Stream, WebSocket
from tests.integration.servers import (
    PostgresServer,
    RedisServer,
    postgres_server,
    redis_server,
)

_NUMBERS = itertools.count(1)
WAYS: dict[str, type[Datagrams | Stream | WebSocket]] = {
    "udp": Datagrams,
    "tcp": Stream,
    "ws": WebSocket,
}


class Node(PBX):
    """One node; ``name`` is its folder as well."""

    name = ""
    server: PostgresServer
    database = ""

    def sql(self, statement: str, *params: object) -> list[tuple[Any, ...]]:
        """A statement on the shared database, values as texts."""
        for value in params:
            quoted = str(value).replace("'", "''")
            statement = statement.replace("?", f"'{quoted}'", 1)
        text = self.server.sql(statement, self.database)
        return [tuple(line.split("|")) for line in text.splitlines()]


class ClusterCase(PBXTestCase):
    """`node` starts one more; all share a new database and, unless ``redis`` is False, Redis."""

    redis = True

    def setUp(self) -> None:
        super().setUp()
        self.postgres: PostgresServer = postgres_server()
        self.database = f"cluster{next(_NUMBERS)}"
        self.postgres.sql(f"CREATE DATABASE {self.database}")
        self.redis_server: RedisServer = redis_server()
        self.redis_server.cli("FLUSHALL")
        self.nodes: dict[str, Node] = {}
        self._hosts = itertools.count(11)

    def node(
        self,
        name: str,
        tables: dict[str, dict[str, Any]] | None = None,
        host: str = "",
        listen: list[str] | None = None,
    ) -> Node:
        """A running node of that name."""
        folder = self.folder / f"{name}{len(self.nodes)}"
        folder.mkdir()
        host = host or f"127.0.0.{next(self._hosts)}"
        # The way to the socket of a node must be short.
        node = Node(folder, tables)
        node.name, node.server, node.database = name, self.postgres, self.database
        node.host = host
        node.tables["sip"]["listen"] = listen or [f"{kind}:{host}:0" for kind in WAYS]
        node.tables["storage"]["database"] = self.postgres.url(self.database)
        if self.redis:
            node.tables["storage"]["cache"] = self.redis_server.url()
        node.tables.setdefault("cluster", {})["node"] = name
        node.tables.setdefault("proxy", {}).setdefault("fr_timeout", 2.0)
        self.configured(node)
        node.write_config()
        self._started.append(node)
        node.start()
        self.nodes[name] = node
        return node

    def configured(self, node: Node) -> None:
        """Last changes to the tables of a node."""

    def two(self, *users: str, **tables: Any) -> tuple[Node, Node]:
        """Nodes a and b that know each other, and these users."""
        a, b = self.node("a", tables), self.node("b", tables)
        self.acquainted(a, b)
        self.users(*users)
        return a, b

    def acquainted(self, *nodes: Node) -> None:
        """Until every one knows all others."""
        for node in nodes:
            others = {other.name for other in nodes} - {node.name}
            until(partial(self._sees, node, others), "nodes meet", 15)

    def _sees(self, node: Node, others: set[str]) -> bool:
        return self.living(node) >= others

    def living(self, node: Node) -> set[str]:
        """Names of the other nodes that live, as a node sees it."""
        listed = node.mi("node_list")["others"]
        return {one["name"] for one in listed if one["alive"] and one["address"]}

    def users(self, *names: str) -> None:
        """Subscribers by SQL, known to all nodes."""
        if not names:
            return
        rows = ", ".join(f"('{name}', 'pbx.test', 'secret')" for name in names)
        self.postgres.sql(
            f"INSERT INTO subscriber (username, domain, password) VALUES {rows}", self.database
        )
        for node in self.nodes.values():
            question = partial(node.mi, "auth_knows", f"{names[-1]}@pbx.test")
            until(question, "the users are known", 6)

    def phone_at(self, node: Node, user: str, kind: str = "udp") -> Phone:
        """A phone of a user that talks to this node, not registered."""
        phone = Phone(user, WAYS[kind](node.host, node.ports[kind]), "secret")
        self.addCleanup(phone.close)
        return phone

    def registered_at(self, node: Node, user: str, kind: str = "udp") -> Phone:
        """A phone that is registered at this node and known to all."""
        phone = self.phone_at(node, user, kind)
        phone.register()
        for other in self.nodes.values():
            self.known_at(other, user)
        return phone

    def known_at(self, node: Node, user: str) -> None:
        """Until a node knows where the user is."""
        until(lambda: self.contacts(node, user), f"{user} is known at {node.name}", 5)

    def contacts(self, node: Node, user: str) -> list[dict[str, Any]]:
        """The contacts of a user as a node knows them."""
        try:
            found: list[dict[str, Any]] = node.mi(
                "ul_show_contact", "location", f"{user}@pbx.test"
            )["Contacts"]
        except ValueError:
            return []
        return found
