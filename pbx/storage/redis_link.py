"""A connection to Redis that comes back by itself; of several servers to the one that is master."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import txredisapi
from cryptography.x509 import load_pem_x509_certificate
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.python.failure import Failure
from zope.interface import implementer

from pbx.storage.urls import ServerURL


class Owner(Protocol):
    """Who uses the connection."""

    def connected(self, connection: txredisapi.RedisProtocol) -> None:
        """The connection is up."""

    def disconnected(self) -> None:
        """The connection is gone; another one is being made."""

    def refused(self, why: str) -> None:
        """Redis refused the password, the database number or to be the master."""


class LinkFactory(txredisapi.RedisFactory):  # type: ignore[misc]
    """Tells its owner about the one connection that it keeps."""

    maxDelay = 5.0  # noqa: N815
    initialDelay = 0.2  # noqa: N815

    def __init__(
        self,
        owner: Owner,
        url: ServerURL,
        timeout: float | None,
        protocol: type[txredisapi.RedisProtocol] = txredisapi.RedisProtocol,
    ) -> None:
        super().__init__(
            None,
            database_number(url),
            1,
            password=url.password or None,
            username=url.user if url.user not in ("", "root") else None,
            replyTimeout=timeout,
            convertNumbers=False,
        )
        self.protocol = protocol
        self._owner = owner
        # A standby accepts connections too (Sentinel): only the master will do.
        self._wants_master = len(url.hosts) > 1

    def addConnection(self, conn: txredisapi.RedisProtocol) -> None:
        """A connection that is up and authenticated."""
        super().addConnection(conn)
        if not conn.connected:
            return
        if self._wants_master:
            conn.execute_command("ROLE").addCallbacks(
                self._role_told, self._role_unknown, (conn,), {}, (conn,), {}
            )
        else:
            self._owner.connected(conn)

    def _role_told(self, role: Any, conn: txredisapi.RedisProtocol) -> None:
        if isinstance(role, list) and role and str(role[0]) == "master":
            self._owner.connected(conn)
        else:
            self._owner.refused("this server is not the master")
            conn.transport.loseConnection()

    def _role_unknown(self, failure: Failure, conn: txredisapi.RedisProtocol) -> None:
        self._owner.refused(failure.getErrorMessage())
        conn.transport.loseConnection()

    def delConnection(self, conn: txredisapi.RedisProtocol) -> None:
        """It is gone."""
        super().delConnection(conn)
        self._owner.disconnected()

    def stopTrying(self) -> Deferred[None]:
        """Never: the protocol asks for it when Redis goes away while it says hello."""
        return succeed(None)

    def connectionError(self, why: str) -> None:
        """Redis refused the password or the database number."""
        self._owner.refused(str(why))


@implementer(IStreamClientEndpoint)
class OneOfMany:
    """Each attempt to connect goes to the next server of the URL."""

    def __init__(self, url: ServerURL, clock: IReactorTime) -> None:
        root = trust_root(url)
        self._endpoints = [
            _endpoint(url.scheme == "rediss", root, host, port, clock) for host, port in url.hosts
        ]
        self._next = 0

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803
        """To the next one."""
        endpoint = self._endpoints[self._next]
        self._next = (self._next + 1) % len(self._endpoints)
        return endpoint.connect(protocolFactory)


def _endpoint(
    secure: bool, root: Certificate | None, host: str, port: int, clock: IReactorTime
) -> IStreamClientEndpoint:
    endpoint: IStreamClientEndpoint = HostnameEndpoint(clock, host, port, timeout=5)
    if secure:
        return wrapClientTLS(optionsForClientTLS(host, trustRoot=root), endpoint)
    return endpoint


def trust_root(url: ServerURL) -> Certificate | None:
    """Who must have signed a server of ``rediss://``: the certificate in the file of ``ca_file``,
    None for whom this machine trusts. Raises ValueError for a bad file.
    """
    path = url.options.get("ca_file")
    if path is None:
        return None
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"ca_file: {path}: {error.strerror}") from None
    try:
        load_pem_x509_certificate(text)
    except ValueError:
        raise ValueError(f"ca_file: {path}: no certificate in it") from None
    return Certificate.loadPEM(text)


def database_number(url: ServerURL) -> int:
    """The number in the path. Raises ValueError for what is none, and for a URL without host."""
    if not url.hosts:
        raise ValueError(f"{url.scheme}: needs //host, as in {url.scheme}://127.0.0.1:6379/0")
    number = url.name or "0"
    if not (number.isascii() and number.isdigit()):
        raise ValueError(f"{number!r} is no number of a Redis database")
    return int(number)


def is_demoted(failure: Failure) -> bool:
    """Whether a command failed because the server is a standby now."""
    return is_read_only(str(failure.value))


def is_read_only(why: str) -> bool:
    """Whether this is the answer of a standby; before Redis 7 a script puts its line in front."""
    return why.startswith("READONLY") or "-READONLY " in why
