"""Digest authentication, server side: credentials, challenges and nonces (RFC 7616, RFC 8760).

No clock and no database: the caller looks up the HA1 and says what time it is.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import Enum
from typing import Final

from pbx.sip.errors import MalformedMessage
from pbx.sip.params import quote, unquote
from pbx.sip.uri import unescape

#: RFC 7616 section 6.1: hash of each base algorithm, by name as written in challenges.
HASHES: Final[dict[str, str]] = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
#: Any spelling in lower case -> name as written in challenges.
ALGORITHMS: Final[dict[str, str]] = {
    name.lower(): name for base in HASHES for name in (base, f"{base}-sess")
}
_HEX: Final = frozenset("0123456789abcdef")


class Credentials:
    """One Authorization or Proxy-Authorization value (RFC 7616 section 3.4). Read-only.

    ``algorithm`` is spelled as in `ALGORITHMS`, or as it came when unknown; ``base`` is the same
    without ``-sess``. ``qop`` is lower case, "" for the form of RFC 2069; ``count`` is the number
    in ``nc``, 0 without qop.
    """

    __slots__ = (
        "algorithm",
        "base",
        "cnonce",
        "count",
        "nc",
        "nonce",
        "qop",
        "realm",
        "response",
        "uri",
        "username",
    )

    def __init__(self, fields: dict[str, str]) -> None:
        """Raises MalformedMessage when a parameter is missing or no good."""
        username = fields.get("username")
        if username is None:
            username = _extended(fields.get("username*"))
        realm = fields.get("realm")
        nonce = fields.get("nonce")
        uri = fields.get("uri")
        response = fields.get("response")
        if not username or realm is None or not nonce or uri is None or not response:
            raise MalformedMessage("Incomplete Credentials")
        self.username: str = username
        self.realm: str = realm
        self.nonce: str = nonce
        self.uri: str = uri
        self.response: str = response.lower()
        algorithm = fields.get("algorithm") or "MD5"
        self.algorithm: str = ALGORITHMS.get(algorithm.lower(), algorithm)
        self.base: str = self.algorithm.removesuffix("-sess")
        self.cnonce: str = fields.get("cnonce", "")
        self.qop: str = fields.get("qop", "").lower()
        self.nc: str = ""
        self.count: int = 0
        if self.qop:
            if self.qop != "auth" and self.qop != "auth-int":
                raise MalformedMessage("Unknown qop")
            self.nc = fields.get("nc", "")
            self.count = _count(self.nc)
            if "cnonce" not in fields:
                raise MalformedMessage("Credentials Without Cnonce")

    @classmethod
    def parse(cls, text: str) -> Credentials | None:
        """From an unfolded header value; None for a scheme other than Digest.

        Forgives what phones get wrong: quotes where there should be none and none where they
        should be, missing or doubled commas, white space around ``=``, any case of names.
        Raises MalformedMessage.
        """
        if text[:7].lower() not in ("digest ", "digest\t"):
            if text.lower() == "digest":
                raise MalformedMessage("Incomplete Credentials")
            return None
        return cls(_fields(text, 7))

    def expected(self, ha1: str, method: str, body: bytes = b"") -> str:
        """The response that proves knowledge of ``ha1`` (3.4.1): hexadecimal.

        Meant for a known ``base`` only.
        """
        base = self.base
        if self.algorithm != base:
            ha1 = digest(base, f"{ha1}:{self.nonce}:{self.cnonce}")
        qop = self.qop
        if qop == "auth-int":
            entity = hashlib.new(HASHES[base], body).hexdigest()
            ha2 = digest(base, f"{method}:{self.uri}:{entity}")
        else:
            ha2 = digest(base, f"{method}:{self.uri}")
        if qop:
            return digest(base, f"{ha1}:{self.nonce}:{self.nc}:{self.cnonce}:{qop}:{ha2}")
        return digest(base, f"{ha1}:{self.nonce}:{ha2}")

    def proves(self, ha1: str, method: str, body: bytes = b"") -> bool:
        """Whether the response is right; takes the same time wherever it differs.

        Never with an unknown algorithm.
        """
        if self.base not in HASHES:
            return False
        right = self.expected(ha1, method, body).encode("ascii")
        return hmac.compare_digest(right, self.response.encode("utf-8", "surrogateescape"))


def digest(base: str, text: str) -> str:
    """H(text) of RFC 7616 section 3.3 in hexadecimal, for a base algorithm."""
    data = text.encode("utf-8", "surrogateescape")
    if base == "MD5":
        return hashlib.md5(data, usedforsecurity=False).hexdigest()
    if base == "SHA-256":
        return hashlib.sha256(data).hexdigest()
    return hashlib.new(HASHES[base], data).hexdigest()


def ha1(base: str, username: str, realm: str, password: str) -> str:
    """H(username:realm:password) (3.4.2): what a server keeps instead of the password."""
    return digest(base, f"{username}:{realm}:{password}")


def challenge(
    realm: str, nonce: str, qop: str = "auth", algorithm: str = "", stale: bool = False
) -> str:
    """The value of a WWW-Authenticate or Proxy-Authenticate header (3.3).

    Parameters in the order of OpenSIPS; an empty ``qop`` or ``algorithm`` is left out.
    """
    text = f'Digest realm={quote(realm)}, nonce="{nonce}"'
    if qop:
        text += f', qop="{qop}"'
    if algorithm:
        text += f", algorithm={algorithm}"
    return text + ", stale=true" if stale else text


def _fields(text: str, position: int) -> dict[str, str]:
    """Parameters by name in lower case: the quick way while all is where it should be."""
    if "\\" in text:
        return _scanned(text, position)
    fields: dict[str, str] = {}
    for part in text[position:].split(","):
        name, _, value = part.partition("=")
        if value[:1] == '"':
            if len(value) < 2 or value[-1] != '"':
                return _scanned(text, position)
            value = value[1:-1]
        elif not value or " " in value or "\t" in value:
            return _scanned(text, position)
        if '"' in value:
            return _scanned(text, position)
        fields[name.strip(" \t").lower()] = value
    return fields


def _scanned(text: str, position: int) -> dict[str, str]:
    """The same of anything that a phone may write. Raises MalformedMessage."""
    fields: dict[str, str] = {}
    escapes = "\\" in text
    while True:
        equals = text.find("=", position)
        if equals < 0:
            return fields
        name = text[position:equals].strip(" \t,").lower()
        start = equals + 1
        first = text[start : start + 1]
        while first == " " or first == "\t":
            start += 1
            first = text[start : start + 1]
        if first == '"':
            end = _closing_quote(text, start) if escapes else text.find('"', start + 1)
            if end < 0:
                raise MalformedMessage("Unterminated Quoted-String")
            value = text[start + 1 : end]
            fields[name] = unquote(f'"{value}"') if escapes else value
            position = end + 1
        else:
            position = text.find(",", start)
            if position < 0:
                position = len(text)
            value = text[start:position].rstrip(" \t")
            if " " in value or "\t" in value:
                # A missing comma.
                value = value.replace("\t", " ").partition(" ")[0]
                position = start + len(value)
            fields[name] = value


def _closing_quote(text: str, start: int) -> int:
    end = text.find('"', start + 1)
    while end > 0:
        slashes = end - 1
        while text[slashes] == "\\":
            slashes -= 1
        if (end - slashes) % 2:
            return end
        end = text.find('"', end + 1)
    return -1


def _extended(text: str | None) -> str | None:
    """``UTF-8''J%C3%A4s%C3%B8n`` of ``username*`` (RFC 7616 section 3.4, RFC 8187)."""
    if text is None:
        return None
    charset, _, value = text.partition("'")
    if charset.lower() != "utf-8":
        raise MalformedMessage("Bad username*")
    return unescape(value.partition("'")[2])


def _count(text: str) -> int:
    if not 0 < len(text) <= 8 or not _HEX.issuperset(text.lower()):
        raise MalformedMessage("Bad nc")
    return int(text, 16)


class Use(Enum):
    """What became of an attempt to use a nonce."""

    ACCEPTED = "accepted"
    EXPIRED = "expired"
    REUSED = "reused"
    FORGED = "forged"


#: Hexadecimal digits of a nonce: time of issue, serial number, signature.
_STAMP, _HEAD, _SIZE = 8, 16, 40
#: How far behind the highest nc a late request may come and still be told from a replay.
WINDOW: Final = 64
_MASK: Final = (1 << WINDOW) - 1
#: Every count up to the highest was used / the nonce is used up (no qop).
_FIRST: Final = (1 << WINDOW) | _MASK
_SPENT: Final = (0xFFFFFFFF << WINDOW) | _MASK


class Nonces:
    """Nonces that need no memory until they are used: time, serial number, signature.

    The same secret accepts them after a restart. Each is good for ``lifetime`` seconds and one
    request, or for one request per nonce count where qop is used (RFC 7616 section 3.4). What was
    used is remembered as long as the nonce would be good, in two generations of at most ``limit``;
    when they fill up sooner, older nonces expire early, which costs a client one more challenge.
    """

    def __init__(self, secret: bytes, serial: int, lifetime: float, limit: int = 500_000) -> None:
        """``secret`` holds 16 to 64 bytes; ``serial`` is a random number to count on from."""
        self._keyed = hashlib.blake2b(key=secret, digest_size=(_SIZE - _HEAD) // 2)
        self._serial = serial & 0xFFFFFFFF
        self.lifetime = lifetime
        self._limit = limit
        self._used: dict[int, int] = {}
        self._used_before: dict[int, int] = {}
        self._turned = 0.0
        #: Nonces issued before this time are taken for expired.
        self._floor = 0.0

    def __len__(self) -> int:
        """How many used nonces are remembered."""
        return len(self._used) + len(self._used_before)

    def issue(self, now: float) -> str:
        """A fresh nonce."""
        self._serial = (self._serial + 1) & 0xFFFFFFFF
        head = f"{int(now) & 0xFFFFFFFF:08x}{self._serial:08x}"
        return head + self._sign(head)

    def use(self, nonce: str, count: int, now: float) -> Use:
        """Use a nonce with its nonce count, 0 without qop.

        Only for credentials whose response is right: a failed attempt does not use a nonce.
        """
        head = nonce[:_HEAD]
        if len(nonce) != _SIZE or not nonce.isascii():
            return Use.FORGED
        if not hmac.compare_digest(self._sign(head), nonce[_HEAD:]):
            return Use.FORGED
        issued = int(head[:_STAMP], 16)
        # A clock that was set back must not give us nonces that are good for ever.
        if issued < self._floor or not -2 <= now - issued <= self.lifetime + 1:
            return Use.EXPIRED
        if now - self._turned > self.lifetime + 1 or len(self._used) >= self._limit:
            self._turn(now)
        serial = int(head[_STAMP:], 16)
        state = self._used.get(serial)
        if state is None:
            state = self._used_before.get(serial)
        after = _after(state, count)
        if after is None:
            return Use.REUSED
        self._used[serial] = after
        return Use.ACCEPTED

    def _turn(self, now: float) -> None:
        if self._used_before and now - self._turned <= self.lifetime + 1:
            self._floor = self._turned
        self._used_before = self._used
        self._used = {}
        self._turned = now

    def _sign(self, head: str) -> str:
        signature = self._keyed.copy()
        signature.update(head.encode("ascii"))
        return signature.hexdigest()


def _after(state: int | None, count: int) -> int | None:
    """What is remembered of a nonce: highest count, and which of the last ones were used.

    None when this count was used before.
    """
    if count == 0:
        return _SPENT if state is None else None
    if state is None:
        # Lower counts are refused: they may have been used before a restart.
        return _FIRST if count == 1 else count << WINDOW | _MASK
    highest = state >> WINDOW
    used = state & _MASK
    if count > highest:
        ahead = count - highest
        used = (used << ahead | 1) & _MASK if ahead < WINDOW else 1
        return count << WINDOW | used
    bit = 1 << (highest - count)
    if highest - count >= WINDOW or used & bit:
        return None
    return state | bit
