"""Many browsers on one PBX: connect, register, answer pings (RFC 7118, RFC 6455)."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import time
from dataclasses import dataclass, field

from bench.driver import DOMAIN, answer_to

#: Connections from one address, of the loopback net; opened at once.
PER_ADDRESS, AT_ONCE = 50, 100
_STATUS = re.compile(rb"SIP/2.0 (\d+)")


@dataclass(slots=True)
class Crowd:
    """What became of them."""

    registered: int = 0
    failed: int = 0
    pings: int = 0
    closed: int = 0
    seconds: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)


def frame(opcode: int, data: bytes) -> bytes:
    """A masked frame; the mask of zeros is one like any other."""
    size = len(data)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    else:
        head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big")
    return head + b"\0\0\0\0" + data


class Browser:
    """One connection."""

    def __init__(self, number: int, port: int, crowd: Crowd) -> None:
        self._number = number
        self._port = port
        self._crowd = crowd
        self._user = f"u{number:06d}"
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None
        self._staying: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Connect and register."""
        third, fourth = divmod(self._number // PER_ADDRESS, 250)
        source = f"127.1.{third}.{fourth + 1}"
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port, local_addr=(source, 0), limit=8192
        )
        key = base64.b64encode(os.urandom(16)).decode()
        self._writer.write(
            (
                f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
            ).encode()
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head, head
        self._send(self._register(1, ""))
        challenge = await self._message()
        uri = f"sip:{DOMAIN}"
        credentials = answer_to(challenge, self._user, "REGISTER", uri)
        self._send(self._register(2, f"Authorization: {credentials}\r\n"))
        answer = await self._message()
        found = _STATUS.match(answer)
        assert found is not None, answer
        assert found[1] == b"200", answer
        self._crowd.registered += 1
        self._staying = asyncio.create_task(self._stay())

    def _register(self, number: int, credentials: str) -> str:
        host = f"b{self._number}.invalid"
        return (
            f"REGISTER sip:{DOMAIN} SIP/2.0\r\n"
            f"Via: SIP/2.0/WS {host};branch=z9hG4bK{self._number}-{number};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:{self._user}@{DOMAIN}>;tag=b{self._number}\r\n"
            f"To: <sip:{self._user}@{DOMAIN}>\r\nCall-ID: browser-{self._number}\r\n"
            f"CSeq: {number} REGISTER\r\nContact: <sip:{self._user}@{host};transport=ws>\r\n"
            f"Expires: 600\r\nUser-Agent: bench\r\n{credentials}Content-Length: 0\r\n\r\n"
        )

    def _send(self, text: str) -> None:
        assert self._writer is not None
        self._writer.write(frame(1, text.encode()))

    async def _message(self) -> bytes:
        """The next message; pings are answered on the way."""
        assert self._reader is not None
        assert self._writer is not None
        while True:
            head = await self._reader.readexactly(2)
            size = head[1] & 0x7F
            if size == 126:
                size = int.from_bytes(await self._reader.readexactly(2), "big")
            data = await self._reader.readexactly(size)
            opcode = head[0] & 0x0F
            if opcode == 9:
                self._crowd.pings += 1
                self._writer.write(frame(10, data))
            elif opcode in (1, 2):
                return data
            elif opcode == 8:
                raise ConnectionError("closed by the PBX")

    async def _stay(self) -> None:
        """Answer pings until the end."""
        try:
            while True:
                await self._message()
        except (ConnectionError, asyncio.IncompleteReadError):
            self._crowd.closed += 1

    def close(self) -> None:
        """Hang up."""
        if self._staying is not None:
            self._staying.cancel()
        if self._writer is not None:
            self._writer.close()


async def gather(count: int, port: int) -> tuple[Crowd, list[Browser]]:
    """So many browsers, registered."""
    crowd = Crowd()
    gate = asyncio.Semaphore(AT_ONCE)

    async def begin(browser: Browser) -> None:
        async with gate:
            try:
                await asyncio.wait_for(browser.begin(), 60)
            except (TimeoutError, AssertionError, OSError, EOFError) as error:
                crowd.failed += 1
                name = type(error).__name__
                crowd.faults[name] = crowd.faults.get(name, 0) + 1

    browsers = [Browser(number, port, crowd) for number in range(count)]
    began = time.monotonic()
    await asyncio.gather(*map(begin, browsers))
    crowd.seconds = time.monotonic() - began
    return crowd, browsers
