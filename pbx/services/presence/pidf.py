"""The package ``presence``: PIDF documents of several publishers made into one
(RFC 3856, RFC 3863, RFC 4479, RFC 4480).
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, register_namespace

from pbx.interfaces import IDocuments, IRegistrar
from pbx.services.presence.publications import Publications
from pbx.services.presence.rules import Handling
from pbx.services.presence.settings import PresenceSettings
from pbx.services.presence.subscription import View, sip_uri
from pbx.services.presence.transformations import EVERYTHING, Transformations
from pbx.services.presence.xml import parse, serialise, text
from pbx.sip.errors import SIPError
from pbx.sip.uri import URI

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
    """What the devices of a user publish, merged; beneath it what the user wrote by XCAP."""

    name = "presence"
    content_types: tuple[str, ...] = (CONTENT_TYPE,)
    publishable = True

    def __init__(
        self,
        settings: PresenceSettings,
        publications: Publications,
        documents: IDocuments,
        registrar: IRegistrar,
    ) -> None:
        self._offline_body = settings.notify_offline_body
        self._registrar = registrar if settings.show_registered else None
        self._publications = publications
        self._documents = documents
        self._composed: dict[str, dict[Transformations, bytes]] = {}

    def may_watch(self, presentity: str, watcher: str) -> bool:
        """Everybody may ask."""
        return True

    def check(self, body: bytes) -> None:
        """Raises SIPError 400 unless it is a PIDF document."""
        parse(body, f"{{{PIDF}}}presence")

    def forget(self, presentity: str) -> None:
        """What is published has changed."""
        self._composed.pop(presentity, None)

    def document(self, view: View) -> bytes:
        """The merged document as far as it may be seen; after everything was withdrawn one that
        says closed.
        """
        presentity, permission = view.presentity, view.permission
        if permission.handling in (Handling.BLOCK, Handling.CONFIRM):
            return b""
        if permission.handling is Handling.POLITE_BLOCK:
            return closed(presentity)
        made = self._composed.get(presentity)
        if made is None:
            if len(self._composed) >= MAX_COMPOSED:
                self._composed.clear()
            made = self._composed[presentity] = {EVERYTHING: self._compose(presentity)}
        if not made[EVERYTHING]:
            return self._without_publication(view)
        body = made.get(permission.transformations)
        if body is None:
            body = filtered(made[EVERYTHING], permission.transformations)
            made[permission.transformations] = body
        return body

    def _without_publication(self, view: View) -> bytes:
        presentity = view.presentity
        if self._registrar is None:
            return closed(presentity) if self._offline_body or view.informed else b""
        user, _, domain = presentity.rpartition("@")
        registered = self._registrar.is_registered(URI("sip", user, domain))
        return basic(presentity, "open") if registered else closed(presentity)

    def _compose(self, presentity: str) -> bytes:
        bodies = [found.body for found in self._publications.of(self.name, presentity)]
        # The hard state of RFC 4827 comes last: any device knows better.
        written = self._documents.document("pidf-manipulation", presentity)
        if written is not None:
            bodies.append(written)
        return compose(presentity, bodies) if bodies else b""


def filtered(body: bytes, transformations: Transformations) -> bytes:
    """What may pass of a document (RFC 5025 section 3.3)."""
    return serialise(transformations.apply(parse(body, f"{{{PIDF}}}presence")))


def closed(presentity: str) -> bytes:
    """A document that says nothing but that the user cannot be reached."""
    return basic(presentity, "closed")


def basic(presentity: str, status: str) -> bytes:
    """A document that says nothing but open or closed."""
    root = _root(presentity)
    child = SubElement(root, f"{{{PIDF}}}tuple", {"id": "offline" if status == "closed" else "pbx"})
    element = SubElement(child, f"{{{PIDF}}}status")
    SubElement(element, f"{{{PIDF}}}basic").text = status
    return serialise(root)


def compose(presentity: str, bodies: Sequence[bytes]) -> bytes:
    """One document out of several, newest first.

    Tuples and devices are kept once per id, the newest of each; of the person, of which there is
    only one (RFC 4479 section 3.2), and of notes the newest document that has any counts.
    """
    if len(bodies) == 1:
        return bodies[0]
    kept: dict[tuple[str, str], Element] = {}
    once: dict[str, int] = {}
    for number, body in enumerate(bodies):
        try:
            document = parse(body, f"{{{PIDF}}}presence")
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
