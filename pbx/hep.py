"""HEPv3 packets: messages for a capture server such as Homer, or for ``opensips-cli trace``.

Revision 26 of the protocol: "HEP3", the length, and chunks of vendor, type, length and value.
"""

from __future__ import annotations

import ipaddress
from struct import Struct

from pbx.sip.address import Address

_SIP = 1
_TCP, _UDP = 6, 17
#: Chunk types of the generic vendor.
FAMILY, PROTOCOL = 1, 2
SOURCE4, TARGET4, SOURCE6, TARGET6 = 3, 4, 5, 6
SOURCE_PORT, TARGET_PORT, SECONDS, MICROSECONDS = 7, 8, 9, 10
KIND, CAPTURE_ID, KEY, PAYLOAD, CORRELATION = 11, 12, 14, 15, 17
#: What fits into the 16 bits of a length, besides the chunks before it.
MAX_PAYLOAD = 64_000
MAX_TEXT = 256
_HEADER = Struct("!HHH")
_SHORT = Struct("!H")
_LONG = Struct("!I")


def packet(
    time: float,
    source: Address,
    target: Address,
    data: bytes,
    correlation: str,
    capture_id: int = 0,
    key: bytes = b"",
) -> bytes:
    """One message of SIP. ``correlation`` joins the legs of a call; ``key`` proves who sends."""
    seconds, part = divmod(time, 1)
    six = ":" in source.host or ":" in target.host
    udp = source.transport == "UDP"
    chunks = [
        _chunk(FAMILY, bytes((10 if six else 2,))),
        _chunk(PROTOCOL, bytes((_UDP if udp else _TCP,))),
        _chunk(SOURCE6 if six else SOURCE4, _packed(source, six)),
        _chunk(TARGET6 if six else TARGET4, _packed(target, six)),
        _chunk(SOURCE_PORT, _SHORT.pack(source.port)),
        _chunk(TARGET_PORT, _SHORT.pack(target.port)),
        _chunk(SECONDS, _LONG.pack(int(seconds))),
        _chunk(MICROSECONDS, _LONG.pack(int(part * 1e6))),
        _chunk(KIND, bytes((_SIP,))),
        _chunk(CAPTURE_ID, _LONG.pack(capture_id)),
    ]
    if key:
        chunks.append(_chunk(KEY, key[:MAX_TEXT]))
    if correlation:
        text = correlation.encode("utf-8", "surrogateescape")
        chunks.append(_chunk(CORRELATION, text[:MAX_TEXT]))
    chunks.append(_chunk(PAYLOAD, data[:MAX_PAYLOAD]))
    body = b"".join(chunks)
    return b"HEP3" + _SHORT.pack(6 + len(body)) + body


def _chunk(kind: int, value: bytes) -> bytes:
    return _HEADER.pack(0, kind, 6 + len(value)) + value


def _packed(address: Address, six: bool) -> bytes:
    """A name, or a wildcard listener of the other family, is all zeroes."""
    try:
        packed = ipaddress.ip_address(address.host).packed
    except ValueError:
        packed = b""
    size = 16 if six else 4
    return packed if len(packed) == size else bytes(size)
