"""Documents from outside read safely, text from outside written safely."""

from __future__ import annotations

from xml.etree.ElementTree import Element, ParseError, tostring

from defusedxml.ElementTree import fromstring

from pbx.sip.errors import SIPError

#: Elements within elements; deeper documents are refused.
MAX_DEPTH = 40


def parse(body: bytes, root: str) -> Element:
    """A document with this root element, in ``{namespace}name`` form.

    Raises SIPError 400 for anything else: bad XML, a DTD, entities, elements too deep.
    """
    try:
        element: Element = fromstring(body, forbid_dtd=True)
    except (ParseError, ValueError, LookupError):
        raise SIPError("Bad XML", 400) from None
    if element.tag != root:
        raise SIPError("Unexpected Root Element", 400)
    _refuse_depth(element)
    return element


def _refuse_depth(element: Element) -> None:
    level = [element]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in parent]
        if not level:
            return
    raise SIPError("XML Too Deep", 400)


def text(value: str) -> str:
    """Text as a document may hold it: valid Unicode without control characters (XML 1.0, 2.2)."""
    if value.isascii() and value.isprintable():
        return value
    clean = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(
        char
        if char >= " " and char not in "\ufffe\uffff" and not "\ud800" <= char <= "\udfff"
        else "\ufffd"
        for char in clean
    )


def serialise(element: Element) -> bytes:
    """The document with its declaration."""
    body: bytes = tostring(element, encoding="UTF-8", xml_declaration=True)
    return body
