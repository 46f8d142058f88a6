"""The tables ``[http]``, ``[web]`` and ``[ice]``: the site, and its pages for users."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pbx.http.networks import networks
from pbx.sip.address import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPSettings:
    """The ``[http]`` table."""

    listen: tuple[str, ...] = ("tcp:127.0.0.1:8888", "tls:0.0.0.0:8443")
    """Where HTTP is spoken: tcp: or tls:, address, port; IPv6 in brackets. For https the
    certificate of ``[tls]`` is shown."""
    max_body: int = 1 << 20
    """Bytes of a request body; a larger one is answered with 413."""
    idle_timeout: float = 60.0
    """Seconds until a connection without a request is closed."""
    request_time: float = 20.0
    """Seconds that a request may take to arrive as a whole; a slower client is cut off."""
    max_connections: int = 4096
    """Open HTTP connections in all. Those that became a WebSocket count as ``[transport]`` says."""
    max_connections_per_source: int = 256
    """Open HTTP connections from one address (IPv6: one /64); proxies that are trusted may open
    more."""
    metrics_allow: tuple[str, ...] = ()
    """Networks from which /metrics may be read besides this host, as in ["192.0.2.0/24"]."""

    def __post_init__(self) -> None:
        for text in self.listen:
            parse_listener(text)
        networks(self.metrics_allow)


def parse_listener(text: str) -> Address:
    """``tcp:127.0.0.1:8888`` as an address. Raises ValueError."""
    kind, _, rest = text.partition(":")
    host, colon, port = rest.rpartition(":")
    good = port.isascii() and port.isdigit() and int(port) < 65536
    bracketed = host.startswith("[") and host.endswith("]")
    if kind not in ("tcp", "tls") or not colon or not host or not good:
        raise ValueError(f'listen: expected "tcp:ADDRESS:PORT" or "tls:...", not {text!r}')
    if ":" in host and not bracketed:
        raise ValueError(f'listen: write the IPv6 address in brackets: "{kind}:[{host}]:{port}"')
    return Address(kind.upper(), host.strip("[]"), int(port))


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
