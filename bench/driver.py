"""The whole PBX in this process without a network: bytes go in, bytes come out.

What it costs to handle one operation can be counted here, whatever else the machine does. The wire
is a stand-in for the socket of the real UDP listener, time is a clock that the driver moves.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import thread_time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure

from pbx.appliance import Appliance, Foundation, assemble
from pbx.interfaces import IDatabase
from pbx.services.registrar import Registrar
from pbx.storage.postgres_sql import recordset
from pbx.storage.write_behind import WriteBehind
from pbx.tables import Tables
from pbx.transport.flows import Flows
from pbx.transport.udp import UDPPort

DOMAIN = "pbx.bench"
PASSWORD = "bench-secret"
PHONE = ("127.0.0.2", 27061)
CALLEE = ("127.0.0.3", 27062)
NODE = ("127.0.0.4", 27063)
#: Seconds of the clock per operation, and operations between two turns of its timers.
PACE, TURN = 0.001, 20
_SDP = (
    b"v=0\r\no=bench 53655765 2353687637 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\n"
    b"t=0 0\r\nm=audio 6000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\n"
)


class StandingClock(Clock):
    """A clock that is as much of a reactor as a PBX on a wire of ours needs."""

    def __init__(self) -> None:
        super().__init__()
        self.rightNow = 1_700_000_000.0

    def addReader(self, reader: object) -> None:
        """Nothing comes by itself."""

    def removeReader(self, reader: object) -> None:
        """Nothing was added."""

    def addWriter(self, writer: object) -> None:
        """Nothing waits."""

    def removeWriter(self, writer: object) -> None:
        """Nothing was added."""

    def listenUNIX(self, *args: object, **named: object) -> None:
        """Nobody calls."""

    def stop(self) -> None:
        """It ends by itself."""

    def pass_time(self, seconds: float) -> None:
        """Without looking who waits."""
        self.rightNow += seconds


class Elsewhere:
    """In the place of a database server: what it costs here, and an answer that comes later."""

    dialect = "postgres"
    url = "elsewhere:"
    available = True

    def __init__(self, clock: StandingClock) -> None:
        self._clock = clock
        self.written = 0

    def write(
        self,
        table: str,
        key: Sequence[str],
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        deletes: Sequence[Sequence[object]] = (),
    ) -> Deferred[None]:
        """The parameter of the statement."""
        recordset(columns, rows)
        self.written += len(rows)
        return deferLater(self._clock, 0.002)


class Wire:
    """In the place of the socket."""

    def __init__(self) -> None:
        self.incoming: list[tuple[bytes, tuple[str, int]]] = []
        self.sent: list[tuple[bytes, tuple[str, int]]] = []

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        """The next datagram."""
        if not self.incoming:
            raise BlockingIOError
        return self.incoming.pop()

    def sendto(self, data: bytes, peer: tuple[str, int]) -> int:
        """Keep what was sent."""
        self.sent.append((data, peer))
        return len(data)

    def fileno(self) -> int:
        """Open."""
        return 0

    def close(self) -> None:
        """Nothing to close."""


def settled(awaitable: Awaitable[Any], clock: StandingClock) -> Any:
    """The result of what needs at most some turns of the clock."""

    async def awaited() -> Any:
        return await awaitable

    results: list[Any] = []
    Deferred.fromCoroutine(awaited()).addBoth(results.append)
    for _ in range(10_000):
        if results:
            break
        clock.advance(0.01)
    assert results, "it never ends"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


class Driver:
    """A PBX with ``users`` subscribers, their phones at one address and a node at another."""

    def __init__(self, users: int = 100, **tables: dict[str, object]) -> None:
        self.clock = StandingClock()
        self.users = users
        self._folder = tempfile.TemporaryDirectory()
        config: dict[str, dict[str, object]] = {
            "sip": {"domain": DOMAIN, "listen": ["udp:127.0.0.1:0"]},
            "storage": {"database": "memory:"},
            "routing": {"policy": str(Path(__file__).parent.parent / "etc" / "routing.py")},
            "http": {"listen": []},
            "plugins": {"enabled": []},
            "auth": {"algorithms": ["MD5"]},
            "load_balancer": {"probing_interval": 0},
            **tables,
        }
        foundation = Foundation(Tables(config), Path(self._folder.name), self.clock)
        self.appliance: Appliance = assemble(foundation)
        self.registrar: Registrar = self.part(Registrar)
        parts = self.appliance.parts
        database = next(IDatabase(part) for part in parts if IDatabase.providedBy(part))
        settled(database.start(), self.clock)
        settled(self._fill(database), self.clock)
        settled(self.appliance.service.startService(), self.clock)
        self.port: UDPPort = self.part(Flows)._udp[0]
        self.own = f"127.0.0.1:{self.port.address.port}"
        self.wire = Wire()
        self.port._socket.close()
        self.port._socket = self.wire
        self._serial = 0
        self.pace, self.turn = PACE, TURN
        self._turns: list[float] | None = None

    def watch(self, turns: list[float]) -> None:
        """Note the CPU seconds of each turn of the reactor from now on."""
        self._turns = turns

    def _timed(self, turn: Callable[[], object]) -> None:
        if self._turns is None:
            turn()
            return
        began = thread_time()
        turn()
        self._turns.append(thread_time() - began)

    def serial(self) -> int:
        """A number that was not used before."""
        self._serial += 1
        return self._serial

    async def _fill(self, database: Any) -> None:
        rows = [(f"u{at:06d}", DOMAIN, PASSWORD) for at in range(self.users)]
        await database.write(
            "subscriber", ("username", "domain"), ("username", "domain", "password"), rows
        )
        await database.write(
            "load_balancer",
            ("id",),
            ("id", "group_id", "dst_uri", "resources", "probe_mode"),
            [(1, 1, f"sip:{NODE[0]}:{NODE[1]}", "pstn=100000", 0)],
        )

    def part(self, kind: type[Any]) -> Any:
        """The part of that class."""
        return next(part for part in self.appliance.parts if isinstance(part, kind))

    def close(self) -> None:
        """Stop it."""
        settled(self.appliance.service.stopService(), self.clock)
        self._folder.cleanup()

    def write_elsewhere(self) -> Elsewhere:
        """From now on rows go to a database that is not in this process."""
        database = Elsewhere(self.clock)
        for part in self.appliance.parts:
            if isinstance(part, WriteBehind):
                part._database = database  # type: ignore[assignment]
        return database

    # One packet in, packets out

    def put(self, peer: tuple[str, int], data: bytes) -> list[tuple[bytes, tuple[str, int]]]:
        """What it sends when this comes in."""
        wire = self.wire
        wire.incoming.append((data, peer))
        self._timed(self.port.doRead)
        sent, wire.sent = wire.sent, []
        return sent

    def _ids(self) -> tuple[int, str, str]:
        """A serial number, and the caller and callee whose turn it is."""
        self._serial += 1
        at = self._serial % self.users
        self.clock.pass_time(self.pace)
        if self._serial % self.turn == 0:
            self._timed(partial(self.clock.advance, 0.0))
        return self._serial, f"u{at:06d}", f"u{(at + self.users // 2) % self.users:06d}"

    # Operations, each as the SIPp scenario of its name; they raise AssertionError

    def options(self) -> None:
        """OPTIONS, answered."""
        serial, caller, _ = self._ids()
        [(answer, _)] = self.put(
            PHONE,
            b"OPTIONS sip:%(domain)s SIP/2.0\r\n"
            b"Via: SIP/2.0/UDP 127.0.0.2:27061;branch=z9hG4bK-4711-%(serial)d-0;rport\r\n"
            b"Max-Forwards: 70\r\nFrom: <sip:%(caller)s@monitor.invalid>;tag=4711o%(serial)d\r\n"
            b"To: <sip:%(domain)s>\r\nCall-ID: %(serial)d-4711@127.0.0.2\r\nCSeq: 1 OPTIONS\r\n"
            b"Accept: application/sdp\r\nContent-Length: 0\r\n\r\n"
            % {b"domain": DOMAIN.encode(), b"serial": serial, b"caller": caller.encode()},
        )
        assert answer.startswith(b"SIP/2.0 200 "), answer

    def register(self) -> None:
        """REGISTER, 401, REGISTER, 200."""
        serial, caller, _ = self._ids()
        uri = f"sip:{DOMAIN}"
        text = (
            f"REGISTER {uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP 127.0.0.2:27061;branch=z9hG4bK-4711-{serial}-%d;rport\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:{caller}@{DOMAIN}>;tag=4711r{serial}\r\n"
            f"To: <sip:{caller}@{DOMAIN}>\r\nCall-ID: {serial}-4711@127.0.0.2\r\n"
            f"CSeq: %d REGISTER\r\nContact: <sip:{caller}@{CALLEE[0]}:{CALLEE[1]}>\r\n"
            f"Expires: 3600\r\nUser-Agent: bench\r\n%sContent-Length: 0\r\n\r\n"
        )
        [(challenge, _)] = self.put(CALLEE, (text % (0, 1, "")).encode())
        header = f"Authorization: {answer_to(challenge, caller, 'REGISTER', uri)}\r\n"
        [(answer, _)] = self.put(CALLEE, (text % (5, 2, header)).encode())
        assert answer.startswith(b"SIP/2.0 200 "), answer

    def message(self) -> None:
        """MESSAGE, 407, MESSAGE relayed, 200."""
        serial, caller, callee = self._ids()
        uri = f"sip:{callee}@{DOMAIN}"
        text = (
            f"MESSAGE {uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP 127.0.0.2:27061;branch=z9hG4bK-4711-{serial}-%d;rport\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:{caller}@{DOMAIN}>;tag=4711m{serial}\r\n"
            f"To: <{uri}>\r\nCall-ID: {serial}-4711@127.0.0.2\r\nCSeq: %d MESSAGE\r\n%s"
            f"Content-Type: text/plain\r\nContent-Length: 12\r\n\r\nHow are you?"
        )
        [(challenge, _)] = self.put(PHONE, (text % (0, 1, "")).encode())
        header = f"Proxy-Authorization: {answer_to(challenge, caller, 'MESSAGE', uri)}\r\n"
        [(relayed, where)] = self.put(PHONE, (text % (5, 2, header)).encode())
        assert where == CALLEE, where
        [(answer, _)] = self.put(CALLEE, response(relayed, "200 OK", f"t{serial}"))
        assert answer.startswith(b"SIP/2.0 200 "), answer

    def call(self) -> None:
        """INVITE, 407, ACK, INVITE, 200, ACK, BYE, 200 through the node."""
        serial, caller, callee = self._ids()
        uri = f"sip:{callee}@{DOMAIN}"
        via = "Via: SIP/2.0/UDP 127.0.0.2:27061;branch=z9hG4bK-4711-%d-%d;rport\r\n"
        ids = (
            f"Max-Forwards: 70\r\nFrom: <sip:{caller}@{DOMAIN}>;tag=4711c{serial}\r\n"
            f"To: <{uri}>%s\r\nCall-ID: {serial}-4711@127.0.0.2\r\n"
        )
        body = f"Content-Type: application/sdp\r\nContent-Length: {len(_SDP)}\r\n\r\n"
        contact = f"Contact: <sip:{caller}@{PHONE[0]}:{PHONE[1]}>\r\n"
        begin = f"INVITE {uri} SIP/2.0\r\n"

        def invite(number: int, credentials: str) -> list[tuple[bytes, tuple[str, int]]]:
            text = begin + via % (serial, number) + ids % "" + f"CSeq: {number} INVITE\r\n"
            return self.put(PHONE, (text + contact + credentials + body).encode() + _SDP)

        [(challenge, _)] = invite(1, "")
        to_tag = challenge.partition(b"\r\nTo: ")[2].partition(b";")[2].partition(b"\r\n")[0]
        ack = f"ACK {uri} SIP/2.0\r\n" + via % (serial, 1) + ids % f";{to_tag.decode()}"
        assert not self.put(PHONE, f"{ack}CSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n".encode())
        header = f"Proxy-Authorization: {answer_to(challenge, caller, 'INVITE', uri)}\r\n"
        [(trying, _), (relayed, where)] = sorted(
            invite(2, header), key=lambda entry: not entry[0].startswith(b"SIP/2.0 100 ")
        )
        assert where == NODE, where
        assert trying.startswith(b"SIP/2.0 100 "), trying
        assert not self.put(NODE, response(relayed, "100 Trying"))
        accepted = response(relayed, "200 OK", f"a{serial}", _SDP)
        [(answer, _)] = self.put(NODE, accepted)
        assert answer.startswith(b"SIP/2.0 200 "), answer
        record = answer.partition(b"\r\nRecord-Route: ")[2].partition(b"\r\n")[0].decode()
        target = f"sip:{NODE[0]}:{NODE[1]};transport=UDP"

        def within(method: str, number: int, branch: int) -> bytes:
            return (
                f"{method} {target} SIP/2.0\r\n{via % (serial, branch)}Route: {record}\r\n"
                f"{ids % f';tag=a{serial}'}CSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n"
            ).encode()

        [(acknowledged, where)] = self.put(PHONE, within("ACK", 2, 8))
        assert acknowledged.startswith(b"ACK "), acknowledged
        [(relayed, where)] = self.put(PHONE, within("BYE", 3, 9))
        assert (relayed[:4], where) == (b"BYE ", NODE), relayed
        [(answer, _)] = self.put(NODE, response(relayed, "200 OK"))
        assert answer.startswith(b"SIP/2.0 200 "), answer

    def operations(self) -> dict[str, Callable[[], None]]:
        """By the names of the scenarios."""
        return {
            "options": self.options,
            "register": self.register,
            "message": self.message,
            "call": self.call,
        }


@contextmanager
def driver(users: int = 100, **tables: dict[str, object]) -> Iterator[Driver]:
    """A driver whose users are registered."""
    made = Driver(users, **tables)
    try:
        for _ in range(users):
            made.register()
        yield made
    finally:
        made.close()


def response(request: bytes, status: str, tag: str = "", body: bytes = b"") -> bytes:
    """The answer of a peer."""
    lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    kept = [f"SIP/2.0 {status}".encode()]
    for line in lines:
        name = line.partition(b":")[0]
        if name in (b"Via", b"From", b"Call-ID", b"CSeq", b"Record-Route"):
            kept.append(line)
        elif name == b"To":
            kept.append(line + (b";tag=" + tag.encode() if tag else b""))
    if body:
        kept.append(f"Contact: <sip:{NODE[0]}:{NODE[1]};transport=UDP>".encode())
        kept.append(b"Content-Type: application/sdp")
    kept.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(kept) + b"\r\n\r\n" + body


def answer_to(challenge: bytes, user: str, method: str, uri: str) -> str:
    """Credentials for the nonce of a challenge."""
    assert challenge[8:11] in (b"401", b"407"), challenge
    nonce = challenge.partition(b'nonce="')[2].partition(b'"')[0].decode()
    secret = _md5(f"{user}:{DOMAIN}:{PASSWORD}")
    proof = _md5(f"{secret}:{nonce}:00000001:6b8b4567:auth:{_md5(f'{method}:{uri}')}")
    return (
        f'Digest username="{user}",realm="{DOMAIN}",cnonce="6b8b4567",nc=00000001,qop=auth,'
        f'uri="{uri}",nonce="{nonce}",response="{proof}",algorithm=MD5'
    )


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
