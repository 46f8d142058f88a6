"""The nodes that share a database: signs of life, news, and the way from one to the other.

Memory of one node is never asked by another: what all must know travels as news over the bus, and
the database is the place to look when news may have been lost.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from pbx.errors import DatabaseError, Kind
from pbx.events import NewsLost, NewsUnheard, NodeChanged
from pbx.interfaces import (
    IBus,
    ICluster,
    ICommands,
    IDatabase,
    IEvents,
    IFlows,
    IHealth,
    INode,
    IStartable,
    IStatistics,
    ITrusted,
)
from pbx.services.cluster.nodes import PREFIX, Node, Routes, Word
from pbx.services.cluster.settings import ClusterSettings
from pbx.sip.address import Address
from pbx.sip.uri import URI, join_host_port, split_host_port
from pbx.timing import Periodic
from pbx.verdicts import Relay, Reply, Target, Verdict

_SECRET: Final = "cluster.secret"
#: More names than these are not nodes but somebody's mistake.
MAX_NODES: Final = 256
_FOREIGN: Final = Reply(403, "Not A Node")
#: Between nodes: RFC 5626 section 11.6. The caller hears 480.
_GONE: Final = Reply(430, "Flow Failed")


@implementer(ICluster, IStartable, IHealth, IStatistics, ICommands, ITrusted)
class Cluster:
    """Tells the others that we live, and our parts when another node does not."""

    log = Logger()

    def __init__(
        self,
        settings: ClusterSettings,
        bus: IBus,
        database: IDatabase,
        flows: IFlows,
        events: IEvents,
        clock: IReactorTime,
        own_hosts: Callable[[], frozenset[str]],
    ) -> None:
        self.name = settings.node
        self._settings = settings
        self._bus = bus
        self._database = database
        self._flows = flows
        self._events = events
        self._clock = clock
        self._own_hosts = own_hosts
        self._boot = secrets.token_hex(8)
        self._number = 0
        self._nodes: dict[str, Node] = {}
        self._hosts: frozenset[str] = frozenset()
        self._sockets: frozenset[tuple[str, int]] = frozenset()
        self._topics: dict[str, list[Callable[[INode, Any], object]]] = {}
        self._find: Callable[[str, int], Target | None] = lambda aor, contact_id: None
        self._routes = Routes(secrets.token_bytes(32))
        self._echo = clock.seconds()
        self._retry = 0.0
        self._hearing = True
        self._namesake = ""
        self._periodic = Periodic(clock, settings.heartbeat, self._beat)
        self.said = self.heard = self.lost = self.garbled = 0
        self.delivered = self.refused = 0
        bus.deliver_to(self._received)

    # IStartable

    async def start(self) -> None:
        """Get the secret of all nodes, then talk."""
        insert = "INSERT INTO pbx_state (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING"
        await self._database.execute(insert, (_SECRET, secrets.token_hex(32)))
        select = "SELECT value FROM pbx_state WHERE name = ?"
        rows = await self._database.query(select, (_SECRET,))
        try:
            self._routes = Routes(bytes.fromhex(str(rows[0][0])))
        except (IndexError, ValueError):
            raise DatabaseError(Kind.REFUSED, f"pbx_state {_SECRET}: expected a key") from None
        self._echo = self._clock.seconds()
        await self._bus.start()
        self._periodic.start()
        self._beat()

    async def stop(self) -> None:
        """Say good-bye, so that the others need not wait to find out."""
        self._periodic.stop()
        self._say("leaving", None)
        await self._bus.stop()

    # ICluster

    def node(self, name: str) -> Node:
        """Another node, heard of or not."""
        found = self._nodes.get(name)
        if found is None:
            found = Node(name, self._clock.seconds())
            if len(self._nodes) < MAX_NODES:
                self._nodes[name] = found
        return found

    def publish(self, topic: str, body: object) -> None:
        """Say something to the other nodes."""
        self._say(topic, body)

    def listen(self, topic: str, handler: Callable[[INode, Any], object]) -> None:
        """Call with what other nodes say."""
        self._topics.setdefault(topic, []).append(handler)

    def leads(self) -> bool:
        """The first of those that live, by name."""
        return all(self.name < node.name for node in self._nodes.values() if node.alive)

    def is_node(self, peer: Address) -> bool:
        """Whether packets from there come from another node."""
        if peer.transport == "UDP":
            return (peer.host, peer.port) in self._sockets
        return peer.host in self._hosts

    def trusted_hosts(self) -> Iterable[str]:
        """The addresses of the other nodes: they relay for all our users."""
        return self._hosts

    def deliver_with(self, find: Callable[[str, int], Target | None]) -> None:
        """How to reach a binding of ours."""
        self._find = find

    def route_to(self, node: INode, aor: str, contact_id: int) -> str:
        """The Route by which a node reaches its binding; "" when nobody knows where it is."""
        where = self.node(node.name).where
        return self._routes.value(node.name, where, aor, contact_id) if where else ""

    def forwarded(self, route: URI, peer: Address) -> Verdict | None:
        """An initial request that another node sends to a binding of ours."""
        if not route.user.startswith(PREFIX):
            return None
        named = self._routes.read(self.name, route) if self.is_node(peer) else None
        if named is None:
            self.refused += 1
            self.log.warn("{peer} is no node and used a route of nodes", peer=peer.socket)
            return _FOREIGN
        self.delivered += 1
        target = self._find(*named)
        return _GONE if target is None else Relay((target,))

    # Saying

    def _say(self, topic: str, body: object) -> None:
        self._number += 1
        text = Word(self.name, self._boot, self._number, topic, body).text()
        if len(text) > self._bus.limit:
            self._number -= 1
            if not isinstance(body, list) or len(body) < 2:
                self.log.error("{topic} is too long to be said", topic=topic)
                return
            middle = len(body) // 2
            self._say(topic, body[:middle])
            self._say(topic, body[middle:])
            return
        self.said += 1
        self._bus.publish(text)

    def _beat(self) -> None:
        """Once a second: a sign of life, and a look at who gave none."""
        now = self._clock.seconds()
        listeners = self._flows.listeners()
        own = [list(at) for at in listeners]
        self._say("alive", [self._where(listeners), sorted(self._own_hosts()), own])
        silent = now - self._echo > self._settings.dead_after
        if silent or not self._bus.connected:
            if self._hearing:
                self._hearing = False
                self.log.error("the other nodes are not heard: {why}", why=self._why())
            if silent and self._bus.connected and now >= self._retry:
                # The connection looks well and is not.
                self._retry = now + self._settings.dead_after
                self._bus.reconnect()
            return
        if not self._hearing:
            self._hearing = True
            self.log.info("the other nodes can be heard again")
            for node in self._nodes.values():
                node.seen = max(node.seen, now)
            self._events.publish(NewsLost())
        for node in list(self._nodes.values()):
            if node.alive and now - node.seen > self._settings.dead_after:
                self._changed(node, False)

    def _where(self, listeners: Sequence[Address]) -> str:
        if self._settings.address:
            host, port = split_host_port(self._settings.address)
            return join_host_port(host, port or 5060)
        for at in listeners:
            if at.transport in ("UDP", "TCP") and at.host not in ("0.0.0.0", "::"):
                return join_host_port(at.host, at.port)
        return ""

    def _why(self) -> str:
        return self._bus.trouble or "nothing comes over the bus"

    # Hearing

    def _received(self, text: str) -> None:
        try:
            word = Word.read(text)
        except (ValueError, RecursionError):
            self.garbled += 1
            return
        now = self._clock.seconds()
        if word.node == self.name:
            if word.boot == self._boot:
                self._echo = now
            elif not self._namesake and word.topic != "leaving":
                self._namesake = word.boot
                self.log.error("another node calls itself {name} too", name=self.name)
            return
        if self._settings.peers and word.node not in self._settings.peers:
            self.garbled += 1
            return
        self.heard += 1
        node = self.node(word.node)
        node.seen = now
        missed = node.boot == word.boot and word.number != node.number + 1
        node.boot, node.number = word.boot, word.number
        if word.topic == "leaving":
            node.left = True
            if node.alive:
                self._changed(node, False)
            return
        if word.topic == "alive":
            self._moved(node, word.body)
        if not node.alive or not node.where:
            return
        if missed:
            self.lost += 1
            # What is in no database only the node itself can tell.
            self._say("missed", node.name)
            self._events.publish(NewsLost())
        if word.topic == "missed" and word.body == self.name:
            self._events.publish(NewsUnheard())
        for handler in self._topics.get(word.topic, ()):
            try:
                handler(node, word.body)
            except (ValueError, TypeError, KeyError, AttributeError):
                self.garbled += 1
                self.log.failure("what {node} said is not understood", node=node.name)

    def _moved(self, node: Node, body: Any) -> None:
        """A sign of life says where the node is."""
        try:
            where, hosts, listeners = body
            sockets = frozenset(
                (str(host), int(port))
                for transport, bound, port in listeners
                if transport == "UDP"
                for host in ({bound} if bound not in ("0.0.0.0", "::") else hosts)
            )
            all_hosts = {str(bound) for _, bound, _ in listeners}
        except (ValueError, TypeError):
            self.garbled += 1
            return
        if all_hosts & {"0.0.0.0", "::"}:
            all_hosts.update(map(str, hosts))
        came = not node.alive or not node.where
        if node.where != where or node.sockets != sockets or node.hosts != all_hosts:
            node.where, node.sockets, node.hosts = str(where), sockets, frozenset(all_hosts)
            self._hosts = frozenset[str]().union(*(one.hosts for one in self._nodes.values()))
            self._sockets = frozenset[tuple[str, int]]().union(
                *(one.sockets for one in self._nodes.values())
            )
        if came and node.where:
            node.left = False
            self._changed(node, True)

    def _changed(self, node: Node, alive: bool) -> None:
        node.alive = alive
        word = "is here" if alive else "left" if node.left else "does not answer any more"
        self.log.info("node {name} {word}", name=node.name, word=word)
        self._events.publish(NodeChanged(node, alive))

    # What others ask

    def health(self) -> tuple[str, str]:
        """Degraded while the others are not heard, or one of them is gone."""
        if self._namesake:
            return "degraded", f"another node calls itself {self.name} too"
        if not self._hearing:
            return "degraded", f"the other nodes are not heard: {self._why()}"
        dead = [node.name for node in self._nodes.values() if not node.alive and not node.left]
        if dead:
            return "degraded", f"node {', '.join(sorted(dead))} does not answer"
        return "ok", ""

    def statistics(self) -> Mapping[str, int]:
        """Group ``cluster``."""
        return {
            "cluster:nodes_used": 1 + sum(node.alive for node in self._nodes.values()),
            "cluster:said": self.said,
            "cluster:heard": self.heard,
            "cluster:missed": self.lost,
            "cluster:garbled": self.garbled,
            "cluster:delivered": self.delivered,
            "cluster:refused": self.refused,
        }

    def commands(self) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """``node_list``."""
        return [("node_list", ((),), self._list)]

    def _list(self) -> object:
        """All nodes, our own first."""
        now = self._clock.seconds()
        nodes = [
            {
                "name": node.name,
                "address": node.where,
                "alive": node.alive,
                "silent": round(now - node.seen, 1),
            }
            for node in sorted(self._nodes.values(), key=lambda node: node.name)
        ]
        own = self._where(self._flows.listeners())
        return {"name": self.name, "address": own, "hearing": self._hearing, "others": nodes}
