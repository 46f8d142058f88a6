"""Keeps NATs open towards phones: small packets by UDP, or OPTIONS that must be answered.

The reference knows this as nathelper's ``natping_interval``. Connections have their own keep-alive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Final, Literal

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.plugin import IPlugin
from zope.interface import Interface, implementer

from pbx.commands import CommandFailed
from pbx.config import settings
from pbx.events import Unregistered
from pbx.interfaces import (
    ICommands,
    IDomains,
    IEvents,
    IFlow,
    IFlows,
    IPBXPlugin,
    IRegistrar,
    IRegistry,
    IStartable,
    IStatistics,
    IUserAgent,
)
from pbx.sip.errors import MalformedMessage, TransportFailed
from pbx.sip.fields import NameAddr
from pbx.sip.message import Request
from pbx.timing import Periodic
from pbx.verdicts import Target

#: Seconds between two handfuls of pings.
TICK: Final = 0.1
#: Least that a late sweep may send in one tick.
BURST: Final = 500
ZEROES: Final = b"\0\0\0\0"
CRLF: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class NatPingSettings:
    """The ``[nat_ping]`` table."""

    interval: float = 10.0
    """Seconds between two pings of a contact."""
    method: Literal["ZEROES", "OPTIONS"] = "ZEROES"
    """What to send: four zero bytes, or a request that the phone answers."""
    ping_nated_only: bool = True
    """Leave contacts alone that are not behind a NAT."""
    ping_streams: bool = False
    """Ping TCP and TLS connections, too, while they are open."""
    ping_from: str = ""
    """From URI of OPTIONS; empty for sip:pinger@ the default domain."""
    ping_threshold: float = 3.0
    """Seconds in which OPTIONS must be answered."""
    remove_on_timeout: bool = False
    """Remove contacts that did not answer ``max_pings_lost`` OPTIONS in a row."""
    max_pings_lost: int = 3
    """How many OPTIONS in a row may be lost."""

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise ValueError("interval: expected at least 1")
        if self.max_pings_lost < 1:
            raise ValueError("max_pings_lost: expected at least 1")


class INatPing(Interface):
    """The pinger."""

    enabled: bool


@implementer(INatPing, IStartable, ICommands, IStatistics)
class NatPinger:
    """Sweeps over all bindings once per interval, a few at each tick."""

    log = Logger()

    def __init__(
        self,
        settings: NatPingSettings,
        registrar: IRegistrar,
        flows: IFlows,
        user_agent: IUserAgent,
        events: IEvents,
        default_from: str,
        clock: IReactorTime,
    ) -> None:
        self._settings = settings
        self._registrar = registrar
        self._flows = flows
        self._user_agent = user_agent
        self._events = events
        self._from = settings.ping_from or default_from
        self._clock = clock
        self._ticks = Periodic(clock, TICK, self._tick)
        self._sweep: Iterator[tuple[str, Target]] = iter(())
        self._began = float("-inf")
        self._swept = 0
        self._expected = 0
        self._finished = True
        self._lost: dict[tuple[str, str], int] = {}
        self.enabled = True
        self.sent = 0
        self.unanswered = 0
        self.removed = 0

    # IStartable

    async def start(self) -> None:
        """First pings at the next tick."""
        self._events.subscribe(Unregistered, self._unregistered)
        self._ticks.start()

    async def stop(self) -> None:
        """No more pings."""
        self._events.unsubscribe(Unregistered, self._unregistered)
        self._ticks.stop()

    # Sweeping

    def _tick(self) -> None:
        if not self.enabled:
            return
        now = self._clock.seconds()
        interval = self._settings.interval
        # A tick may come a trifle early.
        if self._finished and now - self._began >= interval - TICK / 2:
            self._expected = self._swept
            self._sweep = iter(self._registrar.pingable(self._settings.ping_nated_only))
            self._swept = 0
            self._began = now
            self._finished = False
        if self._finished:
            return
        due = ceil(self._expected * min((now - self._began + TICK) / interval, 1.0))
        most = max(BURST, ceil(2 * self._expected * TICK / interval))
        # Beyond what the last sweep knew, everything new comes at once.
        quota = min(due - self._swept, most) if due < self._expected else most
        for _ in range(quota):
            found = next(self._sweep, None)
            if found is None:
                self._finished = True
                return
            self._swept += 1
            self._ping(*found)

    def _ping(self, aor: str, target: Target) -> None:
        flow = self._flow_of(target)
        if flow is None:
            return
        transport = flow.peer.transport
        if transport != "UDP" and not self._settings.ping_streams:
            return
        self.sent += 1
        if self._settings.method == "OPTIONS":
            asked = Deferred.fromCoroutine(self._ask(aor, target, flow))
            asked.addErrback(lambda failure: self.log.failure("a ping failed", failure=failure))
        elif transport != "WS" and transport != "WSS":
            # Browsers are pinged by frames of their own (RFC 6455).
            try:
                flow.send(ZEROES if transport == "UDP" else CRLF)
            except TransportFailed:
                self.unanswered += 1

    def _flow_of(self, target: Target) -> IFlow | None:
        """The way to a target if there is one already: a ping opens no connection."""
        if target.flow is not None:
            return None if target.flow.closed else target.flow
        uri = target.next_hop or target.uri
        if target.path:
            try:
                uri = NameAddr.parse(target.path[0]).uri
            except MalformedMessage:
                return None
        addresses = self._flows.locate(uri)
        if not addresses:
            return None
        return self._flows.find(addresses[0], target.socket)

    # OPTIONS

    async def _ask(self, aor: str, target: Target, flow: IFlow) -> None:
        request = Request.make(
            "OPTIONS",
            target.uri,
            (
                *(("Route", route) for route in target.path),
                ("From", f"<{self._from}>"),
                ("To", f"<{target.uri}>"),
                ("CSeq", "1 OPTIONS"),
            ),
        )
        response = await self._user_agent.send(
            request, flow=flow, timeout=self._settings.ping_threshold
        )
        key = (aor, str(target.uri))
        if not response.local:
            self._lost.pop(key, None)
            return
        self.unanswered += 1
        if not self._settings.remove_on_timeout:
            return
        lost = self._lost.get(key, 0) + 1
        if lost < self._settings.max_pings_lost:
            self._lost[key] = lost
            return
        self._lost.pop(key, None)
        self.removed += self._registrar.remove(*key)

    def _unregistered(self, event: Unregistered) -> None:
        self._lost.pop((event.aor, event.contact), None)

    # Management

    def commands(
        self,
    ) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """``nh_enable_ping``."""
        return (("nh_enable_ping", ((), ("status",)), self.enable_ping),)

    def enable_ping(self, status: object = None) -> object:
        """Whether pings are sent; or switch them on and off."""
        if status is None:
            return {"Status": int(self.enabled)}
        if str(status) not in ("0", "1"):
            raise CommandFailed(400, "Bad parameter value")
        self.enabled = str(status) == "1"
        return "OK"

    def statistics(self) -> Mapping[str, int]:
        """Group ``nat_ping``."""
        return {
            "nat_ping:sent": self.sent,
            "nat_ping:unanswered": self.unanswered,
            "nat_ping:removed": self.removed,
        }


@implementer(IPlugin, IPBXPlugin)
class NatPingPlugin:
    """Announces the pinger."""

    name = "nat_ping"
    settings = NatPingSettings

    def provide(self, registry: IRegistry, clock: IReactorTime, table: Mapping[str, Any]) -> None:
        """Build the pinger."""
        names = IDomains(registry).names()
        pinger = NatPinger(
            settings(NatPingSettings, table, self.name),
            IRegistrar(registry),
            IFlows(registry),
            IUserAgent(registry),
            IEvents(registry),
            f"sip:pinger@{names[0] if names else 'localhost'}",
            clock,
        )
        registry.provide(INatPing, pinger)


nat_ping = NatPingPlugin()
