"""Watchers and publishers for tests: the event server on a database in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pbx.events import Events
from pbx.interfaces import IAliases, IDomains, IFlow, IRegistrar, IUserAgent
from pbx.services.cluster import Cluster
from pbx.services.presence import (
    PRESENTITY_COLUMNS,
    PRESENTITY_KEY,
    WAITING_COLUMNS,
    WAITING_KEY,
    WATCHERS_COLUMNS,
    WATCHERS_KEY,
    EventServer,
    PresenceSettings,
)
from pbx.services.xcap import ContactLists, Documents, ServiceURIs
from pbx.services.xcap.documents import Key
from pbx.sip.address import Address
from pbx.sip.errors import SIPError
from pbx.sip.message import Request, Response, response_to
from pbx.sip.uri import URI
from pbx.storage.memory import memory_database
from pbx.storage.write_behind import WriteBehind
from pbx.timing import TimerWheel
from pbx.verdicts import Arrival, Reply, Target
from tests.fakes import FakeFlow, request

START = 1_700_000_000.0
DOMAIN = "pbx.test"
WATCHER = Address("UDP", "192.0.2.50", 5060)
BROWSER = Address("WS", "192.0.2.70", 40000)
PIDF = (
    '<?xml version="1.0"?><presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:1002@pbx.test">'
    '<tuple id="{id}"><status><basic>{basic}</basic></status></tuple>{more}</presence>'
)


def pidf(basic: str = "open", id: str = "a", more: str = "") -> bytes:
    """What a phone publishes."""
    return PIDF.format(basic=basic, id=id, more=more).encode()


@implementer(IDomains)
class OneDomain:
    """``pbx.test`` and the address of the PBX."""

    def is_local(self, host: str) -> bool:
        return host in (DOMAIN, "192.0.2.1")

    def canonical(self, host: str) -> str:
        return DOMAIN if host == "192.0.2.1" else host

    def names(self) -> list[str]:
        return [DOMAIN]


@implementer(IAliases)
class OneAlias:
    """``reception`` is 1002."""

    def resolve(self, uri: URI) -> URI:
        return uri.replace(user="1002") if uri.user == "reception" else uri


@implementer(IRegistrar)
class FakeRegistrar:
    """Bindings as the management interface shows them."""

    def __init__(self) -> None:
        self.known: list[dict[str, Any]] = []

    async def save(self, request: Request, arrival: Arrival) -> Reply:
        return Reply(200)

    def lookup(self, uri: URI, method: str = "") -> list[Target]:
        return []

    def is_registered(self, uri: URI) -> bool:
        return bool(self.bindings(uri.aor))

    def bindings(self, aor: str = "") -> list[dict[str, Any]]:
        return [binding for binding in self.known if aor in ("", binding["AOR"])]

    def remove(self, aor: str, contact: str = "") -> int:
        return 0

    def pingable(self, nated_only: bool = True) -> list[tuple[str, Target]]:
        return []


@implementer(IUserAgent)
class Watchers:
    """What was sent to watchers; each NOTIFY is answered at once, or by hand when ``holding``."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: tuple[tuple[str, str], ...] = ()
        self.holding = False
        self.held: list[tuple[Request, Deferred[Response]]] = []
        self.sent: list[Request] = []
        self.ways: list[tuple[URI | None, IFlow | None]] = []

    async def send(
        self,
        request: Request,
        uri: URI | None = None,
        flow: IFlow | None = None,
        timeout: float | None = None,
    ) -> Response:
        self.sent.append(request)
        self.ways.append((uri, flow))
        if self.holding:
            waiting: Deferred[Response] = Deferred()
            self.held.append((request, waiting))
            return await waiting
        return response_to(request, self.status, headers=self.headers)

    def release(self, status: int = 200) -> None:
        """Answer the oldest NOTIFY that is held."""
        sent, waiting = self.held.pop(0)
        waiting.callback(response_to(sent, status))


class PresenceCase(SynchronousTestCase):
    """``self.server``, with a database that outlives `restart`."""

    settings = PresenceSettings()

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = START
        self.database = memory_database(self.clock)
        self.dialogs = 0
        self.build()

    def build(self, settings: PresenceSettings | None = None) -> None:
        """A new process on the same database."""
        self.timers = TimerWheel(self.clock)
        self.events = Events()
        self.agent = Watchers()
        self.registrar = FakeRegistrar()
        self.queues = [
            WriteBehind(
                self.database, self.clock, "presentity", PRESENTITY_KEY, PRESENTITY_COLUMNS
            ),
            WriteBehind(
                self.database, self.clock, "active_watchers", WATCHERS_KEY, WATCHERS_COLUMNS
            ),
            WriteBehind(self.database, self.clock, "watchers", WAITING_KEY, WAITING_COLUMNS),
        ]
        self.documents = Documents(self.database, self.events, self.clock)
        uris = ServiceURIs(self.documents, self.events)
        lists = ContactLists("xcap-root", self.documents, uris, OneDomain())
        self.server = EventServer(
            settings or self.settings,
            self.database,
            self.queues[0],
            self.queues[1],
            self.queues[2],
            self.agent,
            OneDomain(),
            OneAlias(),
            self.registrar,
            self.documents,
            lists,
            self.events,
            self.clock,
            self.timers,
            self.cluster(),
        )
        self.wait(self.documents.start())
        self.wait(self.server.start())

    def cluster(self) -> Cluster | None:
        """The other nodes; alone unless a test says otherwise."""
        return None

    def write(self, auid: str, body: str, owner: str = "1002@pbx.test") -> None:
        """A user edits a document by XCAP; "" deletes it."""
        key = Key(auid, owner)
        self.wait(self.documents.put(key, body.encode()) if body else self.documents.delete(key))

    def restart(self, kill: bool = False) -> None:
        """Stop and start again, or ``kill -9`` after what was written behind."""
        if not kill:
            self.wait(self.server.stop())
        self.timers.stop()
        for call in self.clock.getDelayedCalls():
            call.cancel()
        self.build()

    def wait(self, awaitable: Any) -> Any:
        """The result of something that does not really wait; raises what it raised."""
        if not isinstance(awaitable, Deferred):
            awaitable = Deferred.fromCoroutine(awaitable)
        results: list[Any] = []
        awaitable.addBoth(results.append)
        self.assertEqual(len(results), 1)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def advance(self, seconds: float) -> None:
        """Time passes in small steps, as reactors have it."""
        while seconds > 0.5:
            self.clock.advance(0.5)
            seconds -= 0.5
        self.clock.advance(seconds)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What the database holds after the write-behind interval."""
        self.advance(1.5)
        rows: list[tuple[Any, ...]] = self.wait(self.database.query(sql))
        return rows

    def command(self, name: str) -> Callable[..., Any]:
        """A management command."""
        return next(function for known, _, function in self.server.commands() if known == name)

    def stat(self, name: str) -> int:
        return self.server.statistics()[f"presence:{name}"]

    # Watchers

    def arrival(
        self, peer: Address = WATCHER, flow: FakeFlow | None = None, behind_nat: bool = False
    ) -> Arrival:
        return Arrival(flow=flow or FakeFlow(peer), peer=peer, behind_nat=behind_nat)

    def asked(
        self,
        headers: str = "Event: presence",
        *,
        uri: str = "sip:1002@pbx.test",
        user: str = "1001",
        to_tag: str = "",
        call_id: str = "",
        cseq: int = 1,
        contact: str = "Contact: <sip:1001@192.0.2.50:5070>",
    ) -> Request:
        """A SUBSCRIBE."""
        self.dialogs += 0 if call_id else 1
        to = f"<{uri}>;tag={to_tag}" if to_tag else ""
        return request(
            f"SUBSCRIBE {uri}",
            f"{contact}\n{headers}" if contact else headers,
            from_=f"<sip:{user}@pbx.test>;tag=w",
            to=to,
            call_id=call_id or f"sub-{self.dialogs}",
            cseq=cseq,
        )

    def answer(self, asked: Request, arrival: Arrival | None = None) -> Reply:
        """What the watcher hears; errors as the core answers them."""
        try:
            reply: Reply = self.wait(self.server.subscribe(asked, arrival or self.arrival()))
        except SIPError as error:
            return Reply(error.status, error.reason, error.headers)
        return reply

    def watch(self, headers: str = "Event: presence", **about: Any) -> Reply:
        """Subscribe and let the first NOTIFY go."""
        reply = self.answer(self.asked(headers, **about))
        self.clock.advance(0.01)
        return reply

    def again(
        self, reply: Reply, headers: str = "Event: presence", *, cseq: int = 2, call_id: str = ""
    ) -> Reply:
        """Another SUBSCRIBE within the dialog of ``reply``."""
        asked = self.asked(
            headers,
            uri="sip:presence@192.0.2.1",
            to_tag=reply.to_tag,
            call_id=call_id or f"sub-{self.dialogs}",
            cseq=cseq,
        )
        answer = self.answer(asked)
        self.clock.advance(0.01)
        return answer

    def notified(self) -> list[Request]:
        """NOTIFYs since the last time."""
        sent, self.agent.sent = self.agent.sent, []
        return sent

    def states(self) -> list[str]:
        """Their Subscription-State values."""
        return [notify.get("subscription-state") or "" for notify in self.notified()]

    # Publishers

    def publish(
        self,
        body: bytes = b"",
        headers: str = "",
        *,
        user: str = "1002",
        uri: str = "sip:1002@pbx.test",
        event: str = "presence",
        content_type: str = "application/pidf+xml",
    ) -> Reply:
        """A PUBLISH; errors as the core answers them."""
        lines = [f"Event: {event}"] if event else []
        if body:
            lines.append(f"Content-Type: {content_type}")
        lines += [headers] if headers else []
        asked = request(
            f"PUBLISH {uri}", "\n".join(lines), from_=f"<sip:{user}@pbx.test>;tag=p", body=body
        )
        try:
            reply: Reply = self.wait(self.server.publish(asked, self.arrival()))
        except SIPError as error:
            return Reply(error.status, error.reason, error.headers)
        return reply

    def etag(self, reply: Reply) -> str:
        return dict(reply.headers)["SIP-ETag"]
