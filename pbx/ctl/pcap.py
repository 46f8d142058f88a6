"""Traced messages as a capture file that Wireshark, tshark and sngrep read.

A packet per message: UDP as it was; TCP, TLS and WebSocket as segments of a TCP connection without
encryption and framing, so that the SIP in them can be read.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

_MAGIC = 0xA1B2C3D4
#: LINKTYPE_RAW: packets begin with the IP header.
_RAW = 101
_SNAP = 0x40000
_TCP, _UDP = 6, 17
_PUSH_ACK = 0x18
#: What fits into one IPv4 packet besides the headers.
_MOST = 65535 - 20 - 20

Side = tuple[str, int]


class Capture:
    """Writes to an open file, each packet at once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._next: dict[tuple[Side, Side], int] = {}
        self._write(struct.pack("<IHHiIII", _MAGIC, 2, 4, 0, 0, _SNAP, _RAW))

    def add(self, message: Mapping[str, Any]) -> None:
        """One message of ``trace_messages`` or ``trace_follow``."""
        transport, own = _side(message["own"])
        _, peer = _side(message["peer"])
        source, target = (own, peer) if message["sent"] else (peer, own)
        data = message["text"].encode("utf-8", "surrogateescape")[:_MOST]
        packet = self._packet(source, target, data, transport == "udp")
        seconds, part = divmod(message["time"], 1)
        head = struct.pack("<IIII", int(seconds), int(part * 1e6), len(packet), len(packet))
        self._write(head + packet)

    def _packet(self, source: Side, target: Side, data: bytes, datagram: bool) -> bytes:
        one, other = ipaddress.ip_address(source[0]), ipaddress.ip_address(target[0])
        if datagram:
            protocol, head = _UDP, struct.pack("!HHHH", source[1], target[1], 8 + len(data), 0)
            at = 6
        else:
            protocol, head, at = _TCP, self._tcp(source, target, len(data)), 16
        pseudo = one.packed + other.packed + struct.pack("!HH", protocol, len(head) + len(data))
        total = _checksum(pseudo + head + data) or 0xFFFF
        payload = head[:at] + struct.pack("!H", total) + head[at + 2 :] + data
        if one.version == 6:
            first = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64)
            return first + one.packed + other.packed + payload
        length = 20 + len(payload)
        ip = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0x4000, 64, protocol, 0)
        ip += one.packed + other.packed
        return ip[:10] + struct.pack("!H", _checksum(ip)) + ip[12:] + payload

    def _tcp(self, source: Side, target: Side, length: int) -> bytes:
        sent = self._next.setdefault((source, target), 1)
        heard = self._next.setdefault((target, source), 1)
        self._next[(source, target)] = (sent + length) & 0xFFFFFFFF
        return struct.pack(
            "!HHIIBBHHH", source[1], target[1], sent, heard, 5 << 4, _PUSH_ACK, 0xFFFF, 0, 0
        )

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()


def _side(socket: str) -> tuple[str, Side]:
    """``udp:[2001:db8::1]:5060`` -> transport, host and port."""
    transport, _, place = socket.partition(":")
    host, _, port = place.rpartition(":")
    return transport, (host.strip("[]").partition("%")[0], int(port))


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
