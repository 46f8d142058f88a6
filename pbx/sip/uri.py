"""URIs: sip, sips, tel and whatever else turns up (RFC 3261 section 19.1, RFC 3966)."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final

from pbx.sip.errors import MalformedURI
from pbx.sip.params import EMPTY, Params

_HEX = frozenset("0123456789abcdefABCDEF")
#: RFC 3261 section 25.1: unreserved, and what else may stand in a user part unescaped.
_USER = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.!~*'()&=+$,;?/")
_UNRESERVED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.!~*'()")
_SCHEME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789+-.")
#: RFC 3966 section 3, visual-separator.
_SEPARATORS = str.maketrans("", "", "-.()")
#: Parameters that count even when only one of two URIs has them (19.1.4).
_DECISIVE = ("user", "ttl", "method", "maddr", "transport")
DEFAULT_PORTS = {"UDP": 5060, "TCP": 5060, "SCTP": 5060, "TLS": 5061, "WS": 80, "WSS": 443}


def unescape(text: str) -> str:
    """``%xx`` resolved as UTF-8; anything that is no valid escape stays."""
    if "%" not in text:
        return text
    raw = text.encode("utf-8", "surrogateescape")
    out = bytearray()
    position = 0
    while position < len(raw):
        pair = raw[position + 1 : position + 3].decode("latin-1")
        if raw[position] == 0x25 and len(pair) == 2 and _HEX.issuperset(pair):
            out.append(int(pair, 16))
            position += 3
        else:
            out.append(raw[position])
            position += 1
    return out.decode("utf-8", "surrogateescape")


def escape_user(text: str) -> str:
    """Text as the user part of a URI."""
    if _USER.issuperset(text):
        return text
    return "".join(
        char
        if char in _USER
        else "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogateescape"))
        for char in text
    )


@lru_cache(maxsize=1024)
def split_host_port(text: str) -> tuple[str, int | None]:
    """``host[:port]`` -> host in lower case and port.

    IPv6 comes without brackets in its shortest form. Raises MalformedURI.
    """
    if text[:1] == "[":
        literal, bracket, rest = text[1:].partition("]")
        host = shortest_ipv6(literal) if bracket else ""
        if not host or (rest and rest[0] != ":"):
            raise MalformedURI("Bad IPv6 Reference")
        colon, port = rest[:1], rest[1:]
    else:
        host, colon, port = text.partition(":")
        if not host:
            raise MalformedURI("Empty Host")
        # Underscores are wrong, and common.
        letters = host.replace(".", "").replace("-", "").replace("_", "")
        if not (letters.isascii() and letters.isalnum()):
            raise MalformedURI("Bad Host")
        host = host.lower()
    if not colon:
        return host, None
    if not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535:
        raise MalformedURI("Bad Port")
    return host, int(port)


def shortest_ipv6(literal: str) -> str:
    """An IPv6 address in its shortest form (RFC 5952), "" when it is none.

    The third colon that the grammar of RFC 3261 once allowed is forgiven (RFC 5118, 4.10).
    """
    try:
        address = IPv6Address(literal.replace(":::", "::", 1))
    except ValueError:
        return ""
    if address.scope_id is not None:
        return ""
    mapped = address.ipv4_mapped
    return str(address) if mapped is None else f"::ffff:{mapped}"


def join_host_port(host: str, port: int | None) -> str:
    """The inverse of `split_host_port`."""
    if ":" in host:
        host = f"[{host}]"
    return host if port is None else f"{host}:{port}"


class URI:
    """An immutable URI. ``str()`` of a parsed one is the text as it came.

    ``scheme`` and ``host`` are lower case, ``host`` without the brackets of an IPv6 reference;
    ``user`` is unescaped ("" for none); ``port`` is None when absent. Of a ``tel:`` URI the number
    is the user and the host is empty; of an unknown scheme all but the scheme is in ``opaque``.
    """

    __slots__ = (
        "_params",
        "_params_text",
        "_text",
        "headers",
        "host",
        "opaque",
        "password",
        "port",
        "raw_user",
        "scheme",
    )

    def __init__(
        self,
        scheme: str,
        user: str = "",
        host: str = "",
        port: int | None = None,
        params: Params = EMPTY,
        headers: str = "",
        password: str | None = None,
    ) -> None:
        self.scheme = scheme
        self.raw_user = escape_user(user) if user else ""
        self.password = password
        self.host = host.lower()
        self.port = port
        self.headers = headers
        self.opaque = ""
        self._params: Params | None = params
        self._params_text = ""
        self._text: str | None = None

    @staticmethod
    def parse(text: str) -> URI:
        """Raises MalformedURI. The same text may give the same object."""
        return _known_uri(text) if len(text) <= _KNOWN_LENGTH else _parsed_uri(text)

    def _parse_sip(self, rest: str) -> None:
        if " " in rest or "\t" in rest or '"' in rest or "<" in rest or ">" in rest:
            raise MalformedURI("Bad URI")
        userinfo, at, hostpart = rest.partition("@")
        if not at:
            hostpart = rest
        elif not userinfo:
            raise MalformedURI("Empty User")
        elif ":" in userinfo:
            self.raw_user, _, self.password = userinfo.partition(":")
        else:
            self.raw_user = userinfo
        if "?" in hostpart:
            hostpart, _, self.headers = hostpart.partition("?")
        if "@" in hostpart:
            raise MalformedURI("Bad URI")
        hostport, _, self._params_text = hostpart.partition(";")
        self.host, self.port = split_host_port(hostport)

    def _parse_other(self, scheme: str, rest: str) -> None:
        if not rest or " " in rest or "<" in rest or ">" in rest:
            raise MalformedURI("Bad URI")
        if scheme == "tel":
            self.raw_user, _, self._params_text = rest.partition(";")
            if not self.raw_user:
                raise MalformedURI("Bad URI")
        else:
            self.opaque = rest

    @property
    def params(self) -> Params:
        """The URI parameters."""
        if self._params is None:
            self._params = Params.parse(self._params_text)
        return self._params

    @property
    def user(self) -> str:
        """The user part with escapes resolved, "" for none."""
        return unescape(self.raw_user) if "%" in self.raw_user else self.raw_user

    @property
    def aor(self) -> str:
        """``user@host``: the address of record as the tables know it."""
        return f"{self.user}@{self.host}"

    @property
    def transport(self) -> str:
        """The ``transport`` parameter in upper case, "" for none; TLS for sips over tcp."""
        if not self._params_text and not self._params:
            return ""
        transport = (self.params.get("transport") or "").upper()
        return "TLS" if transport == "TCP" and self.scheme == "sips" else transport

    @property
    def is_sip(self) -> bool:
        """Whether a host can be reached under it: sip or sips."""
        return self.scheme == "sip" or self.scheme == "sips"

    def replace(
        self,
        *,
        scheme: str | None = None,
        user: str | None = None,
        host: str | None = None,
        port: int | None = -1,
        params: Params | None = None,
        headers: str | None = None,
    ) -> URI:
        """A copy with these parts changed."""
        uri = URI(
            self.scheme if scheme is None else scheme,
            "",
            self.host if host is None else host,
            self.port if port == -1 else port,
            self.params if params is None else params,
            self.headers if headers is None else headers,
            self.password,
        )
        uri.raw_user = self.raw_user if user is None else escape_user(user)
        uri.opaque = self.opaque
        return uri

    def __str__(self) -> str:
        if self._text is None:
            self._text = self._write()
        return self._text

    def _write(self) -> str:
        if self.opaque:
            return f"{self.scheme}:{self.opaque}"
        if not self.is_sip:
            return f"{self.scheme}:{self.raw_user}{self.params}"
        user = self.raw_user
        if user:
            user = f"{user}@" if self.password is None else f"{user}:{self.password}@"
        headers = f"?{self.headers}" if self.headers else ""
        address = join_host_port(self.host, self.port)
        return f"{self.scheme}:{user}{address}{self.params}{headers}"

    def __repr__(self) -> str:
        return f"URI({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        """Equivalence of RFC 3261 section 19.1.4; of other schemes, of the text."""
        if not isinstance(other, URI):
            return NotImplemented
        if str(self) == str(other):
            return True
        if self.scheme != other.scheme:
            return False
        if not self.is_sip:
            return self.scheme == "tel" and same_number(self, other)
        return (
            _plain(self.raw_user) == _plain(other.raw_user)
            and _plain(self.password or "") == _plain(other.password or "")
            and self.host == other.host
            and self.port == other.port
            and _same_params(self.params, other.params)
            and _header_set(self.headers) == _header_set(other.headers)
        )

    def __hash__(self) -> int:
        if self.scheme == "tel":
            return hash(_digits(self))
        return hash((self.scheme, _plain(self.raw_user), self.host, self.port))


#: The URIs of a call, and those of a registration, come again and again; longer ones seldom.
_KNOWN_LENGTH: Final = 128


def _parsed_uri(text: str) -> URI:
    scheme, colon, rest = text.partition(":")
    scheme = scheme.lower()
    if not colon or not scheme:
        raise MalformedURI("Bad URI")
    if scheme != "sip" and scheme != "sips" and not _is_scheme(scheme):
        raise MalformedURI("Bad URI Scheme")
    uri = URI(scheme)
    uri._text = text
    uri._params = None
    if scheme == "sip" or scheme == "sips":
        uri._parse_sip(rest)
    else:
        uri._parse_other(scheme, rest)
    return uri


_known_uri = lru_cache(maxsize=1024)(_parsed_uri)


def _is_scheme(text: str) -> bool:
    return text[0].isascii() and text[0].isalpha() and _SCHEME.issuperset(text)


def _plain(text: str) -> str:
    """Text in which a character is escaped only where that makes a difference (19.1.4)."""
    if "%" not in text:
        return text
    head, *rest = text.split("%")
    parts = [head]
    for part in rest:
        code = part[:2]
        if len(code) == 2 and _HEX.issuperset(code):
            char = chr(int(code, 16))
            parts.append(char if char in _UNRESERVED else f"%{code.upper()}")
            parts.append(part[2:])
        else:
            parts.append("%" + part)
    return "".join(parts)


def _digits(uri: URI) -> str:
    return uri.user.translate(_SEPARATORS).lower()


def same_number(one: URI, other: URI) -> bool:
    """Two tel URIs with the same digits and parameters (RFC 3966 section 4)."""
    mine = {name.lower(): (value or "").lower() for name, value in one.params}
    theirs = {name.lower(): (value or "").lower() for name, value in other.params}
    return _digits(one) == _digits(other) and mine == theirs


def _same_params(mine: Params, theirs: Params) -> bool:
    one = {unescape(name).lower(): unescape(value or "").lower() for name, value in mine}
    other = {unescape(name).lower(): unescape(value or "").lower() for name, value in theirs}
    if any(one.get(name) != other.get(name) for name in _DECISIVE):
        return False
    return all(other[name] == value for name, value in one.items() if name in other)


def _header_set(text: str) -> list[tuple[str, str]]:
    if not text:
        return []
    pairs = (field.partition("=") for field in text.split("&"))
    return sorted((unescape(name).lower(), unescape(value)) for name, _, value in pairs)
