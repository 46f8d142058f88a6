"""Digest authentication: challenges, credentials, nonces (RFC 7616, RFC 8760, RFC 3261 section 22).

Nothing here knows a user: whoever checks credentials brings HA1, the hash of
``user:realm:password``, which is worth computing only once.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from enum import IntEnum

from pbx.sip.errors import MalformedMessage
from pbx.sip.params import quote, split_outside, unquote

#: Names as written in ``algorithm``, strongest first (RFC 8760 section 2.3).
ALGORITHMS = ("SHA-512-256", "SHA-256", "MD5")
_HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
_LENGTHS = {"MD5": 32, "SHA-256": 64, "SHA-512-256": 64}


def digest(algorithm: str, text: str) -> str:
    """The hash of a text in hexadecimal; ``algorithm`` without ``-sess``."""
    data = text.encode("utf-8", "surrogateescape")
    if algorithm == "MD5":
        return hashlib.md5(data, usedforsecurity=False).hexdigest()
    return hashlib.new(_HASHES[algorithm], data).hexdigest()


def make_ha1(algorithm: str, user: str, realm: str, password: str) -> str:
    """What a server may store instead of the password (RFC 7616 section 3.4.2)."""
    return digest(algorithm, f"{user}:{realm}:{password}")


class Credentials:
    """The value of an Authorization or Proxy-Authorization header.

    ``algorithm`` is upper case without ``-SESS``, which is ``sess``; ``qop`` and ``nc`` are ""
    when absent. Texts are unquoted.
    """

    __slots__ = (
        "algorithm",
        "cnonce",
        "nc",
        "nonce",
        "qop",
        "realm",
        "response",
        "sess",
        "uri",
        "username",
    )

    def __init__(self, values: dict[str, str]) -> None:
        """Raises MalformedMessage when one of the five that must be there is not."""
        get = values.get
        try:
            self.username = values["username"]
            self.realm = values["realm"]
            self.nonce = values["nonce"]
            self.uri = values["uri"]
            self.response = values["response"].lower()
        except KeyError as missing:
            raise MalformedMessage(f"Credentials Without {missing.args[0].title()}") from None
        algorithm = get("algorithm", "MD5").upper()
        self.sess = algorithm.endswith("-SESS")
        self.algorithm = algorithm[:-5] if self.sess else algorithm
        self.qop = get("qop", "").lower()
        self.cnonce = get("cnonce", "")
        self.nc = get("nc", "").lower()
        if self.qop and not (self.cnonce and self.nc):
            raise MalformedMessage("Credentials With Qop But Without Cnonce Or Nc")
        if self.qop not in ("", "auth", "auth-int"):
            raise MalformedMessage("Unknown Qop")

    @classmethod
    def parse(cls, value: str) -> Credentials | None:
        """None for another scheme than Digest. Raises MalformedMessage."""
        values = parameters(value)
        return None if values is None else cls(values)


def parameters(value: str) -> dict[str, str] | None:
    """Names (lower case) and unquoted values of a Digest header; None for another scheme."""
    scheme, _, rest = value.lstrip(" \t").partition(" ")
    if scheme.lower() != "digest":
        return None
    # Commas and equal signs inside quotes are rare; the quick way is checked for them.
    found: dict[str, str] = {}
    for part in _split(rest):
        name, equals, text = part.partition("=")
        if not equals:
            continue
        text = text.strip(" \t")
        if text[:1] == '"':
            text = unquote(text)
        found[name.strip(" \t").lower()] = text
    return found


def _split(text: str) -> list[str]:
    parts = text.split(",")
    for part in parts:
        if part.count('"') & 1 or "\\" in part:
            return split_outside(text, ",")
    return parts


def challenge(realm: str, nonce: str, algorithm: str, qop: str, *, stale: bool = False) -> str:
    """The value of a WWW-Authenticate or Proxy-Authenticate header."""
    text = f'Digest realm={quote(realm)}, nonce="{nonce}"'
    if qop:
        text += f', qop="{qop}"'
    if algorithm != "MD5" or qop:
        text += f", algorithm={algorithm}"
    return text + ", stale=true" if stale else text


def is_right(credentials: Credentials, ha1: str, method: str, body: bytes = b"") -> bool:
    """Whether the response was made with this HA1 (RFC 7616 section 3.4); in constant time."""
    algorithm = credentials.algorithm
    if algorithm not in _HASHES:
        return False
    if credentials.sess:
        ha1 = digest(algorithm, f"{ha1}:{credentials.nonce}:{credentials.cnonce}")
    if credentials.qop == "auth-int":
        body_hash = hashlib.new(_HASHES[algorithm], body).hexdigest()
        ha2 = digest(algorithm, f"{method}:{credentials.uri}:{body_hash}")
    else:
        ha2 = digest(algorithm, f"{method}:{credentials.uri}")
    if credentials.qop:
        between = f"{credentials.nonce}:{credentials.nc}:{credentials.cnonce}:{credentials.qop}"
    else:
        between = credentials.nonce
    expected = digest(algorithm, f"{ha1}:{between}:{ha2}")
    offered = credentials.response.encode("utf-8", "surrogateescape")
    return hmac.compare_digest(expected.encode(), offered)


class NonceState(IntEnum):
    """What a nonce that somebody brings is worth."""

    GOOD = 0
    STALE = 1
    """Ours, but too old or used before: the client shall try again with a new one."""
    FORGED = 2


class Nonces:
    """Signed nonces that survive a restart, each good for one use or for rising counts.

    A nonce is the time in hexadecimal seconds, a random part, and a keyed hash of both. Which ones
    were used is remembered as long as they are valid, ``limit`` of them at most: a table that is
    full makes further ones stale. After a restart a valid nonce counts as unused.
    """

    __slots__ = ("_counts", "_key", "_lifetime", "_limit", "_older", "_turned")

    def __init__(self, key: bytes, lifetime: float, limit: int = 500_000) -> None:
        self._key = key
        self._lifetime = lifetime
        self._limit = limit
        self._counts: dict[str, int] = {}
        self._older: dict[str, int] = {}
        self._turned = 0.0

    def make(self, now: float) -> str:
        """A new nonce."""
        text = f"{int(now):08x}{os.urandom(8).hex()}"
        return text + self._signature(text)

    def _signature(self, text: str) -> str:
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=12).hexdigest()

    def is_ours(self, nonce: str) -> bool:
        """Whether we made it, however old it is."""
        if len(nonce) != 48 or not nonce.isascii():
            return False
        return hmac.compare_digest(self._signature(nonce[:24]), nonce[24:])

    def state(self, nonce: str, now: float) -> NonceState:
        """Its worth before the response was checked."""
        if not self.is_ours(nonce):
            return NonceState.FORGED
        try:
            age = now - int(nonce[:8], 16)
        except ValueError:
            return NonceState.FORGED
        return NonceState.GOOD if -2 <= age <= self._lifetime else NonceState.STALE

    def use(self, nonce: str, nc: str, now: float) -> bool:
        """Use it up: once without ``nc``, else once for each higher count. False: used before.

        To be asked only after the response proved right, so that nobody can use up another's.
        """
        if now - self._turned > self._lifetime + 2:
            self._older = self._counts if now - self._turned < 2 * self._lifetime + 4 else {}
            self._counts = {}
            self._turned = now
        count = 1
        if nc:
            try:
                count = int(nc, 16)
            except ValueError:
                return False
        seen = self._counts.get(nonce) or self._older.get(nonce, 0)
        if count <= seen or (not nc and seen):
            return False
        if len(self._counts) >= self._limit:
            return False
        # Used without a count means used up.
        self._counts[nonce] = count if nc else 2**32
        return True

    def __len__(self) -> int:
        """How many used ones are remembered."""
        return len(self._counts) + len(self._older)


def response_length(algorithm: str) -> int:
    """Hexadecimal digits of a hash."""
    return _LENGTHS[algorithm]
