"""Documents that users keep with us, edited by HTTP (RFC 4825): `pbx.services.xcap.page`."""

from pbx.services.xcap.contact_lists import ContactLists
from pbx.services.xcap.documents import Documents
from pbx.services.xcap.services import ServiceURIs
from pbx.services.xcap.settings import XCAPSettings

__all__ = ["ContactLists", "Documents", "ServiceURIs", "XCAPSettings"]
