"""Node selectors: the part of an XCAP URI after ``~~`` (RFC 4825 section 6.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from pbx.services.xcap.trees import elements

if TYPE_CHECKING:
    from lxml import etree

#: Steps of a selector; deeper documents are refused too.
MAX_STEPS = 50
_NAME = r"(?P<name>\*|(?:[^\W\d][\w.-]*:)?[^\W\d][\w.-]*)"
_POSITION = r"(?:\[(?P<position>[1-9]\d{0,5})\])?"
_TEST = r"(?:\[@(?P<attribute>(?:[^\W\d][\w.-]*:)?[^\W\d][\w.-]*)=(?P<value>\"[^\"]*\"|'[^']*')\])?"
_STEP = re.compile(_NAME + _POSITION + _TEST)
_ATTRIBUTE = re.compile(r"@(?P<name>(?:[^\W\d][\w.-]*:)?[^\W\d][\w.-]*)")
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&amp;", "&"))
NAMESPACES = "namespace::*"


class BadSelector(Exception):
    """A selector outside the grammar, or with a prefix that is not bound."""


@dataclass(frozen=True, slots=True)
class Step:
    """One element on the way; ``name`` is ``{namespace}name`` or ``*``, ``position`` 0 for any."""

    name: str
    position: int = 0
    attribute: str = ""
    value: str = ""

    def among(self, parent: etree._Element) -> list[etree._Element]:
        """The children that it selects: by name, then by position, then by attribute."""
        found = [child for tag, child in elements(parent) if self.name in ("*", tag)]
        if self.position:
            found = found[self.position - 1 : self.position]
        return [child for child in found if self.fits(child)]

    def fits(self, element: etree._Element) -> bool:
        """Whether name and attribute are right."""
        if self.name not in ("*", element.tag):
            return False
        return not self.attribute or element.get(self.attribute) == self.value


@dataclass(frozen=True, slots=True)
class Selector:
    """Steps to an element, then perhaps to an ``attribute`` or to its ``namespaces``."""

    steps: Sequence[Step]
    attribute: str = ""
    namespaces: bool = False

    @property
    def last(self) -> Step:
        """The step that names the element itself."""
        return self.steps[-1]

    def find(self, root: etree._Element) -> etree._Element | None:
        """The one element that it selects; None when there is none, or more than one."""
        found = self._walk(root, self.steps)
        return found[0] if len(found) == 1 else None

    def parent(self, root: etree._Element) -> etree._Element | None:
        """The element that the last step starts from."""
        found = self._walk(root, self.steps[:-1])
        return found[0] if len(found) == 1 else None

    def _walk(self, root: etree._Element, steps: Sequence[Step]) -> list[etree._Element]:
        if not steps or steps[0].position > 1 or not steps[0].fits(root):
            return []
        found = [root]
        for step in steps[1:]:
            found = [child for parent in found for child in step.among(parent)]
        return found


def parse_selector(path: str, query: str, namespace: str) -> Selector:
    """From the percent-encoded parts of a URI. Raises BadSelector.

    Names without prefix are in the default ``namespace`` of the usage (6.4).
    """
    try:
        text = unquote_to_bytes(path).decode("utf-8")
        prefixes = _prefixes(unquote_to_bytes(query).decode("utf-8"))
    except UnicodeDecodeError:
        raise BadSelector("no UTF-8") from None
    steps: list[Step] = []
    attribute = ""
    at = 0
    while at < len(text):
        if text.startswith(NAMESPACES, at) and at + len(NAMESPACES) == len(text) and steps:
            return Selector(tuple(steps), "", True)
        if text[at] == "@" and steps:
            found = _ATTRIBUTE.fullmatch(text, at)
            if found is None:
                raise BadSelector("bad attribute selector")
            return Selector(tuple(steps), _expanded(found["name"], prefixes, ""))
        found = _STEP.match(text, at)
        if found is None or len(steps) >= MAX_STEPS:
            raise BadSelector("bad step")
        steps.append(_step(found, prefixes, namespace))
        at = found.end()
        if at < len(text):
            if text[at] != "/" or at + 1 == len(text):
                raise BadSelector("expected a / between steps")
            at += 1
    if not steps:
        raise BadSelector("no step")
    return Selector(tuple(steps), attribute)


def _step(found: re.Match[str], prefixes: Mapping[str, str], namespace: str) -> Step:
    name = found["name"]
    attribute = found["attribute"] or ""
    value = (found["value"] or "''")[1:-1]
    for entity, char in _ENTITIES:
        value = value.replace(entity, char)
    return Step(
        name if name == "*" else _expanded(name, prefixes, namespace),
        int(found["position"] or 0),
        _expanded(attribute, prefixes, "") if attribute else "",
        value,
    )


def _prefixes(query: str) -> dict[str, str]:
    """The xmlns() pointer parts of the query (6.4)."""
    found: dict[str, str] = {}
    for part in query.split("xmlns(")[1:]:
        binding, closed, _ = part.partition(")")
        prefix, equals, namespace = binding.partition("=")
        if closed and equals:
            found[prefix.strip()] = namespace.strip()
    return found


def _expanded(name: str, prefixes: Mapping[str, str], default: str) -> str:
    prefix, colon, local = name.rpartition(":")
    if not colon:
        return f"{{{default}}}{local}" if default else local
    if prefix not in prefixes:
        raise BadSelector(f"the prefix {prefix} is not bound")
    return f"{{{prefixes[prefix]}}}{local}"
