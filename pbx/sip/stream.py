"""Messages out of a byte stream, framed by Content-Length (RFC 3261 section 18.3)."""

from __future__ import annotations

from enum import Enum

from pbx.sip.errors import MalformedMessage
from pbx.sip.limits import DEFAULT, Limits
from pbx.sip.message import Message
from pbx.sip.parser import content_length, malformed, parse_head

_BLANK = b"\r\n\r\n"


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
