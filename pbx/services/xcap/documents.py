"""Every document of every user in memory; the table ``xcap`` behind it (spec 20, section 9)."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pbx.events import DocumentChanged, TableChanged
from pbx.interfaces import IDatabase, IDocuments, IEvents, IReloadable, IStartable, IStatistics
from pbx.rows import left_out, needed, whole
from pbx.services.xcap.usages import USAGES

#: Rows that are read in one turn of the reactor.
PAGE = 500
#: Seconds from a change of the table until it is read: many changes cost one reading.
SETTLE = 2.0
_KEY = ("username", "domain", "doc_type", "doc_uri")
_COLUMNS = (*_KEY, "doc", "etag", "source", "port")
_AUIDS = {usage.number: usage.auid for usage in USAGES.values()}


@dataclass(frozen=True, slots=True)
class Key:
    """Which document: application usage, ``user@domain`` and file name."""

    auid: str
    owner: str
    name: str = "index"


@dataclass(frozen=True, slots=True)
class Document:
    """The bytes as they were put, and their entity tag."""

    body: bytes
    etag: str


@implementer(IDocuments, IStartable, IReloadable, IStatistics)
class Documents:
    """Reads answer from memory. A change is in the database before it counts, so that what was
    answered 200 is there after a crash.
    """

    log = Logger()

    def __init__(self, database: IDatabase, events: IEvents, clock: IReactorTime) -> None:
        self._database = database
        self._events = events
        self._clock = clock
        self._found: dict[Key, Document] = {}
        self._per_owner: dict[str, int] = {}
        self._lock = DeferredLock()
        self._soon: IDelayedCall | None = None
        events.subscribe(TableChanged, self._table_changed)

    async def start(self) -> None:
        """Read all of them."""
        await self._read()

    async def stop(self) -> None:
        """Nothing waits to be written."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None

    async def reload(self) -> None:
        """Read them again; those that changed are told of."""
        await self._lock.run(lambda: Deferred.fromCoroutine(self._read()))

    # Reading

    def document(self, auid: str, owner: str, name: str = "index") -> bytes | None:
        """The bytes of a document, None when there is none."""
        found = self._found.get(Key(auid, owner, name))
        return None if found is None else found.body

    def named(self, auid: str) -> Iterable[tuple[str, str]]:
        """Owner and name of every document of one usage."""
        return [(key.owner, key.name) for key in self._found if key.auid == auid]

    def get(self, key: Key) -> Document | None:
        """With its entity tag."""
        return self._found.get(key)

    def count_of(self, owner: str) -> int:
        """How many documents a user has."""
        return self._per_owner.get(owner, 0)

    def statistics(self) -> Mapping[str, int]:
        """How many there are."""
        return {"xcap:documents": len(self._found)}

    # Changes

    def locked(self) -> DeferredLock:
        """Changes one after the other: what a condition was checked against is still so."""
        return self._lock

    async def put(self, key: Key, body: bytes) -> Document:
        """A new or another document. Raises DatabaseError, then nothing has changed."""
        made = Document(body, secrets.token_hex(12))
        user, _, domain = key.owner.rpartition("@")
        number = USAGES[key.auid].number
        row = (user, domain, number, key.name, body, made.etag, 0, 0)
        await self._database.write("xcap", _KEY, _COLUMNS, [row])
        self._keep(key, made)
        return made

    async def delete(self, key: Key) -> None:
        """It is gone. Raises DatabaseError."""
        user, _, domain = key.owner.rpartition("@")
        number = USAGES[key.auid].number
        await self._database.write("xcap", _KEY, _COLUMNS, [], [(user, domain, number, key.name)])
        self._keep(key, None)

    def _keep(self, key: Key, document: Document | None) -> None:
        before = self._found.get(key)
        if document is None:
            self._found.pop(key, None)
        else:
            self._found[key] = document
        step = (document is not None) - (before is not None)
        count = self._per_owner.get(key.owner, 0) + step
        if count:
            self._per_owner[key.owner] = count
        else:
            self._per_owner.pop(key.owner, None)
        if (before and before.body) != (document and document.body):
            self._events.publish(DocumentChanged(key.auid, key.owner, key.name))

    # What other programs write

    def _table_changed(self, event: TableChanged) -> None:
        # Our own changes come this way too.
        if event.table == "xcap" and self._soon is None:
            self._soon = self._clock.callLater(SETTLE, self._refresh)

    def _refresh(self) -> None:
        self._soon = None
        Deferred.fromCoroutine(self.reload()).addErrback(self._not_read)

    def _not_read(self, failure: Failure) -> None:
        self.log.warn("the documents were not read: {error}", error=failure.getErrorMessage())

    async def _read(self) -> None:
        fresh: dict[Key, Document] = {}
        sql = (
            "SELECT id, username, domain, doc_type, doc_uri, doc, etag FROM xcap"
            " WHERE id > ? ORDER BY id LIMIT ?"
        )
        last = -1
        while True:
            rows = await self._database.query(sql, (last, PAGE))
            for id, *row in rows:
                try:
                    found = _document(row)
                except ValueError as error:
                    left_out("xcap", id, error)
                    continue
                if found is not None:
                    fresh[found[0]] = found[1]
            if len(rows) < PAGE:
                break
            last = rows[-1][0]
            await deferLater(self._clock, 0)
        for key in [key for key in self._found if key not in fresh]:
            self._keep(key, None)
        for key, document in fresh.items():
            if self._found.get(key) != document:
                self._keep(key, document)


def _document(row: Sequence[Any]) -> tuple[Key, Document] | None:
    """The document of a row; None for an application usage that we do not serve."""
    user, domain, number, name, body, etag = row
    auid = _AUIDS.get(whole("doc_type", number))
    if auid is None:
        return None
    owner = f"{needed('username', user)}@{needed('domain', domain).lower()}"
    text = body.encode() if isinstance(body, str) else bytes(body or b"")
    return Key(auid, owner, needed("doc_uri", name)), Document(text, needed("etag", etag))
