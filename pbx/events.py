"""Facts after the fact. Each event is published by exactly one module, named in its docstring.

Handlers return at once, cannot fail what they hear of, and publish nothing themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from twisted.logger import Logger
from zope.interface import classImplements

from pbx.interfaces import IEvents
from pbx.legs import MediaStatistics, Side
from pbx.sip.address import Address

if TYPE_CHECKING:
    from pbx.interfaces import IDialog, IFlow, INode
    from pbx.sip.message import Request, Response

EventT = TypeVar("EventT")


class Events:
    """Publish and subscribe within the process, by event class."""

    log: ClassVar = Logger(__name__)

    def __init__(self) -> None:
        self._handlers: dict[type, list[Callable[[Any], object]]] = defaultdict(list)

    def subscribe(self, kind: type[EventT], handler: Callable[[EventT], object]) -> None:
        """Call the handler with every later event of exactly this class."""
        self._handlers[kind].append(handler)

    def unsubscribe(self, kind: type[EventT], handler: Callable[[EventT], object]) -> None:
        """Undo `subscribe`."""
        self._handlers[kind].remove(handler)

    def wanted(self, kind: type) -> bool:
        """Whether anybody listens: lets a hot path skip making the event."""
        return bool(self._handlers.get(kind))

    def publish(self, event: object) -> None:
        """Tell everybody; a handler that raises is logged."""
        for handler in self._handlers.get(type(event), ()):
            try:
                handler(event)
            except Exception:
                self.log.failure("a handler of {event} failed", event=type(event).__name__)


classImplements(Events, IEvents)


@dataclass(frozen=True, slots=True)
class Registered:
    """A binding was added or refreshed (registrar). ``new`` is False for a refresh; ``instance`` as
    in ``+sip.instance``, "" for none.
    """

    aor: str
    contact: str
    expires: float
    flow: IFlow | None
    new: bool
    instance: str = ""


@dataclass(frozen=True, slots=True)
class Unregistered:
    """A binding is gone (registrar): ``reason`` is removed, expired, replaced, flow or admin."""

    aor: str
    contact: str
    reason: str


@dataclass(frozen=True, slots=True)
class AuthenticationFailed:
    """Credentials were offered and are wrong (authenticator); a first challenge is no failure."""

    peer: Address
    username: str
    realm: str
    reason: str


@dataclass(frozen=True, slots=True)
class TransactionCompleted:
    """An accounted request got its final response (proxy core). ``created`` is when it arrived."""

    request: Request
    response: Response
    arrival_peer: Address
    created: float
    call: str


@dataclass(frozen=True, slots=True)
class BranchFailed:
    """One target of a request failed (proxy core): 408 and 503 may be our own, without answer.

    ``provisional``: it had shown a sign of life before.
    """

    request: Request
    next_hop: Address | None
    uri: str
    status: int
    answered: bool
    call: str
    provisional: bool = False


@dataclass(frozen=True, slots=True)
class CallStarted:
    """An INVITE is being relayed (dialogs)."""

    dialog: IDialog


@dataclass(frozen=True, slots=True)
class CallRinging:
    """A first provisional response with a To tag came (dialogs)."""

    dialog: IDialog


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """The first 2xx came (dialogs)."""

    dialog: IDialog


@dataclass(frozen=True, slots=True)
class CallFailed:
    """The INVITE got its negative final response (dialogs). ``cancelled``: the caller gave up."""

    dialog: IDialog
    status: int
    reason: str
    cancelled: bool


@dataclass(frozen=True, slots=True)
class CallEnded:
    """An answered call is over (dialogs). ``by`` is caller, callee, timeout, admin or pbx."""

    dialog: IDialog
    by: str


@dataclass(frozen=True, slots=True)
class CallRestored:
    """A call was read back from the database at start (dialogs)."""

    dialog: IDialog


@dataclass(frozen=True, slots=True)
class FlowClosed:
    """A connection is gone (proxy core)."""

    flow: IFlow


@dataclass(frozen=True, slots=True)
class BalancerCounted:
    """A call was counted on a destination, or moved there (load balancer)."""

    call: str
    group: int
    resources: tuple[str, ...]
    destination: int


@dataclass(frozen=True, slots=True)
class MediaBridged:
    """The media of an answered call goes through an engine (media).

    ``words`` is what a restart must know of it, to be kept with the call.
    """

    call: str
    words: str


@dataclass(frozen=True, slots=True)
class MediaEnded:
    """A bridged call is over, and this is how it was heard (media)."""

    call: str
    statistics: MediaStatistics


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """A side of a bridged call pressed a key (media): one of ``0-9*#ABCD``."""

    call: str
    side: Side
    digit: str
    milliseconds: int


@dataclass(frozen=True, slots=True)
class DestinationChanged:
    """A destination went up or down (load balancer)."""

    group: int
    uri: str
    enabled: bool
    reason: str


@dataclass(frozen=True, slots=True)
class GatewayChanged:
    """A gateway went up or down (dynamic routing): ``state`` is active, probing or disabled."""

    id: str
    address: str
    state: str
    reason: str
    partition: str = "default"


@dataclass(frozen=True, slots=True)
class DispatchChanged:
    """A destination of a dispatcher set changed: ``state`` is active, inactive or probing."""

    set: int
    uri: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class PresenceExposed:
    """A publication, because an operator asked for all of them (presence)."""

    presentity: str
    package: str
    expires: float
    etag: str
    body: bytes


@dataclass(frozen=True, slots=True)
class TableChanged:
    """Rows of a table were changed by another program (storage watcher)."""

    table: str


@dataclass(frozen=True, slots=True)
class DocumentChanged:
    """A document of a user is new, another one or gone (xcap)."""

    auid: str
    owner: str
    name: str


@dataclass(frozen=True, slots=True)
class MessagesWaiting:
    """So many stored messages wait for a user now, ``user@domain`` (msilo)."""

    aor: str
    count: int


@dataclass(frozen=True, slots=True)
class NodeChanged:
    """Another node of the cluster came or went (cluster)."""

    node: INode
    alive: bool


@dataclass(frozen=True, slots=True)
class NewsLost:
    """What other nodes said may have been missed (cluster): look into the database."""


@dataclass(frozen=True, slots=True)
class NewsUnheard:
    """Another node missed what we said (cluster): say again what only we know."""
