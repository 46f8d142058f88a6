"""Header names: one canonical spelling each, compact forms included (RFC 3261 section 7.3.3).

Inside the PBX a header name is lower case and long: ``via``, ``call-id``. `pretty` gives back the
spelling of the RFCs for headers that we write ourselves.
"""

from __future__ import annotations

_LONG = (
    "Accept Accept-Contact Accept-Encoding Accept-Language Alert-Info Allow Allow-Events "
    "Authentication-Info Authorization Call-ID Call-Info Contact Content-Disposition "
    "Content-Encoding Content-ID Content-Language Content-Length Content-Type CSeq Date Diversion "
    "Error-Info Event Expires Flow-Timer From History-Info Identity In-Reply-To Info-Package "
    "Join Max-Breadth Max-Forwards MIME-Version Min-Expires Min-SE Organization "
    "P-Asserted-Identity P-Associated-URI P-Called-Party-ID P-Preferred-Identity "
    "P-Registrar-Error Path Priority Privacy Proxy-Authenticate Proxy-Authorization Proxy-Require "
    "RAck Reason Recv-Info Record-Route Refer-Sub Refer-To Referred-By Reject-Contact "
    "Remote-Party-ID Replaces Reply-To Request-Disposition Require Retry-After Route RSeq Server "
    "Service-Route Session-Expires SIP-ETag SIP-If-Match Subject Subscription-State "
    "Suppress-If-Match Supported Target-Dialog Timestamp To Unsupported User-Agent Via Warning "
    "WWW-Authenticate X-PBX-Call"
).split()

#: RFC 3261 section 7.3.3 and the IANA registry of SIP header fields.
COMPACT: dict[str, str] = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}

_PRETTY: dict[str, str] = {name.lower(): name for name in _LONG}

#: Every spelling that phones really use -> canonical name; the parser looks here first.
KNOWN: dict[str, str] = {
    **{name: name.lower() for name in _LONG},
    **{name.lower(): name.lower() for name in _LONG},
    **COMPACT,
    **{short.upper(): name for short, name in COMPACT.items()},
}


def canonical(name: str) -> str:
    """The lower-case long form of a header name in any spelling."""
    found = KNOWN.get(name)
    if found is not None:
        return found
    name = name.strip(" \t").lower()
    return COMPACT.get(name, name)


def pretty(name: str) -> str:
    """A canonical name as the RFCs spell it; an unknown name gets a capital after each hyphen."""
    found = _PRETTY.get(name)
    return _capitalized(name) if found is None else found


def _capitalized(name: str) -> str:
    return "-".join([word.capitalize() for word in name.split("-")])
