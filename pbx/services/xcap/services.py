"""Service URIs of contact lists: one list of one user each (RFC 4826 section 4.4.4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pbx.events import DocumentChanged
from pbx.interfaces import IEvents
from pbx.services.xcap.conflicts import Cause, Conflict
from pbx.services.xcap.documents import Documents, Key
from pbx.services.xcap.trees import elements, parse
from pbx.services.xcap.usages import RLS_SERVICES
from pbx.sip.errors import MalformedURI
from pbx.sip.uri import URI

if TYPE_CHECKING:
    from lxml import etree


class ServiceURIs:
    """Which document has which service; kept up to date by what the documents tell."""

    def __init__(self, documents: Documents, events: IEvents) -> None:
        self._documents = documents
        self._document_of: dict[str, Key] = {}
        self._uris_of: dict[Key, frozenset[str]] = {}
        events.subscribe(DocumentChanged, self._changed)

    def document_of(self, aor: str) -> Key | None:
        """Where the service of this address is described."""
        return self._document_of.get(aor)

    def check(self, key: Key, root: etree._Element) -> None:
        """Raises Conflict for a URI that is none, or that is taken."""
        mine: set[str] = set()
        for uri in _service_uris(root):
            try:
                parsed = URI.parse(uri)
            except MalformedURI:
                raise Conflict(Cause.CONSTRAINT, "a service needs a SIP URI") from None
            if parsed.scheme not in ("sip", "sips") or not parsed.user:
                raise Conflict(Cause.CONSTRAINT, "a service needs a SIP URI with a user")
            if parsed.aor in mine or self._document_of.get(parsed.aor, key) != key:
                raise Conflict(Cause.UNIQUENESS, "the service exists", "service/@uri")
            mine.add(parsed.aor)

    def _changed(self, event: DocumentChanged) -> None:
        if event.auid != "rls-services":
            return
        key = Key(event.auid, event.owner, event.name)
        for aor in self._uris_of.pop(key, ()):
            if self._document_of.get(aor) == key:
                del self._document_of[aor]
        body = self._documents.document(key.auid, key.owner, key.name)
        if body is None:
            return
        try:
            aors = frozenset(URI.parse(uri).aor for uri in _service_uris(parse(body)))
        except (Conflict, MalformedURI):
            # Only a row that was written by another program.
            return
        self._uris_of[key] = aors
        for aor in aors:
            self._document_of.setdefault(aor, key)


def _service_uris(root: etree._Element) -> Iterator[str]:
    """As they are written."""
    for tag, service in elements(root):
        if tag == f"{{{RLS_SERVICES}}}service":
            yield (service.get("uri") or "").strip()
