"""The event interface: notifications for programs that subscribed (JSON-RPC, spec 40 section 4).

Nothing is done for events that nobody subscribed to: handlers come and go with the subscriptions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from pbx.commands import CommandFailed
from pbx.events import (
    CallAnswered,
    CallEnded,
    CallFailed,
    CallRinging,
    CallStarted,
    DestinationChanged,
    DispatchChanged,
    GatewayChanged,
    PresenceExposed,
    Registered,
    TransactionCompleted,
    Unregistered,
)
from pbx.interfaces import ICommands, IDialog, IEvents, IRegistrar, IStartable, IStatistics
from pbx.management.subscribers import BadSocket, Subscriber, parse_socket

#: Seconds that a subscription lasts if it does not say.
EXPIRE = 3600
MAX_SUBSCRIBERS = 200

Recipes = Sequence[Sequence[str]]
Params = dict[str, object]

#: Every event, and what happens in the PBX when it is raised.
NAMES: tuple[str, ...] = (
    "E_CORE_THRESHOLD",
    "E_UL_AOR_INSERT",
    "E_UL_AOR_DELETE",
    "E_UL_CONTACT_INSERT",
    "E_UL_CONTACT_UPDATE",
    "E_UL_CONTACT_DELETE",
    "E_DLG_STATE_CHANGED",
    "E_LOAD_BALANCER_STATUS",
    "E_DISPATCHER_STATUS",
    "E_DROUTING_STATUS",
    "E_PRESENCE_EXPOSED",
    "E_ACC_EVENT",
    "E_ACC_CDR",
    "E_ACC_MISSED_EVENT",
)


@implementer(ICommands, IStartable, IStatistics)
class EventInterface:
    """Who wants to hear of what, and telling them."""

    log = Logger()

    def __init__(self, events: IEvents, registrar: IRegistrar, reactor: Any) -> None:
        self._events = events
        self._registrar = registrar
        self._reactor = reactor
        self._clock: IReactorTime = reactor
        self._subscribers: dict[str, dict[str, Subscriber]] = {name: {} for name in NAMES}
        self._states: dict[str, int] = {}
        self._heard: set[type] = set()
        self._dropped = 0
        self._sources: dict[type, tuple[tuple[str, ...], Callable[[Any], None]]] = {
            Registered: (
                ("E_UL_AOR_INSERT", "E_UL_CONTACT_INSERT", "E_UL_CONTACT_UPDATE"),
                self._registered,
            ),
            Unregistered: (("E_UL_AOR_DELETE", "E_UL_CONTACT_DELETE"), self._unregistered),
            CallStarted: (("E_DLG_STATE_CHANGED",), self._call_changed),
            CallRinging: (("E_DLG_STATE_CHANGED",), self._call_changed),
            CallAnswered: (("E_DLG_STATE_CHANGED",), self._call_changed),
            CallEnded: (("E_DLG_STATE_CHANGED", "E_ACC_CDR"), self._call_ended),
            CallFailed: (("E_DLG_STATE_CHANGED", "E_ACC_MISSED_EVENT"), self._call_failed),
            TransactionCompleted: (("E_ACC_EVENT",), self._transaction_completed),
            DestinationChanged: (("E_LOAD_BALANCER_STATUS",), self._destination_changed),
            DispatchChanged: (("E_DISPATCHER_STATUS",), self._dispatch_changed),
            PresenceExposed: (("E_PRESENCE_EXPOSED",), self._exposed),
            GatewayChanged: (("E_DROUTING_STATUS",), self._gateway_changed),
        }

    async def start(self) -> None:
        """IStartable."""

    async def stop(self) -> None:
        """Everybody is let go."""
        for name in NAMES:
            for subscriber in tuple(self._subscribers[name].values()):
                self._forget(name, subscriber)

    def commands(self) -> Sequence[tuple[str, Recipes, Callable[..., object]]]:
        """ICommands."""
        wanted = ("event", "socket")
        return (
            ("events_list", ((),), self.events_list),
            ("subscribers_list", ((), ("event",), wanted), self.subscribers_list),
            ("event_subscribe", (wanted, (*wanted, "expire")), self.event_subscribe),
            ("raise_event", (("event",), ("event", "params")), self.raise_event),
        )

    def statistics(self) -> Mapping[str, int]:
        """IStatistics."""
        everybody = [one for of_one in self._subscribers.values() for one in of_one.values()]
        return {
            "events:subscribers": len(everybody),
            "events:connections": sum(one.connected for one in everybody),
            "events:dropped": self._dropped + sum(one.dropped for one in everybody),
        }

    def events_list(self) -> object:
        """Every event that can be subscribed to."""
        return {"Events": [{"name": name, "id": at} for at, name in enumerate(NAMES)]}

    def subscribers_list(self, event: object = None, socket: object = None) -> object:
        """Who hears of what: of all events, one, or one at one socket."""
        if event is None:
            return {"Events": [self._shown(name) for name in NAMES if self._subscribers[name]]}
        name = self._known(event)
        if socket is None:
            return {"Event": self._shown(name)}
        found = self._subscribers[name].get(_socket(socket))
        if found is None:
            raise CommandFailed(404, "Subscriber does not exist")
        return {"Subscriber": found.as_json()}

    def event_subscribe(self, event: object, socket: object, expire: object = EXPIRE) -> object:
        """Tell a socket (udp:, tcp: or jsonrpc: with address and port, unix: with a path) of an
        event for ``expire`` seconds; 0 ends it.
        """
        name, place, text = self._known(event), _socket(socket), str(expire)
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise CommandFailed(400, "Bad expire value")
        known = self._subscribers[name].get(place)
        if int(text) == 0:
            if known is not None:
                self._forget(name, known)
            return "OK"
        if known is None:
            if sum(map(len, self._subscribers.values())) >= MAX_SUBSCRIBERS:
                raise CommandFailed(500, "Too many subscribers")
            known = Subscriber(place, self._reactor, lambda one: self._forget(name, one))
            self._subscribers[name][place] = known
            self._listen()
        known.expire(int(text))
        return "OK"

    def raise_event(self, event: object, params: Sequence[object] = ()) -> object:
        """Tell everybody who subscribed, with these values or ``name=value`` pairs."""
        name = self._known(event)
        pairs = [str(value).partition("=") for value in params]
        if pairs and all(equals and key.isidentifier() for key, equals, _ in pairs):
            self._raise(name, {key: value for key, _, value in pairs})
        else:
            self._raise(name, list(params))
        return "OK"

    def _known(self, event: object) -> str:
        if event not in NAMES:
            raise CommandFailed(404, "Event not registered")
        return str(event)

    def _shown(self, name: str) -> Params:
        subscribers = [one.as_json() for one in self._subscribers[name].values()]
        return {"name": name, "id": NAMES.index(name), "Subscribers": subscribers}

    def _forget(self, name: str, subscriber: Subscriber) -> None:
        self._subscribers[name].pop(subscriber.place, None)
        self._dropped += subscriber.dropped
        subscriber.close()
        self._listen()

    def _listen(self) -> None:
        """Hear of what somebody wants, and of nothing else."""
        for kind, (names, handler) in self._sources.items():
            wanted = any(self._subscribers[name] for name in names)
            if wanted and kind not in self._heard:
                self._heard.add(kind)
                self._events.subscribe(kind, handler)
            elif not wanted and kind in self._heard:
                self._heard.discard(kind)
                self._events.unsubscribe(kind, handler)
        if CallEnded not in self._heard:
            self._states.clear()

    def _raise(self, name: str, params: object) -> None:
        for subscriber in tuple(self._subscribers[name].values()):
            subscriber.tell({"jsonrpc": "2.0", "method": name, "params": params})

    # What becomes of the facts

    def _registered(self, event: Registered) -> None:
        about = self._contact(event.aor, event.contact)
        about["expires"] = int(event.expires)
        if not event.new:
            self._raise("E_UL_CONTACT_UPDATE", about)
            return
        if len(self._registrar.bindings(event.aor)) == 1:
            self._raise("E_UL_AOR_INSERT", {"domain": "location", "aor": event.aor})
        self._raise("E_UL_CONTACT_INSERT", about)

    def _unregistered(self, event: Unregistered) -> None:
        about = self._contact(event.aor, event.contact)
        self._raise("E_UL_CONTACT_DELETE", {**about, "reason": event.reason})
        if not self._registrar.bindings(event.aor):
            self._raise("E_UL_AOR_DELETE", {"domain": "location", "aor": event.aor})

    def _contact(self, aor: str, contact: str) -> Params:
        about: Params = {"domain": "location", "aor": aor, "uri": contact}
        for binding in self._registrar.bindings(aor):
            if binding.get("Contact") == contact:
                names = ("Received", "User-agent", "Socket", "Callid", "Cseq", "Q", "Path")
                keys = ("received", "user_agent", "socket", "callid", "cseq", "qval", "path")
                about |= {
                    key: binding[name]
                    for name, key in zip(names, keys, strict=True)
                    if name in binding
                }
        return about

    def _call_changed(self, event: CallStarted | CallRinging | CallAnswered) -> None:
        self._state_of(event.dialog)

    def _call_ended(self, event: CallEnded) -> None:
        call = event.dialog
        self._state_of(call)
        self._raise(
            "E_ACC_CDR",
            {
                **_identified(call),
                "method": "INVITE",
                "sip_code": call.sip_code,
                "sip_reason": call.sip_reason,
                "created": int(call.created),
                "setuptime": int(call.answered - call.created),
                "duration": int(call.ended - call.answered),
                "ended_by": event.by,
            },
        )

    def _call_failed(self, event: CallFailed) -> None:
        self._state_of(event.dialog)
        self._raise(
            "E_ACC_MISSED_EVENT",
            {
                **_identified(event.dialog),
                "method": "INVITE",
                "sip_code": event.status,
                "sip_reason": event.reason,
                "time": int(self._clock.seconds()),
            },
        )

    def _state_of(self, call: IDialog) -> None:
        old = self._states.pop(call.did, 0)
        if call.state < 5:
            self._states[call.did] = call.state
        self._raise(
            "E_DLG_STATE_CHANGED",
            {"id": call.did, **_identified(call), "old_state": old, "new_state": call.state},
        )

    def _transaction_completed(self, event: TransactionCompleted) -> None:
        request, response = event.request, event.response
        self._raise(
            "E_ACC_EVENT",
            {
                "method": request.method,
                "from_tag": request.from_.tag or "",
                "to_tag": response.to.tag or "",
                "callid": request.call_id,
                "sip_code": response.status,
                "sip_reason": response.reason,
                "time": int(self._clock.seconds()),
            },
        )

    def _destination_changed(self, event: DestinationChanged) -> None:
        status = "enabled" if event.enabled else "disabled"
        self._raise(
            "E_LOAD_BALANCER_STATUS",
            {"group": event.group, "uri": event.uri, "status": status, "reason": event.reason},
        )

    def _exposed(self, event: PresenceExposed) -> None:
        user, _, domain = event.presentity.rpartition("@")
        self._raise(
            "E_PRESENCE_EXPOSED",
            {
                "user": user,
                "domain": domain,
                "event": event.package,
                "expires": max(0, int(event.expires - self._clock.seconds())),
                "etag": event.etag,
                "body": event.body.decode("utf-8", "replace"),
            },
        )

    def _dispatch_changed(self, event: DispatchChanged) -> None:
        about = {"partition": "default", "group": event.set, "address": event.uri}
        self._raise("E_DISPATCHER_STATUS", {**about, "status": event.state})

    def _gateway_changed(self, event: GatewayChanged) -> None:
        about = {"partition": event.partition, "gwid": event.id, "address": event.address}
        self._raise("E_DROUTING_STATUS", {**about, "status": event.state, "reason": event.reason})


def _identified(call: IDialog) -> Params:
    return {
        "callid": call.call_id,
        "from_tag": call.from_tag,
        "to_tag": call.to_tag,
        "from_uri": call.from_uri,
        "to_uri": call.to_uri,
    }


def _socket(socket: object) -> str:
    try:
        return parse_socket(str(socket))
    except BadSocket as error:
        raise CommandFailed(400, str(error)) from None
