"""What TCP, TLS and WebSocket connections have in common: one flow each, with limits and an end."""

from __future__ import annotations

import itertools
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Protocol

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from pbx.interfaces import IFlow, ITimer, ITimers
from pbx.sip.address import Address
from pbx.sip.errors import TransportFailed
from pbx.transport.delivery import Delivery
from pbx.transport.settings import TransportSettings

#: How long a connection that we close may take to flush before it is cut off.
LINGER = 2.0
#: Least time for which a peer that sends too much is not read from.
PAUSE = 0.05


class Wire(Protocol):
    """The protocol under a connection."""

    def write_message(self, data: bytes) -> None:
        """Write one whole message."""

    def pause_wire(self) -> None:
        """Read nothing for now."""

    def resume_wire(self) -> None:
        """Read again."""

    def close_wire(self) -> None:
        """Close after what was written is out."""

    def abort_wire(self) -> None:
        """Close at once."""


@implementer(IFlow, IPushProducer)
class Connection:
    """One open connection as a flow.

    The protocol registers it as the producer of its transport, so that it knows when the peer is
    slow: then what is sent is counted, and too much, or too long, ends the connection.
    """

    __slots__ = (
        "_check",
        "_connections",
        "_deadline",
        "_kept_until",
        "_last",
        "_paused",
        "_stalled",
        "_wire",
        "alias",
        "closed",
        "guarded",
        "local",
        "number",
        "peer",
        "queued",
        "ready",
        "sent_by",
        "source",
        "token",
    )

    reliable = True

    def __init__(
        self,
        connections: Connections,
        wire: Wire,
        peer: Address,
        local: Address,
        sent_by: tuple[str, int],
        source: str,
    ) -> None:
        self._connections = connections
        self._wire = wire
        self.peer = peer
        self.local = local
        self.sent_by = sent_by
        #: The socket's address, which limits count; behind a proxy ``peer`` is another.
        self.source = source
        #: What the guard knows of the peer.
        self.guarded = connections.delivery.guard.source(peer.host)
        self.number = next(connections.numbers)
        self.token = secrets.token_hex(12)
        self.closed = False
        self.ready = False
        self.alias: Address | None = None
        self.queued = 0
        self._paused = False
        self._last = connections.now()
        self._kept_until = 0.0
        settings = connections.settings
        timers = connections.timers
        self._stalled: ITimer | None = None
        self._check: ITimer = timers.call_later(settings.idle, self._check_idle)
        self._deadline: ITimer | None = timers.call_later(settings.message_time, self._too_slow)

    def __repr__(self) -> str:
        return f"<Connection {self.peer} via {self.local}{' closed' if self.closed else ''}>"

    # IFlow

    def send(self, data: bytes) -> None:
        """Send one message. Raises TransportFailed when closed or too much is queued."""
        if self.closed or not self.ready:
            raise TransportFailed("Connection Closed")
        connections = self._connections
        delivery = connections.delivery
        if self._paused:
            self.queued += len(data)
            if self.queued > connections.settings.max_queued:
                delivery.send_failures += 1
                self.abort("takes nothing any more")
                raise TransportFailed("Peer Too Slow")
        delivery.sent += 1
        self._last = connections.now()
        self._wire.write_message(data)
        if delivery.watch is not None and len(data) > len(b"\r\n\r\n"):
            delivery.watch(True, self, data)

    def send_soon(self, data: bytes) -> None:
        """The same: Twisted gathers what is written in a turn. Raises TransportFailed."""
        self.send(data)

    def keep(self, seconds: float) -> None:
        """Do not close for being idle within this time."""
        self._kept_until = max(self._kept_until, self._connections.now() + seconds)

    def close(self) -> None:
        """Close after what was sent is out, or after `LINGER` anyway."""
        if self.closed:
            return
        self._end()
        self._deadline = self._connections.timers.call_later(LINGER, self._wire.abort_wire)
        self._wire.close_wire()

    # The protocol's side

    def handshake_done(self) -> None:
        """The flow may be used."""
        self.ready = True
        self.message_done()
        self._connections.opened(self)

    def is_from(self, host: str) -> None:
        """The peer is behind a proxy and is really this one."""
        self.peer = self.peer._replace(host=host)
        self.guarded = self._connections.delivery.guard.source(host)

    def spend(self, messages: int) -> bool:
        """So many messages came. A peer that sent too much is not read from for a while; False for
        one that is banned: it is cut off.
        """
        source = self.guarded
        source.tokens -= messages
        if source.tokens >= 0:
            return True
        seconds = source.wait()
        if seconds == inf:
            self.abort("is banned")
            return False
        if seconds and not self.closed:
            self._wire.pause_wire()
            self._connections.timers.call_later(max(seconds, PAUSE), self._read_on)
        return True

    def _read_on(self) -> None:
        if not self.closed:
            self._wire.resume_wire()

    def touch(self) -> None:
        """Something came in."""
        self._last = self._connections.now()

    def message_begun(self) -> None:
        """The rest of a message is to come soon."""
        if self._deadline is None and not self.closed:
            seconds = self._connections.settings.message_time
            self._deadline = self._connections.timers.call_later(seconds, self._too_slow)

    def message_done(self) -> None:
        """Nothing is half received."""
        if self._deadline is not None and not self.closed:
            self._deadline.cancel()
            self._deadline = None

    def abort(self, why: str) -> None:
        """Cut off a peer that misbehaves."""
        connections = self._connections
        if not self.closed:
            connections.delivery.aborted += 1
            connections.log.debug("{peer} is cut off: {why}", peer=self.peer, why=why)
            self._end()
        self._wire.abort_wire()

    def lost(self) -> None:
        """The connection is gone."""
        self._end()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._connections.left(self)
        if self.ready:
            self.ready = False
            self._connections.delivery.flow_closed(self)

    def _end(self) -> None:
        self.closed = True
        self._check.cancel()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._stalled is not None:
            self._stalled.cancel()
        self._connections.closing(self)

    def _too_slow(self) -> None:
        self._deadline = None
        self.abort("does not finish what it began")

    def _check_idle(self) -> None:
        due = self.expires
        if due <= self._connections.now():
            self.close()
        else:
            self._check = self._connections.timers.call_at(due, self._check_idle)

    @property
    def expires(self) -> float:
        """When it is going to be closed if nothing more happens."""
        return max(self._last + self._connections.settings.idle, self._kept_until)

    # IPushProducer

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        if self._paused:
            return
        self._paused = True
        self.queued = 0
        connections = self._connections
        self._stalled = connections.timers.call_later(
            connections.settings.send_time, self.abort, "takes nothing any more"
        )

    def resumeProducing(self) -> None:
        """The transport's buffer is empty again."""
        self._paused = False
        self.queued = 0
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def stopProducing(self) -> None:
        """The transport is gone; `lost` says so."""


class Connections:
    """All open connections: by remote address, by token, and how many."""

    log = Logger()

    def __init__(
        self,
        settings: TransportSettings,
        timers: ITimers,
        delivery: Delivery,
        now: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.timers = timers
        self.delivery = delivery
        self.now = now
        self.numbers = itertools.count(1)
        self._all: dict[int, Connection] = {}
        self._by_address: dict[Address, Connection] = {}
        self._by_token: dict[str, Connection] = {}
        self._sources: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._all.values()))

    def find(self, address: Address) -> Connection | None:
        """The connection that can be used to send to a remote address.

        WS in a URI means either kind of WebSocket (RFC 7118 section 5.2.3 knows no other word).
        """
        found = self._by_address.get(address)
        if found is None and address.transport == "WS":
            found = self._by_address.get(address._replace(transport="WSS"))
        return found

    def by_token(self, token: str) -> Connection | None:
        """The open connection of that name."""
        return self._by_token.get(token)

    def admits(self, source: str) -> bool:
        """Whether one more connection from (or to) an address is within the limits."""
        settings = self.settings
        if self.delivery.guard.banned(source):
            self.delivery.refused += 1
            return False
        if (
            len(self._all) < settings.max_connections
            and self._sources[source] < settings.max_connections_per_source
        ):
            return True
        self.delivery.refused += 1
        return False

    def begin(
        self,
        wire: Wire,
        peer: Address,
        local: Address,
        sent_by: tuple[str, int],
        source: str = "",
    ) -> Connection:
        """Count a new connection; it can be found after its `Connection.handshake_done`."""
        connection = Connection(self, wire, peer, local, sent_by, source or peer.host)
        self._all[connection.number] = connection
        self._sources[connection.source] += 1
        return connection

    def opened(self, connection: Connection) -> None:
        """A connection can be used."""
        self._by_address[connection.peer] = connection
        self._by_token[connection.token] = connection

    def add_alias(self, connection: Connection, port: int) -> None:
        """Use the connection for requests to another port of the same host (RFC 5923)."""
        if connection.alias is None and port != connection.peer.port and connection.ready:
            alias = connection.peer._replace(port=port)
            if self._by_address.setdefault(alias, connection) is connection:
                connection.alias = alias

    def closing(self, connection: Connection) -> None:
        """A connection can be used no more."""
        self._by_token.pop(connection.token, None)
        for address in (connection.peer, connection.alias):
            if address is not None and self._by_address.get(address) is connection:
                del self._by_address[address]

    def left(self, connection: Connection) -> None:
        """A connection is gone."""
        if self._all.pop(connection.number, None) is None:
            return
        self._sources[connection.source] -= 1
        if self._sources[connection.source] <= 0:
            del self._sources[connection.source]

    def count(self, transport: str) -> int:
        """How many connections of a transport are open."""
        return sum(found.local.transport == transport for found in self._all.values())

    def queued(self, transports: Sequence[str] = ()) -> int:
        """Bytes that wait for slow peers (of some transports), beyond what their sockets take."""
        return sum(
            found.queued
            for found in self._all.values()
            if not transports or found.local.transport in transports
        )
