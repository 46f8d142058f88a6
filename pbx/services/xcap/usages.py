"""The application usages that we serve, each a table: what its documents look like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

COMMON_POLICY = "urn:ietf:params:xml:ns:common-policy"
PRES_RULES = "urn:ietf:params:xml:ns:pres-rules"
RESOURCE_LISTS = "urn:ietf:params:xml:ns:resource-lists"
RLS_SERVICES = "urn:ietf:params:xml:ns:rls-services"
PIDF = "urn:ietf:params:xml:ns:pidf"
XCAP_CAPS = "urn:ietf:params:xml:ns:xcap-caps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What may be in an element; ``children`` None: anything.

    ``once`` children come at most once, one of ``any_of`` must be there, ``values`` are the texts
    that it may have.
    """

    children: frozenset[str] | None = frozenset()
    attributes: tuple[str, ...] = ()
    once: frozenset[str] = frozenset()
    any_of: frozenset[str] = frozenset()
    values: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One application usage (RFC 4825 section 5).

    ``number`` is its ``doc_type`` in the table ``xcap``, ``namespace`` that of names without
    prefix in node selectors. ``unique`` maps an element to the attribute that no sibling of the
    same name may share.
    """

    auid: str
    number: int
    namespace: str
    content_type: str
    root: str
    shapes: Mapping[str, Shape]
    unique: Mapping[str, str] = field(default_factory=dict)

    @property
    def namespaces(self) -> frozenset[str]:
        """Those whose elements have a shape; elements of others may be anywhere."""
        return frozenset(tag[1:].partition("}")[0] for tag in self.shapes)


def _tags(namespace: str, *names: str) -> frozenset[str]:
    return frozenset(f"{{{namespace}}}{name}" for name in names)


def _in(namespace: str, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    return {f"{{{namespace}}}{name}": shape for name, shape in shapes.items()}


_ANYTHING = Shape(children=None)

#: RFC 4745 section 13, RFC 5025 section 7.
_RULES = _in(
    COMMON_POLICY,
    {
        "ruleset": Shape(children=_tags(COMMON_POLICY, "rule")),
        "rule": Shape(
            children=_tags(COMMON_POLICY, "conditions", "actions", "transformations"),
            once=_tags(COMMON_POLICY, "conditions", "actions", "transformations"),
            attributes=("id",),
        ),
        "conditions": Shape(children=_tags(COMMON_POLICY, "identity", "sphere", "validity")),
        "identity": Shape(
            children=_tags(COMMON_POLICY, "one", "many"), any_of=_tags(COMMON_POLICY, "one", "many")
        ),
        "one": Shape(attributes=("id",)),
        "many": Shape(children=_tags(COMMON_POLICY, "except")),
        "except": Shape(),
        "sphere": Shape(attributes=("value",)),
        "validity": Shape(
            children=_tags(COMMON_POLICY, "from", "until"),
            any_of=_tags(COMMON_POLICY, "from", "until"),
        ),
        "from": Shape(),
        "until": Shape(),
        "actions": Shape(
            children=_tags(PRES_RULES, "sub-handling"), once=_tags(PRES_RULES, "sub-handling")
        ),
        "transformations": _ANYTHING,
    },
) | _in(
    PRES_RULES,
    {
        "sub-handling": Shape(values=frozenset(("allow", "block", "polite-block", "confirm"))),
        "provide-services": _ANYTHING,
        "provide-devices": _ANYTHING,
        "provide-persons": _ANYTHING,
    },
)

_ENTRIES = _tags(RESOURCE_LISTS, "list", "entry", "entry-ref", "external", "display-name")
#: RFC 4826 section 3.2.
_LISTS = _in(
    RESOURCE_LISTS,
    {
        "resource-lists": Shape(children=_tags(RESOURCE_LISTS, "list")),
        "list": Shape(children=_ENTRIES, once=_tags(RESOURCE_LISTS, "display-name")),
        "entry": Shape(children=_tags(RESOURCE_LISTS, "display-name"), attributes=("uri",)),
        "entry-ref": Shape(children=_tags(RESOURCE_LISTS, "display-name"), attributes=("ref",)),
        "external": Shape(children=_tags(RESOURCE_LISTS, "display-name"), attributes=("anchor",)),
        "display-name": Shape(),
    },
)
#: RFC 4826 section 4.2.
_SERVICES = _in(
    RLS_SERVICES,
    {
        "rls-services": Shape(children=_tags(RLS_SERVICES, "service")),
        "service": Shape(
            children=_tags(RLS_SERVICES, "list", "resource-list", "packages"),
            once=_tags(RLS_SERVICES, "list", "resource-list", "packages"),
            any_of=_tags(RLS_SERVICES, "list", "resource-list"),
            attributes=("uri",),
        ),
        "list": Shape(children=_ENTRIES, once=_tags(RESOURCE_LISTS, "display-name")),
        "resource-list": Shape(),
        "packages": Shape(children=_tags(RLS_SERVICES, "package")),
        "package": Shape(),
    },
) | {tag: shape for tag, shape in _LISTS.items() if not tag.endswith("}resource-lists")}
#: RFC 3863 section 4.4, the part of it that presence depends on.
_PIDF = _in(
    PIDF,
    {
        "presence": Shape(children=_tags(PIDF, "tuple", "note"), attributes=("entity",)),
        "tuple": Shape(
            children=_tags(PIDF, "status", "contact", "note", "timestamp"),
            once=_tags(PIDF, "status", "contact", "timestamp"),
            any_of=_tags(PIDF, "status"),
            attributes=("id",),
        ),
        "status": Shape(children=_tags(PIDF, "basic"), once=_tags(PIDF, "basic")),
        "basic": Shape(values=frozenset(("open", "closed"))),
        "contact": Shape(),
        "note": Shape(),
        "timestamp": Shape(),
    },
)

_LIST_KEYS = {
    f"{{{RESOURCE_LISTS}}}list": "name",
    f"{{{RESOURCE_LISTS}}}entry": "uri",
    f"{{{RESOURCE_LISTS}}}entry-ref": "ref",
    f"{{{RESOURCE_LISTS}}}external": "anchor",
}

USAGES: Mapping[str, Usage] = {
    usage.auid: usage
    for usage in (
        Usage(
            auid="pres-rules",
            number=2,
            namespace=PRES_RULES,
            content_type="application/auth-policy+xml",
            root=f"{{{COMMON_POLICY}}}ruleset",
            shapes=_RULES,
            unique={f"{{{COMMON_POLICY}}}rule": "id"},
        ),
        Usage(
            auid="resource-lists",
            number=4,
            namespace=RESOURCE_LISTS,
            content_type="application/resource-lists+xml",
            root=f"{{{RESOURCE_LISTS}}}resource-lists",
            shapes=_LISTS,
            unique=_LIST_KEYS,
        ),
        Usage(
            auid="rls-services",
            number=8,
            namespace=RLS_SERVICES,
            content_type="application/rls-services+xml",
            root=f"{{{RLS_SERVICES}}}rls-services",
            shapes=_SERVICES,
            unique={**_LIST_KEYS, f"{{{RLS_SERVICES}}}service": "uri"},
        ),
        Usage(
            auid="pidf-manipulation",
            number=16,
            namespace=PIDF,
            content_type="application/pidf+xml",
            root=f"{{{PIDF}}}presence",
            shapes=_PIDF,
            unique={f"{{{PIDF}}}tuple": "id"},
        ),
    )
}
