"""``;name=value`` lists that keep order and spelling, and the quoting rules around them."""

from __future__ import annotations

from collections.abc import Iterator

#: RFC 3261 section 25.1, token.
TOKEN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%*_+`'~")


def is_token(text: str) -> bool:
    """Whether the text is a token (RFC 3261 section 25.1)."""
    return bool(text) and TOKEN.issuperset(text)


def quote(text: str) -> str:
    """The text as a quoted-string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquote(text: str) -> str:
    """The content of a quoted-string; any other text as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    text = text[1:-1]
    if "\\" not in text:
        return text
    out: list[str] = []
    escaped = False
    for char in text:
        if not escaped and char == "\\":
            escaped = True
            continue
        out.append(char)
        escaped = False
    return "".join(out)


def split_outside(text: str, separator: str) -> list[str]:
    """Split at a separator that is neither inside quotes nor inside angle brackets; no empty parts.

    Raises nothing: an unclosed quote or bracket runs to the end.
    """
    if '"' not in text and "<" not in text:
        parts = text.split(separator)
    else:
        parts = []
        start = 0
        quoted = bracketed = escaped = False
        for position, char in enumerate(text):
            if quoted:
                if escaped:
                    escaped = False
                elif char == "\\":
                    escaped = True
                elif char == '"':
                    quoted = False
            elif char == '"':
                # A quote inside brackets belongs to the URI only when it is escaped there.
                quoted = not bracketed
            elif char == "<":
                bracketed = True
            elif char == ">":
                bracketed = False
            elif char == separator and not bracketed:
                parts.append(text[start:position])
                start = position + 1
        parts.append(text[start:])
    return [part for part in (part.strip(" \t") for part in parts) if part]


def is_closed(text: str) -> bool:
    """Whether quotes are closed and angle brackets stand in quotes only.

    What is appended to other parameters would not be one of its own.
    """
    if '"' not in text:
        return "<" not in text and ">" not in text
    quoted = escaped = False
    for char in text:
        if escaped:
            escaped = False
        elif char == '"':
            quoted = not quoted
        elif quoted:
            escaped = char == "\\"
        elif char in "<>":
            return False
    return not quoted


class Params:
    """Parameters in their order; names compare without regard to case. Immutable.

    A parameter without ``=`` has the value None; values are kept as written, quotes included.
    """

    __slots__ = ("_items", "_text")

    def __init__(self, items: list[tuple[str, str | None]], text: str | None = None) -> None:
        self._items = items
        self._text = text

    @staticmethod
    def parse(text: str) -> Params:
        """From ``;a=1;b`` with or without the first semicolon."""
        if not text:
            return EMPTY
        items: list[tuple[str, str | None]] = []
        parts = text.split(";") if '"' not in text and "<" not in text else split_outside(text, ";")
        for part in parts:
            name, equals, value = part.partition("=")
            name = name.strip(" \t")
            if name or equals:
                items.append((name, value.strip(" \t") if equals else None))
        return Params(items, text if text[0] == ";" else ";" + text)

    def __contains__(self, name: object) -> bool:
        for key, _ in self._items:  # noqa: SIM110 - a generator costs three times as much
            if key == name or key.lower() == name:
                return True
        return False

    def __iter__(self) -> Iterator[tuple[str, str | None]]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __bool__(self) -> bool:
        return bool(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Params) and self._items == other._items

    def __hash__(self) -> int:
        return hash(tuple(self._items))

    def __repr__(self) -> str:
        return f"Params({str(self)!r})"

    def get(self, name: str) -> str | None:
        """The value of a parameter, unquoted; "" for one without value, None for none.

        ``name`` is lower case.
        """
        for key, value in self._items:
            if key == name or key.lower() == name:
                if value is None:
                    return ""
                return unquote(value) if value[:1] == '"' else value
        return None

    def with_value(self, name: str, value: str | None) -> Params:
        """A copy with one parameter set, where it was or at the end; ``name`` is lower case.

        None writes the bare name.
        """
        items: list[tuple[str, str | None]] = []
        written = False
        for item in self._items:
            if item[0].lower() != name:
                items.append(item)
            elif not written:
                items.append((name, value))
                written = True
        if not written:
            items.append((name, value))
        return Params(items)

    def without(self, *names: str) -> Params:
        """A copy without these parameters (lower case)."""
        kept = [item for item in self._items if item[0].lower() not in names]
        return self if len(kept) == len(self._items) else Params(kept)

    def __str__(self) -> str:
        if self._text is None:
            self._text = "".join(
                f";{name}" if value is None else f";{name}={value}" for name, value in self._items
            )
        return self._text


EMPTY = Params([], "")
