"""The package ``presence.winfo``: who watches me (RFC 3857, RFC 3858)."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement

from pbx.services.presence.subscription import STATES, SubscriptionTable, View, sip_uri
from pbx.services.presence.xml import serialise, text

CONTENT_TYPE = "application/watcherinfo+xml"
NAMESPACE = "urn:ietf:params:xml:ns:watcherinfo"


class WatcherInfoPackage:
    """The watchers of a presentity; only the presentity itself may ask (RFC 3857 section 4.7)."""

    content_types: tuple[str, ...] = (CONTENT_TYPE,)
    publishable = False

    def __init__(self, watched: str, table: SubscriptionTable) -> None:
        self.name = f"{watched}.winfo"
        self._watched = watched
        self._table = table

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
        about = {"resource": text(sip_uri(presentity)), "package": self._watched}
        watchers = SubElement(root, "watcher-list", about)
        for one in self._table.watching(self._watched, presentity):
            # The tag names a subscription and tells a watcher of nothing that it could use.
            seen = {
                "id": text(one.dialog.local_tag),
                "status": STATES[one.view_of(presentity).status],
            }
            child = SubElement(watchers, "watcher", {**seen, "event": "subscribe"})
            child.text = text(sip_uri(one.watcher))
        return serialise(root)
