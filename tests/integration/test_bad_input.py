"""What hostile or broken peers send to a real PBX: it goes on, forgets it, and never answers what
must not be answered.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pbx.sip.errors import SIPError
from pbx.sip.message import Request, response_to
from pbx.sip.parser import parse
from pbx.sip.stream import StreamParser
from tests.integration.harness import PBX, PBXTestCase, until
from tests.sip.test_mutations import mutate, seeds

TORTURE = Path(__file__).parent.parent / "torture"
#: Mutated messages: 100,000 over UDP and TCP, more with a policy that relays them.
DATAGRAMS = 60_000
STREAMED = 40_000
RELAYED = 8_000
#: As many as a kernel buffer takes before the PBX has read any.
BATCH = 60
#: How much the process may have grown, in MB: everything bounded fills up to its bound.
GROWTH = 40
#: Timers short enough to see everything end; only timer D is 32 s in any case.
QUICK: dict[str, dict[str, Any]] = {
    "transaction": {"t1": 0.02, "t2": 0.2, "t4": 0.2, "fr_timeout": 1.0},
    "proxy": {"fr_timeout": 1.0, "fr_inv_timeout": 2.0},
    "dialog": {"default_timeout": 2, "bye_on_timeout": False, "delete_delay": 0.5},
    "transport": {"message_time": 1.0, "idle": 2.0},
    "dns": {"servers": ["127.0.0.1"]},
}
#: What has to be nothing in the end.
GAUGES = (
    "tm:inuse_transactions",
    "tm:finished_transactions",
    "pbx:pending_invites",
    "dialog:active_dialogs",
    "dialog:early_dialogs",
    "pbx:kept_calls",
    "net:tcp_connections",
    "net:ws_connections",
    "net:waiting_udp",
    "net:waiting_tcp",
)
RELAY_ALL = """
from pbx.sip.uri import URI
from pbx.verdicts import Relay, Reply, Target
from zope.interface import implementer
from pbx.interfaces import IRoutingPolicy

@implementer(IRoutingPolicy)
class Policy:
    def __init__(self, registry):
        pass

    async def route_request(self, request, arrival):
        if request.method == "OPTIONS" and request.uri_text == "sip:pbx.test":
            return Reply(200)
        target = Target(request.uri, next_hop=URI.parse("sip:127.0.0.1:{port}"))
        return Relay([target], account=True)
"""


def is_unanswerable(data: bytes) -> bool:
    """Whether it is, or was before it broke, an ACK or a response."""
    first = data.lstrip(b"\r\n").partition(b" ")[0]
    return first == b"ACK" or first.startswith(b"SIP/")


def torture() -> list[bytes]:
    """The messages of RFC 4475 and RFC 5118."""
    return [path.read_bytes() for path in sorted(TORTURE.glob("*.dat"))]


class Line:
    """A UDP socket towards the PBX that keeps up with it."""

    def __init__(self, pbx: PBX) -> None:
        self._place = (pbx.host, pbx.ports["udp"])
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]

    def send(self, data: bytes) -> None:
        """One datagram."""
        with contextlib.suppress(OSError):
            self.socket.sendto(data[:65000], self._place)

    def received(self) -> Iterator[bytes]:
        """What came so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                yield self.socket.recv(65536)

    def ask(self) -> None:
        """Until the PBX has read everything and answers OPTIONS."""
        token = os.urandom(8).hex()
        options = alive("UDP", token)
        for _ in range(50):
            self.send(options)
            deadline = time.monotonic() + 1
            while time.monotonic() < deadline:
                if any(token.encode() in data for data in self.received()):
                    return
                time.sleep(0.001)
        raise AssertionError("the PBX does not answer OPTIONS any more")


def alive(transport: str, token: str) -> bytes:
    """An OPTIONS that the PBX answers itself."""
    return (
        f"OPTIONS sip:pbx.test SIP/2.0\r\nVia: SIP/2.0/{transport} 127.0.0.1;branch=z9hG4bK{token}"
        ";rport\r\nMax-Forwards: 70\r\nFrom: <sip:x@far.test>;tag=1\r\nTo: <sip:pbx.test>\r\n"
        f"Call-ID: {token}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    ).encode()


class BadInputTests(PBXTestCase):
    """Every test ends with `unharmed`."""

    def begin(self, policy: str = "") -> PBX:
        """A PBX, and how it is before anything happens to it."""
        tables = dict(QUICK)
        if policy:
            path = self.folder / "routing.py"
            path.write_text(policy)
            tables["routing"] = {"policy": str(path)}
        pbx = self.pbx(tables)
        self.line = Line(pbx)
        self.quiet = Line(pbx)
        for one in (self.line, self.quiet):
            self.addCleanup(one.socket.close)
        assert pbx.process is not None
        self.pid = pbx.process.popen.pid
        self.files = self.open_files()
        return pbx

    def open_files(self) -> int:
        """File descriptors of the PBX."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def megabytes(self) -> float:
        """Resident memory of the PBX."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def heard(self, pbx: PBX) -> int:
        """Messages that the PBX has read, good or bad."""
        assert pbx.process is not None
        self.assertIsNone(pbx.process.popen.poll(), f"the PBX ended:\n{pbx.output()[-4000:]}")
        counters = ("core:rcv_requests", "core:rcv_replies", "core:bad_msg_hdr")
        return sum(pbx.statistic(name) for name in counters)

    def unharmed(self, pbx: PBX, memory: float) -> None:
        """It answers, nothing is left over, it has not grown and it did not complain."""
        self.line.ask()
        with socket.create_connection((pbx.host, pbx.ports["tcp"]), 5) as stream:
            stream.sendall(alive("TCP", os.urandom(8).hex()))
            self.assertEqual(stream.recv(11), b"SIP/2.0 200")
        left: dict[str, int] = {}

        def is_forgotten() -> bool:
            left.update(pbx.mi("get_statistics", list(GAUGES)))
            return not any(left[name] for name in GAUGES)

        try:
            until(is_forgotten, "everything has ended", 45)
        except AssertionError:
            raise AssertionError(f"left over: {left}\n{pbx.output()[-4000:]}") from None
        until(lambda: self.open_files() <= self.files, "file descriptors are closed", 5)
        self.assertLess(self.megabytes() - memory, GROWTH)
        self.assertNotIn("Traceback", pbx.output())
        self.assertNotIn("could not be handled", pbx.output())
        answered = [data.partition(b"\r\n")[0] for data in self.quiet.received()]
        self.assertEqual(answered, [], "answers to ACKs or responses")

    def flood(self, messages: Iterator[bytes]) -> int:
        """Send datagrams, ACKs and responses from a socket of their own; how many there were."""
        count = 0
        for data in messages:
            (self.quiet if is_unanswerable(data) else self.line).send(data)
            count += 1
            if count % BATCH == 0:
                self.line.ask()
        return count

    def streams(self, pbx: PBX, messages: Iterator[bytes], each: int = 50) -> int:
        """Send messages over TCP, on a new connection after ``each`` or when framing was lost."""
        count = 0
        pending = next(messages, None)
        while pending is not None:
            parser = StreamParser()
            bunch: list[bytes] = []
            while pending is not None and not parser.failed and len(bunch) < each:
                parser.feed(pending)
                bunch.append(pending)
                pending = next(messages, None)
            count += len(bunch)
            place = (pbx.host, pbx.ports["tcp"])
            with contextlib.suppress(OSError), socket.create_connection(place, 10) as stream:
                stream.sendall(b"".join(bunch))
                stream.shutdown(socket.SHUT_WR)
                while stream.recv(65536):
                    pass
        return count

    def test_torture(self) -> None:
        """RFC 4475, RFC 5118: each alone by UDP and by TCP, then all of them on one connection."""
        pbx = self.begin()
        memory = self.megabytes()
        self.flood(iter(torture() * 3))
        self.streams(pbx, iter(torture()), each=1)
        self.streams(pbx, iter(torture()))
        for data in filter(is_unanswerable, torture()):
            with socket.create_connection((pbx.host, pbx.ports["tcp"]), 10) as stream:
                stream.sendall(data)
                stream.shutdown(socket.SHUT_WR)
                self.assertEqual(stream.recv(65536), b"")
        self.unharmed(pbx, memory)

    def test_mutations_by_udp(self) -> None:
        """Issue: mutated messages, no leaked transaction, no growing memory."""
        pbx = self.begin()
        rng = random.Random(3261)
        self.flood(mutations(rng, 5000))
        memory = self.megabytes()
        before = self.heard(pbx)
        self.flood(mutations(rng, DATAGRAMS))
        self.assertGreater(self.heard(pbx) - before, DATAGRAMS * 0.9)
        self.unharmed(pbx, memory)

    def test_mutations_by_tcp(self) -> None:
        """The same on connections, which lose their framing again and again."""
        pbx = self.begin()
        rng = random.Random(3263)
        self.streams(pbx, mutations(rng, 5000))
        memory = self.megabytes()
        before = self.heard(pbx)
        self.streams(pbx, mutations(rng, STREAMED))
        self.assertGreater(self.heard(pbx) - before, STREAMED // 2)
        self.unharmed(pbx, memory)

    def test_relayed_mutations(self) -> None:
        """With a policy that relays everything, and a peer that answers with broken responses."""
        far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(far.close)
        far.bind(("127.0.0.1", 0))
        far.setblocking(False)
        pbx = self.begin(RELAY_ALL.format(port=far.getsockname()[1]))
        rng = random.Random(5393)
        memory = self.megabytes()
        forwarded = 0
        for _ in range(RELAYED // BATCH):
            self.flood(mutations(rng, BATCH))
            forwarded += answer(far, rng)
        self.assertGreater(forwarded, RELAYED // 10)
        self.unharmed(pbx, memory)

    def test_noise(self) -> None:
        """Bytes that are no SIP at all, halves of messages, messages too large for anybody."""
        pbx = self.begin()
        rng = random.Random(18)
        memory = self.megabytes()
        self.flood(rng.randbytes(rng.randrange(1, 1500)) for _ in range(3000))
        self.flood(half(rng) for _ in range(2000))
        self.streams(pbx, (rng.randbytes(rng.randrange(1, 5000)) for _ in range(300)), each=1)
        self.streams(pbx, (half(rng) for _ in range(300)), each=1)
        # A message beyond a limit is told which (400, 413, 414); a head without end is only cut off.
        wanted = [400, 400, 414, 0, 413]
        found = []
        for large in giants():
            self.line.send(large)
            self.line.ask()
            with socket.create_connection((pbx.host, pbx.ports["tcp"]), 5) as stream:
                with contextlib.suppress(OSError):
                    stream.sendall(large)
                found.append(status_on(stream))
        self.assertEqual(found, wanted)
        self.unharmed(pbx, memory)

    def test_slow_peers(self) -> None:
        """Connections that begin a message and never end it are cut off, a byte now and then or
        not; silent ones when they were idle for too long.
        """
        pbx = self.begin()
        memory = self.megabytes()
        head = alive("TCP", "slow")[:60]
        places = [(pbx.host, pbx.ports[kind]) for kind in ("tcp", "tcp", "ws")]
        slow = [socket.create_connection(place, 5) for place in places * 60]
        for one in slow:
            self.addCleanup(one.close)
            one.sendall(head)
        silent = [socket.create_connection(places[0], 5) for _ in range(50)]
        for one in silent:
            self.addCleanup(one.close)
        cut: set[socket.socket] = set()
        deadline = time.monotonic() + 15
        while len(cut) < len(slow) + len(silent) and time.monotonic() < deadline:
            for one in [*slow, *silent]:
                if one not in cut and is_cut(one):
                    cut.add(one)
            for one in slow:
                if one not in cut:
                    with contextlib.suppress(OSError):
                        one.send(b"x")
            time.sleep(0.2)
        self.assertEqual(len(cut), len(slow) + len(silent))
        self.unharmed(pbx, memory)

    def test_deaf_peer(self) -> None:
        """Who asks and never reads is cut off at a bound of what waits for it."""
        pbx = self.begin()
        memory = self.megabytes()
        with socket.create_connection((pbx.host, pbx.ports["tcp"]), 5) as deaf:
            deaf.settimeout(5)
            with self.assertRaises(OSError):
                for number in range(100_000):
                    deaf.sendall(alive("TCP", f"deaf{number}"))
        self.unharmed(pbx, memory)

    def test_websocket(self) -> None:
        """Bad handshakes and bad frames (RFC 6455, RFC 7118); the next browser is served."""
        pbx = self.begin()
        rng = random.Random(7118)
        memory = self.megabytes()
        place = (pbx.host, pbx.ports["ws"])
        for opening in handshakes(rng):
            talk(place, [opening])
        for frame in frames(rng):
            talk(place, [UPGRADE, frame])
        for data in mutations(rng, 500):
            if len(data) < 65000:
                talk(place, [UPGRADE, framed(data)], wait=False)
        phone = self.phone(pbx, "1001", "ws")
        phone.send(parse(alive("WS", "browser")))
        phone.response(200)
        phone.close()
        self.unharmed(pbx, memory)


def mutations(rng: random.Random, count: int) -> Iterator[bytes]:
    """Broken messages, every one in a transaction of its own."""
    messages = seeds()
    for _ in range(count):
        seed = rng.choice(messages)
        branch = b"z9hG4bK%x" % rng.getrandbits(48)
        yield mutate(rng, seed.replace(b"z9hG4bK", branch, 1), rng.choice(messages))


def answer(far: socket.socket, rng: random.Random) -> int:
    """Answer what was relayed, mostly badly; how many requests there were."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            data, sender = far.recvfrom(65536)
            try:
                request = parse(data)
                if not isinstance(request, Request):
                    continue
                count += 1
                status = rng.choice((100, 180, 183, 200, 202, 302, 404, 486, 503, 603))
                made = bytes(response_to(request, status, to_tag="far"))
            except SIPError:
                made = data
            for _ in range(rng.choice((0, 1, 1, 2))):
                with contextlib.suppress(OSError):
                    far.sendto(mutate(rng, made, data) if rng.random() < 0.7 else made, sender)
    return count


def half(rng: random.Random) -> bytes:
    """The beginning of a message."""
    message = rng.choice(seeds())
    return message[: rng.randrange(1, len(message))]


def giants() -> Iterator[bytes]:
    """Each breaks one limit: line, number of headers, Request-URI, head, message."""
    good = alive("UDP", "giant")
    end = b"Content-Length: 0\r\n\r\n"
    yield good.replace(end, b"Subject: " + b"x" * 20_000 + b"\r\n" + end)
    yield good.replace(end, b"Subject: x\r\n" * 300 + end)
    yield good.replace(b"sip:pbx.test SIP", b"sip:" + b"x" * 3000 + b"@pbx.test SIP")
    yield good.replace(end, b"".join(b"X-%d: %s\r\n" % (n, b"y" * 5000) for n in range(20)) + end)
    yield good.replace(end, b"Content-Length: 99999999\r\n\r\n" + b"z" * 60_000)


def status_on(stream: socket.socket) -> int:
    """The status of the response that comes, 0 when the connection ends without any."""
    try:
        data = stream.recv(65536)
    except ConnectionError:
        return 0
    return int(data[8:11]) if data.startswith(b"SIP/2.0 ") else 0


def is_cut(stream: socket.socket) -> bool:
    """Whether the other side has closed the connection."""
    stream.setblocking(False)
    try:
        return not stream.recv(65536)
    except BlockingIOError:
        return False
    except OSError:
        return True


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: sip\r\n\r\n"
)


def talk(place: tuple[str, int], parts: Sequence[bytes], wait: bool = True) -> None:
    """Send it and read what comes, until the PBX closes or is silent."""
    with contextlib.suppress(OSError), socket.create_connection(place, 5) as stream:
        stream.settimeout(0.05)
        for part in parts:
            stream.sendall(part)
            if wait or part is UPGRADE:
                stream.recv(65536)


def handshakes(rng: random.Random) -> Iterator[bytes]:
    """What is no opening handshake (RFC 6455 section 4.2.1)."""
    yield b"\0" * 100
    yield b"GET / HTTP/1.1\r\n\r\n"
    yield b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    yield b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    yield UPGRADE.replace(b"sip\r", b"chat\r")
    yield UPGRADE.replace(b"Version: 13", b"Version: 99")
    yield UPGRADE.replace(b"Key: A", b"Key: ")
    yield UPGRADE.replace(b"GET /", b"GET /" + b"a" * 100_000)
    yield UPGRADE.replace(b"Host: x", b"Host: \xff\xfe\x00")
    yield alive("WS", "nohandshake")
    for _ in range(50):
        yield mutate(rng, UPGRADE, UPGRADE)
        yield rng.randbytes(rng.randrange(1, 2000))


def framed(data: bytes, first: int = 0x81, mask: bytes = b"\1\2\3\4") -> bytes:
    """One frame; an empty mask leaves it unmasked, which clients may not (RFC 6455 section 5.1)."""
    bit = 0x80 if mask else 0
    size = len(data).to_bytes(1) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2)
    size = bytes([bit | size[0]]) + size[1:]
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)) if mask else data
    return bytes([first]) + size + mask + masked


def frames(rng: random.Random) -> Iterator[bytes]:
    """Frames that are wrong, or carry what is wrong (RFC 6455 section 5)."""
    good = alive("WS", "frame")
    yield framed(good, mask=b"")
    yield framed(good, 0x83)
    yield framed(good, 0xF1)
    yield framed(good, 0x01)
    yield framed(good, 0x80)
    yield framed(b"\xff\xfe" * 50)
    yield framed(b"\0\0", 0x88)
    yield framed(b"x" * 120, 0x89)
    yield framed(good[:50], 0x01) + framed(b"ping", 0x89) + framed(good[50:], 0x80)
    yield framed(good + good)
    yield framed(good[:100])
    yield framed(b"")
    yield framed(b"\r\n\r\n")
    yield b"\x81\xff" + (1 << 62).to_bytes(8, "big") + b"\1\2\3\4"
    yield framed(b"x" * 65_000)
    for _ in range(100):
        yield rng.randbytes(rng.randrange(1, 300))
