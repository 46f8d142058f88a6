"""The promises between parts. Who provides what: docs/architecture.md, section 5."""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

from pbx.contact_lists import ContactList
from pbx.legs import LegKind, MediaLeg, MediaSession, MediaStatistics, Side
from pbx.sip.address import Address
from pbx.sip.message import Message, Request, Response
from pbx.sip.uri import URI
from pbx.subscriber import Subscriber
from pbx.verdicts import Arrival, Reply, Target, Verdict

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.web.resource import IResource

    from pbx.metrics import Metric
    from pbx.sip.errors import MalformedMessage

# Bytes


class IFlow(Interface):
    """A way to one peer: a UDP address pair or a connection (RFC 5626 section 2)."""

    reliable: bool = Attribute("The transport retransmits by itself: no timers A, E, G.")
    peer: Address = Attribute("The other end.")
    local: Address = Attribute("The listener: transport, bound address and port.")
    sent_by: tuple[str, int] = Attribute("Host and port for our Via, Record-Route and Contact.")
    closed: bool = Attribute("Nothing can be sent any more. Always False for UDP.")
    token: str = Attribute("Unguessable name of a connection for `IFlows.by_token`, '' for UDP.")

    def send(data: bytes) -> None:
        """Send one whole message. Raises TransportFailed when closed or too much is queued."""

    def send_soon(data: bytes) -> None:
        """The same for a message that nobody waits for as much: a datagram leaves when what came
        together with its request was handled, too. That it could not leave is only counted then.
        """

    def keep(seconds: float) -> None:
        """Do not close the connection for being idle within this time; nothing for UDP."""

    def close() -> None:
        """Close the connection; nothing for UDP."""


class IFlows(Interface):
    """Find or open the flow to a next hop."""

    def locate(uri: URI) -> Sequence[Address] | None:
        """Where to send to (RFC 3263) if that is known at once: IP literal or cached answer.

        None means ask `resolve`; an empty sequence that there is no way.
        """

    def resolve(uri: URI) -> Awaitable[Sequence[Address]]:
        """The same through DNS. Raises TransportFailed when nothing is found."""

    def find(address: Address, local: Address | None = None) -> IFlow | None:
        """A flow that is ready: any UDP address, or an open connection to the address.

        ``local`` picks the listener to send from. None: `connect`.
        """

    def prefers_stream(address: Address, size: int) -> bool:
        """Whether a request of so many bytes should rather go there by TCP (RFC 3261 18.1.1)."""

    def connect(address: Address, local: Address | None = None) -> Awaitable[IFlow]:
        """Open a connection, or join one that is being opened. Raises TransportFailed, also for
        WebSocket peers, which nobody can call.
        """

    def by_token(token: str) -> IFlow | None:
        """The open connection of that name (RFC 5626 section 5.3)."""

    def is_own(uri: URI) -> bool:
        """Whether host, port and transport of a URI are one of our listeners (RFC 3261 16.4)."""

    def is_own_host(host: str) -> bool:
        """Whether a host is the address or the advertised name of any listener."""

    def listeners() -> Sequence[Address]:
        """What we listen on, with the ports that were really bound."""


class IWireTap(Interface):
    """Somebody who looks at the messages on the wire: traces, captures."""

    def message_seen(sent: bool, flow: IFlow, data: bytes) -> None:
        """One whole message, received (nothing of it is read or checked yet) or sent. Returns at
        once and sends nothing through a flow; what it raises is logged and harms nobody.
        """


class IWire(Interface):
    """Where the messages of every transport can be looked at: a flag test when nobody does."""

    def tap(tap: IWireTap) -> None:
        """Show it every message from now on."""

    def untap(tap: IWireTap) -> None:
        """No longer; nothing when it was not tapping."""


class ITransportUser(Interface):
    """Who listeners deliver to: the transaction layer."""

    def message_received(message: Message, flow: IFlow) -> None:
        """A message came in; ``received`` and ``rport`` are stamped already."""

    def malformed_received(error: MalformedMessage, flow: IFlow) -> None:
        """Bytes came in that are no good message; ``error.request`` may be answered."""

    def flow_closed(flow: IFlow) -> None:
        """A connection is gone."""


class ISource(Interface):
    """One address that talks to us, a /64 for IPv6, as the transports see it."""

    tokens: int = Attribute("Messages that may come before `wait` is to be asked; count down.")
    stranger: bool = Attribute("Nobody logged in from there yet: ask `meets` first.")

    def wait() -> float:
        """Seconds until it may send again: 0 for go on, infinity for a ban. Asked when ``tokens``
        are below 0; a message that is dropped for it gives its token back.
        """

    def meets(request: Request) -> bool:
        """Whether a request of a stranger is let in; if not it is dropped in silence."""


class IGuard(Interface):
    """Who may talk to us at all: limits and bans by address, for SIP and web alike."""

    def source(host: str) -> ISource:
        """What counts for this address; to be kept by a flow as long as it lives."""

    def banned(host: str) -> float:
        """Seconds that an address is banned for still, 0 for not at all."""

    def failed(host: str, user: str, why: str, where: str = "web") -> None:
        """Wrong credentials came from there: logged, and at a number of them a ban. A challenge
        that was not answered yet is no failure. ``where`` is the transport.
        """

    def proved(host: str) -> None:
        """Somebody logged in from there. Cheap: it may be called for every request."""


# Transactions


class IServerTransaction(Interface):
    """One request that we have to answer (RFC 3261 section 17.2)."""

    request: Request = Attribute("As received; nothing of an INVITE that has its 2xx.")
    flow: IFlow = Attribute("Where it came from.")
    arrived: float = Attribute("Time of the clock.")
    status: int = Attribute("The last status sent, 0 for none yet.")

    def respond(response: Response) -> None:
        """Send a response and let the state machine see it; 2xx of INVITE may repeat."""

    def respond_statelessly(status: int, reason: str, headers: Sequence[tuple[str, str]]) -> None:
        """Send a final response without body and forget the request (8.2.7). As `respond` for an
        INVITE within a dialog, and when a provisional response was sent.
        """


class IClientTransaction(Interface):
    """One request that we sent (RFC 3261 section 17.1)."""

    request: Request = Attribute("As sent.")
    flow: IFlow = Attribute("Where it went.")
    status: int = Attribute("The last status received, 0 for none yet.")

    def cancel(reason: str = "") -> None:
        """Send CANCEL as soon as a provisional response allows it (9.1); ``reason`` is the value
        of a Reason header. Nothing when it has its final response.
        """

    def hand_over(user: IClientUser) -> None:
        """An INVITE has its 2xx: repeats are told to ``user``, and the request is forgotten."""

    def abandon() -> None:
        """Stop retransmitting and forget; the user hears nothing more."""


class IClientUser(Interface):
    """Who sent a request."""

    def response_received(transaction: IClientTransaction, response: Response) -> None:
        """A response, our Via still on top. Retransmitted 2xx of INVITE come again (RFC 6026)."""

    def transaction_failed(transaction: IClientTransaction, status: int) -> None:
        """No final response: 408 time-out, or 503 transport failure."""


class ITransactionUser(Interface):
    """Who the transaction layer delivers to: the proxy core."""

    def request_received(transaction: IServerTransaction) -> None:
        """A new request, neither ACK nor CANCEL."""

    def cancel_received(cancel: IServerTransaction, invite: IServerTransaction | None) -> None:
        """A CANCEL with the transaction that it matches (9.2)."""

    def ack_received(ack: Request, flow: IFlow) -> None:
        """An ACK that belongs to no transaction: for a 2xx, end to end."""

    def stray_response(response: Response, flow: IFlow) -> None:
        """A response that belongs to no transaction (16.7, step 1)."""

    def acknowledged(transaction: IServerTransaction) -> None:
        """The ACK for our negative final response came."""

    def flow_closed(flow: IFlow) -> None:
        """A connection is gone."""


class ITransactions(Interface):
    """The transaction layer, seen from above."""

    def send(
        request: Request, flow: IFlow, user: IClientUser, timeout: float | None = None
    ) -> IClientTransaction:
        """Send a request whose topmost Via is ours. ``timeout`` replaces timers B and F."""

    def send_ack(ack: Request, flow: IFlow) -> None:
        """Send an ACK for a 2xx: no transaction."""

    def merged(request: Request) -> bool:
        """Whether a new request came before along another path: answer 482 (8.2.2.2). To be asked
        once per request, by who answers it as a user agent server.
        """

    def waiting(name: str) -> IServerTransaction | None:
        """A request without final response yet, by topmost branch or Call-ID."""

    def counts() -> Mapping[str, int]:
        """Gauges and counters by name."""


class IUserAgent(Interface):
    """Requests of our own: probes, NOTIFY, MESSAGE, BYE."""

    def send(
        request: Request,
        uri: URI | None = None,
        flow: IFlow | None = None,
        timeout: float | None = None,
    ) -> Awaitable[Response]:
        """Send a request without Via and give its final response (408 and 503 are made up here
        when none comes). Call-ID, CSeq, Max-Forwards are filled in when missing. A 2xx to INVITE
        gets its ACK. Cancelling the Deferred around it sends CANCEL, or BYE when it is too late.
        """


# Tools


class IEvents(Interface):
    """`pbx.events.Events`."""

    def subscribe(kind: type[Any], handler: Callable[[Any], object]) -> None:
        """Call the handler with every later event of exactly this class."""

    def unsubscribe(kind: type[Any], handler: Callable[[Any], object]) -> None:
        """Undo `subscribe`."""

    def wanted(kind: type[Any]) -> bool:
        """Whether anybody listens: lets a hot path skip making the event."""

    def publish(event: object) -> None:
        """Tell everybody; a handler that raises is logged."""


class ITimer(Interface):
    """One entry of the wheel."""

    def cancel() -> None:
        """Do not fire. Safe at any time."""


class ITimers(Interface):
    """`pbx.timing.TimerWheel`."""

    def call_later(seconds: float, call: Callable[..., object], *args: object) -> ITimer:
        """Call after so many seconds."""

    def call_at(due: float, call: Callable[..., object], *args: object) -> ITimer:
        """Call at a time of the clock."""


# Routing


class IRegistry(Interface):
    """Who provides what; answers only while the PBX is built."""

    def provide(interface: Any, part: Any) -> None:
        """Offer a part; it must provide the interface completely, and nobody else may have."""


class IRoutingPolicy(Interface):
    """``etc/routing.py``."""

    def route_request(request: Request, arrival: Arrival) -> Awaitable[Verdict]:
        """What becomes of a request."""


class IDomains(Interface):
    """Which hosts we are responsible for: the ``domain`` table, the default domain, ourselves."""

    def is_local(host: str) -> bool:
        """Case does not matter."""

    def canonical(host: str) -> str:
        """The domain that users are kept under when they are addressed at this host: the default
        domain for our own addresses, else the host in lower case.
        """

    def names() -> Sequence[str]:
        """All of them, the default domain first."""


class IBlacklists(Interface):
    """Named lists of destinations, filled by management commands; what they mean is up to the
    policy.
    """

    def blocks(name: str, address: Address, text: str = "") -> bool:
        """Whether a rule of the list matches a destination, and ``text`` its pattern."""


class IAliases(Interface):
    """The ``dbaliases`` table."""

    def resolve(uri: URI) -> URI:
        """The URI that it stands for, or the same one."""


class IAuthenticator(Interface):
    """Digest authentication against ``subscriber`` (RFC 7616, RFC 8760)."""

    def check(request: Request, arrival: Arrival) -> Awaitable[Reply | None]:
        """None when the sender proved to be the user of From (To for REGISTER), else what to
        answer: a challenge (401 for REGISTER, 407), 403, 400, or 500 without a database.
        """

    def knows(uri: URI) -> bool:
        """Whether there is such a subscriber."""

    def is_own_realm(realm: str) -> bool:
        """Whether credentials for this realm are meant for us and not to be passed on."""


class IHTTPLogin(Interface):
    """Subscribers who log in by HTTP with the password of their phones (RFC 7616)."""

    def log_in(
        method: str,
        uri: str,
        authorization: Sequence[str],
        body: bytes,
        domain: str,
        peer: Address,
    ) -> str | Reply:
        """``user@domain`` of who sent a request with these Authorization values, else what to
        answer: 401 with challenges for this domain, 400, or 500 without a database.
        """


class ISubscribers(Interface):
    """The people behind ``subscriber``, for web pages; a login is ``user`` or ``user@domain``."""

    def log_in(login: str, password: str, peer: Address) -> Subscriber | None:
        """The subscriber whose password that is. None publishes `AuthenticationFailed`; it takes
        as long and looks the same for a user that there is not.
        """

    def find(login: str) -> Subscriber | None:
        """The subscriber of that name."""

    def search(domain: str, text: str, limit: int) -> Sequence[tuple[str, str]]:
        """User and display name of those of a domain who have the text in either, by user."""

    def name(user: str, domain: str) -> str:
        """The display name of a user, "" when none is known."""


class IRegistrar(Interface):
    """Bindings of users (RFC 3261 section 10)."""

    def save(request: Request, arrival: Arrival) -> Awaitable[Reply]:
        """Do an authenticated REGISTER."""

    def lookup(uri: URI, method: str = "") -> Sequence[Target]:
        """Where to reach an address of record or GRUU, best first; only those that accept the
        method. Empty: nowhere.
        """

    def is_registered(uri: URI) -> bool:
        """Whether there is any binding, whatever methods it accepts."""

    def bindings(aor: str = "") -> Sequence[Mapping[str, Any]]:
        """All bindings (of one AOR) as the management interface shows them."""

    def remove(aor: str, contact: str = "") -> int:
        """Remove the bindings of an AOR, or one; how many there were."""

    def pingable(nated_only: bool = True) -> Iterable[tuple[str, Target]]:
        """AOR and target of every binding (behind a NAT), for keep-alives."""


class IDialog(Interface):
    """A call that we track; read-only for everybody but the dialogs service."""

    did: str = Attribute("Our cookie, in Record-Route.")
    call_id: str = Attribute("Call-ID.")
    from_tag: str = Attribute("Tag of the caller.")
    to_tag: str = Attribute("Tag of the callee, '' until known.")
    from_uri: str = Attribute("From URI of the INVITE.")
    to_uri: str = Attribute("To URI of the INVITE.")
    request_uri: str = Attribute("Request-URI of the INVITE as received.")
    from_display: str = Attribute("Display name of the caller.")
    caller: Address = Attribute("Where the INVITE came from.")
    callee: Address | None = Attribute("Where the answering branch went.")
    correlation: str = Attribute(
        "X-PBX-Call of the INVITE or our own id: joins the legs of a call."
    )
    created: float = Attribute("Epoch seconds: INVITE arrived.")
    answered: float = Attribute("Epoch seconds of the first 2xx, 0 before.")
    ended: float = Attribute("Epoch seconds, 0 before.")
    state: int = Attribute("1 to 5 as in the dialog table.")
    accounted: bool = Attribute("The policy asked for accounting.")
    profiles: Mapping[str, str] = Attribute(
        "What the call is counted in: `lb<group>:<resource>` -> destination id, and others."
    )
    ended_by: str = Attribute("caller, callee, timeout, admin or pbx; '' before the end.")
    sip_code: int = Attribute("Final status of the INVITE, 0 before.")
    sip_reason: str = Attribute("Reason phrase of that status, or why we ended the call.")


class IDialogs(Interface):
    """The calls in progress. The core reports, everybody else hears events."""

    def begin(request: Request, arrival: Arrival, account: bool) -> str:
        """An INVITE is going to be relayed: the ``did`` for Record-Route ("" when not tracked)."""

    def provisional(did: str, response: Response) -> None:
        """A 101 to 199 response goes back to the caller."""

    def answered(did: str, response: Response, upstream: IFlow, downstream: IFlow) -> None:
        """A 2xx goes back to the caller; repeats and forks come again."""

    def failed(did: str, status: int, reason: str, cancelled: bool) -> None:
        """The INVITE gets its negative final response."""

    def within(request: Request, arrival: Arrival) -> str:
        """A request along our route: "" when its dialog is unknown, else its ``did``. Raises
        SIPError when the dialog forbids it (strict mode).
        """

    def completed(did: str, request: Request, response: Response) -> None:
        """A request within a dialog got its final response."""

    def find(did: str) -> IDialog | None:
        """By cookie."""

    def find_by_tags(call_id: str, from_tag: str, to_tag: str) -> IDialog | None:
        """By the SIP identifiers, either direction."""

    def flow_towards(did: str, from_tag: str, to_tag: str) -> IFlow | None:
        """The connection by which the side with ``to_tag`` is reached now, None when by none."""

    def all() -> Sequence[IDialog]:
        """Every call that has not ended."""

    def cancel_with(did: str, cancel: Callable[[str], object]) -> None:
        """How to give up a call that is not answered: ``cancel`` takes a Reason value or ""."""

    def end(did: str, by: str = "admin", reason: str = "") -> bool:
        """BYE to both sides (CANCEL before answer); False when there is no such call."""


class ILoadBalancer(Interface):
    """Calls spread over nodes by counted dialogs: the ``load_balancer`` table."""

    def acquire(arrival: Arrival, group: int, resources: str, flags: str = "ns") -> URI | None:
        """The next hop for this call, counted on it; every call for the same ``arrival.call``
        moves on to a destination not tried yet. ``resources`` separated by ";"; flags r, n, s.
        None: none is left.
        """

    def is_destination(peer: Address, group: int, via_port: int | None = None) -> bool:
        """Whether a request came from a destination of the group (enabled or not)."""

    def has_destinations(group: int) -> bool:
        """Whether the group has any row: False means to do without."""

    def reserve(
        arrival: Arrival, group: int, resources: str, flags: str = "ns"
    ) -> Awaitable[URI | None]:
        """The same, agreed with the other nodes of a cluster: together they stay within the
        capacities, unless the flags hold n. Waits for nobody when the PBX is alone.
        """

    def disable(uri: URI, reason: str) -> None:
        """A destination failed us: no calls until a probe succeeds (probe_mode 0: not at all)."""


class IDialplan(Interface):
    """The ``dialplan`` table (plugin)."""

    def translate(uri: URI, dpid: int = 0) -> URI:
        """The URI with its user translated, or the same one."""

    def lookup(text: str, dpid: int = 0) -> tuple[str, str] | None:
        """What becomes of a text, and the attributes of the rule; None when no rule matches."""


class IGateways(Interface):
    """Dynamic routing to gateways: the ``dr_*`` tables (plugin)."""

    def is_gateway(
        peer: Address, via_port: int | None = None, kind: int | None = None, partition: str = ""
    ) -> bool:
        """Whether a request came from any gateway (of a ``type``, of a partition), enabled or not.
        Connections are compared by the port in Via.
        """

    def route(
        uri: URI, caller: URI, group: int | None = None, partition: str = ""
    ) -> Sequence[Target]:
        """Where to send a PSTN number, in the order to try (falling q). ``partition`` is one of
        ``dr_partitions``, "" the default one.
        """


class IDispatcher(Interface):
    """Sets of destinations without counting calls: the ``dispatcher`` table (plugin)."""

    def select(
        request: Request,
        group: int,
        algorithm: int = 4,
        value: Callable[[URI], float] | None = None,
    ) -> Sequence[URI]:
        """The active destinations of a set, the chosen one first, the others in the order to try
        when it fails. ``algorithm`` as in the reference, 0 to 10; ``value`` is what 9 (lowest) and
        10 (highest) compare.
        """

    def targets(
        request: Request,
        uri: URI,
        group: int,
        algorithm: int = 4,
        value: Callable[[URI], float] | None = None,
    ) -> Sequence[Target]:
        """The same as places to send ``uri`` to, with falling q."""

    def is_in_list(peer: Address, group: int | None = None, via_port: int | None = None) -> bool:
        """Whether a request came from a destination of the set (of any), whatever its state."""

    def failed(uri: URI, group: int, reason: str) -> None:
        """One more failure of a destination; it is left alone from the threshold on until a
        probe succeeds.
        """

    def attributes(uri: URI, group: int) -> tuple[str, str]:
        """``attrs`` of the row, and what was pushed for scripts; "" for none."""


class IPresence(Interface):
    """Event state: PUBLISH and SUBSCRIBE."""

    def publish(request: Request, arrival: Arrival) -> Awaitable[Reply]:
        """RFC 3903."""

    def subscribe(request: Request, arrival: Arrival) -> Awaitable[Reply]:
        """RFC 6665."""


class IMessageSilo(Interface):
    """MESSAGEs for users who are away."""

    def store(
        request: Request, arrival: Arrival, owner: URI | None = None, send_at: float = 0.0
    ) -> Awaitable[Reply]:
        """202 when kept for ``owner`` (the Request-URI when None), else why not. Delivered when the
        owner registers; a reminder not before the time ``send_at``.
        """

    def deliver(owner: URI) -> None:
        """Send what waits for a user soon; the silo does so by itself after a registration."""


# Media


class IMediaEngine(Interface):
    """Bridges the media of calls whose sides cannot speak to each other directly.

    `MediaFailed` is the only error of its methods. Whatever they give may take its time, which
    delays the message that carries the session description and no other call.
    """

    name: str = Attribute("As in `[media] engine`, without the address.")
    outlives_us: bool = Attribute("Its sessions go on when the PBX is restarted.")

    def use(user: IMediaUser) -> None:
        """Who hears of digits and of dead sessions. Called once, before `start`."""

    def bridges(one: LegKind, other: LegKind) -> bool:
        """Whether it can bring these two together."""

    def offer(
        session: MediaSession, sdp: bytes, source: MediaLeg, target: MediaLeg
    ) -> Awaitable[bytes]:
        """What ``target`` gets to see of an offer of ``source``.

        The first one opens the session, from either side (a call may begin without an offer of the
        caller). Further ones change it: hold, codecs, another address, ICE restart. The same offer
        may come again and gets the same result.
        """

    def answer(
        session: MediaSession, sdp: bytes, source: MediaLeg, target: MediaLeg
    ) -> Awaitable[bytes]:
        """What the offerer, now ``target``, gets to see of the answer.

        Of a branch that forks further on there may be several, with different tags: the last one
        counts. The same answer may come again, in a 183 and in the 200.
        """

    def delete(session: MediaSession) -> Awaitable[MediaStatistics | None]:
        """Free everything of a session; how it was heard, None when that is unknown. Nothing but
        None for a session that does not exist.
        """

    def query(session: MediaSession) -> Awaitable[MediaStatistics | None]:
        """How it is heard so far."""

    def start() -> Awaitable[None]:
        """As `IStartable`."""

    def stop() -> Awaitable[None]:
        """As `IStartable`: also ends every session."""


class IMedia(Interface):
    """Decides which calls are bridged, and changes their session descriptions.

    The proxy core asks with every message that carries a body. None: it may stay as it is.
    Otherwise the body to send instead, which fails with `MediaFailed`.
    """

    def request(
        did: str, branch: object, request: Request, arrival: Arrival, target: Target, peer: Address
    ) -> Awaitable[bytes] | None:
        """Of a request (as it arrived) that is to leave for ``target``, which is at ``peer``;
        ``branch`` is the sender's name for this way, the same for every attempt.
        """

    def response(
        did: str,
        branch: object,
        request: Request,
        response: Response,
        arrival: Arrival,
        peer: Address,
    ) -> Awaitable[bytes] | None:
        """Of a response to ``request`` (as it arrived) that ``peer`` sent back along the branch."""

    def ack(did: str, ack: Request) -> Awaitable[bytes] | None:
        """Of an ACK for a 2xx."""

    def failed(did: str, branch: object) -> None:
        """An initial INVITE got a negative response on this way, or none."""


class IMediaUser(Interface):
    """Who hears of the sessions of an engine; an engine that cannot notice a thing keeps quiet."""

    def connected(session: MediaSession, side: Side) -> None:
        """The first good packet came from this side, or its DTLS handshake is done."""

    def dtmf(session: MediaSession, side: Side, digit: str, milliseconds: int) -> None:
        """A side pressed a key (RFC 4733): one of ``0-9*#ABCD``, told once, at its end."""

    def media_timeout(session: MediaSession, side: Side | None) -> None:
        """A side (None: unknown which) has fallen silent though it should not. The session still
        exists, unless the engine is another program and has dropped it; `delete` is safe.
        """


class IDocuments(Interface):
    """XML documents that users keep with us (RFC 4825); see the event `DocumentChanged`."""

    def document(auid: str, owner: str, name: str = "index") -> bytes | None:
        """The document of ``user@domain`` in one application usage, None when there is none."""

    def named(auid: str) -> Iterable[tuple[str, str]]:
        """Owner and name of every document of one usage."""


class IContactLists(Interface):
    """Contact lists of users, by the address that they are watched under (RFC 4826)."""

    def contact_list(aor: str) -> ContactList | None:
        """The list of ``user@domain`` as its documents are now, None when it is no list."""


# Storage


class IDatabase(Interface):
    """A database with OpenSIPS's tables. SQL is written with ``?`` placeholders.

    Every method gives a Deferred; failures are `pbx.errors.DatabaseError`.
    """

    url: str = Attribute("As configured, without password.")
    dialect: str = Attribute("sqlite or postgres.")
    available: bool = Attribute("The last operation did not fail for want of the server.")
    trouble: str = Attribute("Why it is not available, '' when it is.")
    prompt: bool = Attribute("It is available and answers soon: what others wrote is known here.")

    def start() -> Awaitable[Sequence[str]]:
        """Open it and complete the schema; one line for each thing that was added to a database
        that was not empty. Fails with DatabaseError, or `pbx.storage.layout.SchemaMismatch` for
        tables of a version that we do not know.
        """

    def query(sql: str, params: Sequence[object] = ()) -> Awaitable[list[tuple[Any, ...]]]:
        """The rows of a SELECT."""

    def execute(sql: str, params: Sequence[object] = ()) -> Awaitable[int]:
        """A statement; the number of rows it touched."""

    def write(
        table: str,
        key: Sequence[str],
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        deletes: Sequence[Sequence[object]] = (),
    ) -> Awaitable[None]:
        """Delete by key and upsert ``rows`` (values of ``columns``, which include ``key``), in one
        transaction and one statement each. An empty ``key`` only inserts. A row that the database
        refuses is dropped, counted and logged; the others are written.
        """

    def close() -> Awaitable[None]:
        """After what was begun is done."""


class IChangeSource(Interface):
    """A database that tells which tables have changed, whoever changed them."""

    pushes: bool = Attribute("Changes are reported at once: polling is not needed now.")

    def watch(tables: Sequence[str], changed: Callable[[str], None]) -> Awaitable[None]:
        """Install what notices changes; ``changed(table)`` is called if the database can push."""

    def change_marks(tables: Sequence[str]) -> Awaitable[Mapping[str, object]]:
        """A value for each table that differs after a change."""


class IWriteBehind(Interface):
    """Row changes on their way to one table, flushed in batches."""

    waiting: int = Attribute("Changes that are not in the database yet.")
    written: int = Attribute("Changes that are.")
    dropped: int = Attribute("Rows given up because too many waited.")
    oldest: float = Attribute("Seconds that the longest waiting change has waited.")

    def put(
        key: tuple[object, ...], row: tuple[object, ...] | Callable[[], tuple[object, ...]]
    ) -> None:
        """The row as it is now; replaces one that is still waiting. A function is called for the
        row when it is flushed.
        """

    def insert(row: tuple[object, ...]) -> None:
        """One more row of a table that only grows."""

    def delete(key: tuple[object, ...]) -> None:
        """The row is gone."""

    def forget(key: tuple[object, ...]) -> None:
        """A change that waits is not to be written: another node writes the row."""

    def stop() -> Awaitable[None]:
        """Flush what waits, for a limited time, and end."""

    def flush() -> Awaitable[None]:
        """Everything that waits now is in the database (or the attempt failed and it waits on)."""


class ICache(Interface):
    """Short values by key for other programs: in the process, or Redis. Never awaited in a call."""

    def set(key: str, value: str, ttl: float | None = None) -> None:
        """Keep for ``ttl`` seconds (for ever when None); failures are counted and logged."""

    def delete(key: str) -> None:
        """Forget."""

    def get(key: str) -> Awaitable[str | None]:
        """None when absent or out of reach."""


class IBus(Interface):
    """Short texts that every node of a cluster hears, the sender too. Some may get lost."""

    url: str = Attribute("As configured, without password.")
    connected: bool = Attribute("Texts are passed on just now, as far as we know.")
    trouble: str = Attribute("Why they are not, '' when they are.")
    limit: int = Attribute("Most bytes of one text.")

    def start() -> Awaitable[None]:
        """Begin to connect; nobody waits for it."""

    def stop() -> Awaitable[None]:
        """No further text is passed on."""

    def deliver_to(received: Callable[[str], None]) -> None:
        """Who hears what the nodes say."""

    def publish(text: str) -> None:
        """Say it to all nodes; lost while there is no connection."""

    def reconnect() -> None:
        """Nothing is heard although it should be: try a new connection."""


class ITally(Interface):
    """Numbers that the nodes of a cluster agree upon, one for each node and name under a key."""

    def put(key: str, node: str, numbers: Mapping[str, int]) -> None:
        """These are the node's numbers now; failures are counted."""

    def take(
        key: str, node: str, numbers: Mapping[str, int], limits: Mapping[str, int]
    ) -> Awaitable[Mapping[str, int] | None]:
        """The same if the sum of all nodes stays within each limit: an empty mapping. Otherwise
        the sums of the other nodes. None when nobody answered in time.
        """

    def forget(key: str, node: str) -> None:
        """The node counts no more."""


# Cluster


class INode(Interface):
    """Another PBX on the same database."""

    name: str = Attribute("As it calls itself.")
    alive: bool = Attribute("It was heard lately.")


class ICluster(Interface):
    """The nodes that share a database. Parts that were given none are alone."""

    name: str = Attribute("Our own name.")

    def node(name: str) -> INode:
        """Another node, heard of or not; always the same object."""

    def publish(topic: str, body: object) -> None:
        """Say something to the other nodes; it may get lost. ``body`` is for JSON; a list is sent
        in parts when it is too long.
        """

    def listen(topic: str, handler: Callable[[INode, Any], object]) -> None:
        """Call with what other nodes say."""

    def leads() -> bool:
        """Whether we are the one who cares for what a dead node left."""

    def is_node(peer: Address) -> bool:
        """Whether packets from there come from another node."""

    def deliver_with(find: Callable[[str, int], Target | None]) -> None:
        """``find(aor, contact_id)`` says how to reach a binding of ours."""

    def route_to(node: INode, aor: str, contact_id: int) -> str:
        """The Route value by which a node reaches a binding of its own (RFC 3327, RFC 5626)."""

    def forwarded(route: URI, peer: Address) -> Verdict | None:
        """What becomes of an initial request along our Route: None when no node made it."""


# Management


class ICommands(Interface):
    """A part with commands for the management interface."""

    def commands() -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """(name, recipes, function): each recipe is a list of parameter names; the function takes
        them as keyword arguments (all text or numbers as sent) and returns a JSON value or an
        awaitable of one. It raises `pbx.commands.CommandFailed` with a code.
        """


class IManagement(Interface):
    """The dispatcher of management commands, for whatever carries text."""

    def handle(text: bytes) -> Awaitable[bytes | None]:
        """The answer to one JSON-RPC request or batch; None to a notification. Never fails."""


class IWebSite(Interface):
    """The HTTP site."""

    def put(path: str, page: IResource) -> None:
        """Serve a page, with all below it, at a path of one segment; "/" is the front page."""


class IFolder(Interface):
    """The folder that relative paths of the configuration start from."""

    def located(path: Path) -> Path:
        """An absolute path for one that was configured."""


class IStatistics(Interface):
    """A part that counts."""

    def statistics() -> Mapping[str, int]:
        """Counters and gauges by ``group:name``, the names of the reference where it has any."""


class IMetrics(Interface):
    """A part that measures with labels, or durations; `IStatistics` is for plain numbers."""

    def metrics() -> Iterable[Metric]:
        """As of now, for a scrape: cheap, whatever the part has in memory."""


class ITrusted(Interface):
    """A part that knows hosts of ours: nodes, gateways. They are never limited nor banned."""

    def trusted_hosts() -> Iterable[str]:
        """Their addresses, as they are known now."""


class IStartable(Interface):
    """A part that reads its rows before it serves, or writes its last before it goes."""

    def start() -> Awaitable[None]:
        """Ready to serve when done. Called in build order."""

    def stop() -> Awaitable[None]:
        """Nothing is lost when done. Called in reverse order."""


class IReloadable(Interface):
    """A part that keeps a table in memory."""

    def reload() -> Awaitable[None]:
        """Read it again; on any error the old rows stay and the error is raised."""


class IHealth(Interface):
    """A part that may be unwell."""

    def health() -> tuple[str, str]:
        """("ok" | "degraded" | "down", why)."""


class IPBXPlugin(Interface):
    """A module of ``plugins/``."""

    name: str = Attribute("The name in pbx.toml, that of its module.")
    settings: type | None = Attribute("The dataclass of its table, for the reference.")

    def provide(registry: IRegistry, clock: IReactorTime, table: Mapping[str, Any]) -> None:
        """Build the plugin's parts and provide them; ``table`` is its own TOML table. Raises
        `pbx.config.ConfigError`.
        """
