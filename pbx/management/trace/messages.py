"""One message as a trace shows it. Read leniently: what is traced may be no good SIP at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pbx.sip.address import Address
from pbx.sip.headers import canonical
from pbx.sip.masking import masked

#: As the wire showed it: time, whether we sent it, our listener, what we call ourselves, the peer,
#: and the bytes.
Seen = tuple[float, bool, Address, tuple[str, int], Address, bytes]

_HEADERS = re.compile(
    rb"\n(call-id|i|from|f|to|t|cseq|x-pbx-call|reason|warning)[ \t]*:[ \t]*([^\r\n]*)",
    re.IGNORECASE,
)
_USER = re.compile(r"sips?:([^@;>\s\"]+)@([^;>\s\"?]+)", re.IGNORECASE)
_TAG = re.compile(r";\s*tag=([^;\s>]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedMessage:
    """What a trace tells of a message. ``number`` counts all messages since the start."""

    number: int
    time: float
    sent: bool
    own: Address
    peer: Address
    data: bytes
    start: str
    call_id: str
    headers: Mapping[str, str]

    @property
    def method(self) -> str:
        """Of a request, or of the one that a response answers."""
        return self.headers.get("cseq", "").partition(" ")[2].strip().upper()

    @property
    def cseq(self) -> str:
        """The number in CSeq."""
        return self.headers.get("cseq", "").partition(" ")[0]

    @property
    def is_request(self) -> bool:
        """Everything that is no response."""
        return not self.start.startswith("SIP/2.0 ")

    @property
    def status(self) -> int:
        """Of a response, else 0."""
        code = self.start[8:11]
        return int(code) if not self.is_request and code.isdigit() and code.isascii() else 0

    @property
    def reason(self) -> str:
        """Of a response: its phrase."""
        return self.start[12:].strip()

    @property
    def uri(self) -> str:
        """The Request-URI."""
        words = self.start.split(" ")
        return words[1] if self.is_request and len(words) > 2 else ""

    @property
    def to_tag(self) -> str:
        """Of the callee's side, if there is one yet."""
        found = _TAG.search(self.headers.get("to", ""))
        return found[1] if found else ""

    def user(self, header: str) -> tuple[str, str]:
        """User and host in ``from``, ``to`` or ``uri``, ("", "") for none."""
        found = _USER.search(self.uri if header == "uri" else self.headers.get(header, ""))
        return (found[1], found[2]) if found else ("", "")

    def as_json(self, call: str) -> dict[str, object]:
        """For whoever asks; the credentials are masked."""
        return {
            "number": self.number,
            "time": self.time,
            "sent": self.sent,
            "own": self.own.socket,
            "peer": self.peer.socket,
            "call": call,
            "call_id": self.call_id,
            "start": self.start,
            "method": self.method,
            "cseq": self.cseq,
            "from": self.user("from")[0],
            "to": self.user("to")[0],
            "uri": self.uri,
            "leg": self.headers.get("x-pbx-call", ""),
            "sdp": b"\r\n\r\nv=0" in self.data,
            "text": masked(self.data).decode("utf-8", "surrogateescape"),
        }


def read(number: int, seen: Seen) -> TracedMessage:
    """What can be told of a message."""
    time, sent, own, sent_by, peer, data = seen
    head = data.partition(b"\r\n\r\n")[0]
    headers: dict[str, str] = {}
    for match in _HEADERS.finditer(head):
        name = canonical(match[1].decode("ascii").lower())
        headers.setdefault(name, match[2].decode("utf-8", "replace").strip())
    if own.host in ("0.0.0.0", "::") and sent_by[0].replace(".", "").replace(":", "").isalnum():
        own = own._replace(host=sent_by[0])
    return TracedMessage(
        number=number,
        time=time,
        sent=sent,
        own=own,
        peer=peer,
        data=data,
        start=head.lstrip().partition(b"\r\n")[0].decode("utf-8", "replace"),
        call_id=headers.get("call-id", ""),
        headers=headers,
    )
