"""The places on a FreeSWITCH node, shared by two PBX nodes."""

from __future__ import annotations

import sys

from pbx.sip.message import Request, Response
from tests.integration.cluster_case import ClusterCase, Node
from tests.integration.harness import PROJECT, free_port, until
from tests.integration.phone import Dialog, Phone

LIMIT = 5
USERS = [f"u{number}" for number in range(16)]


class ClusterLimitCase(ClusterCase):
    """One stand-in with room for LIMIT calls; the policy asks for the limit to be kept."""

    def setUp(self) -> None:
        super().setUp()
        policy = (PROJECT / "etc" / "routing.py").read_text()
        kept = policy.replace("INTERNAL, RESOURCE)", 'INTERNAL, RESOURCE, "s")')
        self.assertNotEqual(policy, kept)
        path = self.folder / "routing.py"
        path.write_text(kept)
        self.a, self.b = self.two(
            *USERS, routing={"policy": str(path)}, load_balancer={"probing_interval": 0}
        )
        internal, external = free_port(), free_port()
        arguments = ["127.0.0.1", str(internal), str(external), str(self.a.ports["udp"])]
        program = [sys.executable, "-m", "tests.integration.b2bua", *arguments, "--no-bridge"]
        self.run_program(program, "fs").wait_for("ready")
        self.a.sql(
            "INSERT INTO load_balancer (id, group_id, dst_uri, resources, probe_mode, description)"
            f" VALUES (1, 1, 'sip:127.0.0.1:{internal}', 'pstn={LIMIT}', 0, 'fs')"
        )
        for node in (self.a, self.b):
            until(node.load, "the stand-in is known", 6)

    def prepared(self, node: Node, user: str) -> tuple[Phone, Request]:
        """A phone with an INVITE that needs only to be sent."""
        phone = self.phone_at(node, user)
        invite = phone.make("INVITE", "sip:echo@pbx.test")
        phone.send(invite)
        challenged = phone.response(407)
        phone.acknowledge(invite, challenged)
        return phone, phone.again(invite, challenged)

    def rush(self, users: list[str]) -> list[tuple[Phone, Dialog]]:
        """Calls by way of both nodes in the same moment; those that got a place."""
        ready = [
            self.prepared(node, user)
            for node, user in zip((self.a, self.b) * len(users), users, strict=False)
        ]
        for phone, invite in ready:
            phone.send(invite)
        calls = []
        for phone, invite in ready:
            answer = self.final(phone)
            if answer.status == 200:
                calls.append((phone, phone.called(invite, answer)))
            else:
                self.assertEqual(answer.status, 503)
                phone.acknowledge(invite, answer)
        return calls

    def final(self, phone: Phone) -> Response:
        while True:
            found = phone.receive(10)
            if isinstance(found, Response) and found.status >= 200:
                return found

    def hang_up(self, calls: list[tuple[Phone, Dialog]]) -> None:
        for phone, dialog in calls:
            phone.send(phone.within(dialog, "BYE"))
            phone.response(200)

    def loads(self) -> list[int]:
        """Calls on the stand-in, as each node sees them."""
        return [load for node in self.nodes.values() for _, load in node.load().values()]

    def check_limit(self) -> None:
        for _ in range(3):
            calls = self.rush(USERS)
            self.assertEqual(len(calls), LIMIT)
            until(lambda: self.loads() == [LIMIT, LIMIT], "both know", 5)
            self.assertEqual(self.rush(USERS[:4]), [])
            self.hang_up(calls[:2])
            until(lambda: self.loads() == [LIMIT - 2] * 2, "both know", 5)
            more = self.rush(USERS[:6])
            self.assertEqual(len(more), 2)
            self.hang_up(calls[2:] + more)
            until(lambda: self.loads() == [0, 0], "all are free", 5)


class RedisLimitTests(ClusterLimitCase):
    def test_limit(self) -> None:
        """16 calls at once through two nodes: as many as there are places, over and over."""
        self.check_limit()

    def test_death(self) -> None:
        """The calls of a node that dies keep their places: its FreeSWITCH calls go on."""
        calls = self.rush(USERS)
        until(lambda: len(self.a.sql("SELECT 1 FROM dialog WHERE state = 4")) == LIMIT, "rows", 5)
        self.a.kill()
        del self.nodes["a"]
        taken_over = "took over"
        until(lambda: taken_over in self.b.output(), "b takes over", 8)
        until(lambda: self.b.statistic("dialog:active_dialogs") == LIMIT, "all calls", 5)
        # Past the time in which the dead are counted twice.
        until(lambda: "a" not in self.redis_server.cli("HKEYS", "pbx:count:lb:1"), "forgotten", 8)
        self.assertEqual(self.loads(), [LIMIT])
        self.assertEqual(self.rush_at_b(3), 0)
        self.assertEqual(len(calls), LIMIT)

    def rush_at_b(self, count: int) -> int:
        """How many of so many calls through b are taken."""
        taken = 0
        for user in USERS[:count]:
            phone, invite = self.prepared(self.b, user)
            phone.send(invite)
            taken += self.final(phone).status == 200
        return taken

    def test_redis_away(self) -> None:
        """Calls go on by what the nodes told each other last; and the count is right afterwards."""
        calls = self.rush(USERS[:4])
        self.assertEqual(len(calls), 4)
        until(lambda: self.loads() == [4, 4], "both know", 20)
        self.redis_server.stop()
        try:
            until(lambda: self.b.mi("status")["health"]["status"] == "degraded", "noticed", 30)
            self.assertEqual(self.rush_at_b(3), 1)
        finally:
            self.redis_server.start()
        until(lambda: self.a.mi("status")["health"]["status"] == "ok", "back", 60)
        until(lambda: self.loads() == [5, 5], "told again", 40)
        self.assertEqual(self.rush(USERS[:2]), [])
        key = ("HVALS", "pbx:count:lb:1")
        until(lambda: sum(map(int, self.redis_server.cli(*key).split())) == 5, "counted again", 20)


class PostgresLimitTests(ClusterLimitCase):
    """The same, counted in a table."""

    redis = False

    def test_limit(self) -> None:
        self.check_limit()
