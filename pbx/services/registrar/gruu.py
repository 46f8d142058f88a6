"""Globally routable user agent URIs (RFC 5627)."""

from __future__ import annotations

from base64 import b32decode, b32encode
from binascii import Error as BinasciiError
from hashlib import blake2b
from hmac import compare_digest
from os import urandom
from typing import Final

from pbx.sip.params import TOKEN
from pbx.sip.uri import unescape

#: Starts the user part of every temporary GRUU.
PREFIX: Final = "tgruu."
#: RFC 3261 section 25.1, paramchar, as far as a token does not allow it.
_PARAM: Final = (TOKEN | frozenset("[]/:&+$()")) - frozenset("%`^")


def public_gruu(address: str, instance: str) -> str:
    """The GRUU of an instance for as long as its user lives; ``address`` is ``user@host``."""
    return f"sip:{address};gr={escape_parameter(instance.strip('<>'))}"


def escape_parameter(text: str) -> str:
    """Text as the value of a URI parameter."""
    if _PARAM.issuperset(text):
        return text
    return "".join(
        char
        if char in _PARAM
        else "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogateescape"))
        for char in text
    )


def same_instance(gr: str, instance: str) -> bool:
    """Whether a ``gr`` parameter names this instance id; URNs compare without case (RFC 4122)."""
    return unescape(gr).lower() == instance.strip("<>").lower()


class TemporaryGRUUs:
    """Temporary GRUUs (3.1.2): a contact id, hidden and signed, nothing to remember.

    None tells that two of them are the same phone, and all of one Call-ID die with it (5.2).
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def mint(self, contact_id: int, call_id: str) -> str:
        """A new user part."""
        nonce = urandom(8)
        hidden = (contact_id ^ self._pad(nonce)).to_bytes(8, "big")
        signed = nonce + hidden
        text = b32encode(signed + self._signature(signed, call_id))
        return PREFIX + text.decode("ascii").rstrip("=").lower()

    def contact_id(self, user: str) -> int:
        """What a user part claims to be, 0 for none; believe it when `is_valid`."""
        raw = self._decoded(user)
        if raw is None:
            return 0
        return int.from_bytes(raw[8:16], "big") ^ self._pad(raw[:8])

    def is_valid(self, user: str, call_id: str) -> bool:
        """Whether we made it for the registration with this Call-ID."""
        raw = self._decoded(user)
        return raw is not None and compare_digest(raw[16:], self._signature(raw[:16], call_id))

    @staticmethod
    def _decoded(user: str) -> bytes | None:
        text = user[len(PREFIX) :]
        if not user.startswith(PREFIX) or len(text) != 39 or not text.isascii():
            return None
        try:
            return b32decode(text.upper() + "=")
        except (BinasciiError, ValueError):
            return None

    def _pad(self, nonce: bytes) -> int:
        return int.from_bytes(blake2b(nonce, digest_size=8, key=self._secret).digest(), "big")

    def _signature(self, signed: bytes, call_id: str) -> bytes:
        text = signed + call_id.encode("utf-8", "surrogateescape")
        return blake2b(text, digest_size=8, key=self._secret, person=b"temp-gruu").digest()
