"""Presence authorisation rules: who may see what of a user (RFC 4745, RFC 5025)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from xml.etree.ElementTree import Element

from pbx.services.presence.transformations import EVERYTHING, Transformations
from pbx.services.presence.xml import parse
from pbx.sip.errors import MalformedURI
from pbx.sip.uri import URI

COMMON = "{urn:ietf:params:xml:ns:common-policy}"
PRES = "{urn:ietf:params:xml:ns:pres-rules}"


class Handling(IntEnum):
    """What becomes of a subscription; of several rules the highest value counts (3.2.1)."""

    BLOCK = 0
    CONFIRM = 10
    POLITE_BLOCK = 20
    ALLOW = 30


HANDLINGS = {
    "block": Handling.BLOCK,
    "confirm": Handling.CONFIRM,
    "polite-block": Handling.POLITE_BLOCK,
    "allow": Handling.ALLOW,
}


@dataclass(frozen=True, slots=True)
class Permission:
    """What one watcher may see of one presentity."""

    handling: Handling
    transformations: Transformations = EVERYTHING


FULL = Permission(Handling.ALLOW)


class Identity:
    """One ``<one>`` or ``<many>`` (RFC 4745 section 7.1)."""

    def __init__(self, element: Element) -> None:
        self._one = _aor(element.get("id")) if element.tag == f"{COMMON}one" else ""
        self._many = element.tag == f"{COMMON}many"
        self._domain = (element.get("domain") or "").lower()
        excepted = [child for child in element if child.tag == f"{COMMON}except"]
        self._not = {_aor(child.get("id")) for child in excepted if child.get("id")}
        self._not_of = {(child.get("domain") or "").lower() for child in excepted} - {""}

    def fits(self, watcher: str) -> bool:
        """Whether it means this user, ``user@domain``."""
        if not self._many:
            return self._one == watcher
        domain = watcher.rpartition("@")[2].lower()
        if self._domain and self._domain != domain:
            return False
        return watcher not in self._not and domain not in self._not_of


class Rule:
    """One ``<rule>``."""

    def __init__(self, element: Element) -> None:
        self._identities: list[list[Identity]] = []
        self._validities: list[list[tuple[float, float]]] = []
        self._never = False
        self.handling: Handling | None = None
        self.transformations: Element | None = None
        for child in element:
            if child.tag == f"{COMMON}conditions":
                self._conditions(child)
            elif child.tag == f"{COMMON}actions":
                for action in child.iterfind(f"{PRES}sub-handling"):
                    self.handling = HANDLINGS.get((action.text or "").strip())
            elif child.tag == f"{COMMON}transformations":
                self.transformations = child

    def _conditions(self, element: Element) -> None:
        for condition in element:
            if condition.tag == f"{COMMON}identity":
                self._identities.append([Identity(child) for child in condition])
            elif condition.tag == f"{COMMON}validity":
                self._validities.append(list(_spans(condition)))
            else:
                # A sphere is not known here, and what nobody understands does not hold
                # (RFC 4745 section 5).
                self._never = True

    def fits(self, watcher: str, now: float) -> bool:
        """Whether all conditions hold."""
        if self._never:
            return False
        return all(
            any(identity.fits(watcher) for identity in identities)
            for identities in self._identities
        ) and all(any(start <= now < end for start, end in spans) for spans in self._validities)

    def boundaries(self) -> Iterator[float]:
        """When it begins and ceases to hold."""
        for spans in self._validities:
            for span in spans:
                yield from span


class Ruleset:
    """Everything one user decided."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules

    @classmethod
    def read(cls, body: bytes) -> Ruleset:
        """Raises SIPError for what is no such document."""
        root = parse(body, f"{COMMON}ruleset")
        return cls([Rule(element) for element in root if element.tag == f"{COMMON}rule"])

    def permission(self, watcher: str, now: float, default: Handling) -> Permission:
        """The sum of all rules that fit; ``default`` when none of them says anything."""
        fitting = [rule for rule in self._rules if rule.fits(watcher, now)]
        said = [rule.handling for rule in fitting if rule.handling is not None]
        if not said:
            return Permission(default)
        elements = [rule.transformations for rule in fitting if rule.transformations is not None]
        return Permission(max(said), Transformations.of(elements) if elements else EVERYTHING)

    def next_change(self, now: float) -> float | None:
        """When the clock changes what is allowed."""
        return min(_after(now, self._rules), default=None)


def _after(now: float, rules: Iterable[Rule]) -> Iterator[float]:
    return (when for rule in rules for when in rule.boundaries() if when > now)


def _spans(element: Element) -> Iterator[tuple[float, float]]:
    """Pairs of from and until (RFC 4745 section 7.3); what cannot be read never holds."""
    start: float | None = None
    for child in element:
        if child.tag == f"{COMMON}from":
            start = _time(child.text)
        elif child.tag == f"{COMMON}until":
            end = _time(child.text)
            if start is not None and end is not None:
                yield start, end
            start = None


def _time(text: str | None) -> float | None:
    try:
        found = datetime.fromisoformat((text or "").strip())
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _aor(text: str | None) -> str:
    """``user@domain`` of an identity that is written as a sip: or pres: URI."""
    value = (text or "").strip()
    scheme, colon, rest = value.partition(":")
    if colon and scheme.lower() in ("pres", "im", "xmpp"):
        value = f"sip:{rest}"
    try:
        return URI.parse(value).aor
    except MalformedURI:
        return value
