"""Copy, edit and stamp one branch of a request (RFC 3261 section 16.6).

The only module that edits what we send on; the received message is never touched.
"""

from __future__ import annotations

from collections.abc import Callable

from pbx.interfaces import IFlow
from pbx.sip.address import Address
from pbx.sip.forking import DEFAULT_BREADTH
from pbx.sip.message import Request
from pbx.sip.nat import repair_contact
from pbx.sip.params import Params, split_outside, unquote
from pbx.sip.route import next_hop, record_route
from pbx.sip.uri import URI, join_host_port
from pbx.sip.via import new_branch
from pbx.verdicts import Arrival, Relay, Target

#: Rule R3: what a request without Max-Forwards gets.
MAX_FORWARDS = 10


class Forwarder:
    """Makes the copies of a request that leave; ``is_own_realm`` tells our credentials apart."""

    def __init__(self, is_own_realm: Callable[[str], bool]) -> None:
        self._is_own_realm = is_own_realm

    def base(self, request: Request, arrival: Arrival, verdict: Relay) -> Request:
        """What all branches have in common, as a copy."""
        base = request.copy()
        if arrival.behind_nat and request.method != "REGISTER":
            repair_contact(base, arrival.peer)
        if "proxy-authorization" in base.names:
            self._consume_credentials(base)
        forwards = request.max_forwards
        base.set("max-forwards", str(MAX_FORWARDS if forwards is None else min(forwards, 256) - 1))
        for name, value in verdict.headers:
            base.append(name.lower(), value)
        return base

    def _consume_credentials(self, base: Request) -> None:
        """Credentials meant for us stay here (22.3)."""
        kept = [
            value
            for value in base.get_all("proxy-authorization")
            if not self._is_own_realm(_realm(value))
        ]
        base.replace_all("proxy-authorization", kept)

    @staticmethod
    def branch(base: Request, target: Target, breadth: int) -> tuple[Request, URI]:
        """The copy for one target, and the URI that decides where it goes (16.6, steps 2 to 7)."""
        copy = base.copy()
        uri = target.uri
        if uri.headers or (uri.params and "method" in uri.params):
            # Neither may stand in a Request-URI (19.1.1).
            uri = uri.replace(headers="", params=uri.params.without("method"))
        copy.set_uri(uri)
        if breadth != DEFAULT_BREADTH or "max-breadth" in copy.names:
            copy.set("max-breadth", str(breadth))
        for name, value in target.headers:
            copy.set(name.lower(), value)
        for route in reversed(target.path):
            copy.prepend("route", route)
        if target.path or target.next_hop is None:
            return copy, next_hop(copy)
        return copy, target.next_hop

    @staticmethod
    def stamp(
        copy: Request,
        flow: IFlow,
        upstream: IFlow,
        route_params: Params | None,
        loop_token: str,
    ) -> None:
        """Record-Route (``route_params`` None: without) and Via, just before sending."""
        host, port = flow.sent_by
        transport = flow.local.transport
        sent_by = join_host_port(host, port)
        copy.prepend("via", f"SIP/2.0/{transport} {sent_by};branch={new_branch(loop_token)}")
        if route_params is not None:
            received_on = Address(upstream.local.transport, *upstream.sent_by)
            values = record_route(
                received_on,
                Address(transport, host, port),
                route_params,
                upstream.token,
                flow.token,
            )
            for value in reversed(values):
                copy.prepend("record-route", value)
        if "content-length" not in copy.names and flow.reliable:
            copy.append("content-length", str(len(copy.body)))


def size(request: Request) -> int:
    """The size on the wire in bytes, near enough for 18.1.1 (non-ASCII text counts less)."""
    return sum(map(len, request.lines)) + 2 * len(request.lines) + len(request.body) + 80


def _realm(credentials: str) -> str:
    """The realm of a Proxy-Authorization value, "" for none."""
    before, found, rest = credentials.partition('realm="')
    if found and "\\" not in credentials and before.count('"') % 2 == 0 and before[-1:] in " ,\t":
        # The usual case: outside of quotes, and without a quoted-pair anywhere.
        return rest.partition('"')[0]
    for part in split_outside(credentials.partition(" ")[2], ","):
        name, _, value = part.partition("=")
        if name.strip(" \t").lower() == "realm":
            return unquote(value.strip(" \t"))
    return ""
