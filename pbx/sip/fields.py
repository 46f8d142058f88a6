"""Typed header values: addresses, Via, CSeq and the like, parsed when first asked for."""

from __future__ import annotations

from pbx.sip.errors import MalformedMessage, MalformedURI
from pbx.sip.params import EMPTY, Params, is_closed, is_token, quote, split_outside, unquote
from pbx.sip.uri import URI, join_host_port, split_host_port


class NameAddr:
    """``"Display" <uri>;params``: From, To, Contact, Route, Refer-To ... (RFC 3261 section 20.10).

    Immutable; ``str()`` of a parsed one is the text as it came.
    """

    __slots__ = ("_params", "_params_text", "_text", "_uri", "display", "uri_text")

    def __init__(self, uri: URI, display: str = "", params: Params = EMPTY) -> None:
        self._uri: URI | None = uri
        self.uri_text = str(uri)
        self.display = display
        self._params: Params | None = params
        self._params_text = ""
        self._text: str | None = None

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        """Raises MalformedMessage when it is no name-addr; the URI is parsed when asked for."""
        self = cls.__new__(cls)
        self._text = text
        self._uri = None
        self._params = None
        display = ""
        left = text.find("<")
        if left >= 0 and '"' in text[:left]:
            # The display name is quoted and may itself hold angle brackets.
            stripped = text.lstrip(" \t")
            if stripped[0] != '"':
                raise MalformedMessage("Bad Display-Name")
            end = _end_of_quoted(stripped)
            display = unquote(stripped[:end])
            rest = stripped[end:].lstrip(" \t")
            if rest[:1] != "<":
                raise MalformedMessage("Bad Name-Addr")
            inner, right, params = rest[1:].partition(">")
        elif left >= 0:
            display = text[:left].strip(" \t")
            if display and ("," in display or ";" in display):
                raise MalformedMessage("Bad Display-Name")
            inner, right, params = text[left + 1 :].partition(">")
        else:
            # addr-spec form: all parameters belong to the header (20.10).
            inner, right, params = text.partition(";")
            right = ">"
            if "?" in inner or "," in inner or '"' in inner:
                raise MalformedMessage("Bad Addr-Spec")
        if not right:
            raise MalformedMessage("Missing >")
        self.display = display
        self.uri_text = inner.strip(" \t")
        params = params.strip(" \t")
        if params[:1] == ";":
            params = params[1:].lstrip(" \t")
        elif params and left >= 0:
            raise MalformedMessage("Text After Name-Addr")
        if params and not is_closed(params):
            raise MalformedMessage("Bad Parameters")
        self._params_text = params
        return self

    @property
    def uri(self) -> URI:
        """Raises MalformedURI."""
        if self._uri is None:
            self._uri = URI.parse(self.uri_text)
        return self._uri

    @property
    def params(self) -> Params:
        """The header parameters."""
        if self._params is None:
            self._params = Params.parse(self._params_text)
        return self._params

    @property
    def tag(self) -> str | None:
        """The tag of From or To, None for none."""
        text = self._params_text
        if text:
            # The usual case by far: the tag alone.
            if text.startswith("tag=") and ";" not in text and '"' not in text:
                return text[4:].strip(" \t")
        elif not self._params:
            return None
        return self.params.get("tag")

    def with_params(self, params: Params) -> NameAddr:
        """A copy with other parameters, display name and URI as written."""
        copy = NameAddr.__new__(NameAddr)
        copy._uri = self._uri
        copy.uri_text = self.uri_text
        copy.display = self.display
        copy._params = params
        copy._params_text = ""
        copy._text = None
        return copy

    def with_uri(self, uri: URI) -> NameAddr:
        """A copy with another URI."""
        return NameAddr(uri, self.display, self.params)

    def __str__(self) -> str:
        if self._text is None:
            display = self.display
            if display:
                display = (
                    f"{display} "
                    if all(map(is_token, display.split(" ")))
                    else quote(display) + " "
                )
            self._text = f"{display}<{self.uri_text}>{self.params}"
        return self._text

    def __repr__(self) -> str:
        return f"NameAddr({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NameAddr) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def _end_of_quoted(text: str) -> int:
    end = text.find('"', 1)
    if end > 0 and "\\" not in text[:end]:
        return end + 1
    escaped = False
    for position in range(1, len(text)):
        char = text[position]
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == '"':
            return position + 1
    raise MalformedMessage("Unterminated Quoted-String")


class Via:
    """One Via value (RFC 3261 section 20.42). Immutable.

    ``transport`` is upper case, ``host`` lower case without brackets, ``port`` None when absent.
    """

    __slots__ = ("_text", "host", "params", "port", "transport")

    def __init__(self, transport: str, host: str, port: int | None, params: Params) -> None:
        self.transport = transport
        self.host = host
        self.port = port
        self.params = params
        self._text: str | None = None

    @classmethod
    def parse(cls, text: str) -> Via:
        """Raises MalformedMessage."""
        head, _, params = text.partition(";")
        protocol, _, sent_by = head.strip(" \t").replace("\t", " ").partition(" ")
        parts = protocol.split("/")
        if len(parts) != 3 or not parts[2]:
            # White space around the slashes is legal and rare.
            pieces = head.replace("\t", " ").split("/")
            if len(pieces) != 3:
                raise MalformedMessage("Bad Via")
            transport, _, sent_by = pieces[2].strip(" ").partition(" ")
            parts = [pieces[0].strip(" "), pieces[1].strip(" "), transport]
        if not (parts[0] and parts[1]) or " " in parts[0]:
            raise MalformedMessage("Bad Via Protocol")
        sent_by = sent_by.strip(" ")
        if " " in sent_by:
            # White space around the colon is legal and rare.
            host, colon, port_text = sent_by.partition(":")
            sent_by = f"{host.rstrip(' ')}{colon}{port_text.lstrip(' ')}"
        if not is_closed(params):
            raise MalformedMessage("Bad Via Parameters")
        try:
            host, port = split_host_port(sent_by)
        except MalformedURI:
            raise MalformedMessage("Bad Via Sent-By") from None
        via = cls(parts[2].upper(), host, port, Params.parse(params))
        via._text = text
        return via

    @property
    def branch(self) -> str:
        """The branch, "" for none (RFC 2543 clients)."""
        return self.params.get("branch") or ""

    @property
    def sent_by(self) -> str:
        """``host[:port]`` of the sender."""
        return join_host_port(self.host, self.port)

    def with_params(self, params: Params) -> Via:
        """A copy with other parameters, the rest as written."""
        copy = Via(self.transport, self.host, self.port, params)
        if self._text is not None:
            copy._text = self._text.partition(";")[0].rstrip(" \t") + str(params)
        return copy

    def __str__(self) -> str:
        if self._text is None:
            self._text = f"SIP/2.0/{self.transport} {self.sent_by}{self.params}"
        return self._text

    def __repr__(self) -> str:
        return f"Via({str(self)!r})"


class CSeq:
    """Sequence number and method (RFC 3261 section 20.16)."""

    __slots__ = ("method", "number")

    def __init__(self, number: int, method: str) -> None:
        self.number = number
        self.method = method

    @classmethod
    def parse(cls, text: str) -> CSeq:
        """Raises MalformedMessage; the number must be below 2**31 (8.1.1.5)."""
        number, _, method = text.replace("\t", " ").partition(" ")
        method = method.strip(" ")
        if not (method.isalpha() and method.isascii()) and not is_token(method):
            raise MalformedMessage("Bad CSeq")
        if len(number) < 10 and number.isascii() and number.isdigit():
            return cls(int(number), method)
        return cls(parse_number(number, "CSeq", 2**31 - 1), method)

    def __str__(self) -> str:
        return f"{self.number} {self.method}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CSeq) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash((self.number, self.method))


def parse_number(text: str, header: str, limit: int = 2**32 - 1) -> int:
    """A header value that is a plain number. Raises MalformedMessage("Bad <header>")."""
    text = text.strip(" \t")
    if not (text.isascii() and text.isdigit()):
        raise MalformedMessage(f"Bad {header}")
    if len(text) > 12:
        text = text.lstrip("0") or "0"
        if len(text) > 12:
            raise MalformedMessage(f"{header} Too Large")
    number = int(text)
    if number > limit:
        raise MalformedMessage(f"{header} Too Large")
    return number


def parse_name_addrs(value: str) -> list[NameAddr]:
    """A comma-separated list of name-addrs. Raises MalformedMessage."""
    if "," not in value:
        return [NameAddr.parse(value)]
    return [NameAddr.parse(part) for part in split_outside(value, ",")]
