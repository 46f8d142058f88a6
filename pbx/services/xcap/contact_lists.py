"""Contact lists put together from the documents of their owners (RFC 4826)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from zope.interface import implementer

from pbx.contact_lists import Contact, ContactList
from pbx.interfaces import IContactLists, IDomains
from pbx.services.xcap.addresses import NotFound, place
from pbx.services.xcap.conflicts import Conflict
from pbx.services.xcap.documents import Documents
from pbx.services.xcap.selectors import BadSelector
from pbx.services.xcap.services import ServiceURIs
from pbx.services.xcap.trees import elements, parse
from pbx.services.xcap.usages import RESOURCE_LISTS, RLS_SERVICES
from pbx.sip.errors import MalformedURI
from pbx.sip.uri import URI

if TYPE_CHECKING:
    from lxml import etree

#: References followed from one list to another, and entries looked at.
MAX_REFERENCES = 20
MAX_ENTRIES = 5000
RLS, LISTS = f"{{{RLS_SERVICES}}}", f"{{{RESOURCE_LISTS}}}"


@implementer(IContactLists)
class ContactLists:
    """Lists by the address that they are watched under."""

    def __init__(
        self, root: str, documents: Documents, services: ServiceURIs, domains: IDomains
    ) -> None:
        self._root = f"/{root.strip('/')}/"
        self._documents = documents
        self._services = services
        self._domains = domains

    def contact_list(self, aor: str) -> ContactList | None:
        """The list of an address, None when it is not that of one."""
        key = self._services.document_of(aor)
        body = None if key is None else self._documents.document(key.auid, key.owner, key.name)
        if key is None or body is None:
            return None
        try:
            root = parse(body)
        except Conflict:
            return None
        for tag, service in elements(root):
            uri = (service.get("uri") or "").strip()
            if tag == f"{RLS}service" and _aor(uri) == aor:
                once: dict[str, Contact] = {}
                for contact in Walk(self, key.owner).service(service):
                    once.setdefault(contact.uri, contact)
                packages = frozenset(_packages(service))
                return ContactList(uri, key.owner, packages, tuple(once.values()))
        return None

    def element(self, reference: str, owner: str) -> etree._Element | None:
        """What a reference names: only in documents of the owner, whose rights to those of others
        nobody knows.
        """
        _, absolute, path = reference.partition(self._root)
        if not absolute:
            path = reference
        path, _, query = path.strip().partition("?")
        try:
            found = place(path, query, self._domains)
            body = self._documents.document(found.key.auid, found.key.owner, found.key.name)
            if found.key.owner != owner or body is None or found.selector is None:
                return None
            return found.selector.find(parse(body))
        except (NotFound, BadSelector, Conflict):
            return None


class Walk:
    """One walk through the lists of a service; each reference is followed once."""

    def __init__(self, lists: ContactLists, owner: str) -> None:
        self._lists = lists
        self._owner = owner
        self._followed: set[str] = set()
        self._entries = 0

    def service(self, service: etree._Element) -> Iterator[Contact]:
        """Its entries, in order; perhaps several times the same."""
        for tag, child in elements(service):
            if tag == f"{RLS}list":
                yield from self._list(child)
            elif tag == f"{RLS}resource-list":
                yield from self._follow(child.text or "")

    def _list(self, parent: etree._Element) -> Iterator[Contact]:
        for tag, child in elements(parent):
            self._entries += 1
            if self._entries > MAX_ENTRIES:
                return
            if tag == f"{LISTS}list":
                yield from self._list(child)
            elif tag == f"{LISTS}entry":
                yield _contact(child)
            elif tag == f"{LISTS}entry-ref":
                yield from self._follow(child.get("ref") or "")
            elif tag == f"{LISTS}external":
                yield from self._follow(child.get("anchor") or "")

    def _follow(self, reference: str) -> Iterator[Contact]:
        if reference in self._followed or len(self._followed) >= MAX_REFERENCES:
            return
        self._followed.add(reference)
        found = self._lists.element(reference, self._owner)
        if found is None:
            return
        if found.tag == f"{LISTS}list":
            yield from self._list(found)
        elif found.tag == f"{LISTS}entry":
            yield _contact(found)


def _contact(entry: etree._Element) -> Contact:
    return Contact((entry.get("uri") or "").strip(), _text(entry.find(f"{LISTS}display-name")))


def _packages(service: etree._Element) -> Iterator[str]:
    for package in service.iterfind(f"{RLS}packages/{RLS}package"):
        yield _text(package).lower()


def _text(element: etree._Element | None) -> str:
    return "" if element is None else (element.text or "").strip()


def _aor(uri: str) -> str:
    try:
        return URI.parse(uri).aor
    except MalformedURI:
        return ""
