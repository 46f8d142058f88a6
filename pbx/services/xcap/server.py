"""What an XCAP server does: a request in, an answer out, no wire (RFC 4825 section 8)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, tostring

from twisted.internet.defer import Deferred

from pbx.errors import DatabaseError
from pbx.interfaces import IDomains, IHTTPLogin
from pbx.services.xcap import editing
from pbx.services.xcap.addresses import CAPABILITIES, NotFound, Place, place, segments
from pbx.services.xcap.conflicts import CONTENT_TYPE as ERROR_TYPE
from pbx.services.xcap.conflicts import Cause, Conflict
from pbx.services.xcap.documents import Document, Documents, Key
from pbx.services.xcap.selectors import BadSelector, Selector
from pbx.services.xcap.services import ServiceURIs
from pbx.services.xcap.settings import XCAPSettings
from pbx.services.xcap.trees import check, parse, serialise
from pbx.services.xcap.usages import USAGES, XCAP_CAPS, Usage
from pbx.sip.address import Address
from pbx.verdicts import Reply

if TYPE_CHECKING:
    from lxml import etree

READING, WRITING = ("GET", "HEAD"), ("PUT", "DELETE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An HTTP request; ``path`` is percent-encoded and below the root of the server."""

    method: str
    uri: str
    path: str
    query: str
    peer: Address
    authorization: Sequence[str] = ()
    if_match: str = ""
    if_none_match: str = ""
    content_type: str = ""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send back."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class XCAPServer:
    """Documents of users, for their owners only."""

    def __init__(
        self,
        settings: XCAPSettings,
        documents: Documents,
        services: ServiceURIs,
        login: IHTTPLogin,
        domains: IDomains,
    ) -> None:
        self._settings = settings
        self._documents = documents
        self._services = services
        self._login = login
        self._domains = domains

    async def answer(self, asked: Asked) -> Answer:
        """Never fails."""
        try:
            return await self._answer(asked)
        except NotFound:
            return _plain(404, "no such document")
        except BadSelector as error:
            return _plain(400, f"node selector: {error}")
        except Conflict as error:
            return Answer(409, (("Content-Type", ERROR_TYPE),), error.document())
        except DatabaseError:
            return _plain(503, "the database does not answer", ("Retry-After", "10"))

    async def _answer(self, asked: Asked) -> Answer:
        if segments(asked.path) == CAPABILITIES:
            return self._capabilities(asked)
        found = place(asked.path, asked.query, self._domains)
        who = self._who(asked, found.key.owner.rpartition("@")[2])
        if not isinstance(who, str):
            return who
        if who.lower() != found.key.owner.lower():
            return _plain(403, "a document of somebody else")
        only_read = found.selector is not None and found.selector.namespaces
        allowed = READING if only_read else READING + WRITING
        if asked.method not in allowed:
            return _plain(405, "not here", ("Allow", ", ".join(allowed)))
        if asked.method in READING:
            return self._get(asked, found)
        change = partial(self._put if asked.method == "PUT" else self._delete, asked, found)
        changed: Deferred[Answer] = self._documents.locked().run(
            lambda: Deferred.fromCoroutine(change())
        )
        return await changed

    def _who(self, asked: Asked, domain: str) -> str | Answer:
        who = self._login.log_in(
            asked.method, asked.uri, asked.authorization, asked.body, domain, asked.peer
        )
        if isinstance(who, Reply):
            return _plain(who.status, who.reason or "log in", *who.headers)
        return who

    # Reading

    def _get(self, asked: Asked, found: Place) -> Answer:
        document = self._documents.get(found.key)
        if document is None:
            raise NotFound
        body: bytes | None = document.body
        kind = found.usage.content_type
        if found.selector is not None:
            kind = editing.part_type(found.selector)
            body = editing.get(parse(document.body), found.selector)
        if body is None:
            raise NotFound
        return _read(asked, kind, document.etag, body)

    def _capabilities(self, asked: Asked) -> Answer:
        who = self._who(asked, self._domains.names()[0])
        if not isinstance(who, str):
            return who
        if asked.method not in READING:
            return _plain(405, "not here", ("Allow", ", ".join(READING)))
        body = capabilities()
        etag = hashlib.blake2b(body, digest_size=12).hexdigest()
        return _read(asked, "application/xcap-caps+xml", etag, body)

    # Changes

    async def _put(self, asked: Asked, found: Place) -> Answer:
        before = self._documents.get(found.key)
        selector = found.selector
        kind = found.usage.content_type if selector is None else editing.part_type(selector)
        if asked.content_type.partition(";")[0].strip().lower() != kind:
            return _plain(415, f"expected {kind}", ("Accept", kind))
        if len(asked.body) > self._settings.max_document:
            return _plain(413, f"more than {self._settings.max_document} bytes")
        if refused := _condition(asked, before, self._exists(before, selector)):
            return refused
        if selector is None:
            root, body, new = parse(asked.body), asked.body, before is None
        else:
            if before is None:
                raise Conflict(Cause.NO_PARENT)
            root, new = editing.put(parse(before.body), selector, asked.body)
            body = serialise(root)
            # What was checked is what is kept.
            root = parse(body)
        self._check(found.usage, found.key, root, len(body))
        if before is None and self._full(found.key):
            raise Conflict(Cause.CONSTRAINT, "too many documents")
        made = await self._documents.put(found.key, body)
        return Answer(201 if new else 200, (("ETag", f'"{made.etag}"'),))

    async def _delete(self, asked: Asked, found: Place) -> Answer:
        before = self._documents.get(found.key)
        exists = self._exists(before, found.selector)
        if refused := _condition(asked, before, exists):
            return refused
        if before is None or not exists:
            raise NotFound
        if found.selector is None:
            await self._documents.delete(found.key)
            return Answer(200)
        root = parse(before.body)
        editing.delete(root, found.selector)
        body = serialise(root)
        self._check(found.usage, found.key, root, len(body))
        made = await self._documents.put(found.key, body)
        return Answer(200, (("ETag", f'"{made.etag}"'),))

    def _exists(self, document: Document | None, selector: Selector | None) -> bool:
        if document is None or selector is None:
            return document is not None
        return editing.get(parse(document.body), selector) is not None

    def _check(self, usage: Usage, key: Key, root: etree._Element, size: int) -> None:
        if size > self._settings.max_document:
            raise Conflict(Cause.CONSTRAINT, f"more than {self._settings.max_document} bytes")
        check(usage, root)
        if usage.auid == "rls-services":
            self._services.check(key, root)

    def _full(self, key: Key) -> bool:
        return self._documents.count_of(key.owner) >= self._settings.max_documents_per_user


def _read(asked: Asked, kind: str, etag: str, body: bytes) -> Answer:
    if refused := _condition(asked, Document(body, etag), True):
        return refused
    return Answer(200, (("Content-Type", kind), ("ETag", f'"{etag}"')), body)


def _condition(asked: Asked, document: Document | None, exists: bool) -> Answer | None:
    """304 or 412 when a condition does not hold (RFC 9110 section 13).

    All parts of a document share its entity tag (RFC 4825 section 7.11), also parts that are not
    there yet; whether ``*`` matches depends on the part itself.
    """
    etag = None if document is None else document.etag
    if asked.if_match and not _matches(asked.if_match, etag, etag is not None):
        return _plain(412, "If-Match")
    if asked.if_none_match and exists and _matches(asked.if_none_match, etag, exists):
        if asked.method in READING:
            return Answer(304, (("ETag", f'"{etag}"'),))
        return _plain(412, "If-None-Match")
    return None


def _matches(header: str, etag: str | None, exists: bool) -> bool:
    if header.strip() == "*":
        return exists
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return etag is not None and f'"{etag}"' in tags


def _plain(status: int, text: str, *headers: tuple[str, str]) -> Answer:
    kind = ("Content-Type", "text/plain; charset=utf-8")
    return Answer(status, (kind, *headers), text.encode("utf-8", "replace") + b"\n")


def capabilities() -> bytes:
    """Which application usages and namespaces we know (section 12)."""
    root = Element("xcap-caps", {"xmlns": XCAP_CAPS})
    auids = SubElement(root, "auids")
    for auid in ("xcap-caps", *USAGES):
        SubElement(auids, "auid").text = auid
    SubElement(root, "extensions")
    namespaces = SubElement(root, "namespaces")
    known = {name for usage in USAGES.values() for name in usage.namespaces}
    for name in (XCAP_CAPS, *sorted(known)):
        SubElement(namespaces, "namespace").text = name
    body: bytes = tostring(root, encoding="UTF-8", xml_declaration=True)
    return body
