"""The package ``reg``: which devices of mine are registered (RFC 3680)."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2s
from xml.etree.ElementTree import Element, SubElement

from pbx.events import Registered, Unregistered
from pbx.interfaces import IEvents, IRegistrar, ITimers
from pbx.services.presence.subscription import View, sip_uri
from pbx.services.presence.xml import serialise, text

CONTENT_TYPE = "application/reginfo+xml"
NAMESPACE = "urn:ietf:params:xml:ns:reginfo"
#: Seconds that a binding which has ended is still told about, so that no watcher misses its end.
LINGER = 5.0
#: Why a binding has ended, in the words of section 5.3.3.
ENDINGS = {"removed": "unregistered", "expired": "expired"}


class RegistrationPackage:
    """The bindings of an address of record; only for its owner, as they tell where a user is.

    ``watched(package, presentity)`` says whether anybody wants to know.
    """

    name = "reg"
    content_types: tuple[str, ...] = (CONTENT_TYPE,)
    publishable = False

    def __init__(
        self,
        registrar: IRegistrar,
        watched: Callable[[str, str], bool],
        changed: Callable[[str, str], object],
        events: IEvents,
        timers: ITimers,
    ) -> None:
        self._registrar = registrar
        self._watched = watched
        self._changed = changed
        self._timers = timers
        #: Contacts that have ended just now, and why.
        self._ended: dict[str, dict[str, str]] = {}
        events.subscribe(Registered, self._registered)
        events.subscribe(Unregistered, self._unregistered)

    def may_watch(self, presentity: str, watcher: str) -> bool:
        """Nobody else's business."""
        return presentity == watcher

    def check(self, body: bytes) -> None:
        """Never published."""

    def _registered(self, event: Registered) -> None:
        if event.new:
            self._forget(event.aor, event.contact)
            self._changed(self.name, event.aor)

    def _unregistered(self, event: Unregistered) -> None:
        if not self._watched(self.name, event.aor):
            return
        why = ENDINGS.get(event.reason, "deactivated")
        self._ended.setdefault(event.aor, {})[event.contact] = why
        self._timers.call_later(LINGER, self._forget, event.aor, event.contact)
        self._changed(self.name, event.aor)

    def _forget(self, aor: str, contact: str) -> None:
        ended = self._ended.get(aor, {})
        ended.pop(contact, None)
        if not ended:
            self._ended.pop(aor, None)

    def document(self, view: View) -> bytes:
        """Every binding there is now, and those that have just ended (section 5)."""
        root = Element(
            "reginfo", {"xmlns": NAMESPACE, "version": str(view.version), "state": "full"}
        )
        aor = view.presentity
        bindings = self._registrar.bindings(aor)
        known = {str(binding["Contact"]) for binding in bindings}
        ended = {uri: why for uri, why in self._ended.get(aor, {}).items() if uri not in known}
        state = "active" if bindings else "terminated" if ended else "init"
        about = {"aor": text(sip_uri(aor)), "id": text(aor), "state": state}
        registration = SubElement(root, "registration", about)
        for binding in bindings:
            about = {"state": "active", "event": "registered"}
            if isinstance(binding["Expires"], int):
                about["expires"] = str(max(binding["Expires"], 0))
            if binding["Q"]:
                about["q"] = str(binding["Q"])
            about["callid"] = text(str(binding["Callid"]))
            about["cseq"] = str(binding["Cseq"])
            _contact(registration, str(binding["Contact"]), about)
        for uri, why in ended.items():
            _contact(registration, uri, {"state": "terminated", "event": why})
        return serialise(root)


def _contact(registration: Element, uri: str, about: dict[str, str]) -> None:
    # The same id for the same contact in every document (section 5.3).
    id = blake2s(uri.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    contact = SubElement(registration, "contact", {"id": id, **about})
    SubElement(contact, "uri").text = text(uri)
