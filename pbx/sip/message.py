"""Requests and responses: raw header lines, typed values on demand.

A message keeps its header lines exactly as they came (folds included) beside a parallel list of
canonical names. Nothing is parsed before it is asked for, an edit replaces one line, and what was
never touched leaves byte for byte as it arrived (RFC 3261 section 16.6, step 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pbx.sip.errors import MalformedMessage
from pbx.sip.fields import CSeq, NameAddr, Via, parse_name_addrs, parse_number
from pbx.sip.headers import canonical, pretty
from pbx.sip.params import split_outside
from pbx.sip.status import reason_phrase
from pbx.sip.uri import URI


class Message:
    """What requests and responses share.

    ``names`` and ``lines`` run in parallel: canonical header name, and the header line without its
    final CRLF. Names given to methods are canonical (`pbx.sip.headers`): lower case, long form.
    A received message is read-only once routed; what is sent on is a `copy`.
    """

    __slots__ = (
        "_call_id",
        "_contacts",
        "_cseq",
        "_from",
        "_to",
        "_via",
        "body",
        "lines",
        "names",
    )

    def __init__(self, names: list[str], lines: list[str], body: bytes) -> None:
        self.names = names
        self.lines = lines
        self.body = body
        self._call_id = ""
        self._contacts: list[NameAddr] | None = None
        self._via: Via | None = None
        self._from: NameAddr | None = None
        self._to: NameAddr | None = None
        self._cseq: CSeq | None = None

    # Reading

    def get(self, name: str) -> str | None:
        """The first value of a header, unfolded and stripped; None when absent."""
        for at, known in enumerate(self.names):
            if known == name:
                return _value(self.lines[at])
        return None

    def get_all(self, name: str) -> list[str]:
        """The values of all lines of a header, in order."""
        names, lines = self.names, self.lines
        count = names.count(name)
        if count == 0:
            return []
        at = names.index(name)
        found = [_value(lines[at])]
        while len(found) < count:
            at = names.index(name, at + 1)
            found.append(_value(lines[at]))
        return found

    def get_list(self, name: str) -> list[str]:
        """The comma-separated values of all lines of a header (7.3.1)."""
        out: list[str] = []
        for value in self.get_all(name):
            if "," in value:
                out.extend(split_outside(value, ","))
            elif value:
                out.append(value)
        return out

    def value_at(self, position: int) -> str:
        """The value of the header line at this position, unfolded and stripped."""
        return _value(self.lines[position])

    def has(self, name: str) -> bool:
        """Whether there is such a header."""
        return name in self.names

    @property
    def via(self) -> Via:
        """The topmost Via. Raises MalformedMessage."""
        via = self._via
        if via is None:
            value = self.get("via")
            if value is None:
                raise MalformedMessage("Missing Via")
            if "," in value:
                value = split_outside(value, ",")[0]
            via = self._via = Via.parse(value)
        return via

    @property
    def from_(self) -> NameAddr:
        """Raises MalformedMessage."""
        if self._from is None:
            self._from = NameAddr.parse(self._required("from"))
        return self._from

    @property
    def to(self) -> NameAddr:
        """Raises MalformedMessage."""
        if self._to is None:
            self._to = NameAddr.parse(self._required("to"))
        return self._to

    @property
    def cseq(self) -> CSeq:
        """Raises MalformedMessage."""
        if self._cseq is None:
            self._cseq = CSeq.parse(self._required("cseq"))
        return self._cseq

    @property
    def call_id(self) -> str:
        """Raises MalformedMessage."""
        if not self._call_id:
            self._call_id = self._required("call-id")
        return self._call_id

    @property
    def contacts(self) -> list[NameAddr]:
        """All Contact values; a ``*`` is one with the URI text ``*``. Raises MalformedMessage."""
        if self._contacts is None:
            self._contacts = self.addresses("contact")
        return self._contacts

    def addresses(self, name: str) -> list[NameAddr]:
        """All values of a header made of name-addrs. Raises MalformedMessage."""
        found: list[NameAddr] = []
        for value in self.get_all(name):
            found.extend(parse_name_addrs(value))
        return found

    @property
    def expires(self) -> int | None:
        """The Expires header in seconds, None when absent. Raises MalformedMessage."""
        value = self.get("expires")
        return None if value is None else parse_number(value, "Expires")

    def require_core(self) -> None:
        """Raises MalformedMessage unless Via, From, To, Call-ID and CSeq can be read (8.1.1)."""
        if (
            self._via is None
            or self._from is None
            or self._to is None
            or self._cseq is None
            or not self._call_id
        ):
            _ = (self.via, self.from_, self.to, self.call_id, self.cseq)

    def _required(self, name: str) -> str:
        value = self.get(name)
        if not value:
            raise MalformedMessage(f"Missing {pretty(name)}")
        return value

    # Editing: only a message that we made or copied

    def prepend(self, name: str, value: str) -> None:
        """Add a header as the first."""
        self.names.insert(0, name)
        self.lines.insert(0, f"{pretty(name)}: {value}")
        self._forget(name)

    def append(self, name: str, value: str) -> None:
        """Add a header as the last."""
        self.names.append(name)
        self.lines.append(f"{pretty(name)}: {value}")
        self._forget(name)

    def set(self, name: str, value: str) -> None:
        """Replace the first header of that name, or append it."""
        if name not in self.names:
            self.append(name, value)
            return
        self.lines[self.names.index(name)] = f"{pretty(name)}: {value}"
        self._forget(name)

    def remove(self, name: str) -> None:
        """Remove every header of that name."""
        names = self.names
        if name in names:
            for _ in range(names.count(name)):
                at = names.index(name)
                del names[at], self.lines[at]
            self._forget(name)

    def replace_all(self, name: str, values: Sequence[str]) -> None:
        """Put these values, one line each, where the first header of that name was."""
        at = self.names.index(name) if name in self.names else len(self.names)
        self.remove(name)
        label = pretty(name)
        self.names[at:at] = [name] * len(values)
        self.lines[at:at] = [f"{label}: {value}" for value in values]
        self._forget(name)

    def set_at(self, position: int, value: str) -> None:
        """Replace the value of the header line at this position."""
        name = self.names[position]
        self.lines[position] = f"{pretty(name)}: {value}"
        self._forget(name)

    def set_via(self, via: Via) -> None:
        """Replace the topmost Via value; others on its line stay as they are."""
        at = self.names.index("via")
        line = self.lines[at]
        text = str(via)
        if "," in line:
            text = ", ".join([text, *split_outside(_value(line), ",")[1:]])
        self.lines[at] = f"Via: {text}"
        self._via = via

    def remove_first_value(self, name: str) -> None:
        """Remove the first value of a list header (Via, Route)."""
        at = self.names.index(name)
        value = _value(self.lines[at])
        rest = split_outside(value, ",")[1:] if "," in value else []
        if rest:
            self.lines[at] = f"{pretty(name)}: {', '.join(rest)}"
        else:
            del self.names[at], self.lines[at]
        self._forget(name)

    def set_body(self, body: bytes, content_type: str = "") -> None:
        """Set the body with its Content-Length, and Content-Type when given."""
        self.body = body
        if content_type:
            self.set("content-type", content_type)
        self.set("content-length", str(len(body)))

    def _forget(self, name: str) -> None:
        if name == "via":
            self._via = None
        elif name == "to":
            self._to = None
        elif name == "from":
            self._from = None
        elif name == "cseq":
            self._cseq = None
        elif name == "contact":
            self._contacts = None
        elif name == "call-id":
            self._call_id = ""

    def _share(self, other: Message) -> None:
        self._via = other._via
        self._from = other._from
        self._to = other._to
        self._cseq = other._cseq
        self._call_id = other._call_id
        self._contacts = other._contacts

    @property
    def start_line(self) -> str:
        """The first line without CRLF."""
        raise AssertionError("a message is a request or a response")

    def __bytes__(self) -> bytes:
        return self.encoded()

    def encoded(self) -> bytes:
        """As it goes over the wire."""
        text = "\r\n".join([self.start_line, *self.lines, "", ""])
        try:
            head = text.encode()
        except UnicodeEncodeError:
            head = text.encode("utf-8", "surrogateescape")
        body = self.body
        return head + body if body else head

    def __repr__(self) -> str:
        return f"<{self.start_line}>"


class Request(Message):
    """A request. ``uri_text`` is the Request-URI as written; `uri` parses it."""

    __slots__ = ("_uri", "method", "uri_text")

    def __init__(
        self, method: str, uri_text: str, names: list[str], lines: list[str], body: bytes = b""
    ) -> None:
        super().__init__(names, lines, body)
        self.method = method
        self.uri_text = uri_text
        self._uri: URI | None = None

    @classmethod
    def make(
        cls, method: str, uri: URI | str, headers: Iterable[tuple[str, str]], body: bytes = b""
    ) -> Request:
        """A request of our own from ``(name, value)`` pairs in any spelling."""
        names: list[str] = []
        lines: list[str] = []
        for name, value in headers:
            known = canonical(name)
            names.append(known)
            lines.append(f"{pretty(known)}: {value}")
        request = cls(method, str(uri), names, lines, body)
        if "content-length" not in names:
            request.append("content-length", str(len(body)))
        return request

    @property
    def uri(self) -> URI:
        """The Request-URI. Raises MalformedURI."""
        if self._uri is None:
            self._uri = URI.parse(self.uri_text)
        return self._uri

    def set_uri(self, uri: URI) -> None:
        """Change the Request-URI (of a copy)."""
        self._uri = uri
        self.uri_text = str(uri)

    @property
    def in_dialog(self) -> bool:
        """Whether To has a tag (12.2)."""
        return bool(self.to.tag)

    @property
    def max_forwards(self) -> int | None:
        """None when absent. Raises MalformedMessage."""
        value = self.get("max-forwards")
        return None if value is None else parse_number(value, "Max-Forwards", 2**31 - 1)

    @property
    def routes(self) -> list[NameAddr]:
        """The Route set that is left. Raises MalformedMessage."""
        return self.addresses("route")

    @property
    def start_line(self) -> str:
        """The request line without CRLF."""
        return f"{self.method} {self.uri_text} SIP/2.0"

    def copy(self) -> Request:
        """A copy to edit and send; the body is shared."""
        copy = Request(self.method, self.uri_text, self.names[:], self.lines[:], self.body)
        copy._uri = self._uri
        copy._share(self)
        return copy

    def excerpt(self, wanted: frozenset[str]) -> Request:
        """Only these headers, by canonical name, and no body: to keep for long."""
        names: list[str] = []
        lines: list[str] = []
        for at, name in enumerate(self.names):
            if name in wanted:
                names.append(name)
                lines.append(self.lines[at])
        return Request(self.method, self.uri_text, names, lines)


class Response(Message):
    """A response. ``local`` says that the PBX made it up because no answer came."""

    __slots__ = ("local", "reason", "status")

    def __init__(
        self, status: int, reason: str, names: list[str], lines: list[str], body: bytes = b""
    ) -> None:
        super().__init__(names, lines, body)
        self.status = status
        self.reason = reason
        self.local = False

    @property
    def start_line(self) -> str:
        """The status line without CRLF."""
        return f"SIP/2.0 {self.status} {self.reason}"

    def copy(self) -> Response:
        """A copy to edit and send; the body is shared."""
        copy = Response(self.status, self.reason, self.names[:], self.lines[:], self.body)
        copy.local = self.local
        copy._share(self)
        return copy


_ECHOED: Final = frozenset(("via", "from", "to", "call-id", "cseq"))
_ECHOED_TRYING: Final = _ECHOED | {"timestamp"}
_ECHOED_DIALOG: Final = _ECHOED | {"record-route"}
#: Requests that may begin a dialog (12.1.1).
_DIALOGS: Final = frozenset(("INVITE", "SUBSCRIBE", "REFER", "NOTIFY"))


def response_to(
    request: Request,
    status: int,
    reason: str = "",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    to_tag: str = "",
) -> Response:
    """The response to a request (RFC 3261 section 8.2.6).

    ``headers`` are added in order, names in any spelling. A missing To tag is filled with
    ``to_tag``, except in a 100. Record-Route is echoed where a dialog may begin (12.1.1).
    """
    names: list[str] = []
    lines: list[str] = []
    echoed = _ECHOED
    if status == 100:
        echoed = _ECHOED_TRYING
    elif status < 300 and request.method in _DIALOGS:
        echoed = _ECHOED_DIALOG
    for at, name in enumerate(request.names):
        if name in echoed:
            line = request.lines[at]
            if name == "to" and to_tag and status != 100 and _untagged(request):
                line = f"{line};tag={to_tag}"
            names.append(name)
            lines.append(line)
    for name, value in headers:
        known = canonical(name)
        names.append(known)
        lines.append(f"{pretty(known)}: {value}")
    names.append("content-length")
    lines.append(f"Content-Length: {len(body)}" if body else "Content-Length: 0")
    return Response(status, reason or reason_phrase(status), names, lines, body)


def _untagged(request: Request) -> bool:
    """Whether To can take a tag; one that cannot be read is echoed as it came."""
    try:
        return request.to.tag is None
    except MalformedMessage:
        return False


def _value(line: str) -> str:
    # Malformed lines without a colon give "".
    colon_at = line.find(":")
    value = line[colon_at + 1 :].strip(" \t") if colon_at >= 0 else ""
    return unfold(value) if "\n" in value else value


def unfold(value: str) -> str:
    """A value with its line folds replaced by one space each (7.3.1)."""
    parts = value.replace("\r\n", "\n").split("\n")
    return " ".join(stripped for part in parts if (stripped := part.strip(" \t")))
