"""Via: stamping, branches, the way of a response, loops (RFC 3261 18.2, RFC 3581, RFC 5393)."""

from __future__ import annotations

from collections.abc import Callable
from os import urandom
from typing import Final

from pbx.sip.address import Address
from pbx.sip.fields import Via
from pbx.sip.message import Request
from pbx.sip.uri import DEFAULT_PORTS

#: Starts the branch of everybody who follows RFC 3261 (8.1.1.7).
MAGIC_COOKIE: Final = "z9hG4bK"


def mark_received(request: Request, peer: Address) -> None:
    """Write the source address and port into the top Via of a request that just came in.

    ``received`` and ``rport`` are filled in for everybody, asked for or not (rule R1); what the
    sender wrote there itself is replaced. Raises MalformedMessage when there is no good Via.
    """
    request.set_via(request.via.with_source(peer.host, peer.port))


def response_destination(via: Via, transport: str) -> tuple[str, int]:
    """Host and port for a response when no connection is left to use (18.2.2, RFC 3581 section 4).

    ``transport`` is the one that the request came by; the host may be a name.
    """
    params = via.params
    port = via.port or DEFAULT_PORTS.get(transport, 5060)
    if via.maddr:
        return _bare(via.maddr), port
    received = params.get("received")
    if not received:
        return via.host, port
    rport = params.get("rport")
    if rport and rport.isascii() and rport.isdigit() and len(rport) <= 5 and 0 < int(rport) < 65536:
        port = int(rport)
    return _bare(received), port


def _bare(host: str) -> str:
    # RFC 5118 section 4.5: IPv6 comes with and without brackets here.
    return host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host


def new_branch(token: str = "") -> str:
    """A branch that nobody used before or can guess; ``token`` is what `loop_token` gave."""
    if token:
        return f"{MAGIC_COOKIE}{urandom(12).hex()}.{token}"
    return MAGIC_COOKIE + urandom(12).hex()


def loop_token(request: Request, also: str = "") -> str:
    """A hash of all that decides where a request goes (16.6 step 8, RFC 5393 section 4.2).

    The same for INVITE, its ACK and its CANCEL. ``also`` is what else the decision depends on.
    Compares only within one run of the process. Raises MalformedMessage.
    """
    names = request.names
    known = hash(
        (
            request.uri_text,
            request.from_.tag,
            request.to.tag,
            request.call_id,
            request.cseq.number,
            tuple(request.get_all("route")) if "route" in names else None,
            tuple(request.get_all("proxy-require")) if "proxy-require" in names else None,
            also,
        )
    )
    return f"{known & 0xFFFFFFFFFFFFFFFF:016x}"


def find_loop(request: Request, own: Callable[[str], bool], also: str = "") -> bool:
    """Whether we sent this very request before: answer 482 (16.3 step 4).

    ``own`` says whether the host of a Via is ours. A request that comes back changed is a
    spiral and may pass. Raises MalformedMessage.
    """
    values = request.get_all("via")
    if len(values) == 1 and "," not in values[0]:
        return False
    token = ""
    for value in request.get_list("via"):
        if MAGIC_COOKIE not in value or "." not in value:
            continue
        via = Via.parse(value)
        if own(via.host):
            token = token or loop_token(request, also)
            if via.branch.rpartition(".")[2] == token:
                return True
    return False
