"""Words of an OpenSIPS script, 2.4 to 3.6: names, texts, numbers, signs; comments left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

#: Larger files are no configuration.
MAX_BYTES = 4 << 20
_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\f\v\ufeff]+)
  | (?P<line>\n)
  | (?P<comment>\#[^\n]*|//[^\n]*|/\*.*?\*/)
  | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
  | (?P<variable>\$(?:\([^()]*(?:\([^()]*\)[^()]*)*\)|[A-Za-z_]\w*(?:\.\w+)*(?:\([^()\n]*\))?))
  | (?P<word>\w[\w.:\-/@*+~]*\w|[\w*])
  | (?P<sign>=>|\+=|-=|==|!=|<=|>=|=~|!~|&&|\|\||:=|[-+*/%&|^~!<>=(){}\[\],;:.?@\\])
    """,
    re.VERBOSE | re.DOTALL,
)
#: In addresses a word may hold what is an operator elsewhere.
_ADDRESS = re.compile(r"[A-Za-z_]+:[^\s;#]+")


class Kind(Enum):
    """What a token is."""

    WORD = "word"
    TEXT = "text"
    VARIABLE = "variable"
    SIGN = "sign"
    END = "end of file"


class BadScript(Exception):
    """A file that is no OpenSIPS script; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Token:
    """One word: for texts without the quotes."""

    kind: Kind
    value: str
    line: int

    def is_sign(self, sign: str) -> bool:
        """Whether it is this sign."""
        return self.kind is Kind.SIGN and self.value == sign

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these words."""
        return self.kind is Kind.WORD and self.value in words


def tokens(source: str) -> Sequence[Token]:
    """All of them, and an END. Raises BadScript."""
    found: list[Token] = []
    at, line = 0, 1
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            raise BadScript(f"line {line}: what is {source[at : at + 20].splitlines()[0]!r}?")
        kind, text = match.lastgroup, match[0]
        at = match.end()
        if kind == "text":
            found.append(Token(Kind.TEXT, _unquoted(text), line))
        elif kind in ("word", "variable", "sign"):
            found.append(Token(Kind[kind.upper()], text, line))
        line += text.count("\n")
        if kind == "sign" and text == "=" and len(found) > 1:
            at = _address(source, at, line, found)
    found.append(Token(Kind.END, "", line))
    return found


def _address(source: str, at: int, line: int, found: list[Token]) -> int:
    """``listen=udp:*:5060 as 1.2.3.4`` and ``socket=...``: the address is one word."""
    name = found[-2]
    if not name.is_word("listen", "socket", "alias", "advertised_address"):
        return at
    start = at + len(source[at:]) - len(source[at:].lstrip(" \t"))
    if match := _ADDRESS.match(source, start):
        found.append(Token(Kind.WORD, match[0], line))
        return match.end()
    return at


def _unquoted(text: str) -> str:
    return re.sub(r"\\([\"'\\])", r"\1", text[1:-1]) if "\\" in text else text[1:-1]
