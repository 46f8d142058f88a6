"""``trace_start`` and ``trace_stop``: HEPv3 to whoever listens, as ``opensips-cli trace`` does."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zope.interface import implementer

from pbx.commands import CommandFailed
from pbx.interfaces import ICommands, IFlow, IStartable, IStatistics, IWire, IWireTap
from pbx.management.outlets import Datagrams, Stream
from pbx.management.trace.calls import Filter, TracedCall
from pbx.management.trace.hep import packet
from pbx.management.trace.messages import TracedMessage, read

#: Streams at a time, and calls that one remembers to be asked for.
MAX_STREAMS = 20
MAX_CALLS = 10_000

Recipes = Sequence[Sequence[str]]


@implementer(ICommands, IStartable, IStatistics)
class TraceStreams:
    """Every stream by its id."""

    def __init__(self, wire: IWire, reactor: Any) -> None:
        self._wire = wire
        self._reactor = reactor
        self._streams: dict[str, _HEPStream] = {}

    async def start(self) -> None:
        """IStartable."""

    async def stop(self) -> None:
        """End them all."""
        for name in tuple(self._streams):
            self.trace_stop(name)

    def commands(self) -> Sequence[tuple[str, Recipes, Callable[..., object]]]:
        """ICommands."""
        return (
            ("trace_start", (("id", "uri"), ("id", "uri", "filter")), self.trace_start),
            ("trace_stop", (("id",),), self.trace_stop),
        )

    def statistics(self) -> Mapping[str, int]:
        """IStatistics."""
        return {"trace:streams": len(self._streams)}

    def trace_start(self, id: object, uri: object, filter: Sequence[object] = ()) -> object:
        """Send calls as HEPv3 to ``hep:IP:PORT;transport=tcp``, all or those of ``caller=USER``,
        ``callee=USER`` or ``ip=ADDRESS``.
        """
        name = str(id)
        if name in self._streams:
            raise CommandFailed(400, "There is a trace of that id")
        if len(self._streams) >= MAX_STREAMS:
            raise CommandFailed(500, "Too many traces")
        wanted = _filter(filter)
        host, port, transport = _place(str(uri))
        outlet: Datagrams | Stream
        if transport == "udp":
            outlet = Datagrams("udp", f"{host}:{port}")
        else:
            # Who goes away, as Ctrl-C in the terminal does, wants no more.
            outlet = Stream(host, port, self._reactor, lambda: self._end(name))
            outlet.connect()
        stream = self._streams[name] = _HEPStream(outlet, wanted, self._reactor.seconds)
        self._wire.tap(stream)
        return "OK"

    def trace_stop(self, id: object) -> object:
        """No more."""
        if str(id) not in self._streams:
            raise CommandFailed(404, "Trace not found")
        self._end(str(id))
        return "OK"

    def _end(self, name: str) -> None:
        stream = self._streams.pop(name, None)
        if stream is not None:
            self._wire.untap(stream)
            stream.close()


@implementer(IWireTap)
class _HEPStream:
    """One of them. A call that was asked for once is shown to its end."""

    def __init__(
        self, outlet: Datagrams | Stream, wanted: Filter, now: Callable[[], float]
    ) -> None:
        self._outlet = outlet
        self._wanted = wanted
        self._now = now
        self._seen = 0
        #: Call-IDs that are shown, with the id that joins their legs.
        self._shown: OrderedDict[str, str] = OrderedDict()
        self._legs: OrderedDict[str, str] = OrderedDict()

    def message_seen(self, sent: bool, flow: IFlow, data: bytes) -> None:
        """IWireTap."""
        seen = (self._now(), sent, flow.local, flow.sent_by, flow.peer, data)
        self._seen += 1
        message = read(self._seen, seen)
        correlation = self._correlation(message)
        if correlation:
            self._outlet.send(packet(message, correlation))

    def _correlation(self, message: TracedMessage) -> str:
        """The first Call-ID of the call, "" when nobody asked for it."""
        call_id, leg = message.call_id, message.headers.get("x-pbx-call", "")
        known = self._shown.get(call_id) or self._legs.get(leg, "")
        if not known and self._wanted.wants(TracedCall(call_id, [message])):
            known = call_id or "none"
        if known:
            _remember(self._shown, call_id, known)
            if leg:
                _remember(self._legs, leg, known)
        return known

    def close(self) -> None:
        """No more."""
        self._outlet.close()


def _remember(table: OrderedDict[str, str], key: str, value: str) -> None:
    table[key] = value
    while len(table) > MAX_CALLS:
        table.popitem(last=False)


def _filter(conditions: Sequence[object]) -> Filter:
    found: dict[str, str] = {}
    for condition in conditions:
        name, equals, value = str(condition).partition("=")
        if not equals or name not in ("caller", "callee", "ip") or not value:
            raise CommandFailed(400, "Bad filter: caller=USER, callee=USER or ip=ADDRESS")
        found[name] = value
    return Filter(**found, everything=True)


def _place(uri: str) -> tuple[str, int, str]:
    """Of ``hep:IP:PORT;transport=tcp;version=3``."""
    address, *parameters = uri.removeprefix("hep:").split(";")
    options = dict(part.partition("=")[::2] for part in parameters)
    transport = options.get("transport", "udp").lower()
    host, _, port = address.rpartition(":")
    if not uri.startswith("hep:") or transport not in ("udp", "tcp"):
        raise CommandFailed(400, "Bad uri: hep:IP:PORT;transport=udp or tcp;version=3")
    if options.get("version", "3") != "3":
        raise CommandFailed(400, "Bad uri: only version=3 is spoken")
    try:
        literal = ipaddress.ip_address(host.strip("[]"))
        number = int(port)
    except ValueError:
        raise CommandFailed(400, "Bad uri: expected an IP address and a port") from None
    if not 0 < number < 65536:
        raise CommandFailed(400, "Bad uri: no such port")
    return str(literal), number, transport
