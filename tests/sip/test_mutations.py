"""100,000 broken messages: nothing but the errors that know their answer."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.address import Address
from pbx.sip.errors import MalformedMessage, SIPError
from pbx.sip.fields import NameAddr
from pbx.sip.message import Message, Request, response_to
from pbx.sip.nat import behind_nat, needs_repair_reply, repair_contact
from pbx.sip.parser import parse
from pbx.sip.route import next_hop, strip_own
from pbx.sip.stream import StreamParser
from pbx.sip.uri import URI
from pbx.sip.validate import validate
from pbx.sip.via import find_loop, mark_received, response_destination
from tests.fakes import request

T = TypeVar("T")

COUNT = 100_000
PEER = Address("TCP", "198.51.100.9", 40000)

#: What breaks parsers when it turns up in the wrong place.
SPLINTERS = (
    *(bytes([code]) for code in b'\0\t\r\n "%()*,/:;<=>?@[\\]{}\x7f\x80\xc3\xff'),
    b"\r\n",
    b"\r\n ",
    b"\r\n\r\n",
    b"::",
    b";;",
    b'\\"',
    b"%00",
    b"%zz",
    b"[::1]",
    b"sip:",
    b"SIP/2.0",
    b";lr",
    b";tag=",
    b";maddr=",
    b"99999999999999999999",
    b"-1",
    b"\xc2\xa0",
    b"\xd9\xa3",
    b"\xe2\x80\xa8",
    b"Content-Length: 3\r\n",
    b"Route: <sip:us.test;lr>\r\n",
    b"Contact: *\r\n",
)


def seeds() -> list[bytes]:
    """The torture messages and some of every day."""
    folder = Path(__file__).parent.parent / "torture"
    found = [path.read_bytes() for path in sorted(folder.glob("*.dat"))]
    daily = request(
        "INVITE sip:1002@pbx.test",
        """
        Contact: "Alice" <sip:1001@10.0.0.1:5060;ob>;expires=60
        Route: <sip:us.test;lr;did=1.2>, <sip:next.test;lr>
        Record-Route: <sip:other.test;lr>
        Supported: path, outbound
        Max-Forwards: 70
        """,
        body=b"v=0\r\nc=IN IP4 10.0.0.1\r\n",
    )
    found += [bytes(daily), bytes(response_to(daily, 200, to_tag="b"))] * 10
    return found


def mutate(rng: random.Random, seed: bytes, other: bytes) -> bytes:
    """One to four accidents."""
    data = seed
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.randrange(1, 12))
        kind = rng.randrange(6)
        if kind == 0:
            data = data[:at] + rng.choice(SPLINTERS) + data[at:]
        elif kind == 1:
            data = data[:at] + rng.choice(SPLINTERS) + data[end:]
        elif kind == 2:
            data = data[:at] + data[end:]
        elif kind == 3:
            data = data[:end] + data[at:]
        elif kind == 4:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        else:
            start = rng.randrange(len(other) + 1)
            data = data[:at] + other[start : start + rng.randrange(60)] + data[at:]
    return data


def is_own(uri: URI) -> bool:
    return uri.host == "us.test"


def attempt(function: Callable[..., T], *args: object) -> T | None:
    """The result, None for an error that knows its answer; any other goes on to fail the test."""
    try:
        return function(*args)
    except SIPError:
        return None


def look_into(value: NameAddr) -> object:
    return value.tag, str(value.params), str(value), value.uri.aor, value.uri.params


def read_everything(message: Message) -> None:
    """Ask for every typed value there is."""
    for name in set(message.names):
        message.get_list(name)
        if name in ("route", "record-route", "contact", "path", "to", "from"):
            for one in attempt(message.addresses, name) or ():
                attempt(look_into, one)
    attempt(lambda: message.expires)
    response_destination(message.via, "UDP")


def handle(data: bytes) -> None:
    """All that happens to a datagram before a policy sees it."""
    try:
        message = parse(data)
    except MalformedMessage as error:
        broken = error.request
        if broken is not None:
            mark_received(broken, PEER)
            bytes(response_to(broken, error.status, error.reason, error.headers, to_tag="x"))
        return
    bytes(message)
    read_everything(message)
    if not isinstance(message, Request):
        attempt(needs_repair_reply, message, PEER)
        return
    mark_received(message, PEER)
    attempt(validate, message)
    attempt(find_loop, message, lambda host: True)
    attempt(behind_nat, message, PEER)
    stripped = attempt(strip_own, message, is_own)
    if stripped is not None:
        copy = stripped[0].copy()
        attempt(next_hop, copy)
        repair_contact(copy, PEER)
        bytes(copy)
    again = parse(bytes(response_to(message, 200, to_tag="x")))
    assert again.call_id == message.call_id


class MutationTests(SynchronousTestCase):
    timeout = 300

    def test_datagrams(self) -> None:
        """Issue: 100,000 mutated messages without an escaped exception or growing memory."""
        rng = random.Random(4475)
        messages = seeds()
        for _ in range(2000):
            handle(mutate(rng, rng.choice(messages), rng.choice(messages)))
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(COUNT):
            data = mutate(rng, rng.choice(messages), rng.choice(messages))
            try:
                handle(data)
            except Exception as error:
                raise AssertionError(f"{error!r} for {data!r}") from error
        gc.collect()
        self.assertLess(len(gc.get_objects()) - before, 10_000)

    def test_streams(self) -> None:
        """The same in pieces of any size; a parser that failed is replaced."""
        rng = random.Random(5118)
        messages = seeds()
        parser = StreamParser()
        found = 0
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for number in range(COUNT):
            data = mutate(rng, rng.choice(messages), rng.choice(messages))
            while data:
                size = rng.choice((1, 7, 100, 2000))
                found += len(parser.feed(data[:size]))
                data = data[size:]
            if parser.failed or number % 50 == 0:
                parser = StreamParser()
        self.assertGreater(found, COUNT // 10)
        self.assertLess(tracemalloc.get_traced_memory()[0], 5_000_000)
