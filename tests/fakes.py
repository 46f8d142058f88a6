"""Fakes that do what the interfaces say, and messages from readable text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from zope.interface import implementer

from pbx.interfaces import IFlow, IFlows
from pbx.sip.address import Address
from pbx.sip.errors import TransportFailed
from pbx.sip.message import Message, Request, Response
from pbx.sip.parser import parse
from pbx.sip.uri import URI

LOCAL = Address("UDP", "192.0.2.1", 5060)
PEER = Address("UDP", "192.0.2.50", 5060)


@implementer(IFlow)
class FakeFlow:
    """A flow that keeps what was sent in ``sent``."""

    def __init__(
        self,
        peer: Address = PEER,
        local: Address = LOCAL,
        token: str = "",
    ) -> None:
        self.peer = peer
        self.local = local
        self.reliable = peer.reliable
        self.sent_by = (local.host, local.port)
        self.closed = False
        self.token = token
        self.kept = 0.0
        self.sent: list[bytes] = []
        #: Those of them that could wait.
        self.sent_soon: list[bytes] = []

    def send(self, data: bytes) -> None:
        if self.closed:
            raise TransportFailed("closed")
        self.sent.append(data)

    def send_soon(self, data: bytes) -> None:
        self.send(data)
        self.sent_soon.append(data)

    def keep(self, seconds: float) -> None:
        self.kept = seconds

    def close(self) -> None:
        self.closed = True

    def messages(self) -> Sequence[Message]:
        """Everything sent so far, parsed; forgets it."""
        sent, self.sent = self.sent, []
        return [parse(data) for data in sent]

    def responses(self) -> list[Response]:
        return [message for message in self.messages() if isinstance(message, Response)]


def message(text: str, body: bytes = b"") -> Message:
    """A message from indented text; lines end in CRLF and Content-Length is added."""
    lines = textwrap.dedent(text).strip("\n").split("\n")
    if not any(line.lower().startswith(("content-length", "l:")) for line in lines):
        lines.append(f"Content-Length: {len(body)}")
    return parse("\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body)


def request(
    line: str,
    headers: str = "",
    *,
    from_: str = "<sip:1001@pbx.test>;tag=a",
    to: str = "",
    call_id: str = "call-1",
    cseq: int = 1,
    via: str = "SIP/2.0/UDP 192.0.2.50:5060;branch=z9hG4bK-1;rport",
    body: bytes = b"",
) -> Request:
    """A request from ``METHOD uri`` and further header lines; the rest has defaults."""
    method, _, uri = line.partition(" ")
    text = "\n".join(
        [
            f"{method} {uri} SIP/2.0",
            f"Via: {via}",
            *([] if "Max-Forwards" in headers else ["Max-Forwards: 70"]),
            f"From: {from_}",
            f"To: {to or f'<{uri}>'}",
            f"Call-ID: {call_id}",
            f"CSeq: {cseq} {method}",
            *textwrap.dedent(headers).strip("\n").split("\n"),
        ]
    )
    made = message(text.rstrip("\n"), body)
    assert isinstance(made, Request)
    return made


@implementer(IFlows)
class FakeFlows:
    """Every IP literal is one hop away; names are looked up in ``names``."""

    def __init__(self, *own: Address) -> None:
        self.own = own or (LOCAL,)
        self.names: dict[str, list[Address]] = {}
        self.flows: dict[Address, FakeFlow] = {}
        self.refused: set[Address] = set()

    def flow(self, address: Address) -> FakeFlow:
        """The one flow to an address."""
        found = self.flows.get(address)
        if found is None or found.closed:
            local = next((own for own in self.own if own.transport == address.transport), LOCAL)
            token = f"token-{address.port}" if address.reliable else ""
            found = self.flows[address] = FakeFlow(address, local, token)
        return found

    def locate(self, uri: URI) -> Sequence[Address] | None:
        transport = uri.transport or "UDP"
        if uri.host in self.names:
            return self.names[uri.host]
        if uri.host.replace(".", "").isdigit():
            return (Address(transport, uri.host, uri.port or 5060),)
        return None

    async def resolve(self, uri: URI) -> Sequence[Address]:
        raise TransportFailed(f"no address for {uri.host}")

    def find(self, address: Address, local: Address | None = None) -> FakeFlow | None:
        if address.transport in ("UDP",) or address in self.flows:
            return self.flow(address)
        return None

    def prefers_stream(self, address: Address, size: int) -> bool:
        return address.transport == "UDP" and size > 1300

    async def connect(self, address: Address, local: Address | None = None) -> FakeFlow:
        if address in self.refused:
            raise TransportFailed("refused")
        return self.flow(address)

    def by_token(self, token: str) -> FakeFlow | None:
        return next((flow for flow in self.flows.values() if flow.token == token), None)

    def is_own(self, uri: URI) -> bool:
        transport = uri.transport or "UDP"
        own = (transport, uri.host, uri.port or 5060)
        return any((one.transport, one.host, one.port) == own for one in self.own)

    def is_own_host(self, host: str) -> bool:
        return any(one.host == host for one in self.own)

    def listeners(self) -> Sequence[Address]:
        return self.own
