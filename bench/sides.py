"""The sides of the comparison: a server and all that is its own, down to PostgreSQL and Redis.

What one of them leaves to be done later can so never be counted for the other.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import sipp
from bench.caches import Redis
from bench.databases import PostgreSQL, count_rows, fill_kamailio, fill_pbx
from bench.measure import cpu_seconds, pss_bytes
from bench.servers import DOMAIN, PASSWORD, PBX, PROJECT, Kamailio, Server

USERS = 10_000
#: kamailio's processes that take requests.
CHILDREN = 4
#: CPU seconds in half a second that count as nothing to do: two ticks of the kernel's clock.
NOTHING = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of work, at two rates; ``pause`` is how long a call lasts."""

    name: str
    title: str
    low: float
    high: float
    pause: float = 0.0
    #: The scenario of who answers, and whether that is the node; else it is the phones.
    answered_by: str = ""
    by_node: bool = False
    #: Rows of ``acc`` for each.
    rows: int = 0


SCENARIOS = (
    Scenario(name="options", title="OPTIONS to the server", low=2000, high=8000),
    Scenario(name="register", title="REGISTER, 401 then 200", low=1000, high=3000),
    Scenario(
        name="message",
        title="MESSAGE, 407 then relayed",
        low=500,
        high=1500,
        answered_by="take_message",
    ),
    Scenario(
        name="call",
        title="call INVITE..BYE through a node",
        low=200,
        high=400,
        pause=1.0,
        answered_by="answer",
        by_node=True,
        rows=2,
    ),
)
REGISTER = SCENARIOS[1]


class Side:
    """One of the compared, with ports from ``port`` on. Start it, stop it."""

    def __init__(self, name: str, folder: Path, port: int) -> None:
        self.name = name
        self.folder = folder
        folder.mkdir()
        folder.chmod(0o755)
        self.port, self._phone, self._node, self._caller = range(port, port + 4)
        self._store_ports = port + 4, port + 5
        self._fields = folder / "users.csv"
        self._stores: list[PostgreSQL | Redis] = []
        self._server: Server | None = None
        self.url = ""
        self._cache: Redis | None = None

    def start(self, database: str, site: Path | None) -> None:
        """Its stores, filled, and the server."""
        self.prepare(database)
        self.serve(site)

    def prepare(self, database: str) -> None:
        """Its stores, with schema and subscribers."""
        reached_at = f"127.0.0.1:{self._phone}"
        sipp.users_file(self._fields, USERS, DOMAIN, PASSWORD, reached_at)
        self._cache = Redis(self.folder, self._store_ports[1])
        self._stores.append(self._cache)
        if database == "postgres":
            postgres = PostgreSQL(self.folder, self._store_ports[0])
            self._stores.append(postgres)
            self.url = postgres.create(self.name)
        else:
            self.url = f"sqlite:{self.folder}/{self.name}.db"
        if self.name == Kamailio.name:
            fill_kamailio(self.url, USERS, DOMAIN, PASSWORD)
        else:
            fill_pbx(PROJECT, self.url, USERS, DOMAIN, PASSWORD, self._node)

    def serve(self, site: Path | None, more: Mapping[str, dict[str, object]] | None = None) -> None:
        """The server, and ``more`` tables for the PBX."""
        assert self._cache is not None
        folder, node = self.folder, self._node
        if self.name == Kamailio.name:
            self._server = Kamailio(folder, self.port, self.url, node, self._cache.port, CHILDREN)
        else:
            cache = self._cache.url()
            self._server = PBX(folder, self.port, self.url, node, cache=cache, site=site, more=more)
        self._server.start()

    def stop(self) -> None:
        """Everything, by PID."""
        if self._server is not None:
            self._server.stop()
        for store in self._stores:
            store.stop()

    # What it costs

    def cpu(self) -> tuple[float, float]:
        """CPU seconds so far: of the server; of database and cache."""
        assert self._server is not None
        return cpu_seconds(self._server.pids()), cpu_seconds([one.pid for one in self._stores])

    @property
    def pid(self) -> int:
        """Of the server's first process."""
        assert self._server is not None
        return self._server.pids()[0]

    def memory(self) -> int:
        """PSS of the server in bytes."""
        assert self._server is not None
        return sum(map(pss_bytes, self._server.pids()))

    def settle(self, limit: float) -> bool:
        """Wait until it has nothing to do; whether that came to be."""
        deadline = time.monotonic() + limit
        before = sum(self.cpu())
        while time.monotonic() < deadline:
            time.sleep(0.5)
            now = sum(self.cpu())
            if now - before <= NOTHING:
                return True
            before = now
        return False

    # What it has written

    def rows(self, table: str, since: str = "") -> int:
        """In its database; modified since then."""
        if self.url.startswith("sqlite:"):
            return 0
        return count_rows(self.url, (table,), since)[table]

    def written(self) -> str:
        """Rows and keys in all, so that nobody saves work by not doing it."""
        counts = ", ".join(f"{table} {self.rows(table)}" for table in ("location", "acc", "dialog"))
        keys = self._cache.keys() if self._cache is not None else 0
        return f"{self.name}: {counts}, cache {keys}"

    # Load

    def offer(
        self, scenario: Scenario, rate: float, seconds: float, until_fault: bool = False
    ) -> sipp.Outcome:
        """So many operations per second for so long."""
        return sipp.run(
            scenario.name,
            f"127.0.0.1:{self.port}",
            # Phones register from where messages reach them, whatever the server makes of NAT.
            self._phone if scenario is REGISTER else self._caller,
            self.folder,
            self._fields,
            rate=rate,
            seconds=seconds,
            pause=scenario.pause,
            until_fault=until_fault,
        )

    @contextmanager
    def answering(self, scenario: Scenario) -> Iterator[None]:
        """The node or the phones are there meanwhile."""
        if not scenario.answered_by:
            yield
            return
        port = self._node if scenario.by_node else self._phone
        process = subprocess.Popen(
            sipp.command(scenario.answered_by, "127.0.0.1", port, self.folder),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(0.5)
            yield
        finally:
            process.kill()
            process.wait()


def sides(folder: Path, port: int, peer: bool) -> Sequence[Side]:
    """Ours and, if it is wanted, the peer."""
    names = (PBX.name, Kamailio.name) if peer else (PBX.name,)
    return [Side(name, folder / name, port + 10 * at) for at, name in enumerate(names)]
