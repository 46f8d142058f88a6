"""The whole PBX of `pbx.appliance` on a clock, a database in memory and fake flows, for ladders."""

from __future__ import annotations

import re
import tempfile
import tomllib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from pbx.appliance import Appliance, Foundation, Ways, assemble
from pbx.ctl.users import User, add
from pbx.interfaces import IDatabase, IFlows, IReloadable, IStatistics, ITransportUser
from pbx.services.load_balancer import LoadBalancer
from pbx.sip.address import Address
from pbx.sip.digest import digest, ha1
from pbx.sip.errors import MalformedMessage, TransportFailed
from pbx.sip.message import Request, Response
from pbx.sip.parser import parse
from pbx.sip.uri import join_host_port
from pbx.tables import Tables
from pbx.timing import Periodic, TimerWheel
from pbx.transport.delivery import Delivery
from tests.fakes import FakeFlow, FakeFlows

ROUTING = Path(__file__).parent.parent / "etc" / "routing.py"
#: Where the clock starts: sums of steps stay exact, and no time is 0.
EPOCH = 1_000_000.0
OWN = (
    Address("UDP", "192.0.2.1", 5060),
    Address("TCP", "192.0.2.1", 5060),
    Address("TLS", "192.0.2.1", 5061),
    Address("WS", "192.0.2.1", 5062),
)
#: Asks for challenges that no ladder shows.
PROBER = Address("UDP", "192.0.2.254", 5060)
#: Wheel entries that a PBX at rest has: periodic work, and the expiry of bindings.
AT_REST = ("Dialogs._turn", "LoadBalancer._turn", "Prober._turn", "Location._due")
USERS = ("alice", "bob", "carol", "dave")
_CHALLENGE = re.compile(r'Digest realm="(?P<realm>[^"]*)", nonce="(?P<nonce>[^"]*)"')
PartT = TypeVar("PartT")
Fact = tuple[Address, bytes] | str


class WholeClock(Clock):
    """A clock that is also as much of a reactor as a PBX without sockets needs."""

    def __init__(self) -> None:
        super().__init__()
        self.rightNow = EPOCH

    def listenUNIX(self, *args: object, **named: object) -> None:
        """The management socket: nobody calls."""

    def stop(self) -> None:
        """A ladder ends by itself."""


class WireFlow(FakeFlow):
    """A flow whose packets go to one list in the order of all flows."""

    def __init__(self, peer: Address, local: Address, wire: list[Fact], delivery: Delivery) -> None:
        super().__init__(peer, local, f"token-{peer.port}" if peer.reliable else "")
        self._wire = wire
        self._delivery = delivery

    def send(self, data: bytes) -> None:
        if self.closed:
            raise TransportFailed("closed")
        self._wire.append((self.peer, data))
        if self._delivery.watch is not None:
            self._delivery.watch(True, self, data)


@implementer(IFlows)
class WireFlows(FakeFlows):
    """Connections exist once their actor has sent something, or when it can be called."""

    def __init__(self, wire: list[Fact], actors: Sequence[Address], delivery: Delivery) -> None:
        super().__init__(*OWN)
        self._wire = wire
        self._delivery = delivery
        self._actors = actors

    def flow(self, address: Address) -> FakeFlow:
        found = self.flows.get(address)
        if found is None or found.closed:
            local = next(own for own in self.own if own.transport == address.transport)
            found = self.flows[address] = WireFlow(address, local, self._wire, self._delivery)
        return found

    def find(self, address: Address, local: Address | None = None) -> FakeFlow | None:
        if address.transport == "UDP":
            return self.flow(address)
        found = self.flows.get(address)
        return None if found is None or found.closed else found

    async def connect(self, address: Address, local: Address | None = None) -> FakeFlow:
        if address.transport in ("WS", "WSS") or address not in self._actors:
            raise TransportFailed("Connection Refused")
        return self.flow(address)


class Wire:
    """In the place of the listeners."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery

    def deliver_to(self, user: ITransportUser) -> None:
        self.delivery.user = user


def database_of(appliance: Appliance) -> IDatabase:
    """The one that it runs on."""
    return next(IDatabase(part) for part in appliance.parts if IDatabase.providedBy(part))


class WholeSystem:
    """`tests.ladder.System` around the PBX as it is shipped, for the domain pbx.test.

    The actors' names are subscribers with the password "secret". In what an actor sends,
    ``Authorization: secret`` (or ``Proxy-Authorization``) becomes credentials with this password
    for the last challenge that the actor got, or for one that is fetched behind the scenes;
    ``same`` sends the last credentials once more.

    Lines: ``do set TABLE KEY = VALUE`` (TOML; only before anything else), ``do register ACTOR
    [header | header ...]`` (with a password, unseen), ``do node ACTOR GROUP``, ``do close ACTOR``, ``do reflect ACTOR`` (it
    sends back the last packet it got),
    ``do query SQL`` (told as rows), ``do count NAME`` (told: a statistic).
    """

    def __init__(self, actors: dict[str, Address]) -> None:
        self.clock = WholeClock()
        self._folder = tempfile.TemporaryDirectory()
        self._actors = actors
        self._facts: list[Fact] = []
        self._delivery = Delivery()
        self._flows = WireFlows(self._facts, list(actors.values()), self._delivery)
        self._challenges: dict[Address, Challenged] = {}
        self._last: dict[Address, bytes] = {}
        self._prepared: dict[bytes, bytes] = {}
        self._settings: dict[str, dict[str, Any]] = {
            "sip": {"domain": "pbx.test", "listen": []},
            "storage": {"database": "memory:"},
            "routing": {"policy": str(ROUTING)},
            "http": {"listen": []},
            "plugins": {"enabled": []},
            "auth": {"algorithms": ["MD5"]},
        }
        self._built: tuple[Foundation, Appliance] | None = None
        self._nodes = self._registers = 0

    def _build(self) -> tuple[Foundation, Appliance]:
        if self._built is None:
            base = Path(self._folder.name)
            foundation = Foundation(Tables(self._settings), base, self.clock, self._delivery)
            ways = Ways(self._flows, Wire(self._delivery))
            appliance = assemble(foundation, lambda *_: ways)
            database = database_of(appliance)
            for name in {*USERS, *self._actors}:
                wait(add(database, User(name, "pbx.test"), "secret"))
            wait(appliance.service.startService())
            self._built = foundation, appliance
        return self._built

    def close(self) -> None:
        """Stop it."""
        if self._built is not None:
            wait(self._built[1].service.stopService())
        self._folder.cleanup()

    def part(self, kind: type[PartT]) -> PartT:
        """The part of that class."""
        return next(part for part in self._build()[1].parts if isinstance(part, kind))

    # tests.ladder.System

    def deliver(self, source: Address, data: bytes) -> None:
        """A packet from a peer."""
        self._deliver(source, self._with_credentials(source, data))

    def _deliver(self, source: Address, data: bytes) -> None:
        self._build()
        delivery = self._delivery
        flow = self._flows.flow(source)
        if delivery.watch is not None:
            delivery.watch(False, flow, data)
        try:
            message = parse(data)
        except MalformedMessage as error:
            delivery.malformed_received(error, flow)
        else:
            delivery.message_received(message, flow)

    def sent(self) -> Sequence[Fact]:
        """What left since the last call."""
        sent = self._facts[:]
        self._facts.clear()
        for fact in sent:
            if not isinstance(fact, str):
                self._last[fact[0]] = fact[1]
                self._remember_challenge(*fact)
        return sent

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)

    def timers_left(self) -> int:
        """Timers that are pending and that a PBX at rest does not have."""
        wheel = self._build()[0].wheel
        entries = [timer.call for slot in wheel._slots.values() for timer in slot]
        left = [call for call in entries if call is not None and name_of(call) not in AT_REST]
        names = [name_of(vars(call)["func"]) for call in self.clock.getDelayedCalls()]
        rest = (f"{TimerWheel.__name__}._turn", f"{Periodic.__name__}._turn")
        return len(left) + sum(name not in rest for name in names)

    def do(self, words: str) -> None:
        """A ``do`` line."""
        verb, _, rest = words.partition(" ")
        {
            "set": self._set,
            "register": self._register,
            "node": self._node,
            "close": self._close,
            "reflect": self._reflect,
            "query": self._query,
            "count": self._count,
        }[verb](rest)

    # What to do

    def _set(self, words: str) -> None:
        assert self._built is None, "too late for settings"
        table, _, line = words.partition(" ")
        self._settings.setdefault(table, {}).update(tomllib.loads(line))

    def _register(self, words: str) -> None:
        name, _, headers = words.partition(" ")
        address = self._actors[name]
        transport = "" if address.transport == "UDP" else f";transport={address.transport.lower()}"
        place = join_host_port(address.host, address.port)
        self._registers += 1
        made = Request.make(
            "REGISTER",
            "sip:pbx.test",
            [
                (
                    "Via",
                    f"SIP/2.0/{address.transport} {place};branch=z9hG4bK-reg{self._registers};rport",
                ),
                ("Max-Forwards", "70"),
                ("From", f"<sip:{name}@pbx.test>;tag=r"),
                ("To", f"<sip:{name}@pbx.test>"),
                ("Call-ID", f"{name}-registers-{place}"),
                ("CSeq", f"{self._registers} REGISTER"),
                ("Contact", f"<sip:{name}@{place}{transport}>"),
                ("Authorization", "secret"),
            ],
        )
        for header in headers.split(" | ") if headers else ():
            key, _, value = header.partition(":")
            made.set(key.lower(), value.strip())
        before = len(self._facts)
        self.deliver(address, bytes(made))
        fact = self._facts.pop()
        assert not isinstance(fact, str), fact
        answer = parse(fact[1])
        assert isinstance(answer, Response), answer
        assert answer.status == 200, answer
        assert len(self._facts) == before, "more than the answer to a REGISTER"

    def _node(self, words: str) -> None:
        name, group = words.split()
        _, host, port = self._actors[name]
        self._nodes += 1
        appliance = self._build()[1]
        wait(
            database_of(appliance).execute(
                "INSERT INTO load_balancer (id, group_id, dst_uri, resources, probe_mode)"
                " VALUES (?, ?, ?, 'pstn=100', 1)",
                (self._nodes, int(group), f"sip:{host}:{port}"),
            )
        )
        for part in appliance.parts:
            if isinstance(part, LoadBalancer):
                wait(IReloadable(part).reload())

    def _close(self, name: str) -> None:
        flow = self._flows.flow(self._actors[name])
        flow.close()
        self._delivery.flow_closed(flow)

    def _reflect(self, name: str) -> None:
        address = self._actors[name]
        self._deliver(address, self._last[address])

    def _query(self, sql: str) -> None:
        for row in wait(database_of(self._build()[1]).query(sql)):
            self._facts.append(" | ".join(str(value) for value in row))

    def _count(self, name: str) -> None:
        self._facts.append(f"{name} {self.statistics()[name]}")

    def statistics(self) -> dict[str, int]:
        """Every counter and gauge."""
        found: dict[str, int] = {}
        for part in self._build()[1].parts:
            if IStatistics.providedBy(part):
                found.update(IStatistics(part).statistics())
        return found

    # Digest

    def _remember_challenge(self, peer: Address, data: bytes) -> None:
        if b"-Authenticate: Digest" not in data:
            return
        found = _CHALLENGE.search(data.decode())
        assert found is not None, data
        self._challenges[peer] = Challenged(found["nonce"], found["realm"])

    def _with_credentials(self, source: Address, data: bytes) -> bytes:
        known = self._prepared.get(data)
        if known is not None:
            return known
        try:
            message = parse(data)
        except MalformedMessage:
            return data
        for name in ("authorization", "proxy-authorization"):
            password = message.get(name)
            if isinstance(message, Request) and password and " " not in password:
                message.set(name, self._challenged(source).answer(message, password))
        prepared = self._prepared[data] = bytes(message)
        return prepared

    def _challenged(self, source: Address) -> Challenged:
        if source not in self._challenges:
            self._fetch_challenge()
            self._challenges[source] = self._challenges.pop(PROBER)
        return self._challenges[source]

    def _fetch_challenge(self) -> None:
        self._registers += 1
        ask = Request.make(
            "OPTIONS",
            "sip:nobody@pbx.test",
            [
                ("Via", f"SIP/2.0/UDP 192.0.2.254:5060;branch=z9hG4bK-ask{self._registers}"),
                ("From", "<sip:nobody@pbx.test>;tag=p"),
                ("To", "<sip:nobody@pbx.test>"),
                ("Call-ID", f"ask-{self._registers}"),
                ("CSeq", "1 OPTIONS"),
            ],
        )
        before = self._facts[:]
        self._facts.clear()
        self._deliver(PROBER, bytes(ask))
        self.sent()
        self._facts.extend(before)


class Challenged:
    """Who answers a challenge, again and again (RFC 7616 section 3.4)."""

    def __init__(self, nonce: str, realm: str) -> None:
        self.nonce = nonce
        self.realm = realm
        self._count = 0
        self._last = ""

    def answer(self, request: Request, password: str) -> str:
        """Credentials; "same" gives the last ones."""
        if password == "same":
            return self._last
        self._count += 1
        identity = request.to if request.method == "REGISTER" else request.from_
        user = identity.uri.user
        secret = ha1("MD5", user, self.realm, password)
        second = digest("MD5", f"{request.method}:{request.uri_text}")
        count = f"{self._count:08x}"
        response = digest("MD5", f"{secret}:{self.nonce}:{count}:c:auth:{second}")
        self._last = (
            f'Digest username="{user}", realm="{self.realm}", nonce="{self.nonce}", '
            f'uri="{request.uri_text}", algorithm=MD5, qop=auth, nc={count}, cnonce="c", '
            f'response="{response}"'
        )
        return self._last


def name_of(call: Callable[..., object]) -> str:
    """``Class.method``."""
    return getattr(call, "__qualname__", repr(call))


def wait(awaitable: Awaitable[Any]) -> Any:
    """The result of what is done already: no database in memory makes anybody wait."""

    async def awaited() -> Any:
        return await awaitable

    results: list[Any] = []
    Deferred.fromCoroutine(awaited()).addBoth(results.append)
    assert results, "not done at once"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]
