"""Bytes to messages: one datagram, or a stream framed by Content-Length (RFC 3261 section 18.3)."""

from __future__ import annotations

from pbx.sip.errors import MalformedMessage
from pbx.sip.headers import KNOWN, canonical
from pbx.sip.message import Message, Request, Response
from pbx.sip.params import is_token


def parse(data: bytes) -> Message:
    """The message in one datagram or one framed piece of a stream.

    Raises MalformedMessage, with the request as far as it could be read.
    """
    head, blank, body = data.partition(b"\r\n\r\n")
    text = head.decode("utf-8", "surrogateescape")
    lines = text.split("\r\n")
    if not blank and lines[-1] == "":
        lines.pop()
    if "\r\n " in text or "\r\n\t" in text:
        lines = _join_folds(lines)
    start = lines.pop(0)
    names: list[str] = []
    for line in lines:
        name = line.partition(":")[0]
        known = KNOWN.get(name)
        names.append(canonical(name) if known is None else known)
    first, _, rest = start.partition(" ")
    if first == "SIP/2.0":
        code, _, reason = rest.partition(" ")
        if len(code) != 3 or not (code.isascii() and code.isdigit()):
            raise MalformedMessage("Bad Status-Line")
        return Response(int(code), reason, names, lines, body)
    uri_text, _, version = rest.rpartition(" ")
    if version != "SIP/2.0" or not is_token(first):
        raise MalformedMessage("Bad Request-Line")
    return Request(first, uri_text, names, lines, body)


def _join_folds(lines: list[str]) -> list[str]:
    joined: list[str] = []
    for line in lines:
        if line[:1] in (" ", "\t") and joined:
            joined[-1] += "\r\n" + line
        else:
            joined.append(line)
    return joined
