"""Why an XCAP server refuses a change, and the document that says so (RFC 4825 section 11)."""

from __future__ import annotations

from enum import Enum
from xml.etree.ElementTree import Element, SubElement, register_namespace, tostring

NAMESPACE = "urn:ietf:params:xml:ns:xcap-error"
CONTENT_TYPE = "application/xcap-error+xml"

register_namespace("xcap", NAMESPACE)


class Cause(Enum):
    """The elements of section 11.2."""

    NOT_WELL_FORMED = "not-well-formed"
    NOT_XML_FRAGMENT = "not-xml-frag"
    NOT_ATTRIBUTE_VALUE = "not-xml-att-value"
    NOT_UTF8 = "not-utf-8"
    NO_PARENT = "no-parent"
    CANNOT_INSERT = "cannot-insert"
    CANNOT_DELETE = "cannot-delete"
    SCHEMA = "schema-validation-error"
    UNIQUENESS = "uniqueness-failure"
    CONSTRAINT = "constraint-failure"


class Conflict(Exception):
    """409: the change would leave a document that is none; ``field`` is what must be unique."""

    def __init__(self, cause: Cause, phrase: str = "", field: str = "") -> None:
        super().__init__(phrase)
        self.cause = cause
        self.phrase = phrase
        self.field = field

    def document(self) -> bytes:
        """The body of the 409."""
        root = Element(f"{{{NAMESPACE}}}xcap-error")
        error = SubElement(root, f"{{{NAMESPACE}}}{self.cause.value}")
        if self.phrase:
            error.set("phrase", self.phrase)
        if self.cause is Cause.UNIQUENESS:
            SubElement(error, f"{{{NAMESPACE}}}exists", {"field": self.field})
        body: bytes = tostring(root, encoding="UTF-8", xml_declaration=True)
        return body
