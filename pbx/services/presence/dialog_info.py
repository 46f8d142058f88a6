"""The package ``dialog``: busy lamps from the calls that we relay (RFC 4235).

Nobody publishes anything: who calls whom is known here. Documents tell the full state of a user,
all devices together, and hold what a watcher needs to pick a ringing call up (RFC 3891).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from xml.etree.ElementTree import Element, SubElement

from pbx.events import (
    CallAnswered,
    CallEnded,
    CallFailed,
    CallRestored,
    CallRinging,
    CallStarted,
)
from pbx.interfaces import IEvents, ITimers
from pbx.services.presence.subscription import View, sip_uri
from pbx.services.presence.xml import serialise, text
from pbx.sip.errors import MalformedURI
from pbx.sip.uri import URI

NAMESPACE = "urn:ietf:params:xml:ns:dialog-info"
CONTENT_TYPE = "application/dialog-info+xml"
#: Seconds that a call which has ended is still told about, so that no watcher misses its end.
LINGER = 5.0
#: Seconds that a call may be under way before watchers hear of it: most ring within that time, and
#: a NOTIFY just before would hold up the news.
TRYING_DELAY = 1.0
#: Documents kept; beyond that they are written again.
MAX_WRITTEN = 10_000
INITIATOR, RECIPIENT = "initiator", "recipient"
_ORDER = {"confirmed": 0, "early": 1, "trying": 2, "terminated": 3}


class CallFacts(Protocol):
    """What a lamp needs of an `IDialog`."""

    did: str
    call_id: str
    from_tag: str
    to_tag: str
    from_uri: str
    request_uri: str
    from_display: str
    correlation: str
    profiles: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call came to its end: ``by`` whom when it was answered, else ``why``, with a status."""

    by: str = ""
    why: str = ""
    code: int = 0

    @classmethod
    def of(cls, event: CallFailed | CallEnded) -> Ending:
        """From what the dialogs tell (RFC 4235 section 3.7.1)."""
        if isinstance(event, CallEnded):
            return cls(event.by)
        if event.cancelled:
            return cls("", "cancelled")
        return cls("", "timeout" if event.status == 408 else "rejected", event.status)

    def seen_from(self, direction: str) -> str:
        """The event as one side sees it."""
        if self.why or self.by == "timeout":
            return self.why or "timeout"
        mine = "caller" if direction == INITIATOR else "callee"
        return "local-bye" if self.by == mine else "remote-bye"


class UserDialog:
    """One call as one of its two users sees it."""

    __slots__ = ("call", "code", "direction", "event", "remote", "state")

    def __init__(self, call: CallFacts, direction: str, remote: str) -> None:
        self.call = call
        self.direction = direction
        self.remote = remote
        self.state = "trying"
        self.event = ""
        self.code = 0


class DialogPackage:
    """What every user of ours is doing; ``changed(package, user, delay)`` hears of changes.

    ``user_of`` gives the user behind a URI, "" for strangers.
    """

    name = "dialog"
    content_types: tuple[str, ...] = (CONTENT_TYPE,)
    publishable = False

    def __init__(
        self,
        single: bool,
        user_of: Callable[[URI], str],
        changed: Callable[[str, str, float], object],
        events: IEvents,
        timers: ITimers,
    ) -> None:
        self._single = single
        self._user_of = user_of
        self._changed = changed
        self._timers = timers
        self._users: dict[str, dict[tuple[str, str], UserDialog]] = {}
        self._written: dict[str, tuple[bytes, bytes]] = {}
        self._parties: dict[str, tuple[str, str]] = {}
        events.subscribe(CallStarted, lambda event: self._begun(event.dialog, "trying"))
        events.subscribe(CallRestored, lambda event: self._begun(event.dialog, "confirmed"))
        events.subscribe(CallRinging, lambda event: self._moved(event.dialog, "early"))
        events.subscribe(CallAnswered, lambda event: self._moved(event.dialog, "confirmed"))
        events.subscribe(CallFailed, lambda event: self.ended(event.dialog.did, Ending.of(event)))
        events.subscribe(CallEnded, lambda event: self.ended(event.dialog.did, Ending.of(event)))

    def __len__(self) -> int:
        return len(self._parties)

    def may_watch(self, presentity: str, watcher: str) -> bool:
        """Lamps are for everybody in the house."""
        return True

    def check(self, body: bytes) -> None:
        """Never published."""

    # What other nodes tell

    def shows(self, did: str) -> bool:
        """Whether a call is one of a user of ours."""
        return did in self._parties

    def told(self, call: CallFacts, state: str) -> None:
        """A call that another node relays, or news of it."""
        if call.did in self._parties:
            self._moved(call, state)
        else:
            self._begun(call, state)

    def replace(self, call: CallFacts) -> None:
        """It is ours now."""
        for _, dialog in self._dialogs_of(call.did):
            dialog.call = call

    # What the calls tell

    def _begun(self, call: CallFacts, state: str) -> None:
        if call.did in self._parties:
            return
        caller, callee = self._users_of(call)
        if not caller and not callee:
            return
        self._parties[call.did] = (caller, callee)
        if caller:
            self._add(caller, UserDialog(call, INITIATOR, callee), state)
        if callee:
            self._add(callee, UserDialog(call, RECIPIENT, caller), state)

    def _users_of(self, call: CallFacts) -> tuple[str, str]:
        """Who of ours is at which end; a media node in the middle of a call is no user.

        A call that was sent to a node reaches its user by another one, which the node makes.
        """
        through_node = any(name.startswith("lb") for name in call.profiles)
        caller = "" if call.correlation != call.did else self._user(call.from_uri)
        callee = "" if through_node else self._user(call.request_uri)
        return caller, callee

    def _user(self, uri: str) -> str:
        try:
            return self._user_of(URI.parse(uri))
        except MalformedURI:
            return ""

    def _add(self, user: str, dialog: UserDialog, state: str) -> None:
        dialog.state = state
        dialogs = self._users.setdefault(user, {})
        dialogs[dialog.call.did, dialog.direction] = dialog
        self._tell(user, TRYING_DELAY if state == "trying" else 0.0)

    def _moved(self, call: CallFacts, state: str) -> None:
        for user, dialog in self._dialogs_of(call.did):
            dialog.state = state
            dialog.event = ""
            dialog.code = 0
            self._tell(user)

    def _dialogs_of(self, did: str) -> list[tuple[str, UserDialog]]:
        caller, callee = self._parties.get(did, ("", ""))
        found: list[tuple[str, UserDialog]] = []
        for user, direction in ((caller, INITIATOR), (callee, RECIPIENT)):
            dialog = self._users.get(user, {}).get((did, direction))
            if dialog is not None:
                found.append((user, dialog))
        return found

    def ended(self, did: str, ending: Ending) -> None:
        """A call is over."""
        for user, dialog in self._dialogs_of(did):
            dialog.event = ending.seen_from(dialog.direction)
            dialog.code = ending.code
            self._finish(user, dialog)

    def _finish(self, user: str, dialog: UserDialog) -> None:
        dialog.state = "terminated"
        self._tell(user)
        self._timers.call_later(LINGER, self._forget, user, dialog)

    def _forget(self, user: str, dialog: UserDialog) -> None:
        if dialog.state != "terminated":
            # A 2xx came after all (RFC 6026).
            return
        self._written.pop(user, None)
        dialogs = self._users.get(user, {})
        dialogs.pop((dialog.call.did, dialog.direction), None)
        if not dialogs:
            self._users.pop(user, None)
        self._parties.pop(dialog.call.did, None)

    # What the watchers are told

    def document(self, view: View) -> bytes:
        """The full state; its ``version`` grows with each document (4.1.1)."""
        user = view.presentity
        parts = self._written.get(user)
        if parts is None:
            parts = self._write(user)
            if len(self._written) >= MAX_WRITTEN:
                self._written.clear()
            self._written[user] = parts
        return b'%sversion="%d"%s' % (parts[0], view.version, parts[1])

    def _write(self, user: str) -> tuple[bytes, bytes]:
        """The document of a user before and after its version."""
        about = {"xmlns": NAMESPACE, "version": "", "state": "full"}
        root = Element("dialog-info", {**about, "entity": text(sip_uri(user))})
        dialogs = list(self._users.get(user, {}).values())
        dialogs.sort(key=lambda dialog: _ORDER[dialog.state])
        for dialog in dialogs[:1] if self._single else dialogs:
            _write(root, user, dialog)
        before, _, after = serialise(root).partition(b'version=""')
        return before, after

    def _tell(self, user: str, delay: float = 0.0) -> None:
        self._written.pop(user, None)
        self._changed(self.name, user, delay)


def _write(root: Element, user: str, dialog: UserDialog) -> None:
    call = dialog.call
    initiator = dialog.direction == INITIATOR
    tags = (call.from_tag, call.to_tag) if initiator else (call.to_tag, call.from_tag)
    about = {"id": text(f"{call.did}.{dialog.direction}"), "call-id": text(call.call_id)}
    for name, tag in zip(("local-tag", "remote-tag"), tags, strict=True):
        if tag:
            about[name] = text(tag)
    element = SubElement(root, "dialog", {**about, "direction": dialog.direction})
    state = SubElement(element, "state")
    state.text = dialog.state
    if dialog.event:
        state.set("event", dialog.event)
    if dialog.code:
        state.set("code", str(dialog.code))
    remote = call.request_uri if initiator else call.from_uri
    _party(element, "local", sip_uri(user), call.from_display if initiator else "")
    # A user of ours is reached by the address of record on whichever device the call is.
    uri = sip_uri(dialog.remote) if dialog.remote else remote
    _party(element, "remote", uri, "" if initiator else call.from_display)


def _party(element: Element, name: str, uri: str, display: str) -> None:
    party = SubElement(element, name)
    identity = SubElement(party, "identity", {"display": text(display)} if display else {})
    identity.text = text(uri)
    SubElement(party, "target", {"uri": text(uri)})
