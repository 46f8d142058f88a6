"""The reference deployment under load, with PostgreSQL restarted in the middle: nothing is missing in
the accounts, and nothing is there twice.
"""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IReactorUDP
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.integration.cluster_case import Node
from tests.integration.crowd import Crowd
from tests.integration.harness import PROJECT, Process, free_port
from tests.integration.servers import PostgresServer, RedisServer

CLOCK = IReactorTime(reactor)
SUBSCRIBERS = 10_000
CALLS, MESSAGES = 600, 1200
NODES = 2


class ReferenceRunTests(TestCase):
    timeout = 540

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pbx-test-"))
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.postgres, self.redis = PostgresServer(), RedisServer()
        for server in (self.postgres, self.redis):
            self.addCleanup(server.remove)
            server.start()
        self.postgres.sql("CREATE DATABASE opensips")
        self.pbx = self.started()
        self.addCleanup(self.pbx.stop)
        self.stand_ins()
        self.postgres.sql(
            "INSERT INTO subscriber (username, domain, password) SELECT 'u' || n, 'pbx.test',"
            f" 'secret' FROM generate_series(0, {SUBSCRIBERS - 1}) AS n",
            "opensips",
        )

    def started(self) -> Node:
        """The shipped configuration with addresses of loopback; whatever is a place in the file
        system lies in our folder; phones are pinged every 60 s and not every 10 s, to leave
        the processors to the calls.
        """
        text = (PROJECT / "etc" / "freeswitch-cluster.toml").read_text()
        tables: dict[str, dict[str, Any]] = tomllib.loads(text)
        pbx = Node(self.folder, tables)
        pbx.host, pbx.server, pbx.database = "127.0.0.11", self.postgres, "opensips"
        changed: dict[str, dict[str, Any]] = {
            "sip": {
                "domain": "pbx.test",
                "listen": [f"{kind}:127.0.0.11:0" for kind in ("udp", "tcp", "ws")],
            },
            "storage": {"database": self.postgres.url("opensips"), "cache": self.redis.url()},
            "routing": {"policy": str(PROJECT / "etc" / "routing.py")},
            "http": {"listen": ["tcp:127.0.0.1:0"]},
            "management": {"socket": str(self.folder / "pbx.sock")},
            "mi_fifo": {"fifo_name": str(self.folder / "fifo")},
            "nat_ping": {"interval": 60, "ping_from": "sip:pinger@127.0.0.11"},
        }
        for name, table in changed.items():
            pbx.tables[name].update(table)
        pbx.write_config()
        pbx.start()
        return pbx

    def stand_ins(self) -> None:
        """Two FreeSWITCHs, with the rows of the reference deployment."""
        for number in range(NODES):
            internal, external = free_port(), free_port()
            program = [sys.executable, "-m", "tests.integration.b2bua", "127.0.0.1"]
            ports = (internal, external, self.pbx.ports["udp"])
            process = Process(
                [*program, *map(str, ports), "--pbx-host", self.pbx.host],
                self.folder,
                f"fs{number}",
            )
            self.addCleanup(process.stop)
            process.wait_for("ready")
            for id, group, port in ((1 + number, 1, internal), (4 + number, 3, external)):
                self.pbx.sql(
                    "INSERT INTO load_balancer (id, group_id, dst_uri, resources, probe_mode,"
                    f" description) VALUES ({id}, {group}, 'sip:127.0.0.1:{port}',"
                    " 'vm=100;conf=100;transc=100;pstn=500', 1, 'FS')"
                )
            self.pbx.sql(
                "INSERT INTO dispatcher (id, setid, destination, weight, attrs, description)"
                f" VALUES ({1 + number}, 1, 'sip:127.0.0.1:{internal}', '50', 'fs', 'Gateway')"
            )

    async def until(self, question: Callable[[], bool], what: str, patience: float = 60.0) -> None:
        """Ask twice a second, in a thread: the crowd goes on meanwhile."""
        deadline = CLOCK.seconds() + patience
        while not await deferToThread(question):
            if CLOCK.seconds() > deadline:
                raise AssertionError(f"not in time: {what}\n{self.pbx.output()[-3000:]}")
            await self.pause(0.5)

    async def pause(self, seconds: float) -> None:
        await deferLater(CLOCK, seconds)

    async def at_once(self, workers: int, jobs: Iterator[Awaitable[None]]) -> None:
        """So many at a time, until there are no more."""

        async def work() -> None:
            for job in jobs:
                await job

        running = [Deferred.fromCoroutine(work()) for _ in range(workers)]
        for one in running:
            await one

    async def test_run(self) -> None:
        await self.until(lambda: len(self.pbx.load()) == 2 * NODES, "the nodes are known")
        known = f"u{SUBSCRIBERS - 1}@pbx.test"
        await self.until(lambda: bool(self.pbx.mi("auth_knows", known)), "the users are known")
        crowd = Crowd(CLOCK, (self.pbx.host, self.pbx.ports["udp"]))
        port = IReactorUDP(reactor).listenUDP(0, crowd, "127.0.0.1", maxPacketSize=65536)
        self.addCleanup(port.stopListening)
        self.addCleanup(crowd.end)
        await self.load(crowd)
        self.assertEqual(crowd.failures, [])
        self.assertEqual(
            (crowd.registered, crowd.calls, crowd.messages), (SUBSCRIBERS, CALLS, MESSAGES)
        )
        await self.until(self.drained, "everything is written", 90)
        self.compare(crowd)

    async def load(self, crowd: Crowd) -> None:
        users = [f"u{number}" for number in range(SUBSCRIBERS)]
        friends = 1000
        await self.at_once(20, (crowd.register(user) for user in users[:friends]))
        # Callees are never called twice at the same time.
        pairs = itertools.cycle(
            zip(users[: friends // 2], users[friends // 2 : friends], strict=True)
        )
        calls = (crowd.call(*pair, 1.0) for pair in itertools.islice(pairs, CALLS))
        chats = itertools.cycle(zip(users[:friends], reversed(users[:friends]), strict=True))
        messages = (crowd.message(*pair) for pair in itertools.islice(chats, MESSAGES))
        running = [
            Deferred.fromCoroutine(self.at_once(15, (crowd.register(u) for u in users[friends:]))),
            Deferred.fromCoroutine(self.at_once(15, calls)),
            Deferred.fromCoroutine(self.at_once(4, messages)),
        ]
        await self.restarted(crowd)
        for one in running:
            await one

    async def restarted(self, crowd: Crowd) -> None:
        """PostgreSQL goes away for some seconds in the middle of all that."""
        while crowd.registered < SUBSCRIBERS // 3 or crowd.calls < CALLS // 4:
            await self.pause(0.1)
        before = crowd.calls
        await deferToThread(self.postgres.stop)
        await self.until(
            lambda: bool(self.pbx.mi("status")["health"]["status"] == "degraded"), "seen"
        )
        await self.pause(4.0)
        self.assertGreater(crowd.calls, before, "calls while it was away")
        await deferToThread(self.postgres.start)

    def drained(self) -> bool:
        found = self.pbx.mi("get_statistics", ["storage:", "dialog:active_dialogs"])
        waiting = sum(number for name, number in found.items() if name.endswith("_queued"))
        healthy = self.pbx.mi("status")["health"]["status"] == "ok"
        return bool(healthy and waiting == 0 and found["dialog:active_dialogs"] == 0)

    def compare(self, crowd: Crowd) -> None:
        """Row by row, by Call-ID, method and status."""
        rows = self.pbx.sql("SELECT callid, method, sip_code FROM acc")
        written: Counter[tuple[str, str, str]] = Counter((a, b, c) for a, b, c in rows)
        self.assertEqual(written - crowd.done, Counter(), "too much or twice")
        self.assertEqual(crowd.done - written, Counter(), "missing")
        missed = Counter(
            (a, b) for a, b in self.pbx.sql("SELECT callid, sip_code FROM missed_calls")
        )
        self.assertEqual(missed, crowd.missed)
        self.assertEqual(self.pbx.sql("SELECT count(*) FROM cdr"), [(str(CALLS),)])
        busy = len(crowd.missed)
        self.assertEqual(len(rows), 4 * (CALLS - busy) + 2 * busy)
        disposition = "SELECT disposition, count(*) FROM cdr GROUP BY 1 ORDER BY 1"
        self.assertEqual(
            self.pbx.sql(disposition), [("answered", str(CALLS - busy)), ("busy", str(busy))]
        )
        self.assertEqual(self.pbx.sql("SELECT count(*) FROM location"), [(str(SUBSCRIBERS),)])
        self.assertEqual(self.pbx.sql("SELECT count(*) FROM dialog"), [("0",)])
        self.assertEqual([load for _, load in self.pbx.load().values()], [0] * 2 * NODES)
        dropped = self.pbx.mi("get_statistics", ["storage:"])
        self.assertEqual([name for name, n in dropped.items() if "dropped" in name and n], [])
        self.assertEqual(self.redis.cli("DBSIZE"), str(SUBSCRIBERS))
