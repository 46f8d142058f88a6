"""Typed header values: addresses, Via, CSeq and the like, parsed when first asked for."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from pbx.sip.errors import MalformedMessage, MalformedURI
from pbx.sip.params import EMPTY, Params, is_closed, is_token, quote, split_outside, unquote
from pbx.sip.uri import URI, join_host_port, split_host_port


class NameAddr:
    """``"Display" <uri>;params``: From, To, Contact, Route, Refer-To ... (RFC 3261 section 20.10).

    Immutable; ``str()`` of a parsed one is the text as it came.
    """

    __slots__ = ("_params", "_params_text", "_tag", "_text", "_uri", "display", "uri_text")

    def __init__(self, uri: URI, display: str = "", params: Params = EMPTY) -> None:
        self._uri: URI | None = uri
        self.uri_text = str(uri)
        self.display = display
        self._params: Params | None = params
        self._params_text = ""
        self._text: str | None = None
        self._tag: str | None = params.get("tag") if params else None

    @staticmethod
    def parse(text: str) -> NameAddr:
        """Raises MalformedMessage when it is no name-addr; the URI is parsed when asked for.

        The same text may give the same object.
        """
        return _known_name_addr(text) if len(text) <= _KNOWN_LENGTH else _parsed_name_addr(text)

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
        return self._tag

    def with_params(self, params: Params) -> NameAddr:
        """A copy with other parameters, display name and URI as written."""
        copy = NameAddr(_NOWHERE, self.display, params)
        copy._uri = self._uri
        copy.uri_text = self.uri_text
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


_NOWHERE: Final = URI("sip")
#: From, To and Contact of a call come again in each of its messages.
_KNOWN_LENGTH: Final = 256


def _parsed_name_addr(text: str) -> NameAddr:
    display = ""
    left = text.find("<")
    if left == 0:
        # Neither a display name nor anything before the bracket: what most programs write.
        inner, right, params = text[1:].partition(">")
    elif left > 0 and '"' in text[:left]:
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
    elif left > 0:
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
    found = NameAddr(_NOWHERE, display)
    found._text = text
    found._uri = None
    found.uri_text = inner.strip(" \t")
    if params:
        params = params.strip(" \t")
        if params[:1] == ";":
            params = params[1:].lstrip(" \t")
        elif params and left >= 0:
            raise MalformedMessage("Text After Name-Addr")
        if params and not is_closed(params):
            raise MalformedMessage("Bad Parameters")
        if params:
            found._params = None
            found._params_text = params
            if params.startswith("tag=") and ";" not in params and '"' not in params:
                # The usual case by far: the tag alone.
                found._tag = params[4:].strip(" \t")
            else:
                found._tag = found.params.get("tag")
    return found


_known_name_addr = lru_cache(maxsize=1024)(_parsed_name_addr)


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

    ``transport`` is upper case, ``host`` lower case without brackets, ``port`` None when absent,
    ``branch`` "" for none (RFC 2543 clients).
    """

    __slots__ = ("_params", "_params_text", "_text", "branch", "host", "port", "transport")

    def __init__(self, transport: str, host: str, port: int | None, params: Params) -> None:
        self.transport = transport
        self.host = host
        self.port = port
        self.branch = (params.get("branch") or "") if params else ""
        self._params: Params | None = params
        self._params_text = ""
        self._text: str | None = None

    @staticmethod
    def parse(text: str) -> Via:
        """Raises MalformedMessage."""
        head, _, params = text.partition(";")
        transport, host, port = (_known_via if len(head) <= _KNOWN_LENGTH else _via_head)(head)
        if not is_closed(params):
            raise MalformedMessage("Bad Via Parameters")
        via = Via(transport, host, port, EMPTY)
        via._text = text
        if params:
            via._params = None
            via._params_text = params
            via.branch = via._branch(params)
        return via

    def _branch(self, params: str) -> str:
        if '"' not in params:
            # Most name it first, and nobody else's parameter ends so.
            before, found, rest = params.partition("branch=")
            if found and (not before or before[-1] == ";"):
                return rest.partition(";")[0].strip(" \t")
        return self.params.get("branch") or ""

    @property
    def params(self) -> Params:
        """The parameters."""
        if self._params is None:
            self._params = Params.parse(self._params_text)
        return self._params

    @property
    def maddr(self) -> str:
        """That parameter, "" for none: seldom there, often asked for."""
        if self._params is None and "maddr" not in self._params_text.lower():
            return ""
        return self.params.get("maddr") or ""

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

    def with_source(self, host: str, port: int) -> Via:
        """A copy with ``received`` and ``rport`` filled in; what was written there is replaced."""
        text = self._text
        params = self._params_text
        if text is not None and self._params is None and "received" not in params.lower():
            # One plain rport, or none: nothing has to be taken apart.
            if params.endswith(";rport") and "rport" not in params[:-6].lower():
                added = f"={port};received={host}"
            elif "rport" not in params.lower():
                added = f";received={host};rport={port}"
            else:
                added = ""
            if added:
                copy = Via(self.transport, self.host, self.port, EMPTY)
                copy.branch = self.branch
                copy._text = text + added
                copy._params = None
                copy._params_text = params + added
                return copy
        items: list[tuple[str, str | None]] = []
        filled = False
        for item in self.params:
            name = item[0].lower()
            if name == "rport":
                if not filled:
                    items.append(("rport", str(port)))
                    filled = True
            elif name != "received":
                items.append(item)
        items.append(("received", host))
        if not filled:
            items.append(("rport", str(port)))
        return self.with_params(Params(items))

    def __str__(self) -> str:
        if self._text is None:
            self._text = f"SIP/2.0/{self.transport} {self.sent_by}{self.params}"
        return self._text

    def __repr__(self) -> str:
        return f"Via({str(self)!r})"


def _via_head(head: str) -> tuple[str, str, int | None]:
    """Transport, host and port of what stands before the parameters."""
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
    try:
        found, port = split_host_port(sent_by)
    except MalformedURI:
        raise MalformedMessage("Bad Via Sent-By") from None
    return parts[2].upper(), found, port


_known_via = lru_cache(maxsize=1024)(_via_head)


class CSeq:
    """Sequence number and method (RFC 3261 section 20.16). Immutable."""

    __slots__ = ("method", "number")

    def __init__(self, number: int, method: str) -> None:
        self.number = number
        self.method = method

    @staticmethod
    def parse(text: str) -> CSeq:
        """Raises MalformedMessage; the number must be below 2**31 (8.1.1.5)."""
        return _known_cseq(text) if len(text) <= 24 else _parsed_cseq(text)

    def __str__(self) -> str:
        return f"{self.number} {self.method}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CSeq) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash((self.number, self.method))


def _parsed_cseq(text: str) -> CSeq:
    number, _, method = text.replace("\t", " ").partition(" ")
    method = method.strip(" ")
    if not (method.isalpha() and method.isascii()) and not is_token(method):
        raise MalformedMessage("Bad CSeq")
    if len(number) < 10 and number.isascii() and number.isdigit():
        return CSeq(int(number), method)
    return CSeq(parse_number(number, "CSeq", 2**31 - 1), method)


_known_cseq = lru_cache(maxsize=1024)(_parsed_cseq)


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
