"""Dialogs: identifiers, CSeq, route set and remote target (RFC 3261 section 12).

`Dialog` is one side of a dialog, as a user agent sees it. A proxy that must speak within a call
that it relays takes the place of one side.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

from pbx.sip.errors import MalformedMessage, SIPError
from pbx.sip.fields import NameAddr
from pbx.sip.message import Message, Request, Response
from pbx.sip.params import Params
from pbx.sip.uri import URI

#: Requests whose Contact replaces the remote target (12.2.1.2, RFC 3311, RFC 6665 section 4.4.1).
TARGET_REFRESH = frozenset(("INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"))


def new_cookie() -> str:
    """An unguessable ``did``: two hexadecimal groups with a dot between them."""
    return cookie_of(secrets.randbits(63))


def cookie_number(cookie: str) -> int | None:
    """The 64-bit number of a cookie, bucket and id; None for one of another form.

    The digits are written least significant first, as OpenSIPS does.
    """
    bucket, dot, entry = cookie.partition(".")
    if not dot or len(bucket) > 8 or len(entry) > 8:
        return None
    try:
        number = int(bucket[::-1], 16) << 32 | int(entry[::-1], 16)
    except ValueError:
        return None
    return number if number < 2**63 and cookie == cookie_of(number) else None


def cookie_of(number: int) -> str:
    """The inverse of `cookie_number`."""
    return f"{number >> 32:x}"[::-1] + "." + f"{number & 0xFFFFFFFF:x}"[::-1]


def route_set_of_request(request: Request) -> tuple[str, ...]:
    """Record-Route in order: the route set of who answers (12.1.1)."""
    return tuple(request.get_list("record-route")) if "record-route" in request.names else ()


def route_set_of_response(response: Response) -> tuple[str, ...]:
    """Record-Route in reverse order: the route set of who asked (12.1.2)."""
    if "record-route" not in response.names:
        return ()
    return tuple(reversed(response.get_list("record-route")))


def target_of(message: Message) -> str:
    """The URI of the first Contact, as text; "" when there is none that can be read."""
    value = message.get("contact")
    if value is None:
        return ""
    if value[:1] == "<" and ">" in value and "," not in value:
        # The usual case by far.
        return value[1:].partition(">")[0]
    try:
        contacts = message.contacts
    except MalformedMessage:
        return ""
    return contacts[0].uri_text if contacts else ""


def replaced_dialog(request: Request) -> tuple[str, str, str] | None:
    """Call-ID, to-tag and from-tag of a Replaces header (RFC 3891 section 6.1); None when there is
    none that names a dialog.
    """
    value = request.get("replaces")
    if value is None:
        return None
    call_id, _, rest = value.partition(";")
    params = Params.parse(rest)
    call_id, to_tag, from_tag = call_id.strip(" \t"), params.get("to-tag"), params.get("from-tag")
    return (call_id, to_tag, from_tag) if call_id and to_tag and from_tag else None


def is_loose(route: str) -> bool:
    """Whether a Route value names a loose router (19.1.1). Raises MalformedMessage."""
    return "lr" in NameAddr.parse(route).uri.params


def with_tag(address: NameAddr, tag: str) -> str:
    """A From or To value with this tag, "" for none."""
    params = address.params.without("tag")
    return str(address.with_params(params.with_value("tag", tag) if tag else params))


class Dialog:
    """One side of a dialog (12): "local" is who this side speaks as.

    ``local`` and ``remote`` are From or To values with their tags, ``target`` the remote target.
    """

    __slots__ = (
        "call_id",
        "local",
        "local_cseq",
        "local_tag",
        "remote",
        "remote_cseq",
        "remote_tag",
        "route_set",
        "target",
    )

    def __init__(
        self,
        *,
        call_id: str,
        local: str,
        remote: str,
        local_tag: str,
        remote_tag: str,
        target: str,
        local_cseq: int = 0,
        remote_cseq: int = 0,
        route_set: Sequence[str] = (),
    ) -> None:
        self.call_id = call_id
        self.local = local
        self.remote = remote
        self.local_tag = local_tag
        self.remote_tag = remote_tag
        self.local_cseq = local_cseq
        self.remote_cseq = remote_cseq
        self.route_set = tuple(route_set)
        self.target = target

    @classmethod
    def uas(cls, request: Request, local_tag: str) -> Dialog:
        """As the answering side of a request without To tag (12.1.1). Raises MalformedMessage."""
        target = target_of(request)
        if not target:
            raise MalformedMessage("Missing Contact")
        return cls(
            call_id=request.call_id,
            local=with_tag(request.to, local_tag),
            remote=str(request.from_),
            local_tag=local_tag,
            remote_tag=request.from_.tag or "",
            target=target,
            remote_cseq=request.cseq.number,
            route_set=route_set_of_request(request),
        )

    @classmethod
    def uac(cls, request: Request, response: Response) -> Dialog:
        """As the asking side, from a response with To tag (12.1.2). Raises MalformedMessage."""
        return cls(
            call_id=request.call_id,
            local=str(request.from_),
            remote=str(response.to),
            local_tag=request.from_.tag or "",
            remote_tag=response.to.tag or "",
            target=target_of(response) or request.uri_text,
            local_cseq=request.cseq.number,
            route_set=route_set_of_response(response),
        )

    @property
    def id(self) -> tuple[str, str, str]:
        """Call-ID, local tag and remote tag (12)."""
        return (self.call_id, self.local_tag, self.remote_tag)

    def matches(self, request: Request) -> bool:
        """Whether a received request is within this dialog (12.2.2). Raises MalformedMessage."""
        return (
            request.call_id == self.call_id
            and (request.to.tag or "") == self.local_tag
            and (request.from_.tag or "") == self.remote_tag
        )

    def received(self, request: Request) -> None:
        """Check and remember the CSeq of a request within the dialog (12.2.2).

        Raises SIPError 500 when it is out of order, MalformedMessage.
        """
        if request.method in ("ACK", "CANCEL"):
            return
        number = request.cseq.number
        if number < self.remote_cseq:
            raise SIPError("CSeq Out Of Order", 500)
        self.remote_cseq = number

    def refresh(self, method: str, message: Message) -> bool:
        """Take over the Contact of the other side after a 2xx to a target refresh request.

        ``message`` is whichever of request and response the other side sent. Whether it changed.
        """
        if method not in TARGET_REFRESH:
            return False
        target = target_of(message)
        if not target or target == self.target:
            return False
        self.target = target
        return True

    def request(
        self,
        method: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        cseq: int | None = None,
    ) -> Request:
        """A request to the other side, without Via (12.2.1.1); counts the CSeq up unless given.

        Raises MalformedMessage for a route set that cannot be read.
        """
        if cseq is None:
            self.local_cseq += 1
            cseq = self.local_cseq
        uri: URI | str = self.target
        routes = self.route_set
        if routes and not is_loose(routes[0]):
            uri = _request_uri(routes[0])
            routes = (*routes[1:], f"<{self.target}>")
        head = [("Route", route) for route in routes]
        head += [
            ("From", self.local),
            ("To", self.remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{cseq} {method}"),
            ("Max-Forwards", "70"),
        ]
        return Request.make(method, uri, [*head, *headers], body)

    def next_hop(self) -> URI:
        """Where requests of `request` go (8.1.2). Raises MalformedMessage."""
        if self.route_set:
            return NameAddr.parse(self.route_set[0]).uri
        return URI.parse(self.target)


def _request_uri(route: str) -> URI:
    """A Route value as a Request-URI: without what may not stand there (19.1.1)."""
    uri = NameAddr.parse(route).uri
    return uri.replace(headers="", params=uri.params.without("method"))
