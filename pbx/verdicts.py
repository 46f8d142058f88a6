"""The words of a routing policy: what it is told, and what it may decide."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbx.sip.address import Address
from pbx.sip.route import OwnRoute
from pbx.sip.uri import URI

if TYPE_CHECKING:
    from pbx.interfaces import IFlow
    from pbx.sip.message import Request, Response


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """How a request came in.

    ``peer`` is where it really came from and ``flow`` the way back. ``own_route`` is
    our own Route header that was removed, None when it did not come along a route
    that we recorded. ``preloaded`` says that an initial request still carried a foreign Route.
    ``call`` identifies the call of an initial INVITE ("" otherwise); it becomes the ``did``.
    ``from_node``: another node of the cluster sent it, which did for it what we would do otherwise.
    """

    flow: IFlow
    peer: Address
    own_route: OwnRoute | None = None
    behind_nat: bool = False
    preloaded: bool = False
    call: str = ""
    from_node: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """One place to send a request to.

    ``uri`` becomes the Request-URI. The packet goes to ``flow`` when given (an existing
    connection), else to the first of ``path`` (which is added as Route, RFC 3327), else to
    ``next_hop``, else to ``uri``. Higher ``q`` is tried first, equal ones together.
    ``flow_required`` means that a dead ``flow`` fails the branch with 430 (RFC 5626 section 5.3)
    instead of opening another.
    ``instance`` groups the flows of one device (RFC 5626): of several targets with the same
    instance one is tried after the other. ``socket`` is the local address to send from.
    """

    uri: URI
    next_hop: URI | None = None
    flow: IFlow | None = None
    path: tuple[str, ...] = ()
    q: float = 1.0
    instance: str = ""
    flow_required: bool = False
    behind_nat: bool = False
    socket: Address | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer the request ourselves; an empty ``reason`` is the standard phrase.

    ``to_tag`` is for who begins a dialog and must know the tag; otherwise one is made up.
    ``account`` writes accounting rows of a call that goes nowhere: its callee missed it.
    ``stateless`` keeps nothing of the request, so that a repeat is a new one (RFC 3261 section
    8.2.7): for challenges, which anybody can ask for, and for what is answered the same twice. It
    can have no body nor a tag of its own.
    """

    status: int
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    to_tag: str = ""
    account: bool = False
    stateless: bool = False


#: Called with the request and the best response when all targets failed; its verdict goes on with
#: the request, None passes the response to the caller.
OnFailure = Callable[["Request", "Response"], Awaitable["Verdict | None"]]


@dataclass(frozen=True, slots=True)
class Relay:
    """Send the request on to one or more targets (RFC 3261 section 16).

    ``account`` writes accounting rows; ``timeout`` limits the seconds until a final response
    (timer C otherwise for an INVITE, timer F for the rest); ``headers`` are added to every branch.
    """

    targets: Sequence[Target]
    account: bool = False
    on_failure: OnFailure | None = None
    timeout: float | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Drop:
    """No answer at all: for peers that do not deserve one."""


Verdict = Reply | Relay | Drop
