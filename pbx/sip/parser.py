"""Bytes to messages: one datagram, or a stream framed by Content-Length (RFC 3261 7 and 18.3).

Lines end in CRLF and nothing else: a lone CR or LF would let two parsers see two different
messages. Empty lines before the start line are skipped (7.5).
"""

from __future__ import annotations

from enum import Enum

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
    message = parse_head(head, limits)
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
    fault = ""
    ends = len(lines) - 1
    if text.count("\n") != ends or text.count("\r") != ends:
        fault = "Bare CR or LF"
    if "\r\n " in text or "\r\n\t" in text:
        lines = _join_folds(lines)
    start = lines.pop(0)
    names: list[str] = []
    for line in lines:
        name, colon, _ = line.partition(":")
        known = KNOWN.get(name) if colon else None
        if known is None:
            known, fault = _unusual_name(name, colon, fault)
        names.append(known)
    if len(set(names)) != len(names):
        fault = fault or _repeated(names)
    if not fault and (len(text) > limits.line or len(lines) > limits.headers or "\0" in text):
        fault = _excess(text, lines, limits)
    message = _started(start, names, lines, limits)
    if fault:
        raise malformed(message, fault)
    message.require_core()
    return message


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


def _unusual_name(name: str, colon: str, fault: str) -> tuple[str, str]:
    """Canonical name of a header the table does not know, and the first fault found so far."""
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


def _join_folds(lines: list[str]) -> list[str]:
    joined: list[str] = []
    for line in lines:
        if len(joined) > 1 and line[:1] in (" ", "\t"):
            joined[-1] += "\r\n" + line
        else:
            joined.append(line)
    return joined


def content_length(message: Message) -> int | None:
    """Content-Length, None when absent. Raises MalformedMessage."""
    if "content-length" not in message.names:
        return None
    value = message.get("content-length") or ""
    if len(value) < 9 and value.isascii() and value.isdigit():
        return int(value)
    try:
        return parse_number(value, "Content-Length")
    except MalformedMessage as error:
        raise malformed(message, error.reason) from None


def malformed(message: Message, reason: str, status: int | None = None) -> MalformedMessage:
    """The error for a message, with the request when that can be answered."""
    request: Request | None = None
    if isinstance(message, Request):
        try:
            message.require_core()
            request = message
        except MalformedMessage:
            pass
    return MalformedMessage(reason, status, request=request)


class KeepAlive(Enum):
    """Empty lines between messages (RFC 5626 sections 3.5.1 and 4.4.1)."""

    #: Two: to be answered with one.
    PING = "ping"
    #: One: the answer, or a stray line end, or the first half of a ping.
    PONG = "pong"


Received = Message | MalformedMessage | KeepAlive


class StreamParser:
    """Feed it whatever arrives. Once ``failed`` the connection is to be closed."""

    __slots__ = ("_buffer", "_limits", "_needed", "_pending", "_scanned", "_single", "failed")

    def __init__(self, limits: Limits = DEFAULT) -> None:
        self.failed = False
        self._limits = limits
        self._buffer = bytearray()
        #: How far the search for the empty line got.
        self._scanned = 0
        #: The message or error whose body is still to come, and how many bytes that is.
        self._pending: Message | MalformedMessage | None = None
        self._needed = 0
        #: A lone CRLF was reported; another one makes it a ping.
        self._single = False

    @property
    def idle(self) -> bool:
        """Whether no message has begun."""
        return not self._buffer and self._pending is None

    def feed(self, data: bytes) -> list[Received]:
        """All that is complete now, in order.

        A malformed message with a good Content-Length is an entry like any other; any other
        error sets ``failed`` and is the last one ever.
        """
        out: list[Received] = []
        if self.failed:
            return out
        self._buffer += data
        while not self.failed:
            if self._pending is not None:
                if len(self._buffer) < self._needed:
                    break
                out.append(self._finish())
            elif not self._buffer or not self._next(out):
                break
        return out

    def _next(self, out: list[Received]) -> bool:
        """Take one keep-alive or head off the buffer; False when more bytes are needed."""
        buffer = self._buffer
        if buffer[0] == 13 and self._scanned == 0:
            return self._keep_alive(out)
        end = buffer.find(_BLANK, self._scanned)
        limit = self._limits.message
        if end < 0:
            self._scanned = max(0, len(buffer) - 3)
            if len(buffer) <= limit:
                return False
            self._fail(out, MalformedMessage("", 513))
            return True
        self._single = False
        head = bytes(buffer[:end])
        del buffer[: end + 4]
        self._scanned = 0
        if end > limit:
            self._fail(out, MalformedMessage("", 513))
            return True
        self._begin(head, out)
        return True

    def _keep_alive(self, out: list[Received]) -> bool:
        buffer = self._buffer
        if self._single:
            if len(buffer) < 2:
                return False
            self._single = False
            if buffer[1] == 10:
                del buffer[:2]
                out.append(KeepAlive.PING)
                return True
        elif buffer[:4] == _BLANK:
            del buffer[:4]
            out.append(KeepAlive.PING)
            return True
        if len(buffer) < 2:
            return False
        if buffer[1] != 10:
            self._fail(out, MalformedMessage("Bare CR or LF"))
            return True
        # Maybe the first half of a ping, but an answer to our own ping must not wait.
        del buffer[:2]
        self._single = True
        out.append(KeepAlive.PONG)
        return True

    def _begin(self, head: bytes, out: list[Received]) -> None:
        """Read a head and find out how long its body is."""
        limits = self._limits
        try:
            message = parse_head(head, limits)
            length = content_length(message)
        except MalformedMessage as error:
            found = _length_in(head)
            if found is None or found > limits.body:
                self._fail(out, error)
                return
            self._pending = error
            self._needed = found
            return
        if length is None:
            self._fail(out, malformed(message, "Missing Content-Length"))
        elif length > limits.body:
            self._fail(out, malformed(message, "", 413))
        elif len(head) + 4 + length > limits.message:
            self._fail(out, malformed(message, "", 513))
        else:
            self._pending = message
            self._needed = length

    def _finish(self) -> Message | MalformedMessage:
        pending = self._pending
        assert pending is not None
        if self._needed:
            if isinstance(pending, Message):
                pending.body = bytes(self._buffer[: self._needed])
            del self._buffer[: self._needed]
        self._pending = None
        self._needed = 0
        return pending

    def _fail(self, out: list[Received], error: MalformedMessage) -> None:
        self.failed = True
        self._buffer = bytearray()
        self._pending = None
        out.append(error)


def _length_in(head: bytes) -> int | None:
    """The only Content-Length of a head that is no message otherwise, None if in doubt."""
    found: int | None = None
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip(b" \t").lower() in (b"content-length", b"l"):
            value = value.strip(b" \t")
            if found is not None or not value.isdigit() or len(value) > 8:
                return None
            found = int(value)
    return found
