"""``/api/ice``: STUN and TURN servers with credentials that expire.

The user name carries its end of life, the password proves that we made it: what coturn calls
``use-auth-secret`` (draft-uberti-behave-turn-rest).
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from pbx.config import ConfigError
from pbx.http.login import Gate
from pbx.http.settings import IceSettings


def read_secret(path: Path) -> bytes:
    """The shared secret in a file. Raises ConfigError."""
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"[ice] secret_file: {path}: {error.strerror}") from None
    if len(secret) < 16 or len(secret.split()) != 1:
        raise ConfigError(f"[ice] secret_file: {path}: expected one word of 16 bytes or more")
    return secret


def turn_credentials(secret: bytes, user: str, expires: int) -> tuple[str, str]:
    """User name and password for a TURN server that shares the secret."""
    # The server takes what stands before the colon for the time.
    name = f"{expires}:{user}"
    password = base64.b64encode(hmac.digest(secret, name.encode(), "sha1")).decode()
    return name, password


class IceServers:
    """The list as `RTCPeerConnection` takes it."""

    def __init__(
        self,
        settings: IceSettings,
        located: Callable[[Path], Path],
        gate: Gate,
        clock: IReactorTime,
    ) -> None:
        self._settings = settings
        self._gate = gate
        self._clock = clock
        self._secret = read_secret(located(settings.secret_file)) if settings.turn else b""

    async def list(self, request: Request) -> object:
        """For who is logged in."""
        me = self._gate.who(request)
        settings = self._settings
        servers: list[dict[str, object]] = []
        if settings.stun:
            servers.append({"urls": [*settings.stun]})
        if settings.turn:
            expires = int(self._clock.seconds()) + settings.ttl
            name, password = turn_credentials(self._secret, f"{me.user}@{me.domain}", expires)
            turn = {"urls": [*settings.turn], "username": name, "credential": password}
            servers.append({**turn, "credentialType": "password"})
        return {"iceServers": servers, "ttl": settings.ttl}
