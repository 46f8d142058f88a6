"""Fakes that do what the interfaces say, and messages from readable text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from zope.interface import implementer

from pbx.interfaces import IFlow
from pbx.sip.address import Address
from pbx.sip.errors import TransportFailed
from pbx.sip.message import Message, Request, Response
from pbx.sip.parser import parse

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

    def send(self, data: bytes) -> None:
        if self.closed:
            raise TransportFailed("closed")
        self.sent.append(data)

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
