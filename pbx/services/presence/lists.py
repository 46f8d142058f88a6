"""Many presentities in one subscription (RFC 4662): the list, and its documents."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from xml.etree.ElementTree import Element, SubElement

from pbx.contact_lists import ContactList
from pbx.services.presence.rules import Handling
from pbx.services.presence.subscription import (
    STATES,
    TERMINATED,
    Package,
    Subscription,
    View,
)
from pbx.services.presence.xml import serialise, text
from pbx.sip.dialog import Dialog
from pbx.sip.events import Event

RLMI = "urn:ietf:params:xml:ns:rlmi"
CONTENT_TYPE = "multipart/related"
META_TYPE = "application/rlmi+xml"


class Member(View):
    """One user of a list, as its watcher may see that user."""

    __slots__ = ("id", "name", "uri")

    def __init__(self, presentity: str, uri: str, name: str) -> None:
        super().__init__(presentity)
        self.uri = uri
        self.name = name
        #: Of the virtual subscription (5.5).
        self.id = secrets.token_hex(5)


class ListSubscription(Subscription):
    """A subscription to a list; ``presentity`` is the address of the list.

    ``strangers`` are contacts of other domains, of whom nothing is known here. ``news`` are the
    members that the next NOTIFY tells of, None for all of them.
    """

    __slots__ = ("listed", "members", "news", "strangers")

    required = "eventlist"

    def __init__(
        self,
        dialog: Dialog,
        event: Event,
        package: Package,
        presentity: str,
        watcher: str,
        listed: ContactList,
    ) -> None:
        super().__init__(dialog, event, package, presentity, watcher)
        self.listed = listed
        self.members: Mapping[str, Member] = {}
        self.strangers: tuple[tuple[str, str], ...] = ()
        self.news: set[str] | None = None

    def views(self) -> Iterable[View]:
        """Every member that is a user of ours."""
        return self.members.values()

    def view_of(self, presentity: str) -> View:
        """What is seen of one member."""
        return self.members[presentity]

    def heard(self, presentity: str) -> None:
        """There is something new about a member."""
        if self.news is not None:
            self.news.add(presentity)

    def tell_all(self) -> None:
        """The next NOTIFY tells of everybody."""
        self.news = None


class ListPackage:
    """An event package, for many presentities at once."""

    content_types: tuple[str, ...] = (CONTENT_TYPE,)
    publishable = False

    def __init__(self, inner: Package) -> None:
        self.inner = inner
        self.name = inner.name

    def may_watch(self, presentity: str, watcher: str) -> bool:
        """Lists are for their owners; that is checked with the list."""
        return True

    def check(self, body: bytes) -> None:
        """Never published."""

    def document(self, view: View) -> bytes:
        """A multipart document: who is in the list, and the state of everybody there is news of."""
        assert isinstance(view, ListSubscription)
        full = view.news is None or view.status == TERMINATED
        told = [
            member
            for member in view.members.values()
            if full or (view.news is not None and member.presentity in view.news)
        ]
        root = Element(
            "list",
            {
                "xmlns": RLMI,
                "uri": text(view.listed.uri),
                "version": str(view.version),
                "fullState": "true" if full else "false",
            },
        )
        host = view.presentity.rpartition("@")[2]
        parts: list[tuple[str, str, bytes]] = []
        for member in told:
            resource = _resource(root, member.uri, member.name)
            about = {"id": member.id, "state": STATES[member.status]}
            instance = SubElement(resource, "instance", about)
            if member.status == TERMINATED:
                instance.set("reason", member.reason or "rejected")
                continue
            body = self._state(member)
            if body:
                cid = f"{member.id}.{view.version}@{host}"
                instance.set("cid", cid)
                parts.append((cid, self.inner.content_types[0], body))
        for uri, name in view.strangers if full else ():
            _resource(root, uri, name)
        view.news = set()
        start = f"list.{view.version}@{host}"
        boundary = secrets.token_hex(12)
        view.content_type = (
            f'{CONTENT_TYPE};type="{META_TYPE}";start="<{start}>";boundary="{boundary}"'
        )
        meta = (start, f'{META_TYPE};charset="UTF-8"', serialise(root))
        return _multipart(boundary, [meta, *parts])

    def _state(self, member: Member) -> bytes:
        if member.permission.handling is Handling.BLOCK:
            return b""
        member.version += 1
        body = self.inner.document(member)
        member.informed = member.informed or bool(body)
        return body


def _resource(root: Element, uri: str, name: str) -> Element:
    resource = SubElement(root, "resource", {"uri": text(uri)})
    if name:
        SubElement(resource, "name").text = text(name)
    return resource


def _multipart(boundary: str, parts: Iterable[tuple[str, str, bytes]]) -> bytes:
    """RFC 2387; the boundary is random, so that no part holds it."""
    lines: list[bytes] = []
    for cid, kind, body in parts:
        head = (
            f"--{boundary}\r\nContent-Transfer-Encoding: binary\r\nContent-ID: <{cid}>\r\n"
            f"Content-Type: {kind}\r\n\r\n"
        )
        lines += [head.encode("utf-8", "surrogateescape"), body, b"\r\n"]
    lines.append(f"--{boundary}--\r\n".encode())
    return b"".join(lines)
