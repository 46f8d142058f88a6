"""Regular expressions of operators: checked when they are loaded, so that none can stall a call.

Python's matcher tries every way to match before it gives up. The number of ways on the longest text
is estimated; a pattern with too many is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

#: Ways to match one text that we can afford: a few milliseconds.
MOST_WAYS: Final = 1 << 20
_REPEAT: Final = re.compile(r"[*+?]|\{(\d{0,6})(,?)(\d{0,6})\}")
_GROUP: Final = re.compile(r"\(\?(?:P<\w+>|<?[=!]|[a-zA-Z-]*[:)]|P=\w+\)|>|#[^)]*\))")


@dataclass(slots=True)
class _Group:
    """What is known of a group so far: ways to match it once, and whether its length varies."""

    ways: int = 1
    varies: bool = False
    alternatives: list[str] = field(default_factory=lambda: [""])


def check_pattern(pattern: str, flags: int, longest: int) -> re.Pattern[str]:
    """The compiled pattern. Raises ValueError when it is wrong or can take too long."""
    try:
        compiled = re.compile(pattern, flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"pattern {pattern!r}: {error}") from None
    if ways(pattern, longest) > MOST_WAYS:
        raise ValueError(
            f"pattern {pattern!r}: can take too long; use fewer or shorter repetitions"
        )
    return compiled


def ways(pattern: str, longest: int) -> int:
    """About how many ways there are to match a text of ``longest`` characters; never too few by
    more than a small factor.
    """
    groups = [_Group()]
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "(":
            opened = _GROUP.match(pattern, at)
            at = opened.end() if opened else at + 1
            if not (opened and opened[0].endswith(")")):
                groups.append(_Group())
            continue
        if char == "|":
            groups[-1].alternatives.append("")
            at += 1
            continue
        inner: _Group | None = None
        if char == ")":
            inner = _closed(groups.pop())
            at += 1
        else:
            end = _atom_end(pattern, at)
            groups[-1].alternatives[-1] += pattern[at:end]
            at = end
        at = _repeated(pattern, at, groups[-1], inner, longest)
    return _closed(groups[0]).ways


def _closed(group: _Group) -> _Group:
    """Several alternatives are several ways, unless their first characters tell them apart."""
    count = len(group.alternatives)
    first = {text[:1].lower() for text in group.alternatives if text[:1].isalnum()}
    if count > 1 and len(first) < count:
        group.ways *= count
        group.varies = True
    return group


def _atom_end(pattern: str, at: int) -> int:
    if pattern[at] == "\\":
        return at + 2
    if pattern[at] != "[":
        return at + 1
    at += 1
    if pattern[at : at + 1] == "^":
        at += 1
    if pattern[at : at + 1] == "]":
        at += 1
    while at < len(pattern) and pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    return at + 1


def _repeated(pattern: str, at: int, outer: _Group, inner: _Group | None, longest: int) -> int:
    """Count a repetition that may follow an atom or a group; the position behind it."""
    least, most = 1, 1
    if match := _REPEAT.match(pattern, at):
        text = match[0]
        if text in ("*", "+", "?"):
            least, most = int(text == "+"), 1 if text == "?" else longest
        elif not match[1] and not match[3]:
            match = None
        else:
            least = int(match[1] or 0)
            most = int(match[3]) if match[3] else longest if match[2] else least
    if match:
        at = match.end()
        if pattern[at : at + 1] in ("?", "+"):
            at += 1
    choices = max(min(most, longest) - least + 1, 1)
    if 1 < choices < longest // 2:
        # Long ones share the text between them, many short ones do not.
        choices *= 2
    if inner is not None:
        if inner.varies and most > 1:
            # Ways multiply with each round: (a+)+ and its like.
            choices *= min(max(inner.ways, 2) ** min(most, 64), MOST_WAYS * 2)
        else:
            choices *= inner.ways
        outer.varies = outer.varies or inner.varies
        outer.alternatives[-1] += "("
    outer.ways = min(outer.ways * choices, MOST_WAYS * 2)
    if least != most:
        outer.varies = True
    return at


def compile_template(text: str) -> tuple[str | int, ...]:
    r"""A replacement as texts and numbers of groups: ``\1`` and so on, ``\\`` for a backslash."""
    parts: list[str | int] = []
    plain = ""
    at = 0
    while at < len(text):
        char = text[at]
        follows = text[at + 1 : at + 2]
        if char == "\\" and follows.isascii() and follows.isdigit():
            if plain:
                parts.append(plain)
                plain = ""
            parts.append(int(follows))
            at += 2
            continue
        if char == "\\" and follows == "\\":
            at += 1
        plain += char
        at += 1
    if plain:
        parts.append(plain)
    return tuple(parts)


def expand(template: tuple[str | int, ...], found: re.Match[str] | None) -> str:
    """The replacement with what the groups matched; a group without a part in it is empty."""
    return "".join(
        part if isinstance(part, str) else (found[part] or "") if found else "" for part in template
    )
