"""Documents as trees: read safely, checked against the tables of `usages`.

libxml2 is loaded with the first document, in 5 ms: 3 MB that a PBX without documents does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from defusedxml.ElementTree import fromstring

from pbx.services.xcap.conflicts import Cause, Conflict
from pbx.services.xcap.usages import Shape, Usage

if TYPE_CHECKING:
    from lxml import etree

#: Elements within elements; deeper documents are refused.
MAX_DEPTH = 40
_ENCODINGS = ("utf-8", "utf8", "us-ascii", "ascii")


def parse(body: bytes, cause: Cause = Cause.NOT_WELL_FORMED) -> etree._Element:
    """The root of a document or fragment. Raises Conflict, with ``cause`` for bad XML.

    The first reader refuses a DTD before anything in it counts: no entity is ever expanded. The
    second one keeps prefixes and comments, so that what nobody changed stays as it was written.
    """
    from lxml import etree

    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Conflict(Cause.NOT_UTF8) from None
    try:
        fromstring(body, forbid_dtd=True)
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
        root = etree.fromstring(text.encode(), parser)
    except (SyntaxError, ValueError, LookupError) as error:
        raise Conflict(cause, _said(error)) from None
    encoding = root.getroottree().docinfo.encoding
    if encoding and encoding.lower() not in _ENCODINGS:
        raise Conflict(Cause.NOT_UTF8)
    if _depth(root) > MAX_DEPTH:
        raise Conflict(Cause.CONSTRAINT, "elements too deep")
    return root


def parse_fragment(body: bytes, namespaces: Mapping[str | None, str]) -> etree._Element:
    """One element as it would be read in the middle of a document. Raises Conflict."""
    from lxml import etree

    wrapper = etree.Element("fragment", None, dict(namespaces))
    wrapper.text = "|"
    before, _, after = etree.tostring(wrapper).partition(b"|")
    whole = parse(before + body + after, Cause.NOT_XML_FRAGMENT)
    texts = [whole.text, *(child.tail for child in whole)]
    found = [child for _, child in elements(whole)]
    if len(found) != 1 or len(whole) != 1 or any((text or "").strip() for text in texts):
        raise Conflict(Cause.NOT_XML_FRAGMENT, "expected one element")
    whole.remove(found[0])
    found[0].tail = None
    return found[0]


def _said(error: Exception) -> str:
    return "".join(char for char in str(error) if char.isprintable())[:200]


def _depth(root: etree._Element) -> int:
    level, depth = [root], 0
    while level and depth <= MAX_DEPTH:
        level = [child for parent in level for child in parent]
        depth += 1
    return depth


def serialise(root: etree._Element) -> bytes:
    """The whole document."""
    from lxml import etree

    return etree.tostring(root.getroottree(), encoding="UTF-8", xml_declaration=True)


def part(element: etree._Element) -> bytes:
    """An element by itself."""
    from lxml import etree

    return etree.tostring(element, encoding="UTF-8", with_tail=False, xml_declaration=False)


def in_scope(element: etree._Element) -> bytes:
    """An empty element of that name with the namespaces in scope (RFC 4825 section 10)."""
    from lxml import etree

    empty = etree.Element(element.tag, None, element.nsmap)
    return etree.tostring(empty, encoding="UTF-8", xml_declaration=False)


def elements(parent: etree._Element) -> Iterator[tuple[str, etree._Element]]:
    """Child elements with their ``{namespace}name``, without comments and instructions."""
    for child in parent:
        if isinstance(child.tag, str):
            yield child.tag, child


def check(usage: Usage, root: etree._Element) -> None:
    """Raises Conflict unless the document is one of this application usage."""
    if root.tag != usage.root:
        raise Conflict(Cause.SCHEMA, f"expected the root element {_short(usage.root)}")
    namespaces = usage.namespaces
    waiting = [root]
    while waiting:
        parent = waiting.pop()
        shape = usage.shapes.get(str(parent.tag))
        if shape is not None:
            _check_shape(shape, namespaces, parent)
        _check_unique(usage.unique, parent)
        waiting.extend(child for _, child in elements(parent))


def _check_shape(shape: Shape, namespaces: frozenset[str], element: etree._Element) -> None:
    name = _short(str(element.tag))
    for attribute in shape.attributes:
        if element.get(attribute) is None:
            raise Conflict(Cause.SCHEMA, f"{name} needs the attribute {attribute}")
    found = [tag for tag, _ in elements(element)]
    for tag in found:
        known = tag[1:].partition("}")[0] in namespaces or tag[:1] != "{"
        if known and shape.children is not None and tag not in shape.children:
            raise Conflict(Cause.SCHEMA, f"{_short(tag)} is not expected in {name}")
    for tag in shape.once:
        if found.count(tag) > 1:
            raise Conflict(Cause.SCHEMA, f"{name} has {_short(tag)} twice")
    if shape.any_of and not shape.any_of.intersection(found):
        raise Conflict(Cause.SCHEMA, f"{name} needs {' or '.join(map(_short, shape.any_of))}")
    if shape.values and (element.text or "").strip() not in shape.values:
        raise Conflict(Cause.SCHEMA, f"{name} is one of {', '.join(sorted(shape.values))}")


def _check_unique(unique: Mapping[str, str], parent: etree._Element) -> None:
    seen: set[tuple[str, str]] = set()
    for tag, child in elements(parent):
        attribute = unique.get(tag)
        value = child.get(attribute) if attribute else None
        if value is None:
            continue
        if (tag, value) in seen:
            raise Conflict(Cause.UNIQUENESS, f"{_short(tag)} exists", f"{_short(tag)}/@{attribute}")
        seen.add((tag, value))


def _short(tag: str) -> str:
    return tag.rpartition("}")[2]
