"""The tables ``[web]`` and ``[ice]``: the pages for users."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pbx.http.access import networks


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """The web phone and what it asks the PBX."""

    name: str = ""
    """Name of the installation, shown on the pages; empty for the domain."""
    pages: Path = Path()
    """Folder with other pages to serve at ``/``; empty for those that come with the PBX."""
    session_time: int = 7 * 86400
    """Seconds that a browser stays logged in without being used."""
    link_time: int = 3600
    """Seconds that a link that logs in may wait to be opened."""
    max_failures: int = 10
    """Failed log-ins from one address (IPv6: one /64) within ``failure_time`` until further ones
    are refused."""
    failure_time: int = 300
    """Seconds that a failed log-in counts."""

    console_allow: tuple[str, ...] = ()
    """Networks whose hosts may see the operator's console at ``/console``, as in
    ["192.0.2.0/24"]; this host always may."""
    console_token_file: Path = Path()
    """File with a token that lets others see the console, by https or through a proxy."""

    def __post_init__(self) -> None:
        try:
            networks(self.console_allow)
        except ValueError as error:
            raise ValueError(f"console_allow: {error}") from None
        for name in ("session_time", "link_time", "max_failures", "failure_time"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a number above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class IceSettings:
    """Servers that help browsers behind NAT to find each other (RFC 8445)."""

    stun: tuple[str, ...] = ()
    """STUN servers, as in ``stun:stun.pbx.example:3478``."""
    turn: tuple[str, ...] = ()
    """TURN servers, as in ``turn:turn.pbx.example:3478?transport=udp`` or ``turns:``."""
    secret_file: Path = Path()
    """File with the secret that we share with the TURN servers (coturn: static-auth-secret)."""
    ttl: int = 3600
    """Seconds that a TURN user name is good for."""

    def __post_init__(self) -> None:
        for key, urls, schemes in (
            ("stun", self.stun, ("stun", "stuns")),
            ("turn", self.turn, ("turn", "turns")),
        ):
            for url in urls:
                scheme, _, place = url.partition(":")
                if scheme not in schemes or not place or place.startswith("//"):
                    raise ValueError(f'{key}: expected "{schemes[0]}:HOST[:PORT]", not {url!r}')
        if self.turn and self.secret_file == Path():
            raise ValueError("turn: needs secret_file")
        if self.ttl < 60:
            raise ValueError("ttl: expected 60 or more")
