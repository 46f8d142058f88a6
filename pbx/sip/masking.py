"""Messages without what nobody who only looks on must get."""

from __future__ import annotations

import re

#: What proves a password, opens media or was typed as a PIN.
_SECRETS = re.compile(
    rb'(\b(?:response|rspauth)[ \t]*=[ \t]*"?)([^",\r\n; ]+)'
    rb"|^((?:proxy-)?authorization[ \t]*:[ \t]*(?!digest\b)\S+[ \t]+)([^\r\n]+)"
    rb"|(\binline:|^a=ice-pwd:|^signal[ \t]*=[ \t]*)([^|\r\n ]+)",
    re.IGNORECASE | re.MULTILINE,
)


def masked(data: bytes) -> bytes:
    """The same number of bytes without secrets."""
    return _SECRETS.sub(_stars, data)


def _stars(found: re.Match[bytes]) -> bytes:
    before, secret = (part for part in found.groups() if part is not None)
    return before + b"*" * len(secret)
