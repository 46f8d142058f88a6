"""HEPv3 packets for tools that show what is traced (the protocol of Homer and opensips-cli)."""

from __future__ import annotations

import ipaddress
import struct

from pbx.management.trace.messages import TracedMessage, masked
from pbx.sip.address import Address

_SIP = 1
_TCP, _UDP = 6, 17
#: Chunk types of the generic vendor.
FAMILY, PROTOCOL = 1, 2
SOURCE4, TARGET4, SOURCE6, TARGET6 = 3, 4, 5, 6
SOURCE_PORT, TARGET_PORT, SECONDS, MICROSECONDS = 7, 8, 9, 10
KIND, CAPTURE_ID, PAYLOAD, CORRELATION = 11, 12, 15, 17
#: What fits into the 16 bits of a length, besides the chunks before it.
_MOST = 65000


def packet(message: TracedMessage, correlation: str, capture_id: int = 0) -> bytes:
    """One message, its credentials masked."""
    own, peer = message.own, message.peer
    source, target = (own, peer) if message.sent else (peer, own)
    seconds, part = divmod(message.time, 1)
    six = ":" in peer.host
    chunks = (
        _chunk(FAMILY, bytes((10 if six else 2,))),
        _chunk(PROTOCOL, bytes((_UDP if peer.transport == "UDP" else _TCP,))),
        _chunk(SOURCE6 if six else SOURCE4, _packed(source, six)),
        _chunk(TARGET6 if six else TARGET4, _packed(target, six)),
        _chunk(SOURCE_PORT, struct.pack("!H", source.port)),
        _chunk(TARGET_PORT, struct.pack("!H", target.port)),
        _chunk(SECONDS, struct.pack("!I", int(seconds))),
        _chunk(MICROSECONDS, struct.pack("!I", int(part * 1e6))),
        _chunk(KIND, bytes((_SIP,))),
        _chunk(CAPTURE_ID, struct.pack("!I", capture_id)),
        _chunk(CORRELATION, correlation.encode("utf-8", "surrogateescape")[:256]),
        _chunk(PAYLOAD, masked(message.data)[:_MOST]),
    )
    body = b"".join(chunks)
    return b"HEP3" + struct.pack("!H", 6 + len(body)) + body


def _chunk(kind: int, value: bytes) -> bytes:
    return struct.pack("!HHH", 0, kind, 6 + len(value)) + value


def _packed(address: Address, six: bool) -> bytes:
    """A wildcard listener of the other family is all zeroes."""
    try:
        packed = ipaddress.ip_address(address.host).packed
    except ValueError:
        packed = b""
    size = 16 if six else 4
    return packed if len(packed) == size else bytes(size)
