"""Get, put and delete parts of a document (RFC 4825 sections 7.4 to 7.9 and 8.2).

A change is made on a tree of its own; whoever asked has the result checked and kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbx.services.xcap.conflicts import Cause, Conflict
from pbx.services.xcap.selectors import Selector
from pbx.services.xcap.trees import elements, in_scope, parse, parse_fragment, part

if TYPE_CHECKING:
    from lxml import etree

ELEMENT_TYPE = "application/xcap-el+xml"
ATTRIBUTE_TYPE = "application/xcap-att+xml"
NAMESPACE_TYPE = "application/xcap-ns+xml"


def part_type(selector: Selector) -> str:
    """The content type of what is selected (8.2.1, RFC 4825 section 15.2)."""
    if selector.namespaces:
        return NAMESPACE_TYPE
    return ATTRIBUTE_TYPE if selector.attribute else ELEMENT_TYPE


def get(root: etree._Element, selector: Selector) -> bytes | None:
    """What is selected; None when it is not there."""
    element = selector.find(root)
    if element is None:
        return None
    if selector.namespaces:
        return in_scope(element)
    if selector.attribute:
        value = element.get(selector.attribute)
        return None if value is None else value.encode()
    return part(element)


def put(root: etree._Element, selector: Selector, body: bytes) -> tuple[etree._Element, bool]:
    """The root afterwards, and whether something new came to be. Raises Conflict."""
    if selector.attribute:
        return _put_attribute(root, selector, body)
    found = selector.find(root)
    parent = selector.parent(root) if found is None else found.getparent()
    if found is None and parent is None:
        raise Conflict(Cause.NO_PARENT)
    fragment = parse_fragment(body, {} if parent is None else parent.nsmap)
    if not selector.last.fits(fragment):
        raise Conflict(Cause.CANNOT_INSERT, "the element is not what the selector names")
    if found is not None:
        root = _replace(root, found, fragment)
    elif parent is not None:
        _insert(parent, selector, fragment)
    if selector.find(root) is not fragment:
        # GET would not give what was PUT (8.2.3).
        raise Conflict(Cause.CANNOT_INSERT, "the selector would not find the element")
    return root, found is None


def _replace(root: etree._Element, old: etree._Element, new: etree._Element) -> etree._Element:
    parent = old.getparent()
    if parent is None:
        return new
    new.tail = old.tail
    parent.replace(old, new)
    return root


def _insert(parent: etree._Element, selector: Selector, new: etree._Element) -> None:
    """As the child that the last step will find: where its position says, else after its kind."""
    last = selector.last
    alike = [child for tag, child in elements(parent) if last.name in ("*", tag)]
    if last.position > len(alike) + 1:
        raise Conflict(Cause.CANNOT_INSERT, "there are not so many siblings")
    if 0 < last.position <= len(alike):
        alike[last.position - 1].addprevious(new)
    elif alike:
        # `addnext` would take the white space behind the sibling along.
        sibling = alike[-1]
        new.tail = sibling.tail
        parent.insert(parent.index(sibling) + 1, new)
    else:
        parent.append(new)


def _put_attribute(
    root: etree._Element, selector: Selector, body: bytes
) -> tuple[etree._Element, bool]:
    element = selector.find(root)
    if element is None:
        raise Conflict(Cause.NO_PARENT)
    try:
        value = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Conflict(Cause.NOT_UTF8) from None
    known = element.get(selector.attribute) is not None
    try:
        # What a client sends is written as in a document, references and all.
        parsed = parse(f'<a v="{value}"/>'.encode(), Cause.NOT_ATTRIBUTE_VALUE)
        if set(parsed.attrib) != {"v"} or len(parsed):
            raise Conflict(Cause.NOT_ATTRIBUTE_VALUE)
        element.set(selector.attribute, parsed.get("v") or "")
    except ValueError:
        raise Conflict(Cause.NOT_ATTRIBUTE_VALUE) from None
    if selector.find(root) is not element:
        raise Conflict(Cause.CANNOT_INSERT, "the selector would not find the element any more")
    return root, not known


def delete(root: etree._Element, selector: Selector) -> bool:
    """Whether it was there. Raises Conflict when the selector would find another one then."""
    element = selector.find(root)
    if element is None:
        return False
    if selector.attribute:
        if element.get(selector.attribute) is None:
            return False
        del element.attrib[selector.attribute]
        return True
    parent = element.getparent()
    if parent is None:
        raise Conflict(Cause.CANNOT_DELETE, "the root element is the document")
    _keep_tail(element, parent)
    parent.remove(element)
    if selector.find(root) is not None:
        raise Conflict(Cause.CANNOT_DELETE, "the selector would find another element")
    return True


def _keep_tail(element: etree._Element, parent: etree._Element) -> None:
    """Text behind an element, which lxml would remove with it, stays."""
    tail = element.tail
    if not tail or not tail.strip():
        return
    before = element.getprevious()
    if before is None:
        parent.text = (parent.text or "") + tail
    else:
        before.tail = (before.tail or "") + tail
