"""Route and Record-Route, loose and strict (RFC 3261 sections 16.4, 16.6 and 16.12)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pbx.sip.address import Address
from pbx.sip.fields import NameAddr
from pbx.sip.message import Request
from pbx.sip.params import EMPTY, Params
from pbx.sip.uri import URI, join_host_port


@dataclass(frozen=True, slots=True)
class OwnRoute:
    """The Route of ours that a request came along.

    ``uri`` and its ``params`` are of the first value; ``second`` is the next one when there were
    two of ours: the side to send from (``r2=on``).
    """

    params: Params
    uri: URI
    second: URI | None = None

    def get(self, name: str) -> str | None:
        """A parameter that we once wrote: "" for one without value, None for none."""
        return self.params.get(name)

    @property
    def flow_tokens(self) -> tuple[str, str]:
        """The user parts, which name the flows of both sides (RFC 5626 section 5.3)."""
        return self.uri.user, "" if self.second is None else self.second.user


def strip_own(request: Request, is_own: Callable[[URI], bool]) -> tuple[Request, OwnRoute | None]:
    """The request without the Route values that led to us, and what they said (16.4).

    It is a copy when anything changed, else the same object. Undoes what a strict router did to
    the Request-URI and strips our own ``maddr`` from it. Raises MalformedMessage.
    """
    found: list[URI] = []
    changed = request
    if "route" in request.names:
        routes = request.get_list("route")
        uri = request.uri
        if ";" in request.uri_text and _recorded(uri) and routes and is_own(uri):
            # A strict router put our Record-Route there and the real target last.
            found.append(uri)
            changed = request.copy()
            changed.set_uri(NameAddr.parse(routes.pop()).uri)
        own = 0
        for value in routes:
            hop = NameAddr.parse(value).uri
            if not (hop.is_sip and is_own(hop)):
                break
            found.append(hop)
            own += 1
        if found:
            changed = request.copy() if changed is request else changed
            changed.replace_all("route", routes[own:])
    if "maddr" in changed.uri_text.lower():
        changed = _without_own_maddr(changed, request, is_own)
    if not found:
        return changed, None
    return changed, OwnRoute(found[0].params, found[0], found[1] if len(found) > 1 else None)


def _recorded(uri: URI) -> bool:
    """Whether a URI looks like one of our Record-Route values and not like a GRUU."""
    return uri.is_sip and "lr" in uri.params and "gr" not in uri.params


def _without_own_maddr(
    changed: Request, request: Request, is_own: Callable[[URI], bool]
) -> Request:
    uri = changed.uri
    maddr = uri.params.get("maddr") if uri.is_sip else None
    if not maddr:
        return changed
    maddr = maddr.lower().strip("[]")
    if not is_own(uri.replace(host=maddr, params=uri.params.without("maddr"))):
        return changed
    if changed is request:
        changed = request.copy()
    changed.set_uri(uri.replace(port=None, params=uri.params.without("maddr", "transport")))
    return changed


def next_hop(request: Request) -> URI:
    """The URI that says where this copy goes: its topmost Route or its Request-URI (16.6, step 7).

    Edits the copy for a next hop that is a strict router (step 6). Raises MalformedMessage.
    """
    if "route" not in request.names:
        return request.uri
    values = request.get_list("route")
    if not values:
        return request.uri
    first = NameAddr.parse(values[0]).uri
    if "lr" in first.params:
        return first
    target = request.uri_text
    request.replace_all("route", [*values[1:], f"<{target}>"])
    request.set_uri(first.replace(headers="") if first.headers else first)
    return request.uri


def record_route(
    received_on: Address,
    sent_from: Address,
    params: Params = EMPTY,
    received_token: str = "",
    sent_token: str = "",
) -> list[str]:
    """The Record-Route values to put on top of a request, in this order (16.6, step 4).

    One when a request leaves the way it came; else two with ``r2=on``, the outgoing side first.
    ``params`` go into each; a flow token is the user part of its side (RFC 5626 section 5.1), and
    the two sides stand apart as soon as one has a token.
    """
    text = str(params)
    if received_on == sent_from and not received_token and not sent_token:
        return [_record(sent_from, "", "", text)]
    return [
        _record(sent_from, sent_token, ";r2=on", text),
        _record(received_on, received_token, ";r2=on", text),
    ]


def _record(address: Address, user: str, double: str, params: str) -> str:
    transport = address.transport
    port = None if address.port == 5060 and transport in ("UDP", "TCP") else address.port
    where = join_host_port(address.host, port)
    if user:
        where = f"{user}@{where}"
    if transport != "UDP":
        where = f"{where};transport={transport.lower()}"
    return f"<sip:{where}{double};lr{params}>"
