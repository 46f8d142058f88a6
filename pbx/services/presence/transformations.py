"""What of a presence document a watcher gets to see (RFC 5025 section 3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from xml.etree.ElementTree import Element

PIDF = "{urn:ietf:params:xml:ns:pidf}"
MODEL = "{urn:ietf:params:xml:ns:pidf:data-model}"
RPID = "{urn:ietf:params:xml:ns:pidf:rpid}"
PRES = "{urn:ietf:params:xml:ns:pres-rules}"

#: Which permission lets a tuple, device or person pass, and the permission that means all of them.
COMPONENTS = {
    f"{PIDF}tuple": (f"{PRES}provide-services", f"{PRES}all-services"),
    f"{MODEL}device": (f"{PRES}provide-devices", f"{PRES}all-devices"),
    f"{MODEL}person": (f"{PRES}provide-persons", f"{PRES}all-persons"),
}
#: Which permission lets an element within them pass (3.3.2).
ATTRIBUTES = {
    f"{RPID}activities": "provide-activities",
    f"{RPID}class": "provide-class",
    f"{MODEL}deviceID": "provide-deviceID",
    f"{RPID}mood": "provide-mood",
    f"{RPID}place-is": "provide-place-is",
    f"{RPID}place-type": "provide-place-type",
    f"{RPID}privacy": "provide-privacy",
    f"{RPID}relationship": "provide-relationship",
    f"{RPID}status-icon": "provide-status-icon",
    f"{RPID}sphere": "provide-sphere",
    f"{RPID}time-offset": "provide-time-offset",
    f"{RPID}user-input": "provide-user-input",
    f"{PIDF}note": "provide-note",
    f"{MODEL}note": "provide-note",
    f"{RPID}note": "provide-note",
}
#: What every component has in any case.
_ALWAYS = frozenset(
    (f"{PIDF}status", f"{PIDF}contact", f"{PIDF}timestamp", f"{MODEL}timestamp", f"{PIDF}basic")
)


@dataclass(frozen=True, slots=True)
class Transformations:
    """What may pass; permissions only ever add up.

    ``components`` are pairs of the permission and one value of it, "all-services" and the like or
    ``class=work``; ``attributes`` are permissions, "provide-all-attributes" among them, and
    ``unknown`` pairs of namespace and name.
    """

    components: frozenset[tuple[str, str]] = frozenset()
    attributes: frozenset[str] = frozenset()
    unknown: frozenset[tuple[str, str]] = frozenset()
    everything: bool = False

    @classmethod
    def of(cls, elements: Iterable[Element]) -> Transformations:
        """The sum of several <transformations>."""
        components: set[tuple[str, str]] = set()
        attributes: set[str] = set()
        unknown: set[tuple[str, str]] = set()
        kinds = {provide for provide, _ in COMPONENTS.values()}
        for child in (child for element in elements for child in element):
            tag = str(child.tag)
            if tag in kinds:
                components.update((tag, _value(part)) for part in child)
            elif tag == f"{PRES}provide-unknown-attribute":
                if _is_true(child):
                    unknown.add((child.get("ns") or "", child.get("name") or ""))
            elif tag == f"{PRES}provide-all-attributes" or _is_true(child):
                attributes.add(tag.removeprefix(PRES))
        return cls(frozenset(components), frozenset(attributes), frozenset(unknown))

    def apply(self, document: Element) -> Element:
        """A copy with what may pass."""
        if self.everything:
            return document
        made = Element(document.tag, dict(document.attrib))
        for child in document:
            tag = str(child.tag)
            if tag in COMPONENTS:
                if self._may(tag, child):
                    made.append(self._filtered(child))
            elif self._passes(tag):
                made.append(deepcopy(child))
        return made

    def _may(self, tag: str, component: Element) -> bool:
        provide, everything = COMPONENTS[tag]
        if (provide, everything) in self.components:
            return True
        return any((provide, value) in self.components for value in _names(component))

    def _filtered(self, component: Element) -> Element:
        made = Element(component.tag, dict(component.attrib))
        made.extend(deepcopy(child) for child in component if self._passes(str(child.tag)))
        return made

    def _passes(self, tag: str) -> bool:
        if tag in _ALWAYS or "provide-all-attributes" in self.attributes:
            return True
        permission = ATTRIBUTES.get(tag)
        if permission is not None:
            return permission in self.attributes
        namespace, _, name = tag[1:].partition("}")
        return (namespace, name) in self.unknown


EVERYTHING = Transformations(everything=True)


def _is_true(element: Element) -> bool:
    # provide-user-input says how much: "false", "bare", "thresholds" or "full" (3.3.2.13).
    return (element.text or "").strip().lower() not in ("false", "0", "")


def _value(part: Element) -> str:
    """``{...}all-services`` or ``class=work``."""
    tag = str(part.tag)
    name = tag.rpartition("}")[2]
    return tag if name.startswith("all-") else f"{name}={(part.text or '').strip()}"


def _names(component: Element) -> Sequence[str]:
    """By which values of permissions a component is meant."""
    found = [f"occurrence-id={component.get('id') or ''}"]
    for child in component:
        value = (child.text or "").strip()
        if child.tag == f"{RPID}class":
            found.append(f"class={value}")
        elif child.tag == f"{MODEL}deviceID":
            found.append(f"deviceID={value}")
        elif child.tag == f"{PIDF}contact":
            found += [f"service-uri={value}", f"service-uri-scheme={value.partition(':')[0]}"]
    return found
