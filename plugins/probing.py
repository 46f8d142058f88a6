"""What gateways and dispatcher destinations share: probes, states in the database, addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pbx.errors import DatabaseError
from pbx.interfaces import IDatabase, IFlow, IFlows, ITimer, ITimers, IUserAgent
from pbx.sip.address import Address
from pbx.sip.errors import MalformedURI, SIPError
from pbx.sip.message import Request
from pbx.sip.uri import URI, split_host_port

#: Seconds between two attempts to write states.
RETRY: Final = 5.0


class Peer:
    """A place that we send to: its URI, the local socket and the addresses that it has."""

    __slots__ = ("addresses", "socket", "uri")

    def __init__(self, uri: URI, socket: Address | None) -> None:
        self.uri = uri
        self.socket = socket
        self.addresses: Sequence[Address] = ()

    def is_at(self, peer: Address, via_port: int | None) -> bool:
        """Whether something that came from there came from this place.

        Connections come from any port, so for them the port in Via counts. A URI without port
        matches every port.
        """
        found = [address for address in self.addresses if address.host == peer.host]
        if not found:
            return False
        if self.uri.port is None:
            return True
        if peer.transport == "UDP":
            return any(address.port == peer.port for address in found)
        port = via_port or (5061 if peer.transport == "TLS" else 5060)
        return any(address.port == port for address in found)

    def same_place(self, other: Peer) -> bool:
        """Whether both name the same place."""
        return str(self.uri) == str(other.uri)


def parse_place(text: str) -> URI:
    """The URI of an address column: a SIP URI or ``host[:port]``. Raises ValueError."""
    text = text.strip(" \t")
    try:
        uri = URI.parse(text if text.lower().startswith(("sip:", "sips:")) else f"sip:{text}")
    except MalformedURI as error:
        raise ValueError(f"address {text!r}: {error.reason}") from None
    if not uri.is_sip:
        raise ValueError(f"address {text!r}: expected a sip URI")
    return uri


def parse_socket(text: object) -> Address | None:
    """The address of a socket column, ``udp:ip:port``; None when empty. Raises ValueError."""
    plain = str(text or "").strip(" \t")
    if not plain:
        return None
    transport, colon, rest = plain.partition(":")
    try:
        host, port = split_host_port(rest)
    except MalformedURI:
        host, port = "", None
    if not colon or not host or transport.upper() not in ("UDP", "TCP", "TLS"):
        raise ValueError(f"socket {plain!r}: expected one like udp:192.0.2.1:5060")
    return Address(transport.upper(), host, port or 5060)


class Places:
    """Looks up the addresses of peers, again every ``interval`` seconds."""

    log = Logger()

    def __init__(
        self,
        flows: IFlows,
        timers: ITimers,
        interval: float,
        peers: Callable[[], Iterable[Peer]],
    ) -> None:
        """`at` finds among the ``peers``."""
        self._flows = flows
        self._timers = timers
        self._interval = interval
        self._peers = peers
        self._hosts: dict[str, list[Peer]] | None = None
        self._timer: ITimer | None = None

    def at(self, peer: Address, via_port: int | None = None) -> Sequence[Peer]:
        """The peers that something from there may have come from."""
        hosts = self._hosts
        if hosts is None:
            hosts = self._hosts = {}
            for found in self._peers():
                for host in {address.host for address in found.addresses}:
                    hosts.setdefault(host, []).append(found)
        return [found for found in hosts.get(peer.host, ()) if found.is_at(peer, via_port)]

    def start(self) -> None:
        """Look up now and then."""
        self.resolve()
        self._timer = self._timers.call_later(self._interval, self.start)

    def stop(self) -> None:
        """No further look."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resolve(self) -> None:
        """Addresses that DNS must be asked for come later; the old ones serve until then."""
        self._hosts = None
        for peer in self._peers():
            addresses = self._flows.locate(peer.uri)
            if addresses is None:
                Deferred.fromCoroutine(self._resolve(peer)).addErrback(
                    lambda failure: self.log.failure("a look-up failed", failure=failure)
                )
            elif addresses:
                peer.addresses = tuple(addresses)

    async def _resolve(self, peer: Peer) -> None:
        try:
            peer.addresses = tuple(await self._flows.resolve(peer.uri))
        except SIPError as error:
            self.log.warn("{uri}: {error}", uri=str(peer.uri), error=error.reason)
        self._hosts = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """How peers are asked whether they live."""

    method: str
    from_uri: str
    interval: float
    timeout: float


class Prober:
    """Sends a request to every peer that wants it, once per interval; never two at once."""

    log = Logger()

    def __init__(
        self,
        settings: ProbeSettings,
        user_agent: IUserAgent,
        flows: IFlows,
        timers: ITimers,
        wanted: Callable[[], Iterable[Peer]],
        answered: Callable[[Peer, int, str], object],
    ) -> None:
        """``wanted`` gives the peers to ask now; ``answered`` is told the final status."""
        self._settings = settings
        self._user_agent = user_agent
        self._flows = flows
        self._timers = timers
        self._wanted = wanted
        self._answered = answered
        self._asking: set[int] = set()
        self._timer: ITimer | None = None
        self.enabled = True
        self.sent = 0

    @property
    def active(self) -> bool:
        """Whether there are probes at all."""
        return self.enabled and self._settings.interval > 0

    def start(self) -> None:
        """First probes after one interval."""
        if self._settings.interval > 0:
            self._timer = self._timers.call_later(self._settings.interval, self._turn)

    def stop(self) -> None:
        """No further probe."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turn(self) -> None:
        self.start()
        if not self.enabled:
            return
        for peer in list(self._wanted()):
            if id(peer) not in self._asking:
                self._asking.add(id(peer))
                self.sent += 1
                Deferred.fromCoroutine(self._ask(peer)).addErrback(
                    lambda failure: self.log.failure("a probe failed", failure=failure)
                )

    async def _ask(self, peer: Peer) -> None:
        settings = self._settings
        request = Request.make(
            settings.method,
            peer.uri,
            [("From", f"<{settings.from_uri}>"), ("To", f"<{peer.uri}>")],
        )
        try:
            response = await self._user_agent.send(
                request, flow=self._flow(peer), timeout=settings.timeout
            )
        finally:
            self._asking.discard(id(peer))
        self._answered(peer, response.status, response.reason)

    def _flow(self, peer: Peer) -> IFlow | None:
        """The flow from the socket that the row names."""
        if peer.socket is None or not peer.addresses:
            return None
        return self._flows.find(peer.addresses[0], peer.socket)


class StateColumn:
    """Writes the ``state`` column of rows behind; what could not be written is tried again."""

    log = Logger()

    def __init__(self, database: IDatabase, table: str, key: str, timers: ITimers) -> None:
        self._database = database
        self._table = table
        self._timers = timers
        self._sql = f"UPDATE {table} SET state = ? WHERE {key} = ?"
        self._waiting: dict[object, int] = {}
        self._writing = False
        self._timer: ITimer | None = None

    def save(self, key: object, state: int) -> None:
        """The state of the row with this key has changed."""
        self._waiting[key] = state
        if not self._writing and self._timer is None:
            self._flush()

    def is_waiting(self, key: object) -> bool:
        """Whether the database may not have the newest state yet."""
        return key in self._waiting

    async def stop(self) -> None:
        """One last attempt."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._writing:
            await self._write()
        if self._timer is not None:
            self._timer.cancel()

    def _flush(self) -> None:
        self._timer = None
        Deferred.fromCoroutine(self._write()).addErrback(
            lambda failure: self.log.failure("states were not written", failure=failure)
        )

    async def _write(self) -> None:
        self._writing = True
        try:
            while self._waiting:
                key, state = next(iter(self._waiting.items()))
                await self._database.execute(self._sql, (state, key))
                if self._waiting.get(key) == state:
                    del self._waiting[key]
        except DatabaseError as error:
            self.log.warn("states of {table} wait: {why}", table=self._table, why=error.message)
            self._timer = self._timers.call_later(RETRY, self._flush)
        finally:
            self._writing = False


def state_after_reload(known: int, stored: int, row: int, waiting: bool) -> int:
    """The state of a row that was read again: what somebody else wrote counts, else what we know.

    ``known`` is ours, ``stored`` what the database had when we last read or wrote it.
    """
    return known if waiting or row == stored else row
