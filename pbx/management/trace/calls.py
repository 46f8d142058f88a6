"""Which messages belong together: one call over all its legs, or one other exchange.

Legs are joined by X-PBX-Call: the PBX writes it towards a FreeSWITCH node, which hands it back in
the INVITE of the other leg. A node that does not is recognised by where it was called: from there
soon comes an INVITE of the same caller for the same callee.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pbx.management.trace.messages import TracedMessage

#: Peers write addresses with and without port, users with and without domain.
_SCHEMES = ("sip:", "sips:", "tel:")


#: How long a node may take to call the other side, in seconds.
NODE_DELAY = 30.0


@dataclass(slots=True)
class TracedCall:
    """Messages with one Call-ID, or of calls that are legs of one; in their order."""

    name: str
    messages: list[TracedMessage] = field(default_factory=list)

    @property
    def invite(self) -> TracedMessage | None:
        """Where the call begins: the first INVITE of a caller, else any INVITE."""
        invites = [m for m in self.messages if m.method == "INVITE" and m.is_request]
        first = [m for m in invites if not m.sent and "x-pbx-call" not in m.headers]
        return next(iter(first or invites), None)

    @property
    def call_ids(self) -> Sequence[str]:
        """Of the legs, in their order."""
        return tuple(dict.fromkeys(message.call_id for message in self.messages))


def grouped(messages: Iterable[TracedMessage]) -> Sequence[TracedCall]:
    """The calls and exchanges among the messages, by their first one."""
    leader: dict[str, str] = {}

    def lead(key: str) -> str:
        while (above := leader.setdefault(key, key)) != key:
            key = above
        return key

    def join(one: str, other: str) -> None:
        one, other = lead(one), lead(other)
        if one != other:
            leader[one] = other

    found = tuple(messages)
    called: dict[tuple[object, ...], TracedMessage] = {}
    for message in found:
        if leg := message.headers.get("x-pbx-call"):
            join(_key(message), f"\0{leg}")
        if message.method == "INVITE" and message.is_request and not message.to_tag:
            side = message.peer, message.user("from")[0], message.user("uri")[0]
            if message.sent:
                called[side] = message
            elif (first := called.get(side)) and message.time - first.time <= NODE_DELAY:
                join(_key(message), _key(first))
    calls: dict[str, TracedCall] = {}
    for message in found:
        key = lead(_key(message))
        call = calls.get(key)
        if call is None:
            call = calls[key] = TracedCall(message.call_id)
        call.messages.append(message)
    return tuple(calls.values())


def _key(message: TracedMessage) -> str:
    return message.call_id or f"\0{message.peer.socket}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which calls are asked for; empty fields do not count.

    ``what``: a user, an address or a Call-ID. ``caller`` and ``callee``: users. ``ip``: an address.
    ``everything``: exchanges without INVITE too, as registrations.
    """

    what: str = ""
    caller: str = ""
    callee: str = ""
    ip: str = ""
    everything: bool = False

    def wants(self, call: TracedCall) -> bool:
        """Whether all conditions hold, each for some message."""
        if not self.everything and call.invite is None:
            return False
        conditions = (
            (self.what, _is_about),
            (self.caller, lambda message, text: _names(message, text, ("from",))),
            (self.callee, lambda message, text: _names(message, text, ("to", "uri"))),
            (self.ip, _is_at),
        )
        return all(
            any(holds(message, text) for message in call.messages)
            for text, holds in conditions
            if text
        )


def _is_about(message: TracedMessage, what: str) -> bool:
    return (
        message.call_id == what
        or _is_at(message, what)
        or _names(message, what, ("from", "to", "uri"))
    )


def _is_at(message: TracedMessage, address: str) -> bool:
    peer = message.peer
    return address in (peer.host, f"[{peer.host}]", peer.socket, peer.socket.partition(":")[2])


def _names(message: TracedMessage, text: str, headers: Sequence[str]) -> bool:
    for scheme in _SCHEMES:
        text = text.removeprefix(scheme)
    user, _, host = text.partition("@")
    for header in headers:
        found, domain = message.user(header)
        if found == user and host.lower() in ("", domain.lower(), domain.partition(":")[0].lower()):
            return True
    return False
