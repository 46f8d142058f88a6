"""Settings of everything that moves bytes: ``[transport]``, ``[websocket]`` and ``[dns]``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSettings:
    """Limits of sockets and connections."""

    aliases: tuple[str, ...] = ()
    "Further host names and addresses that mean this PBX when they stand in a URI."
    udp_max: int = 1300
    """Requests above this size go by TCP where the next hop leaves the choice (RFC 3261 18.1.1);
    0 never."""
    udp_buffer: int = 4 * 1024 * 1024
    "Bytes of kernel buffer to ask for, in each direction of a UDP socket."
    max_message: int = 65535
    "Longest message; a connection that brings more is closed."
    message_time: float = 4.0
    "How long the rest of a message, or a TLS or WebSocket handshake, may be waited for."
    idle: float = 120.0
    "Connections without traffic are closed after this time, unless a registration keeps them."
    max_connections: int = 16384
    "Open connections in all."
    max_connections_per_source: int = 4096
    "Open connections from one IP address."
    max_queued: int = 1024 * 1024
    "Bytes that may wait for one slow peer before its connection is aborted."
    send_time: float = 30.0
    "A peer that takes nothing for so long is cut off."
    connect_time: float = 5.0
    "How long to wait for a connection to be opened."
    accept_aliases: bool = False
    "Believe ``;alias`` in Via and reuse the connection for requests to that port (RFC 5923)."


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketSettings:
    """Browsers: the table ``[websocket]``."""

    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages that may connect, as in ``https://pbx.example``. When empty, all may
    connect to ws: and wss: listeners, but to ``/sip`` of the web site only its own pages, which
    always may."""
    trusted_proxies: tuple[str, ...] = ()
    "Addresses of web servers in front of us whose X-Forwarded-For and -Proto are believed."
    ping: float = 27.0
    "How often to ping a browser; 0 never."
    pong: float = 10.0
    "A browser that does not answer a ping within this time is cut off."

    def __post_init__(self) -> None:
        wrong = [text for text in self.allowed_origins if not _is_origin(text)]
        if wrong:
            raise ValueError(f'allowed_origins: expected "https://HOST[:PORT]", not {wrong[0]!r}')


def _is_origin(text: str) -> bool:
    scheme, _, place = text.partition("://")
    return (
        scheme in ("http", "https") and bool(place) and place == place.lower() and "/" not in place
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DNSSettings:
    """Finding next hops by name: the table ``[dns]``."""

    servers: tuple[str, ...] = ()
    "Addresses of name servers; those of /etc/resolv.conf when empty."
    naptr: bool = True
    "Ask for NAPTR records."
    time_limit: float = 5.0
    "A name that is not found within this time fails the request."
    cache: int = 4096
    "Answers to keep."
    negative_time: float = 30.0
    "How long to remember that there is no such record."
    failure_time: float = 5.0
    "How long to remember that no name server answered."
    max_time: float = 86400.0
    "Longest time to keep any answer."
