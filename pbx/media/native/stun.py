"""The half of STUN that an ICE-lite agent needs (RFC 8489, RFC 8445 section 2.5). No I/O.

Whatever is not a Binding request with a good MESSAGE-INTEGRITY gets no answer at all: an error
response would tell strangers that somebody is here, and could be more bytes than they sent.
"""

from __future__ import annotations

import hmac
import secrets
import socket
from typing import NamedTuple
from zlib import crc32

MAGIC = b"\x21\x12\xa4\x42"
_REQUEST = b"\x00\x01"
_RESPONSE = b"\x01\x01"
_USERNAME = 0x0006
_INTEGRITY = 0x0008
_MAPPED = b"\x00\x20"
_USE_CANDIDATE = 0x0025
_FINGERPRINT = 0x8028
_FINGERPRINT_XOR = 0x5354554E
#: More attributes than any agent sends.
_MAX_ATTRIBUTES = 24
#: Characters of ufrag and pwd (RFC 8445 section 5.3); both are more random than it asks for.
_UFRAG_BYTES, _PASSWORD_BYTES = 6, 24


class Credentials(NamedTuple):
    """``a=ice-ufrag`` and ``a=ice-pwd`` of our own."""

    ufrag: str
    password: str


class Check(NamedTuple):
    """A connectivity check that proved to know our password."""

    transaction: bytes
    nominates: bool


def new_credentials() -> Credentials:
    """Fresh ones, of characters that ICE allows."""
    ufrag = secrets.token_urlsafe(_UFRAG_BYTES)
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    table = str.maketrans("-_", "+/")
    return Credentials(ufrag.translate(table), password.translate(table))


def parse_check(data: bytes, own: Credentials) -> Check | None:
    """A Binding request meant for ``own`` with the right integrity, else None."""
    size = len(data)
    if size < 20 or data[:2] != _REQUEST or data[4:8] != MAGIC:
        return None
    if int.from_bytes(data[2:4], "big") + 20 != size or size % 4:
        return None
    username = b""
    nominates = False
    at = 20
    for _ in range(_MAX_ATTRIBUTES):
        if at + 4 > size:
            return None
        kind = int.from_bytes(data[at : at + 2], "big")
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        value = data[at + 4 : at + 4 + length]
        if len(value) != length:
            return None
        if kind == _INTEGRITY:
            break
        if kind == _USERNAME:
            username = value
        elif kind == _USE_CANDIDATE:
            nominates = True
        at += 4 + (length + 3 & ~3)
    else:
        return None
    if not username.startswith(own.ufrag.encode() + b":") or length != 20:
        return None
    covered = data[:2] + (at + 4).to_bytes(2, "big") + data[4:at]
    if not hmac.compare_digest(hmac.digest(own.password.encode(), covered, "sha1"), value):
        return None
    return Check(data[8:20], nominates)


def response(check: Check, own: Credentials, host: str, port: int) -> bytes:
    """The success response: never longer than the request was."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    packed = socket.inet_pton(family, host.partition("%")[0])
    key = MAGIC + check.transaction
    masked = bytes(one ^ other for one, other in zip(packed, key, strict=False))
    number = (port ^ 0x2112).to_bytes(2, "big")
    mapped = (b"\0\x02" if family == socket.AF_INET6 else b"\0\x01") + number + masked
    body = _MAPPED + len(mapped).to_bytes(2, "big") + mapped
    return _sealed(_RESPONSE, check.transaction, body, own.password)


def request(
    transaction: bytes, username: str, password: str, *, nominate: bool, priority: int = 1
) -> bytes:
    """A check as a full, controlling agent sends it: for tests and load generators."""
    name = username.encode()
    padded = name + bytes(-len(name) % 4)
    body = _USERNAME.to_bytes(2, "big") + len(name).to_bytes(2, "big") + padded
    body += b"\x00\x24\x00\x04" + priority.to_bytes(4, "big")
    body += b"\x80\x2a\x00\x08" + transaction[:8]
    if nominate:
        body += _USE_CANDIDATE.to_bytes(2, "big") + b"\0\0"
    return _sealed(_REQUEST, transaction, body, password)


def _sealed(kind: bytes, transaction: bytes, body: bytes, password: str) -> bytes:
    """The message with MESSAGE-INTEGRITY and FINGERPRINT (RFC 8489 sections 14.5, 14.7)."""
    head = MAGIC + transaction
    covered = kind + (len(body) + 24).to_bytes(2, "big") + head + body
    body += b"\x00\x08\x00\x14" + hmac.digest(password.encode(), covered, "sha1")
    covered = kind + (len(body) + 8).to_bytes(2, "big") + head + body
    check = (crc32(covered) ^ _FINGERPRINT_XOR).to_bytes(4, "big")
    return covered + _FINGERPRINT.to_bytes(2, "big") + b"\x00\x04" + check
