"""Start and stop of the whole PBX, and what it says when it is ready."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pbx.config import ConfigError
from pbx.ctl.users import User, add, generated_password
from pbx.errors import DatabaseError
from pbx.interfaces import IDatabase, IStartable
from pbx.sip.address import Address
from pbx.sip.uri import join_host_port
from pbx.storage.layout import SchemaMismatch
from pbx.transport.certificates import CertificateFailed
from pbx.transport.hosts import is_wildcard, local_addresses
from pbx.transport.listeners import ListenFailed

FIRST_EXTENSIONS = ("1001", "1002", "1003")


class Lifecycle(Service):
    """Starts parts in the order they were built, listeners last; stops them in reverse."""

    log = Logger()

    def __init__(
        self,
        database: IDatabase,
        parts: Sequence[object],
        welcome: Callable[[], Any],
    ) -> None:
        self._database = database
        self._parts = parts
        self._welcome = welcome
        self._started: list[Any] = []
        self._stopping = False
        self._start_over: Deferred[None] | None = None

    def startService(self) -> Deferred[None]:
        """Fires when everything serves; fails with what an operator can mend."""
        super().startService()  # type: ignore[no-untyped-call]
        self._start_over = Deferred()
        return Deferred.fromCoroutine(self._start(self._start_over))

    async def _start(self, over: Deferred[None]) -> None:
        try:
            await self._start_parts()
        except (ListenFailed, CertificateFailed, SchemaMismatch) as error:
            raise ConfigError(str(error)) from None
        except DatabaseError as error:
            raise ConfigError(f"[storage] {self._database.url}: {error}") from None
        finally:
            over.callback(None)

    async def _start_parts(self) -> None:
        for line in await self._database.start():
            self.log.info("{line}", line=line)
        for part in self._parts:
            if self._stopping:
                return
            if IStartable.providedBy(part):
                await IStartable(part).start()
                self._started.append(part)
        await self._welcome()

    def stopService(self) -> Deferred[None]:
        """Fires when the last row is written."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._stopping = True
        if self._start_over is not None:
            # What is being started is not pulled away from under it.
            await self._start_over
        while self._started:
            part = self._started.pop()
            try:
                await part.stop()
            except Exception:
                self.log.failure("{part} did not stop well", part=type(part).__name__)
        await self._database.close()


async def greet(
    database: IDatabase,
    domain: str,
    listeners: Sequence[Address],
    web: Sequence[str],
    links: Callable[[str, str], Awaitable[Sequence[str]]],
    reload_accounts: Callable[[], Awaitable[None]],
) -> None:
    """Where phones and browsers find us; on an empty database three extensions, shown this once.

    ``web`` are the addresses of the site, ``links`` makes such that log a user in.
    """
    lines: list[str] = []
    users = await database.query("SELECT COUNT(*) FROM subscriber")
    if not users[0][0]:
        lines.append(f"First start. These extensions of {domain} can register now:")
        for name in FIRST_EXTENSIONS:
            password = generated_password()
            await add(database, User(name, domain), password)
            lines.append(f"  {name}  password {password}")
        await reload_accounts()
        lines.append("The passwords are not shown again; pbxctl user password sets new ones.")
        lines.append(f"Phones register at {', '.join(_reachable(listeners))}")
        if web:
            lines.append("Open one of these links to talk; each logs a browser in once")
            lines.append("(pbxctl user link makes others):")
            for name in FIRST_EXTENSIONS:
                lines.append(f"  {name}  {(await links(name, domain))[0]}")
    if web:
        lines.append(f"Web address: {', '.join(web)}")
    if lines:
        # Not through sys.stderr: that is the log, and passwords do not belong there.
        print("\n".join(lines), file=sys.__stderr__, flush=True)


def _reachable(listeners: Sequence[Address]) -> Sequence[str]:
    """The listeners as ``udp:host:port``, with the addresses of this machine for a wildcard."""
    own = sorted(address for address in local_addresses() if not address.startswith("127."))
    found: list[str] = []
    for at in listeners:
        six = ":" in at.host
        hosts = [at.host]
        if is_wildcard(at.host):
            hosts = [host for host in own if (":" in host) is six and host != "::1"] or [at.host]
        found.extend(at._replace(host=host).socket for host in hosts)
    return found


def web_addresses(listeners: Sequence[Address], advertised: str) -> Sequence[str]:
    """Addresses of the web site for browsers: one of this machine first, then those of others.

    A browser gives the microphone to a page of this machine, or that came by https.
    """
    own = sorted(
        address for address in local_addresses() if not address.startswith(("127.", "::1", "fe80:"))
    )
    near: list[str] = []
    far: dict[str, list[str]] = {"https": [], "http": []}
    for at in sorted(listeners, key=lambda found: found.transport):
        scheme = "https" if at.transport == "TLS" else "http"
        hosts = [at.host]
        if is_wildcard(at.host):
            six = ":" in at.host
            hosts = ["::1" if six else "127.0.0.1"]
            hosts += [advertised] if advertised else [h for h in own if (":" in h) is six]
        for host in hosts:
            url = f"{scheme}://{join_host_port(host, at.port)}/"
            if _is_loopback(host):
                near.append(url)
            else:
                far[scheme].append(url)
    return [*near[:1], *(far["https"] or far["http"])]


def _is_loopback(host: str) -> bool:
    return host == "::1" or host.startswith("127.")
