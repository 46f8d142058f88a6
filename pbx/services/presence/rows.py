"""Subscriptions and publications as rows (spec 20, section 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pbx.rows import whole
from pbx.services.presence.publications import Publication
from pbx.services.presence.subscription import ACTIVE, PENDING, Package, Subscription, sip_uri
from pbx.sip.dialog import Dialog
from pbx.sip.events import Event
from pbx.sip.params import split_outside

PRESENTITY_KEY = ("username", "domain", "event", "etag")
PRESENTITY_COLUMNS = (
    "username",
    "domain",
    "event",
    "etag",
    "expires",
    "received_time",
    "body",
    "extra_hdrs",
    "sender",
)
WATCHERS_KEY = ("presentity_uri", "callid", "to_tag", "from_tag")
WATCHERS_COLUMNS = (
    "presentity_uri",
    "watcher_username",
    "watcher_domain",
    "to_user",
    "to_domain",
    "event",
    "event_id",
    "to_tag",
    "from_tag",
    "callid",
    "local_cseq",
    "remote_cseq",
    "contact",
    "record_route",
    "expires",
    "status",
    "reason",
    "version",
    "socket_info",
    "local_contact",
    "sharing_tag",
)
#: CSeq and version go up by so much at a start: rows may be some NOTIFYs behind.
LEAP = 100
#: NOTIFYs between two writes of a row.
WRITE_EVERY = LEAP // 2


def presentity_key(publication: Publication, etag: str) -> tuple[object, ...]:
    """The key of a row of ``presentity``."""
    user, _, domain = publication.presentity.rpartition("@")
    return (user, domain, publication.package, etag)


def presentity_row(publication: Publication) -> tuple[object, ...]:
    """The values of `PRESENTITY_COLUMNS`."""
    return (
        *presentity_key(publication, publication.etag),
        int(publication.expires),
        int(publication.received),
        publication.body,
        None,
        publication.sender or None,
    )


def publication_of(row: Sequence[object], packages: Mapping[str, Package]) -> Publication | None:
    """The publication of a row; None for a package that we do not know. Raises ValueError."""
    user, domain, package, etag, expires, received, body, _, sender = row
    known = packages.get(_text(package))
    if known is None or not known.publishable:
        return None
    presentity = f"{_text(user)}@{_text(domain)}"
    content_type = known.content_types[0]
    publication = Publication(known.name, presentity, _bytes(body), content_type, _text(sender))
    publication.etag = _text(etag)
    publication.expires = float(whole("expires", expires))
    publication.received = float(whole("received_time", received))
    return publication


def watcher_key(subscription: Subscription) -> tuple[object, ...]:
    """The key of a row of ``active_watchers``."""
    dialog = subscription.dialog
    return (
        sip_uri(subscription.presentity),
        dialog.call_id,
        dialog.local_tag,
        dialog.remote_tag,
    )


def fits(subscription: Subscription) -> bool:
    """Whether the table can hold it; keys and addresses are never clipped (spec 20, rule 7)."""
    dialog = subscription.dialog
    user, _, domain = subscription.watcher.rpartition("@")
    to_user, _, to_domain = subscription.presentity.rpartition("@")
    return (
        len(subscription.presentity) <= 250
        and len(dialog.call_id) <= 255
        and max(map(len, (user, domain, to_user, to_domain, dialog.remote_tag))) <= 64
        and len(subscription.event.id) <= 64
        and len(dialog.target) <= 255
    )


def watcher_row(subscription: Subscription) -> tuple[object, ...]:
    """The values of `WATCHERS_COLUMNS`."""
    dialog = subscription.dialog
    user, _, domain = subscription.watcher.rpartition("@")
    to_user, _, to_domain = subscription.presentity.rpartition("@")
    return (
        sip_uri(subscription.presentity),
        user,
        domain,
        to_user,
        to_domain,
        subscription.package.name,
        subscription.event.id or None,
        dialog.local_tag,
        dialog.remote_tag,
        dialog.call_id,
        dialog.local_cseq,
        dialog.remote_cseq,
        dialog.target,
        ",".join(dialog.route_set) or None,
        int(subscription.expires),
        subscription.status,
        subscription.reason or None,
        subscription.version,
        subscription.socket[:64],
        subscription.local_contact,
        subscription.node or None,
    )


def subscription_of(row: Sequence[object], packages: Mapping[str, Package]) -> Subscription | None:
    """The subscription of a row; None for a package that we do not know. Raises ValueError."""
    value = dict(zip(WATCHERS_COLUMNS, row, strict=True))
    text = {name: _text(found) for name, found in value.items()}
    package = packages.get(text["event"])
    status = whole("status", value["status"])
    if package is None or status not in (ACTIVE, PENDING):
        return None
    presentity = f"{text['to_user']}@{text['to_domain']}"
    watcher = f"{text['watcher_username']}@{text['watcher_domain']}"
    event = Event.parse(
        f"{package.name};id={text['event_id']}" if text["event_id"] else package.name
    )
    routes = text["record_route"]
    dialog = Dialog(
        call_id=text["callid"],
        local=f"<{sip_uri(presentity)}>;tag={text['to_tag']}",
        remote=f"<{sip_uri(watcher)}>;tag={text['from_tag']}",
        local_tag=text["to_tag"],
        remote_tag=text["from_tag"],
        target=text["contact"],
        local_cseq=whole("local_cseq", value["local_cseq"]) + LEAP,
        remote_cseq=whole("remote_cseq", value["remote_cseq"]),
        route_set=split_outside(routes, ",") if routes else (),
    )
    subscription = Subscription(dialog, event, package, presentity, watcher)
    subscription.expires = float(whole("expires", value["expires"]))
    subscription.status = status
    subscription.version = whole("version", value["version"]) + LEAP
    subscription.socket = text["socket_info"]
    subscription.local_contact = text["local_contact"]
    subscription.node = text["sharing_tag"]
    subscription.saved = subscription.informed = True
    return subscription


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", "surrogateescape")
    return str(value)


def _bytes(value: object) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    return _text(value).encode("utf-8", "surrogateescape")
