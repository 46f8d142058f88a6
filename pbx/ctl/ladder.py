"""Calls as ladders in a terminal: a column per party, a line per message."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pbx.ctl.output import BOLD, GREEN, RED, YELLOW, coloured, printable

#: Width of the time in front of every line.
MARGIN = 11
NARROWEST, WIDEST = 24, 38
PBX = "PBX"
Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Glyphs:
    """What lines are drawn with."""

    column: str
    line: str
    right: str
    left: str


UNICODE = Glyphs("│", "─", "▶", "◀")
ASCII = Glyphs("|", "-", ">", "<")


def glyphs() -> Glyphs:
    """What the terminal can show."""
    return UNICODE if (sys.stdout.encoding or "").lower().startswith("utf") else ASCII


def terminal_width() -> int:
    """Of the terminal, 100 for a file."""
    return shutil.get_terminal_size((100, 40)).columns


@dataclass(slots=True)
class Ladder:
    """One call. Parties get their column when they are first heard of, the PBX comes second."""

    width: int
    glyphs: Glyphs
    began: float = 0.0
    _parties: list[str] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)
    _seen: set[tuple[object, ...]] = field(default_factory=set)

    def add(self, message: Message) -> list[str]:
        """The lines for a message: its own, and titles before it when a party is new."""
        if not self._parties:
            self.began = message["time"]
        new = self._learn(message)
        return [*(self.titles() if new else ()), self._line(message)]

    def learn(self, messages: Sequence[Message]) -> None:
        """Who is going to appear, so that the columns need not change."""
        for message in messages:
            if not self._parties:
                self.began = message["time"]
            self._learn(message)

    def _learn(self, message: Message) -> bool:
        peer = message["peer"]
        if not self._names.get(peer) and message["method"] == "INVITE":
            self._name(message, peer)
        if peer in self._parties:
            return False
        if not self._parties:
            self._parties += [peer, PBX]
            self._names[PBX] = message["own"]
        else:
            self._parties.append(peer)
        return True

    def _name(self, message: Message, peer: str) -> None:
        """A caller is who his INVITE says, a callee whose own address was called."""
        uri, host = message["uri"], _short(peer).rpartition(":")[0]
        if not message["sent"] and not message["leg"] and uri and message["from"]:
            self._names[peer] = message["from"]
        elif message["sent"] and (f"@{host}" in uri or ".invalid" in uri):
            self._names[peer] = message["to"]

    def _place(self, index: int) -> int:
        return MARGIN + self._column // 2 + index * self._column

    @property
    def _column(self) -> int:
        share = (self.width - MARGIN) // max(2, len(self._parties))
        return max(NARROWEST, min(WIDEST, share))

    def titles(self) -> list[str]:
        """Names and addresses above the columns."""
        names = [PBX if p == PBX else self._names.get(p, "") for p in self._parties]
        places = [_short(self._names[PBX] if p == PBX else p) for p in self._parties]
        rows = [self._centred(names), self._centred(places)]
        return [*(coloured(row, BOLD) for row in rows if row.strip()), self._blank().rstrip()]

    def _centred(self, texts: Sequence[str]) -> str:
        row = " " * MARGIN
        for text in texts:
            row += printable(text)[: self._column - 2].center(self._column)
        return row.rstrip()

    def _blank(self) -> str:
        row = " " * MARGIN
        for _ in self._parties:
            half = self._column // 2
            row += " " * half + self.glyphs.column + " " * (self._column - half - 1)
        return row

    def _line(self, message: Message) -> str:
        pbx, peer = self._parties.index(PBX), self._parties.index(message["peer"])
        start, end = (pbx, peer) if message["sent"] else (peer, pbx)
        low, high = sorted((self._place(start), self._place(end)))
        label = f" {shortened(printable(self._label(message)), high - low - 7)} "
        arrow = label.center(high - low - 2, self.glyphs.line)
        left, right = self.glyphs.line, self.glyphs.line
        if end > start:
            right = self.glyphs.right
        else:
            left = self.glyphs.left
        row = self._blank()
        drawn = left + arrow + right
        row = row[: low + 1] + drawn[: high - low - 1] + row[high:]
        if end > start:
            row = row[: high - 1] + right + row[high:]
        time = f"{message['time'] - self.began:9.3f}"
        return time + coloured(row[len(time) :].rstrip(), _colour(message))

    def _label(self, message: Message) -> str:
        start = message["start"]
        if start.startswith("SIP/2.0 "):
            text = start[8:]
            if message["method"] not in ("INVITE", ""):
                text += f" ({message['method']})"
        else:
            text = message["method"] or start
        if message["sdp"]:
            text += " SDP"
        key = message["peer"], message["sent"], start, message["cseq"], message["call_id"]
        if key in self._seen:
            text += " again"
        self._seen.add(key)
        return str(text)


def shortened(text: str, length: int) -> str:
    """The text, with dots where something had to be left out."""
    return text if len(text) <= length else text[: length - 2].rstrip() + ".."


def _short(socket: str) -> str:
    """``udp:192.0.2.1:5060`` without the transport when it is UDP."""
    return socket.removeprefix("udp:")


def _colour(message: Message) -> str:
    code = message["start"][8:9] if message["start"].startswith("SIP/2.0 ") else ""
    return {"2": GREEN, "3": YELLOW, "4": RED, "5": RED, "6": RED}.get(code, "0")
