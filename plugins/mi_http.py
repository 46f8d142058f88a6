"""The management interface by HTTP: JSON-RPC in a POST, for opensips-cli and other programs.

Who asks from this host is served. Others need the token or an address that is allowed.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.plugin import IPlugin
from twisted.python.failure import Failure
from twisted.web import resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from pbx.config import ConfigError, settings
from pbx.interfaces import IDomains, IFolder, IManagement, IPBXPlugin, IRegistry, IWebSite

Network = IPv4Network | IPv6Network

JSON: Final = b"application/json"
#: Headers that a proxy before us adds: the peer that we see is not who asks.
FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


@dataclass(frozen=True, slots=True, kw_only=True)
class MIHTTPSettings:
    """The ``[mi_http]`` table."""

    root: str = "mi"
    """The path on the HTTP site."""
    token_file: str = ""
    """A file with the token that peers of other hosts must send ("Authorization: Bearer ...")."""
    allow: tuple[str, ...] = ()
    """Networks whose hosts need no token, as in ["192.0.2.0/24", "2001:db8::/64"]."""

    def __post_init__(self) -> None:
        if not self.root.strip("/") or "/" in self.root.strip("/"):
            raise ValueError(f'root: expected one segment of a path like "mi", not {self.root!r}')
        networks(self.allow)


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """The networks of ``allow``. Raises ValueError."""
    try:
        return tuple(ip_network(text) for text in texts)
    except ValueError as error:
        raise ValueError(f"allow: {error}") from None


def read_token(path: Path) -> bytes:
    """The token in a file. Raises ConfigError."""
    try:
        token = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"[mi_http] token_file: {path}: {error.strerror}") from None
    if len(token) < 16 or not token.isascii() or len(token.split()) != 1:
        raise ConfigError(
            f"[mi_http] token_file: {path}: expected one word of at least 16 characters"
        )
    return token


class Access:
    """Who may manage the PBX by HTTP."""

    def __init__(
        self, token: bytes, allowed: Sequence[Network], is_local: Callable[[str], bool]
    ) -> None:
        self._token = token
        self._allowed = tuple(allowed)
        self._is_local = is_local

    def refusal(self, request: Request) -> str:
        """Why a request is not served, "" when it is."""
        if (origin := request.getHeader("origin")) is not None:
            if not self._own_page(origin, request.getHeader("host") or ""):
                return "a page of another site"
            kind = (request.getHeader("content-type") or "").partition(";")[0]
            if kind.strip().lower() != "application/json":
                return "a form of a browser"
        return "" if self._may(request) else "an address that is not allowed, without the token"

    def _own_page(self, origin: str, host: str) -> bool:
        """Whether a browser shows a page of ours.

        A name that is not ours may be made to point here (DNS rebinding), then both headers agree.
        """
        try:
            same = urlsplit(origin).netloc.lower() == host.lower() != ""
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return same and (name == "localhost" or _is_literal(name) or self._is_local(name))

    def _may(self, request: Request) -> bool:
        if self._has_token(request.getHeader("authorization") or ""):
            return True
        if any(request.getHeader(name) is not None for name in FORWARDED):
            return False
        try:
            peer = ip_address(str(getattr(request.getClientAddress(), "host", "")).split("%")[0])
        except ValueError:
            return False
        if isinstance(peer, IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return peer.is_loopback or any(peer in network for network in self._allowed)

    def _has_token(self, credentials: str) -> bool:
        scheme, _, token = credentials.partition(" ")
        given = token.strip(" ").encode("utf-8", "surrogateescape")
        return (
            bool(self._token)
            and scheme.lower() == "bearer"
            and hmac.compare_digest(given, self._token)
        )


def _is_literal(host: str) -> bool:
    try:
        ip_address(host.split("%")[0])
    except ValueError:
        return False
    return True


class ManagementPage(resource.Resource):
    """One request or batch in, its answer out; 200 also for errors of JSON-RPC."""

    isLeaf = True
    log = Logger()

    def __init__(
        self, handle: Callable[[bytes], Awaitable[bytes | None]], refusal: Callable[[Request], str]
    ) -> None:
        super().__init__()
        self._handle = handle
        self._refusal = refusal

    def render(self, request: Request) -> bytes | int:
        """Any method: POST is the one that does something."""
        request.setHeader("cache-control", "no-store")
        if any(request.postpath or ()):
            return _plain(request, 404, "not found")
        if request.method != b"POST":
            request.setHeader("allow", "POST")
            return _plain(request, 405, "only POST")
        if why := self._refusal(request):
            peer = getattr(request.getClientAddress(), "host", "")
            self.log.warn("management refused to {peer}: {why}", peer=peer, why=why)
            return _plain(request, 403, "refused")
        body = request.content.read() if request.content is not None else b""
        if not body.strip():
            return _plain(request, 400, "a JSON-RPC request was expected")
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)
        Deferred.fromCoroutine(self._answer(request, body, gone))
        return NOT_DONE_YET

    async def _answer(self, request: Request, body: bytes, gone: Sequence[Failure]) -> None:
        try:
            answer = await self._handle(body)
        except Exception:
            self.log.failure("a management request failed")
            answer = _plain(request, 500, "internal error")
        else:
            if answer is None:
                request.setResponseCode(202)
            else:
                request.setHeader("content-type", JSON)
        if not gone:
            request.write(answer or b"")
            request.finish()


def _plain(request: Request, status: int, text: str) -> bytes:
    request.setResponseCode(status)
    request.setHeader("content-type", b"text/plain; charset=utf-8")
    return b"" if request.method == b"HEAD" else text.encode() + b"\n"


@implementer(IPlugin, IPBXPlugin)
class MIHTTPPlugin:
    """Announces the page."""

    name = "mi_http"
    settings = MIHTTPSettings

    def provide(self, registry: IRegistry, clock: IReactorTime, table: Mapping[str, Any]) -> None:
        """Put the page on the site."""
        found = settings(MIHTTPSettings, table, self.name)
        token = b""
        if found.token_file:
            token = read_token(IFolder(registry).located(Path(found.token_file)))
        access = Access(token, networks(found.allow), IDomains(registry).is_local)
        page = ManagementPage(IManagement(registry).handle, access.refusal)
        IWebSite(registry).put(found.root, page)


mi_http = MIHTTPPlugin()
