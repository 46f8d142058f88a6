"""Calls of browsers, whose only way is the WebSocket that they opened (RFC 7118, RFC 5626).

When it closes, the phone has a few seconds to register again, and its calls move to the new
connection; otherwise it is gone, a closed laptop or a crashed tab, and its calls end.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pbx.events import FlowClosed, Registered
from pbx.interfaces import IEvents, IFlow, ITimers
from pbx.services.dialogs.call import ENDED, Call, Leg
from pbx.sip.errors import MalformedMessage
from pbx.sip.uri import URI, unescape

#: Ended calls that may be remembered with a connection until somebody looks.
_SLACK = 32
_TRANSPORTS = ("WS", "WSS")


class Connections:
    """Which calls hang on which connection; ``end(call, leg)`` ends one whose side is gone."""

    def __init__(
        self,
        seconds: float,
        events: IEvents,
        timers: ITimers,
        end: Callable[[Call, Leg], object],
    ) -> None:
        self._seconds = seconds
        self._timers = timers
        self._end = end
        self._legs: dict[IFlow, list[tuple[Call, Leg]]] = {}
        self._missing: dict[str, list[tuple[Call, Leg]]] = {}
        #: Where each phone is registered now, and the phones of each connection.
        self._home: dict[str, IFlow] = {}
        self._phones: dict[IFlow, set[str]] = {}
        if seconds > 0:
            events.subscribe(FlowClosed, self._flow_closed)
            events.subscribe(Registered, self._registered)

    def follow(self, call: Call, leg: Leg) -> None:
        """A side of a call is over this connection now; nothing when it is none of a browser."""
        flow = leg.flow
        if flow is None or flow.peer.transport not in _TRANSPORTS:
            return
        known = self._legs.setdefault(flow, [])
        if len(known) > _SLACK:
            known[:] = [entry for entry in known if entry[0].state != ENDED]
        known.append((call, leg))

    def expect(self, call: Call, leg: Leg, seconds: float) -> None:
        """A call of the last run: its browser is about to come back, or not."""
        if self._seconds > 0 and leg.peer is not None and leg.peer.transport in _TRANSPORTS:
            self._miss(call, leg, max(seconds, self._seconds))

    def statistics(self) -> dict[str, int]:
        """Gauges."""
        return {
            "pbx:followed_connections": len(self._legs),
            "pbx:missing_phones": len(self._missing),
        }

    # What is heard

    def _flow_closed(self, event: FlowClosed) -> None:
        flow = event.flow
        for phone in self._phones.pop(flow, ()):
            if self._home.get(phone) is flow:
                del self._home[phone]
        for call, leg in self._legs.pop(flow, ()):
            if call.state != ENDED and leg.flow is flow:
                self._miss(call, leg, self._seconds)

    def _registered(self, event: Registered) -> None:
        flow = event.flow
        if flow is None or flow.closed or flow.peer.transport not in _TRANSPORTS:
            return
        for phone in {event.instance.strip("<>").lower(), _user(event.contact)}:
            if not phone or self._home.get(phone) is flow:
                continue
            before = self._home.get(phone)
            self._home[phone] = flow
            self._phones.setdefault(flow, set()).add(phone)
            if before is not None:
                # Another network: the old connection is dead, only nobody has noticed yet.
                self._move(phone, before, flow)
            for call, leg in self._missing.pop(phone, ()):
                self._over(call, leg, flow)

    def _move(self, phone: str, old: IFlow, new: IFlow) -> None:
        for call, leg in self._legs.get(old, ()):
            if call.state != ENDED and leg.flow is old and phone_of(call, leg) == phone:
                self._over(call, leg, new)

    def _over(self, call: Call, leg: Leg, flow: IFlow) -> None:
        if call.state != ENDED:
            leg.over(flow)
            self.follow(call, leg)

    # Waiting

    def _miss(self, call: Call, leg: Leg, seconds: float) -> None:
        phone = phone_of(call, leg)
        home = self._home.get(phone)
        if home is not None and not home.closed:
            self._over(call, leg, home)
            return
        self._missing.setdefault(phone, []).append((call, leg))
        self._timers.call_later(seconds, partial(self._give_up, phone, call, leg, leg.flow))

    def _give_up(self, phone: str, call: Call, leg: Leg, flow: IFlow | None) -> None:
        waiting = self._missing.get(phone, [])
        if (call, leg) in waiting:
            waiting.remove((call, leg))
            if not waiting:
                del self._missing[phone]
        if call.state != ENDED and leg.flow is flow:
            self._end(call, leg)


def phone_of(call: Call, leg: Leg) -> str:
    """What tells the phone of a side from all others: its instance id (RFC 5627), or the user of
    its Contact, which browsers make up.
    """
    target = (call.caller_side() if leg is call.caller_leg else leg).target
    try:
        uri = URI.parse(target)
    except MalformedMessage:
        return ""
    instance = unescape(uri.params.get("gr") or "").lower() if uri.params else ""
    return instance or uri.user


def _user(contact: str) -> str:
    try:
        return URI.parse(contact).user
    except MalformedMessage:
        return ""
