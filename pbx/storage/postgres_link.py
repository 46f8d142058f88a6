"""One connection to PostgreSQL that comes back by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

import psycopg2
from psycopg2 import extensions
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorCore, IReactorTime
from twisted.python.failure import Failure
from txpostgres import txpostgres

from pbx.errors import DatabaseError, Kind
from pbx.storage.urls import ServerURL

ResultT = TypeVar("ResultT")
Interaction = Callable[["Connection"], Coroutine["Deferred[Any]", Any, ResultT]]

#: Pauses between attempts to connect, in seconds.
FIRST_PAUSE, LAST_PAUSE = 0.2, 10.0

_TIMESTAMP = extensions.new_type((1114, 1184), "TIMESTAMP_TEXT", lambda value, cursor: value)
_BYTES = extensions.new_type(
    (17,),
    "BYTES",
    lambda value, cursor: None if value is None else bytes(psycopg2.BINARY(value, cursor)),
)

#: Classes of SQLSTATE that mean "later": connection, resources, operator, system, transaction.
_LATER = ("08", "28", "3D", "40", "53", "55", "57", "58", "XX")


def database_error(error: BaseException) -> DatabaseError:
    """What an exception of psycopg2 or txpostgres means."""
    code = getattr(error, "pgcode", None) or ""
    text = " ".join(str(error).split()) or type(error).__name__
    if code == "53100" or code == "25006":
        return DatabaseError(Kind.FULL, text)
    if code:
        kind = Kind.UNAVAILABLE if code.startswith(_LATER) else Kind.REFUSED
        return DatabaseError(kind, text)
    refused = (psycopg2.DataError, psycopg2.IntegrityError, psycopg2.ProgrammingError)
    if isinstance(error, (*refused, ValueError, TypeError, OverflowError)):
        return DatabaseError(Kind.REFUSED, text)
    if isinstance(error, CancelledError):
        text = "no answer in time"
    return DatabaseError(Kind.UNAVAILABLE, text)


def is_dead(error: BaseException) -> bool:
    """Whether the connection must be given up: lost, or to a server that is read-only now."""
    code = getattr(error, "pgcode", None) or ""
    if code:
        return code.startswith(("08", "57P")) or code == "25006"
    return not isinstance(
        error, (psycopg2.DataError, psycopg2.ProgrammingError, ValueError, TypeError)
    )


class Connection(txpostgres.Connection):  # type: ignore[misc]
    """Tells ``lost`` when the server closes it while nothing is asked."""

    lost: Callable[[], None]

    def continuePolling(self, swallowErrors: bool = False) -> None:  # noqa: N803
        """Turn an error that nobody asked for into ``lost``."""
        try:
            super().continuePolling(swallowErrors)
        except psycopg2.Error:
            self.lost()

    def close(self) -> None:
        """Nothing when it never was open."""
        if self._connection is not None:
            super().close()

    async def run(self, sql: str, params: tuple[object, ...] | None = None) -> Any:
        """A cursor after one statement."""
        cursor = self.cursor()
        await cursor.execute(sql, params)
        return cursor


class Link:
    """Connects, and again after each loss with growing pauses, until it is closed."""

    def __init__(
        self,
        reactor: IReactorTime,
        options: Mapping[str, str],
        ready: Callable[[Link, Connection], Awaitable[None]],
        failed: Callable[[DatabaseError], None],
    ) -> None:
        self._reactor = reactor
        self._options = dict(options)
        self._ready = ready
        self._failed = failed
        self._pause = FIRST_PAUSE
        self._retry: IDelayedCall | None = None
        self._connecting: Connection | None = None
        self._closed = False
        self.connection: Connection | None = None

    def open(self) -> None:
        """Begin to connect."""
        self._retry = None
        Deferred.fromCoroutine(self._open()).addErrback(self._not_opened)

    async def _open(self) -> None:
        connection = Connection(self._reactor)
        connection.lost = self._lost
        self._connecting = connection
        opening: Deferred[object] = Deferred.fromCoroutine(self._connect(connection))
        limit = self._reactor.callLater(10, self._give_up, connection, opening)
        try:
            await opening
        finally:
            if limit.active():
                limit.cancel()
        if self._closed:
            connection.close()
            return
        self._pause = FIRST_PAUSE
        self.connection = connection
        await self._ready(self, connection)

    async def _connect(self, connection: Connection) -> None:
        await connection.connect(**await self._resolved())
        for kind in (_TIMESTAMP, _BYTES):
            extensions.register_type(kind, connection.pollable())

    def _give_up(self, connection: Connection, opening: Deferred[object]) -> None:
        connection.close()
        opening.cancel()

    async def _resolved(self) -> dict[str, str]:
        """The options with addresses: libpq would look names up in the reactor's thread."""
        options = dict(self._options)
        hosts = options.get("host", "")
        if hosts and not hosts.startswith("/"):
            options["hostaddr"] = ",".join([await self._address(host) for host in hosts.split(",")])
        return options

    async def _address(self, host: str) -> str:
        if _is_address(host) or not IReactorCore.providedBy(self._reactor):
            return host
        found: str = await IReactorCore(self._reactor).resolve(host)
        return found

    def _not_opened(self, failure: Failure) -> None:
        if failure.value is not None:
            self._failed(database_error(failure.value))
        self.drop()

    def _lost(self) -> None:
        self.drop()
        self._failed(DatabaseError(Kind.UNAVAILABLE, "the server closed the connection"))

    def drop(self) -> None:
        """Give the connection up and make a new one."""
        connection, self.connection = self.connection or self._connecting, None
        self._connecting = None
        if connection is not None:
            connection.close()
        if not self._closed and self._retry is None:
            self._retry = self._reactor.callLater(self._pause, self.open)
            self._pause = min(self._pause * 2, LAST_PAUSE)

    def close(self) -> None:
        """For good."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self.drop()


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def libpq_options(url: ServerURL) -> dict[str, str]:
    """Keywords of libpq; it takes what is missing from the environment and ~/.pgpass."""
    options = {
        "dbname": url.name,
        "user": url.user,
        "password": url.password,
        "host": ",".join(host for host, _ in url.hosts),
        "port": ",".join(str(port) for _, port in url.hosts),
        "application_name": "pbx",
        "client_encoding": "UTF8",
    }
    if len(url.hosts) > 1:
        options["target_session_attrs"] = "read-write"
    options |= url.options
    return {name: value for name, value in options.items() if value}
