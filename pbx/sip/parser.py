"""Bytes to messages, one datagram at a time; streams: `pbx.sip.stream` (RFC 3261 7 and 18.3).

Lines end in CRLF and nothing else: a lone CR or LF would let two parsers see two different
messages. Empty lines before the start line are skipped (7.5).
"""

from __future__ import annotations

from pbx.sip.errors import MalformedMessage
from pbx.sip.fields import parse_number
from pbx.sip.headers import KNOWN, canonical, pretty
from pbx.sip.limits import DEFAULT, Limits
from pbx.sip.message import Message, Request, Response
from pbx.sip.params import is_token

#: Headers of which there is at most one (7.3.1, 20).
_SINGLE = ("call-id", "content-length", "cseq", "from", "max-forwards", "to")
_BLANK = b"\r\n\r\n"


def parse(data: bytes, limits: Limits = DEFAULT) -> Message:
    """The message in one datagram.

    Topmost Via, From, To, Call-ID and CSeq are there and readable; everything else is read when
    asked for. Raises MalformedMessage, with the request when it can be answered. A body longer
    than Content-Length is cut (18.3), a shorter one an error.
    """
    if data[:1] == b"\r" or data[:1] == b"\n":
        data = data.lstrip(b"\r\n")
    head, blank, body = data.partition(_BLANK)
    message = parse_head(head if blank else head.removesuffix(b"\r\n"), limits)
    if not blank:
        raise malformed(message, "Missing Empty Line")
    if len(data) > limits.message:
        raise malformed(message, "", 513)
    length = content_length(message)
    if length is not None and length != len(body):
        if length > len(body):
            raise malformed(message, "Content-Length Exceeds Message")
        body = body[:length]
    if len(body) > limits.body:
        raise malformed(message, "", 413)
    message.body = body
    return message


def parse_head(head: bytes, limits: Limits = DEFAULT) -> Message:
    """A message without its body from everything before the empty line. Raises MalformedMessage."""
    text = head.decode("utf-8", "surrogateescape")
    lines = text.split("\r\n")
    content = "".join(lines)
    fault = "Bare CR or LF" if "\n" in content or "\r" in content else ""
    start = lines.pop(0)
    known_names = KNOWN
    names: list[str] = []
    folded = False
    for line in lines:
        colon_at = line.find(":")
        known = known_names.get(line[:colon_at]) if colon_at > 0 else None
        if known is None:
            if names and (line[:1] == " " or line[:1] == "\t"):
                folded = True
                continue
            known, fault = _unusual_name(line, fault)
        names.append(known)
    if folded:
        lines = _joined(lines)
    if len(set(names)) != len(names):
        fault = fault or _repeated(names)
    if not fault and (len(text) > limits.line or len(lines) > limits.headers or "\0" in content):
        fault = _excess(text, lines, limits)
    message = _started(start, names, lines, limits)
    if fault:
        raise malformed(message, fault)
    try:
        message.require_core()
    except MalformedMessage as error:
        raise malformed(message, error.reason) from None
    via = str(message.via)
    if ";;" in via and '"' not in via:
        raise malformed(message, "Empty Via Parameter")
    return message


def _joined(lines: list[str]) -> list[str]:
    """Header lines, each with the lines that continue it (7.3.1)."""
    joined: list[str] = []
    for line in lines:
        if joined and line[:1] in (" ", "\t"):
            joined[-1] += "\r\n" + line
        else:
            joined.append(line)
    return joined


def _started(start: str, names: list[str], lines: list[str], limits: Limits) -> Message:
    """The start line decides what it is. Raises MalformedMessage."""
    first, _, rest = start.partition(" ")
    if first == "SIP/2.0" or first.upper() == "SIP/2.0":
        code, _, reason = rest.partition(" ")
        if len(code) != 3 or not (code.isascii() and code.isdigit()) or not "100" <= code < "700":
            raise MalformedMessage("Bad Status-Line")
        return Response(int(code), reason, names, lines)
    uri_text, _, version = rest.rpartition(" ")
    request = Request(first, uri_text, names, lines)
    if not (first.isalpha() and first.isascii()) and not is_token(first):
        raise MalformedMessage("Bad Start-Line")
    if version != "SIP/2.0" and version.upper() != "SIP/2.0":
        number = version[4:].replace(".", "", 1)
        if version[:4].upper() == "SIP/" and number.isascii() and number.isdigit():
            raise malformed(request, "", 505)
        raise malformed(request, "Bad Request-Line")
    if not uri_text or " " in uri_text or "\t" in uri_text:
        raise malformed(request, "Bad Request-Line")
    if len(uri_text) > limits.uri:
        raise malformed(request, "", 414)
    return request


def _unusual_name(line: str, fault: str) -> tuple[str, str]:
    """Canonical name of a header the table does not know, and the first fault found so far."""
    name, colon, _ = line.partition(":")
    bare = name.rstrip(" \t")
    if not colon:
        return bare.lower(), fault or "Header Without Colon"
    if not is_token(bare):
        return bare.lower(), fault or "Bad Header Name"
    return canonical(bare), fault


def _repeated(names: list[str]) -> str:
    for name in _SINGLE:
        if names.count(name) > 1:
            return f"Repeated {pretty(name)}"
    return ""


def _excess(text: str, lines: list[str], limits: Limits) -> str:
    if len(lines) > limits.headers:
        return "Too Many Header Fields"
    if any(len(line) > limits.line for line in lines):
        return "Header Line Too Long"
    # A quoted-pair may hold a NUL (25.1), nothing else may.
    if text.replace("\\\0", "").find("\0") >= 0:
        return "NUL Byte"
    return ""


def content_length(message: Message) -> int | None:
    """Content-Length, None when absent. Raises MalformedMessage."""
    value = message.get("content-length")
    if value is None:
        return None
    if len(value) < 9 and value.isascii() and value.isdigit():
        return int(value)
    try:
        return parse_number(value, "Content-Length")
    except MalformedMessage as error:
        raise malformed(message, error.reason) from None


def malformed(message: Message, reason: str, status: int | None = None) -> MalformedMessage:
    """The error for a message, with the request when that can be answered (its Via is good)."""
    if isinstance(message, Request):
        try:
            if message.via.host:
                return MalformedMessage(reason, status, request=message)
        except MalformedMessage:
            pass
    return MalformedMessage(reason, status)
