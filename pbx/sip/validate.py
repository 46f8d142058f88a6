"""What a proxy asks of a request before it looks any further (RFC 3261 sections 16.3 and 8.2)."""

from __future__ import annotations

from collections.abc import Collection

from pbx.sip.errors import MalformedMessage, SIPError
from pbx.sip.message import Request

_ROUTABLE = frozenset(("sip", "sips", "tel"))
#: Methods whose option tags nobody may refuse (8.2.2.3).
_UNREFUSABLE = frozenset(("ACK", "CANCEL"))


def validate(request: Request, supported: Collection[str] = ()) -> None:
    """Raises SIPError with the response a request deserves that we must not route.

    400 for what breaks a rule, 416 for a Request-URI that leads nowhere, 420 for a Proxy-Require
    with option tags (lower case) not in ``supported``, 483 when it has been under way too long.
    """
    request.require_core()
    if request.cseq.method != request.method:
        raise MalformedMessage("CSeq Method Mismatch")
    uri = request.uri
    if uri.scheme not in _ROUTABLE:
        raise SIPError(status=416)
    if uri.headers:
        raise MalformedMessage("Headers In Request-URI")
    if request.max_forwards == 0:
        raise SIPError(status=483)
    if "proxy-require" in request.names and request.method not in _UNREFUSABLE:
        _refuse_extensions(request, supported)
    # Parsed once and kept by the request.
    _ = (request.from_.uri, request.to.uri)
    if "contact" in request.names:
        _check_contacts(request)


def _check_contacts(request: Request) -> None:
    register = request.method == "REGISTER"
    for contact in request.contacts:
        if contact.uri_text != "*":
            _ = contact.uri
        elif not register:
            raise MalformedMessage("Bad Contact")


def _refuse_extensions(request: Request, supported: Collection[str]) -> None:
    unsupported = [tag for tag in request.get_list("proxy-require") if tag.lower() not in supported]
    if unsupported:
        raise SIPError(status=420, headers=[("Unsupported", ", ".join(unsupported))])
