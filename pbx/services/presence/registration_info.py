"""The package ``reg``: which devices of mine are registered (RFC 3680)."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree.ElementTree import Element, SubElement

from pbx.events import Registered, Unregistered
from pbx.interfaces import IEvents, IRegistrar
from pbx.services.presence.subscription import View, sip_uri
from pbx.services.presence.xml import serialise, text

CONTENT_TYPE = "application/reginfo+xml"
NAMESPACE = "urn:ietf:params:xml:ns:reginfo"


class RegistrationPackage:
    """The bindings of an address of record; only for its owner, as they tell where a user is."""

    name = "reg"
    content_types: tuple[str, ...] = (CONTENT_TYPE,)
    publishable = False

    def __init__(
        self,
        registrar: IRegistrar,
        changed: Callable[[str, str], object],
        events: IEvents,
    ) -> None:
        self._registrar = registrar
        self._changed = changed
        events.subscribe(Registered, self._registered)
        events.subscribe(Unregistered, self._unregistered)

    def may_watch(self, presentity: str, watcher: str) -> bool:
        """Nobody else's business."""
        return presentity == watcher

    def check(self, body: bytes) -> None:
        """Never published."""

    def _registered(self, event: Registered) -> None:
        if event.new:
            self._changed(self.name, event.aor)

    def _unregistered(self, event: Unregistered) -> None:
        self._changed(self.name, event.aor)

    def document(self, view: View) -> bytes:
        """Every binding there is now; those that have ended are not listed."""
        root = Element(
            "reginfo", {"xmlns": NAMESPACE, "version": str(view.version), "state": "full"}
        )
        aor = view.presentity
        bindings = self._registrar.bindings(aor)
        registration = SubElement(
            root,
            "registration",
            {
                "aor": text(sip_uri(aor)),
                "id": text(aor),
                "state": "active" if bindings else "init",
            },
        )
        for binding in bindings:
            about = {"id": str(binding["ContactID"]), "state": "active", "event": "registered"}
            if isinstance(binding["Expires"], int):
                about["expires"] = str(max(binding["Expires"], 0))
            if binding["Q"]:
                about["q"] = str(binding["Q"])
            about["callid"] = text(str(binding["Callid"]))
            about["cseq"] = str(binding["Cseq"])
            contact = SubElement(registration, "contact", about)
            SubElement(contact, "uri").text = text(str(binding["Contact"]))
        return serialise(root)
