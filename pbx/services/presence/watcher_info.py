"""The package ``presence.winfo``: who watches me (RFC 3857, RFC 3858)."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement

from pbx.services.presence.subscription import STATES, SubscriptionTable, View, sip_uri
from pbx.services.presence.waiting import Waiting
from pbx.services.presence.xml import serialise, text

CONTENT_TYPE = "application/watcherinfo+xml"
NAMESPACE = "urn:ietf:params:xml:ns:watcherinfo"


class WatcherInfoPackage:
    """The watchers of a presentity; only the presentity itself may ask (RFC 3857 section 4.7)."""

    content_types: tuple[str, ...] = (CONTENT_TYPE,)
    publishable = False

    name = "presence.winfo"

    def __init__(self, table: SubscriptionTable, waiting: Waiting) -> None:
        self._table = table
        self._waiting = waiting

    def may_watch(self, presentity: str, watcher: str) -> bool:
        """Nobody else's business."""
        return presentity == watcher

    def check(self, body: bytes) -> None:
        """Never published."""

    def document(self, view: View) -> bytes:
        """Every watcher, always the full list."""
        root = Element(
            "watcherinfo", {"xmlns": NAMESPACE, "version": str(view.version), "state": "full"}
        )
        presentity = view.presentity
        about = {"resource": text(sip_uri(presentity)), "package": "presence"}
        watchers = SubElement(root, "watcher-list", about)
        for one in self._table.watching("presence", presentity):
            seen = one.view_of(presentity)
            # The tag names a subscription and tells a watcher of nothing that it could use.
            _watcher(watchers, one.watcher, one.dialog.local_tag, STATES[seen.status], seen.cause)
        for watcher, id in self._waiting.of(presentity):
            _watcher(watchers, watcher, id, "waiting", "timeout")
        return serialise(root)


def _watcher(parent: Element, watcher: str, id: str, status: str, cause: str) -> None:
    child = SubElement(parent, "watcher", {"id": id, "status": status, "event": cause})
    child.text = text(sip_uri(watcher))
