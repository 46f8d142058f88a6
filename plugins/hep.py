"""Every SIP message as HEPv3 to a capture server (Homer, sngrep, Wireshark), by UDP or TCP.

The tap only puts a message into a queue. Twenty times a second the queue is emptied: by then the
dialogs have told which calls belong together, so that every packet of both legs carries the Call-ID
of the first one.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import (
    DatagramProtocol,
    ReconnectingClientFactory,
    connectionDone,
)
from twisted.internet.protocol import Protocol as StreamProtocol
from twisted.logger import Logger
from twisted.plugin import IPlugin
from twisted.python.failure import Failure
from zope.interface import implementer

from pbx.config import ConfigError, settings
from pbx.events import CallStarted
from pbx.hep import packet
from pbx.interfaces import (
    IEvents,
    IFlow,
    IFolder,
    IHealth,
    IPBXPlugin,
    IRegistry,
    IStartable,
    IStatistics,
    IWire,
    IWireTap,
)
from pbx.sip.masking import masked
from pbx.timing import Periodic

#: Seconds between two looks at the queue, and messages that one look sends before calls get a turn.
INTERVAL: Final = 0.05
BATCH: Final = 500
#: Calls whose legs are joined at a time; the oldest is forgotten first.
MAX_CALLS: Final = 50_000
#: Longest pause between attempts to connect.
MAX_DELAY: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class HEPSettings:
    """The ``[hep]`` table."""

    target: str = "udp:127.0.0.1:9060"
    """The capture server: udp: or tcp:, IP address or name, port; IPv6 in brackets."""
    capture_id: int = 2001
    """What this PBX is called there."""
    key_file: str = ""
    """A file with the key that the capture server asks for."""
    mask: bool = True
    """Put stars in the place of what proves passwords and opens media."""
    queue: int = 10_000
    """Messages that may wait for the capture server; what comes then is not captured."""

    def __post_init__(self) -> None:
        parse_target(self.target)
        if not 0 <= self.capture_id < 1 << 32:
            raise ValueError("capture_id: expected a number of 32 bits")
        if self.queue < 1:
            raise ValueError("queue: expected at least 1")


def parse_target(text: str) -> tuple[str, str, int]:
    """Kind, host and port. Raises ValueError."""
    kind, _, rest = text.partition(":")
    host, colon, port = rest.rpartition(":")
    good = colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536
    if kind not in ("udp", "tcp") or not good or (":" in host and not host.startswith("[")):
        raise ValueError(f'target: expected "udp:HOST:PORT" or "tcp:HOST:PORT", not {text!r}')
    return kind, host.strip("[]"), int(port)


class Outlet(Protocol):
    """A way to the capture server."""

    ready: bool

    def start(self) -> None:
        """Begin to connect."""

    def stop(self) -> None:
        """No more."""

    def send(self, packets: Sequence[bytes]) -> None:
        """Send packets; only when ``ready``."""


class Datagrams(DatagramProtocol):
    """UDP: a datagram per message."""

    def __init__(self, host: str, port: int, reactor: Any) -> None:
        self._target = (host, port)
        self._reactor = reactor
        self._port: Any = None
        self.ready = False

    def start(self) -> None:
        """Names are looked up once."""
        self._reactor.resolve(self._target[0]).addCallbacks(self._found, self._not_found)

    def _found(self, address: str) -> None:
        interface = "::" if ":" in address else ""
        self._target = (address, self._target[1])
        self._port = self._reactor.listenUDP(0, self, interface=interface)
        self.ready = True

    def _not_found(self, failure: Failure) -> None:
        Captures.log.error(
            "the capture server {host} is not found: {why}",
            host=self._target[0],
            why=failure.getErrorMessage(),
        )

    def stop(self) -> None:
        """Let go of the socket."""
        self.ready = False
        if self._port is not None:
            self._port.stopListening()

    def send(self, packets: Sequence[bytes]) -> None:
        """What the kernel does not take is lost, as datagrams are."""
        write = self.transport.write  # type: ignore[union-attr]
        for data in packets:
            try:
                write(data, self._target)
            except OSError:
                continue


class Connection(StreamProtocol):
    """The connection to a capture server."""

    def __init__(self, owner: Stream) -> None:
        self._owner = owner

    def connectionMade(self) -> None:
        """Hear when the server is slow."""
        assert self.transport is not None
        self.transport.registerProducer(self, True)  # type: ignore[attr-defined]
        self._owner.connected(self)

    def pauseProducing(self) -> None:
        """The server is slow: messages wait in the queue, which has a bound."""
        self._owner.ready = False

    def resumeProducing(self) -> None:
        """It caught up."""
        self._owner.ready = True

    def stopProducing(self) -> None:
        """It is going."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone."""
        self._owner.lost()


class Stream(ReconnectingClientFactory):
    """TCP: one connection, made again when it breaks."""

    noisy = False

    def __init__(self, host: str, port: int, reactor: Any) -> None:
        self._host = host
        self._number = port
        self._reactor = reactor
        self.clock = reactor
        self.maxDelay = MAX_DELAY
        self._connection: Connection | None = None
        self._connector: Any = None
        self.ready = False

    def start(self) -> None:
        """Connect, and go on trying."""
        self._connector = self._reactor.connectTCP(self._host, self._number, self)

    def stop(self) -> None:
        """Close after what was written is out."""
        self.ready = False
        self.stopTrying()  # type: ignore[no-untyped-call]
        if self._connector is not None:
            self._connector.disconnect()

    def buildProtocol(self, addr: IAddress | None) -> Connection:
        """One more try that worked."""
        return Connection(self)

    def connected(self, connection: Connection) -> None:
        """The server is there."""
        self.resetDelay()  # type: ignore[no-untyped-call]
        self._connection = connection
        self.ready = True

    def lost(self) -> None:
        """The server is gone."""
        self._connection = None
        self.ready = False

    def send(self, packets: Sequence[bytes]) -> None:
        """All at once."""
        connection = self._connection
        if connection is not None and connection.transport is not None:
            connection.transport.write(b"".join(packets))


class ICaptures(IWireTap):
    """What the registry knows them as."""


@implementer(ICaptures, IStartable, IStatistics, IHealth)
class Captures:
    """Queues what the wire shows and sends it on."""

    log = Logger()

    def __init__(
        self,
        found: HEPSettings,
        key: bytes,
        wire: IWire,
        events: IEvents,
        outlet: Outlet,
        clock: IReactorTime,
    ) -> None:
        self._settings = found
        self._key = key
        self._wire = wire
        self._outlet = outlet
        self._clock = clock
        self._queue: deque[tuple[float, bool, IFlow, bytes]] = deque()
        self._room = found.queue
        self._calls: OrderedDict[str, str] = OrderedDict()
        self._firsts: OrderedDict[str, str] = OrderedDict()
        self._turns = Periodic(clock, INTERVAL, self._turn)
        self.sent = self.dropped = 0
        events.subscribe(CallStarted, self._call_started)

    async def start(self) -> None:
        """Before the listeners, so that nothing is missed."""
        self._outlet.start()
        self._turns.start()
        self._wire.tap(self)

    async def stop(self) -> None:
        """After what waits is sent, if the server takes it."""
        self._wire.untap(self)
        self._turns.stop()
        while self._queue and self._outlet.ready:
            self._turn()
        self._outlet.stop()

    def message_seen(self, sent: bool, flow: IFlow, data: bytes) -> None:
        """One message: kept for the next turn."""
        if len(self._queue) < self._room:
            self._queue.append((self._clock.seconds(), sent, flow, data))
        else:
            self.dropped += 1

    def _call_started(self, event: CallStarted) -> None:
        """The legs of a call have the same correlation; its first one has it as its own id."""
        dialog = event.dialog
        first = self._firsts.setdefault(dialog.correlation or dialog.did, dialog.call_id)
        self._calls[dialog.call_id] = first
        for table in (self._calls, self._firsts):
            while len(table) > MAX_CALLS:
                table.popitem(last=False)

    def _turn(self) -> None:
        if not self._outlet.ready:
            return
        queue = self._queue
        packets = [self._packet(*queue.popleft()) for _ in range(min(BATCH, len(queue)))]
        if packets:
            self._outlet.send(packets)
            self.sent += len(packets)

    def _packet(self, time: float, sent: bool, flow: IFlow, data: bytes) -> bytes:
        own, peer = flow.local, flow.peer
        if own.host in ("0.0.0.0", "::"):
            own = own._replace(host=flow.sent_by[0])
        source, target = (own, peer) if sent else (peer, own)
        call_id = call_id_of(data)
        return packet(
            time,
            source,
            target,
            masked(data) if self._settings.mask else data,
            self._calls.get(call_id, call_id),
            self._settings.capture_id,
            self._key,
        )

    def statistics(self) -> Mapping[str, int]:
        """Group ``hep``."""
        return {
            "hep:sent": self.sent,
            "hep:dropped": self.dropped,
            "hep:queued": len(self._queue),
            "hep:connected": int(self._outlet.ready),
        }

    def health(self) -> tuple[str, str]:
        """Degraded while messages are lost."""
        if self._outlet.ready or len(self._queue) < self._room:
            return "ok", ""
        return "degraded", f"the capture server {self._settings.target} does not take messages"


def call_id_of(data: bytes) -> str:
    """The Call-ID of a message, whatever else is wrong with it; "" for none."""
    for line in data.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon and name.rstrip().lower() in (b"call-id", b"i"):
            return value.strip().decode("utf-8", "surrogateescape")
    return ""


def made_outlet(target: str, reactor: Any) -> Outlet:
    """The way to a capture server."""
    kind, host, port = parse_target(target)
    kinds: dict[str, Callable[[str, int, Any], Outlet]] = {"udp": Datagrams, "tcp": Stream}
    return kinds[kind](host, port, reactor)


def read_key(path: Path) -> bytes:
    """The key in a file. Raises ConfigError."""
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"[hep] key_file: {path}: {error.strerror}") from None
    if not key:
        raise ConfigError(f"[hep] key_file: {path}: it is empty")
    return key


@implementer(IPlugin, IPBXPlugin)
class HEPPlugin:
    """Announces the captures."""

    name = "hep"
    settings = HEPSettings

    def provide(self, registry: IRegistry, clock: IReactorTime, table: Mapping[str, Any]) -> None:
        """Build them."""
        found = settings(HEPSettings, table, self.name)
        key = b""
        if found.key_file:
            key = read_key(IFolder(registry).located(Path(found.key_file)))
        outlet = made_outlet(found.target, clock)
        captures = Captures(found, key, IWire(registry), IEvents(registry), outlet, clock)
        registry.provide(ICaptures, captures)


hep = HEPPlugin()
