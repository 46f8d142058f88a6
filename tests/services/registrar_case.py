"""A registrar on a database in memory, and REGISTER requests from short texts."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pbx.events import Events, FlowClosed, Registered, Unregistered
from pbx.interfaces import IDatabase, IDomains
from pbx.services.registrar import (
    LOCATION_COLUMNS,
    LOCATION_KEY,
    Registrar,
    RegistrarSettings,
)
from pbx.sip.address import Address
from pbx.sip.uri import URI
from pbx.storage.cache import MemoryCache
from pbx.storage.memory import memory_database
from pbx.storage.write_behind import WriteBehind
from pbx.timing import TimerWheel
from pbx.verdicts import Arrival, Reply, Target
from tests.fakes import LOCAL, PEER, FakeFlow, FakeFlows, request

NOW = 1_790_000_000
AOR = "1001@pbx.test"
PHONE = "sip:1001@192.0.2.50:5060"
WS_LOCAL = Address("WS", "192.0.2.1", 5062)
TCP_LOCAL = Address("TCP", "192.0.2.1", 5060)
BROWSER = "sip:x7k@a1b2.invalid;transport=ws"

ResultT = TypeVar("ResultT")


@implementer(IDomains)
class FakeDomains:
    def is_local(self, host: str) -> bool:
        return self.canonical(host) in ("pbx.test", "other.test")

    def canonical(self, host: str) -> str:
        return "pbx.test" if host == LOCAL.host else host.lower()

    def names(self) -> Sequence[str]:
        return ("pbx.test", "other.test")


def browser_flow(port: int = 40000) -> FakeFlow:
    """The connection of a browser behind a NAT."""
    return FakeFlow(Address("WS", "192.0.2.99", port), WS_LOCAL, f"ws{port}")


def tcp_flow(host: str = "192.0.2.60", port: int = 40001) -> FakeFlow:
    """The connection of a phone."""
    return FakeFlow(Address("TCP", host, port), TCP_LOCAL, f"tcp{port}")


class RegistrarTestCase(SynchronousTestCase):
    """``self.registrar`` serves pbx.test; `restart` makes another on the same database."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.database: IDatabase = memory_database(self.clock)
        self.cache = MemoryCache(self.clock)
        self.flows = FakeFlows(LOCAL, WS_LOCAL, TCP_LOCAL)
        self.cseq = 0
        self.happened: list[object] = []
        self.use()

    def use(self, **settings: Any) -> None:
        """A registrar with these settings, started."""
        self.settings = RegistrarSettings(**settings)
        self.events = Events()
        self.timers = TimerWheel(self.clock)
        self.write_behind = WriteBehind(
            self.database, self.clock, "location", LOCATION_KEY, LOCATION_COLUMNS
        )
        self.registrar = Registrar(
            self.settings,
            self.database,
            self.write_behind,
            self.cache,
            FakeDomains(),
            self.flows,
            self.events,
            self.clock,
            self.timers,
        )
        self.done(self.registrar.start())
        self.events.subscribe(Registered, self.happened.append)
        self.events.subscribe(Unregistered, self.happened.append)

    def restart(self, **settings: Any) -> None:
        """As after kill -9 once everything was written: nothing is left but the database."""
        self.done(self.write_behind.flush())
        self.registrar.location.stop()
        self.use(**settings)

    def done(self, awaitable: Awaitable[ResultT]) -> ResultT:
        async def wait() -> ResultT:
            return await awaitable

        return self.successResultOf(Deferred.fromCoroutine(wait()))

    def register(
        self,
        contact: str = f"<{PHONE}>",
        headers: str = "",
        *,
        flow: FakeFlow | None = None,
        nat: bool = False,
        user: str = "1001",
        host: str = "pbx.test",
        call_id: str = "call-1",
        cseq: int = 0,
        via: str = "SIP/2.0/UDP 192.0.2.50:5060;branch=z9hG4bK-1",
    ) -> Reply:
        """The answer to a REGISTER; "" for no Contact; the CSeq grows by itself."""
        self.cseq = cseq or self.cseq + 1
        lines = ([f"Contact: {contact}"] if contact else []) + headers.split("\n")
        made = request(
            "REGISTER sip:pbx.test",
            "\n".join(line for line in lines if line),
            from_=f"<sip:{user}@{host}>;tag=a",
            to=f"<sip:{user}@{host}>",
            call_id=call_id,
            cseq=self.cseq,
            via=via,
        )
        flow = flow or FakeFlow(PEER, LOCAL)
        arrival = Arrival(flow=flow, peer=flow.peer, behind_nat=nat)
        return self.done(self.registrar.save(made, arrival))

    def browser(self, flow: FakeFlow, contact: str = BROWSER, call_id: str = "b-1") -> Reply:
        """The answer to the REGISTER of a browser as RFC 5626 has it."""
        return self.register(
            f'<{contact}>;+sip.instance="<urn:uuid:b>";reg-id=1',
            "Supported: path, outbound, gruu",
            flow=flow,
            nat=True,
            call_id=call_id,
        )

    def listed(self, reply: Reply) -> str:
        """The Contact value of an answer, "" for none."""
        return dict(reply.headers).get("Contact", "")

    def error(self, reply: Reply) -> tuple[int, str]:
        return reply.status, dict(reply.headers).get("P-Registrar-Error", "")

    def lookup(self, uri: str = "sip:1001@pbx.test", method: str = "INVITE") -> list[Target]:
        return list(self.registrar.lookup(URI.parse(uri), method))

    def contacts(self, uri: str = "sip:1001@pbx.test", method: str = "INVITE") -> list[str]:
        return [str(target.uri) for target in self.lookup(uri, method)]

    def close(self, flow: FakeFlow) -> None:
        """The connection is gone."""
        flow.close()
        self.events.publish(FlowClosed(flow))

    def rows(self, columns: str = "*") -> list[tuple[Any, ...]]:
        """The table once all is written."""
        self.done(self.write_behind.flush())
        return self.done(self.database.query(f"SELECT {columns} FROM location ORDER BY contact_id"))
