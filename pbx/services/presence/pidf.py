"""The package ``presence``: PIDF documents of several publishers made into one
(RFC 3856, RFC 3863, RFC 4479, RFC 4480).
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, register_namespace

from pbx.services.presence.publications import Publication, Publications
from pbx.services.presence.settings import PresenceSettings
from pbx.services.presence.subscription import PENDING, Subscription, sip_uri
from pbx.services.presence.xml import parse, serialise, text
from pbx.sip.errors import SIPError

PIDF = "urn:ietf:params:xml:ns:pidf"
DATA_MODEL = f"{PIDF}:data-model"
CONTENT_TYPE = "application/pidf+xml"
#: Composed documents kept; beyond that they are made again.
MAX_COMPOSED = 10_000

register_namespace("", PIDF)
register_namespace("dm", DATA_MODEL)
register_namespace("rpid", f"{PIDF}:rpid")
register_namespace("cipid", f"{PIDF}:cipid")


class PresencePackage:
    """What the devices of a user publish, merged."""

    name = "presence"
    content_types: tuple[str, ...] = (CONTENT_TYPE,)
    publishable = True

    def __init__(self, settings: PresenceSettings, publications: Publications) -> None:
        self._offline_body = settings.notify_offline_body
        self._publications = publications
        self._composed: dict[str, bytes] = {}

    def may_watch(self, presentity: str, watcher: str) -> bool:
        """Everybody may ask."""
        return True

    def check(self, body: bytes) -> None:
        """Raises SIPError 400 unless it is a PIDF document."""
        parse(body, f"{{{PIDF}}}presence")

    def forget(self, presentity: str) -> None:
        """What is published has changed."""
        self._composed.pop(presentity, None)

    def document(self, subscription: Subscription) -> bytes:
        """The merged document; after everything was withdrawn one that says closed."""
        if subscription.status == PENDING:
            return b""
        presentity = subscription.presentity
        found = self._publications.of(self.name, presentity)
        if not found:
            wanted = self._offline_body or subscription.informed
            return closed(presentity) if wanted else b""
        body = self._composed.get(presentity)
        if body is None:
            body = compose(presentity, found)
            if len(self._composed) >= MAX_COMPOSED:
                self._composed.clear()
            self._composed[presentity] = body
        return body


def closed(presentity: str) -> bytes:
    """A document that says nothing but that the user cannot be reached."""
    root = _root(presentity)
    child = SubElement(root, f"{{{PIDF}}}tuple", {"id": "offline"})
    status = SubElement(child, f"{{{PIDF}}}status")
    SubElement(status, f"{{{PIDF}}}basic").text = "closed"
    return serialise(root)


def compose(presentity: str, publications: Sequence[Publication]) -> bytes:
    """One document out of several, newest first.

    Tuples and devices are kept once per id, the newest of each; of the person, of which there is
    only one (RFC 4479 section 3.2), and of notes the newest document that has any counts.
    """
    if len(publications) == 1:
        return publications[0].body
    kept: dict[tuple[str, str], Element] = {}
    once: dict[str, int] = {}
    for number, publication in enumerate(publications):
        try:
            document = parse(publication.body, f"{{{PIDF}}}presence")
        except SIPError:
            # Only a row that was written by another program.
            continue
        for count, element in enumerate(document):
            tag = str(element.tag)
            if tag in (f"{{{PIDF}}}note", f"{{{DATA_MODEL}}}person"):
                if once.setdefault(tag, number) == number:
                    kept[tag, str(count)] = element
            else:
                kept.setdefault((tag, element.get("id") or f" {number} {count}"), element)
    root = _root(presentity)
    order = {f"{{{PIDF}}}tuple": 0, f"{{{PIDF}}}note": 1}
    # The schema wants tuples first, then notes, then extensions (RFC 3863 section 4.4).
    root.extend(sorted(kept.values(), key=lambda element: order.get(str(element.tag), 2)))
    return serialise(root)


def _root(presentity: str) -> Element:
    return Element(f"{{{PIDF}}}presence", {"entity": text(sip_uri(presentity))})
