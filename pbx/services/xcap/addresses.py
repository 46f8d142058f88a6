"""XCAP URIs: which document, and which part of it (RFC 4825 section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from pbx.interfaces import IDomains
from pbx.services.xcap.documents import Key
from pbx.services.xcap.selectors import Selector, parse_selector
from pbx.services.xcap.usages import USAGES, Usage
from pbx.sip.errors import MalformedURI
from pbx.sip.uri import URI

SEPARATOR = "/~~/"
#: The column ``doc_uri``.
MAX_NAME = 255
#: What clients ask for first: the capabilities of the server (section 12).
CAPABILITIES = ("xcap-caps", "global", "index")


class NotFound(Exception):
    """No such application usage, tree or user."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a URI names: a document of a user, or a part of it."""

    usage: Usage
    key: Key
    selector: Selector | None = None


def segments(path: str) -> tuple[str, ...]:
    """The path below the root, unescaped."""
    return tuple(unquote(part, errors="surrogateescape") for part in path.split("/"))


def place(path: str, query: str, domains: IDomains) -> Place:
    """What a path below the root names. Raises NotFound, `selectors.BadSelector`."""
    document, separator, node = path.partition(SEPARATOR)
    parts = segments(document)
    if len(parts) < 4 or parts[0] not in USAGES or parts[1] != "users":
        raise NotFound
    usage = USAGES[parts[0]]
    name = "/".join(parts[3:])
    bad = not name or "" in parts[3:] or len(name) > MAX_NAME or not name.isprintable()
    if bad or any(part in (".", "..", "~~") for part in parts[3:]):
        raise NotFound
    selector = parse_selector(node, query, usage.namespace) if separator else None
    return Place(usage, Key(usage.auid, owner(parts[2], domains), name), selector)


def owner(xui: str, domains: IDomains) -> str:
    """``user@domain`` of a user identifier: a SIP URI, with or without its scheme (section 6.2).

    Raises NotFound.
    """
    text = xui if xui.lower().startswith(("sip:", "sips:")) else f"sip:{xui}"
    try:
        uri = URI.parse(text)
    except MalformedURI:
        raise NotFound from None
    if not uri.user and uri.host:
        # Only a name: in our default domain.
        return f"{uri.host}@{domains.names()[0]}"
    if not uri.user or not domains.is_local(uri.host):
        raise NotFound
    return f"{uri.user}@{domains.canonical(uri.host)}"
