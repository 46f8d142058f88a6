"""Messages for users who are away, on a database in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pbx.errors import DatabaseError, Kind
from pbx.events import Events, MessagesWaiting, Registered
from pbx.interfaces import (
    ICommands,
    IDatabase,
    IDomains,
    IFlow,
    IMessageSilo,
    IRegistrar,
    IStartable,
    IStatistics,
    IUserAgent,
)
from pbx.services.cluster import Cluster, ClusterSettings
from pbx.services.msilo import Courier, MessageSilo, MessageSiloSettings
from pbx.sip.address import Address
from pbx.sip.message import Request, Response, response_to
from pbx.sip.uri import URI
from pbx.storage.memory import memory_database
from pbx.timing import TimerWheel
from pbx.verdicts import Arrival, Reply, Target
from tests.fakes import LOCAL, PEER, FakeFlow, FakeFlows, request
from tests.services.cluster_case import FakeBus, Hub

NOW = 1_790_000_000
SENT = "Mon, 21 Sep 2026 14:13:20 GMT"
BOB = "1002@pbx.test"
PHONE = "sip:1002@192.0.2.60"
TEXT = "Content-Type: text/plain"


@implementer(IDomains)
class FakeDomains:
    def is_local(self, host: str) -> bool:
        return self.canonical(host) == "pbx.test"

    def canonical(self, host: str) -> str:
        return "pbx.test" if host == LOCAL.host else host

    def names(self) -> Sequence[str]:
        return ("pbx.test",)


@implementer(IRegistrar)
class FakeRegistrar:
    def __init__(self) -> None:
        self.contacts: dict[str, list[Target]] = {}

    async def save(self, request: Request, arrival: Arrival) -> Reply:
        return Reply(200)

    def lookup(self, uri: URI, method: str = "") -> Sequence[Target]:
        return self.contacts.get(uri.aor, ()) if method == "MESSAGE" else ()

    def is_registered(self, uri: URI) -> bool:
        return uri.aor in self.contacts

    def bindings(self, aor: str = "") -> Sequence[Mapping[str, Any]]:
        return ()

    def remove(self, aor: str, contact: str = "") -> int:
        return 0

    def pingable(self, nated_only: bool = True) -> Iterable[tuple[str, Target]]:
        return ()


@implementer(IUserAgent)
class FakeUserAgent:
    """Phones answer with their status of ``answers``, else 200; 0 keeps the sender waiting."""

    def __init__(self) -> None:
        self.answers: dict[str, int] = {}
        self.sent: list[tuple[Request, URI | None, IFlow | None]] = []
        self.waiting: list[tuple[Request, Deferred[Response]]] = []

    async def send(
        self,
        request: Request,
        uri: URI | None = None,
        flow: IFlow | None = None,
        timeout: float | None = None,
    ) -> Response:
        _ = request.from_
        self.sent.append((request, uri, flow))
        status = self.answers.get(request.uri_text, 200)
        if status:
            return response_to(request, status)
        answer: Deferred[Response] = Deferred()
        self.waiting.append((request, answer))
        return await answer

    def answer(self, status: int) -> None:
        """To the oldest request that waits."""
        request, answer = self.waiting.pop(0)
        answer.callback(response_to(request, status))

    def bodies(self) -> list[tuple[str, bytes]]:
        """Where messages went, and their bodies; forgets them."""
        sent, self.sent = self.sent, []
        return [(request.uri_text, request.body) for request, _, _ in sent]


@implementer(IDatabase)
class FailingDatabase:
    """The database of a test, which fails statements that begin with a word of ``failing``."""

    def __init__(self, database: IDatabase) -> None:
        self._database = database
        self.failing: dict[str, Kind] = {}
        self.statements: list[str] = []
        self.url, self.dialect = database.url, database.dialect
        self.available, self.prompt, self.trouble = True, True, ""

    def query(self, sql: str, params: Sequence[object] = ()) -> Any:
        return self._checked(sql) or self._database.query(sql, params)

    def execute(self, sql: str, params: Sequence[object] = ()) -> Any:
        return self._checked(sql) or self._database.execute(sql, params)

    def _checked(self, sql: str) -> Deferred[Any] | None:
        word = sql.partition(" ")[0]
        self.statements.append(word)
        if word in self.failing:
            return fail(DatabaseError(self.failing[word], "the disk is gone"))
        return None

    def start(self) -> Any:
        return self._database.start()

    def write(self, *args: Any) -> Any:
        return self._database.write(*args)

    def close(self) -> Any:
        return self._database.close()


class MessageSiloTestCase(SynchronousTestCase):
    cluster: Cluster | None = None

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.database = FailingDatabase(memory_database(self.clock))
        #: Bindings that a PBX finds in the database when it starts.
        self.restored: dict[str, list[Target]] = {}
        self.silo = self.node()

    def node(self, **settings: Any) -> MessageSilo:
        """A PBX on the database of this test, just started; it replaces the one before."""
        self.events = Events()
        self.registrar = FakeRegistrar()
        self.registrar.contacts.update(self.restored)
        self.user_agent = FakeUserAgent()
        self.flows = FakeFlows()
        self.wheel = TimerWheel(self.clock)
        silo = MessageSilo(
            MessageSiloSettings(**settings),
            self.database,
            Courier(self.user_agent, self.registrar, self.flows),
            FakeDomains(),
            self.events,
            self.clock,
            self.wheel,
            self.cluster,
        )
        self.successResultOf(Deferred.fromCoroutine(silo.start()))
        return silo

    def kill(self) -> None:
        """Nothing more happens in the running PBX; what is not in the database is lost."""
        for call in self.clock.getDelayedCalls():
            call.cancel()

    def store(
        self,
        body: bytes = b"hello",
        headers: str = TEXT,
        uri: str = f"sip:{BOB}",
        owner: str = "",
        send_at: float = 0.0,
    ) -> Reply:
        asked = request(f"MESSAGE {uri}", headers, body=body, to=f"Bob <sip:{BOB}>;x=y")
        arrival = Arrival(flow=FakeFlow(), peer=PEER)
        return self.successResultOf(
            Deferred.fromCoroutine(
                self.silo.store(asked, arrival, URI.parse(owner) if owner else None, send_at)
            )
        )

    def register(self, *targets: Target, aor: str = BOB, new: bool = True) -> None:
        """The phones of a user; the registrar tells of the last one."""
        self.registrar.contacts[aor] = list(targets) or [Target(URI.parse(PHONE))]
        self.events.publish(Registered(aor, PHONE, 600, None, new))

    def advance(self, seconds: float = 1.0) -> None:
        """In small steps, as time goes."""
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)

    def rows(self, columns: str = "body") -> list[tuple[Any, ...]]:
        return self.successResultOf(self.database.query(f"SELECT {columns} FROM silo ORDER BY id"))

    def insert(self, body: bytes = b"theirs", user: str = "1002", **columns: object) -> None:
        """A row that another program made."""
        row: dict[str, object] = {
            "src_addr": "sip:1001@pbx.test",
            "dst_addr": f"sip:{BOB}",
            "username": user,
            "domain": "pbx.test",
            "inc_time": NOW,
            "exp_time": NOW + 1000,
            "ctype": "text/plain",
            "body": body,
            **columns,
        }
        marks = ", ".join("?" * len(row))
        self.successResultOf(
            self.database.execute(
                f"INSERT INTO silo ({', '.join(row)}) VALUES ({marks})", list(row.values())
            )
        )

    def counted(self, name: str) -> int:
        return self.silo.statistics()[f"msilo:{name}"]


class StoreTests(MessageSiloTestCase):
    def test_promises(self) -> None:
        for interface in (IMessageSilo, IStartable, IStatistics, ICommands):
            verifyObject(interface, self.silo)

    def test_row(self) -> None:
        """Section 10 of the schema: addresses, owner, times, type and body as they came."""
        body = bytes(range(256))
        self.assertEqual(self.store(body, "Content-Type: message/cpim; charset=x"), Reply(202))
        columns = "src_addr, dst_addr, username, domain, inc_time, exp_time, snd_time, ctype, body"
        self.assertEqual(
            self.rows(columns),
            [
                (
                    "sip:1001@pbx.test",
                    f"sip:{BOB}",
                    "1002",
                    "pbx.test",
                    NOW,
                    NOW + 259200,
                    0,
                    "message/cpim; charset=x",
                    body,
                )
            ],
        )
        self.assertEqual(
            (self.counted("stored_messages"), self.counted("waiting_messages")), (1, 1)
        )

    def test_owner(self) -> None:
        """Our own address stands for the default domain; the policy may name another owner."""
        self.store(uri=f"sip:1002@{LOCAL.host}:5060;transport=tcp")
        self.store(owner="sip:1003@pbx.test")
        self.assertEqual(
            self.rows("username, domain"), [("1002", "pbx.test"), ("1003", "pbx.test")]
        )

    def test_expires(self) -> None:
        """The earlier of Expires and expire_time; 0 asks not to be kept (RFC 3428 section 4)."""
        self.store(headers=f"{TEXT}\nExpires: 60")
        self.store(headers=f"{TEXT}\nExpires: 999999999")
        self.assertEqual(self.rows("exp_time"), [(NOW + 60,), (NOW + 259200,)])
        self.assertEqual(self.store(headers=f"{TEXT}\nExpires: 0"), Reply(480))
        self.assertEqual(self.store(headers=f"{TEXT}\nExpires: soon").status, 400)

    def test_nothing_to_keep(self) -> None:
        """Neither body nor Content-Type: 400; a type alone is enough."""
        self.assertEqual(self.store(b"", "").status, 400)
        self.assertEqual(self.store(b"", TEXT), Reply(202))
        self.assertEqual(self.store(b"untyped", ""), Reply(202))

    def test_no_user(self) -> None:
        self.assertEqual(self.store(uri="sip:pbx.test"), Reply(484))

    def test_composing(self) -> None:
        """RFC 3994: that somebody is typing is no news tomorrow."""
        reply = self.store(b"<x/>", "Content-Type: Application/IM-isComposing+xml ;charset=utf-8")
        self.assertEqual((reply, self.rows()), (Reply(480), []))

    def test_notification_is_kept(self) -> None:
        """RFC 5438: IMDN is a message like any other."""
        self.assertEqual(self.store(b"<imdn/>", "Content-Type: message/imdn+xml"), Reply(202))

    def test_coding(self) -> None:
        """The table cannot say that a body is compressed."""
        headers = f"{TEXT}\nContent-Encoding: gzip"
        self.assertEqual(
            self.store(headers=headers), Reply(415, headers=(("Accept-Encoding", "identity"),))
        )
        self.assertEqual(self.store(headers=f"{TEXT}\nContent-Encoding: identity"), Reply(202))

    def test_extension(self) -> None:
        """RFC 3261 section 8.2.2.3: who answers for the phone must understand it."""
        self.assertEqual(
            self.store(headers=f"{TEXT}\nRequire: foo, bar"),
            Reply(420, headers=(("Unsupported", "foo, bar"),)),
        )

    def test_size(self) -> None:
        self.silo = self.node(max_size=10)
        self.assertEqual(self.store(b"x" * 10), Reply(202))
        self.assertEqual(self.store(b"x" * 11), Reply(413))

    def test_too_long_for_the_table(self) -> None:
        """A clipped address or type would be another one."""
        self.assertEqual(self.store(headers=f"{TEXT};x={'y' * 255}").status, 480)
        self.assertEqual(self.store(uri=f"sip:{'9' * 65}@pbx.test").status, 480)
        self.assertEqual(self.rows(), [])

    def test_quota(self) -> None:
        """Per user; a delivered message makes room."""
        self.silo = self.node(max_messages=2)
        replies = [self.store().status for _ in range(3)]
        self.assertEqual(replies, [202, 202, 480])
        self.assertEqual(self.store(uri="sip:1003@pbx.test").status, 202)
        self.register()
        self.advance()
        self.registrar.contacts.clear()
        self.assertEqual(self.store().status, 202)

    def test_quota_counts_what_was_there(self) -> None:
        """Also after a restart."""
        self.store()
        self.silo = self.node(max_messages=1)
        self.assertEqual(self.store(), Reply(480, "Too Many Messages Stored"))

    def test_database_away(self) -> None:
        """No 202 for what is not in the database; nothing of it stays in memory."""
        self.database.failing["INSERT"] = Kind.UNAVAILABLE
        self.assertEqual(self.store(), Reply(503, headers=(("Retry-After", "30"),)))
        self.database.failing["INSERT"] = Kind.REFUSED
        self.assertEqual(self.store().status, 480)
        self.assertEqual(
            (self.counted("stored_messages"), self.counted("waiting_messages")), (0, 0)
        )
        self.database.failing.clear()
        self.assertEqual(self.store(), Reply(202))


class DeliveryTests(MessageSiloTestCase):
    def test_message(self) -> None:
        """As it was sent, with the time of sending (RFC 3428 section 7)."""
        self.store(b"\x00\xff", "Content-Type: application/x-any; a=b")
        self.advance(100)
        self.register()
        self.advance()
        ((sent, uri, flow),) = self.user_agent.sent
        self.assertEqual(
            (sent.method, sent.uri_text, sent.body, uri, flow),
            ("MESSAGE", PHONE, b"\x00\xff", None, None),
        )
        self.assertEqual(
            [sent.get(name) for name in ("from", "to", "date", "content-type", "content-length")],
            ["<sip:1001@pbx.test>", f"<sip:{BOB}>", SENT, "application/x-any; a=b", "2"],
        )

    def test_after_the_answer_to_the_registration(self) -> None:
        """The event comes before the 200 leaves."""
        self.store()
        self.register()
        self.clock.advance(0.4)
        self.assertEqual(self.user_agent.sent, [])
        self.clock.advance(0.2)
        self.assertEqual(len(self.user_agent.sent), 1)

    def test_order_and_end(self) -> None:
        """One after the other, each once, and then the table is empty."""
        for body in (b"1", b"2", b"3"):
            self.store(body)
        self.user_agent.answers[PHONE] = 0
        self.register()
        self.advance()
        self.assertEqual(self.user_agent.bodies(), [(PHONE, b"1")])
        self.user_agent.answer(200)
        self.assertEqual(self.user_agent.bodies(), [(PHONE, b"2")])
        self.user_agent.answer(202)
        self.user_agent.answer(200)
        self.assertEqual(self.user_agent.bodies(), [(PHONE, b"3")])
        self.assertEqual((self.rows(), self.counted("dumped_messages")), ([], 3))
        self.register()
        self.advance(200)
        self.assertEqual(self.user_agent.sent, [])

    def test_registrations_close_together(self) -> None:
        """One run per user, however often the phones register."""
        self.store()
        self.user_agent.answers[PHONE] = 0
        for _ in range(3):
            self.register()
            self.advance()
            self.register(new=False)
        self.assertEqual(len(self.user_agent.sent), 1)
        self.user_agent.answer(200)
        self.advance(200)
        self.assertEqual((len(self.user_agent.sent), self.rows()), (1, []))

    def test_registrations_do_not_postpone(self) -> None:
        """A phone that registers all the time gets its messages, too."""
        self.store()
        self.register()
        for _ in range(2):
            self.clock.advance(0.4)
            self.register(new=False)
        self.assertEqual(len(self.user_agent.sent), 1)

    def test_registrations_without_messages_cost_nothing(self) -> None:
        """The database is not asked."""
        self.store(uri="sip:1003@pbx.test")
        self.database.statements.clear()
        self.register()
        self.advance(5)
        self.assertEqual(self.database.statements, [])

    def test_spelling(self) -> None:
        """A registrar that ignores case, or leaves the domain away, means the same user."""
        self.store(uri="sip:Bob@pbx.test")
        self.store(uri="sip:1003@pbx.test")
        self.registrar.contacts["Bob@pbx.test"] = [Target(URI.parse(PHONE))]
        self.registrar.contacts["1003@pbx.test"] = [Target(URI.parse(PHONE))]
        for aor in ("bob@pbx.test", "1003"):
            self.events.publish(Registered(aor, PHONE, 600, None, True))
            self.advance()
        self.assertEqual(self.rows(), [])

    def test_date_in_body(self) -> None:
        """Only plain text is for people to read."""
        self.silo = self.node(add_date_to_body=True)
        self.store(b"hi", "Content-Type: text/plain;charset=UTF-8")
        self.store(b"<p>hi", "Content-Type: text/html")
        self.register()
        self.advance()
        note = f"[Offline message - {SENT}] hi".encode()
        self.assertEqual(self.user_agent.bodies(), [(PHONE, note), (PHONE, b"<p>hi")])

    def test_retry(self) -> None:
        """After 60, 120, 240 s; the later messages wait so that the order stays."""
        self.silo = self.node(retries=2)
        self.store(b"1")
        self.store(b"2")
        self.user_agent.answers[PHONE] = 408
        self.register()
        for seconds in (1, 60, 120, 2000):
            self.advance(seconds)
            self.assertEqual(len(self.user_agent.bodies()), 0 if seconds == 2000 else 1)
        self.assertEqual((len(self.rows()), self.counted("failed_messages")), (2, 3))
        self.register(new=False)
        self.advance(62)
        self.assertEqual(len(self.user_agent.bodies()), 2)
        del self.user_agent.answers[PHONE]
        self.register(new=False)
        self.advance()
        self.assertEqual(self.user_agent.bodies(), [(PHONE, b"1"), (PHONE, b"2")])

    def test_refused(self) -> None:
        """What this phone does not want blocks nothing and is kept for another one."""
        self.store(b"1")
        self.user_agent.answers[PHONE] = 415
        self.register()
        self.advance()
        del self.user_agent.answers[PHONE]
        self.registrar.contacts.clear()
        self.store(b"2")
        self.register(new=False)
        self.advance(300)
        self.assertEqual(self.user_agent.bodies(), [(PHONE, b"1"), (PHONE, b"2")])
        self.register(Target(URI.parse("sip:other@192.0.2.61")))
        self.advance()
        self.assertEqual(self.user_agent.bodies(), [("sip:other@192.0.2.61", b"1")])

    def test_came_while_it_was_stored(self) -> None:
        """The registration between the policy's look and the row is not missed."""
        original = self.database.query

        def registering(sql: str, params: Sequence[object] = ()) -> Any:
            if sql.startswith("INSERT"):
                self.register()
            return original(sql, params)

        self.patch(self.database, "query", registering)
        self.assertEqual(self.store(), Reply(202))
        self.advance()
        self.assertEqual(len(self.user_agent.sent), 1)

    def test_registered_phone_did_not_answer(self) -> None:
        """Stored after 408: tried again by itself, not at once."""
        self.register()
        self.store()
        self.advance(59)
        self.assertEqual(self.user_agent.sent, [])
        self.advance(2)
        self.assertEqual(self.user_agent.bodies(), [(PHONE, b"hello")])

    def test_gone_before_delivery(self) -> None:
        self.store()
        self.register()
        self.registrar.contacts.clear()
        self.advance(100)
        self.assertEqual((self.user_agent.sent, len(self.rows())), ([], 1))

    def test_by_the_policy(self) -> None:
        """m_dump."""
        self.store()
        self.registrar.contacts[BOB] = [Target(URI.parse(PHONE))]
        self.silo.deliver(URI.parse(f"sip:{BOB}"))
        self.silo.deliver(URI.parse("sip:nobody@pbx.test"))
        self.advance()
        self.assertEqual(len(self.user_agent.sent), 1)

    def test_parallel(self) -> None:
        """A bound on how many users are served at the same time."""
        self.silo = self.node(parallel=2)
        self.user_agent.answers[PHONE] = 0
        for user in ("1", "2", "3"):
            self.store(uri=f"sip:{user}@pbx.test")
            self.register(aor=f"{user}@pbx.test")
        self.advance()
        self.assertEqual(len(self.user_agent.sent), 2)
        self.user_agent.answer(200)
        self.assertEqual(len(self.user_agent.sent), 3)

    def test_row_that_makes_no_request(self) -> None:
        """Does not block the others."""
        self.insert(b"bad", src_addr='"> <sip:x')
        self.store(b"good")
        self.silo = self.node()
        self.register()
        self.advance()
        self.assertEqual(self.user_agent.bodies(), [(PHONE, b"good")])


class TargetTests(MessageSiloTestCase):
    """Where a message goes, as for any request (verdicts.Target)."""

    def sent_to(self, *targets: Target) -> list[tuple[Request, URI | None, IFlow | None]]:
        self.store()
        self.register(*targets)
        self.advance()
        return self.user_agent.sent

    def test_flow(self) -> None:
        """RFC 5626: the connection of the phone."""
        flow = FakeFlow()
        ((_, _, used),) = self.sent_to(Target(URI.parse(PHONE), flow=flow))
        self.assertIs(used, flow)

    def test_dead_flow(self) -> None:
        """Another way when there may be one."""
        flow, hop = FakeFlow(), URI.parse("sip:192.0.2.99:7000")
        flow.close()
        ((_, uri, used),) = self.sent_to(Target(URI.parse(PHONE), flow=flow, next_hop=hop))
        self.assertEqual((uri, used), (hop, None))

    def test_dead_flow_required(self) -> None:
        """The user agent answers 430 for it."""
        flow = FakeFlow()
        flow.close()
        ((_, _, used),) = self.sent_to(Target(URI.parse(PHONE), flow=flow, flow_required=True))
        self.assertIs(used, flow)

    def test_path(self) -> None:
        """RFC 3327: as Route, in order."""
        path = ("<sip:p1.test;lr>", "<sip:p2.test;lr>")
        ((sent, uri, _),) = self.sent_to(Target(URI.parse(PHONE), path=path))
        self.assertEqual((sent.get_all("route"), uri), (list(path), None))

    def test_socket(self) -> None:
        """The NAT of the phone knows one listener only."""
        hop = URI.parse("sip:192.0.2.99:7000")
        ((_, _, used),) = self.sent_to(Target(URI.parse(PHONE), next_hop=hop, socket=LOCAL))
        assert used is not None
        self.assertEqual(used.peer, Address("UDP", "192.0.2.99", 7000))

    def test_uri(self) -> None:
        """RFC 3261 section 19.1.1: no headers in a Request-URI."""
        uri = URI.parse(f"{PHONE};method=INVITE;x=y?Subject=a")
        ((sent, _, _),) = self.sent_to(Target(uri))
        self.assertEqual(sent.uri_text, f"{PHONE};x=y")

    def test_all_phones(self) -> None:
        """One that takes it is enough."""
        other = "sip:1002@192.0.2.61"
        self.user_agent.answers[other] = 408
        sent = self.sent_to(Target(URI.parse(other)), Target(URI.parse(PHONE)))
        self.assertEqual(([one.uri_text for one, _, _ in sent], self.rows()), ([other, PHONE], []))

    def test_lower_q_is_second_choice(self) -> None:
        """RFC 3261 section 16.6."""
        other = "sip:1002@192.0.2.61"
        targets = [Target(URI.parse(PHONE), q=0.5), Target(URI.parse(other), q=1.0)]
        self.user_agent.answers[other] = 480
        self.assertEqual([one.uri_text for one, _, _ in self.sent_to(*targets)], [other, PHONE])
        self.user_agent.sent.clear()
        del self.user_agent.answers[other]
        self.registrar.contacts.clear()
        self.assertEqual([one.uri_text for one, _, _ in self.sent_to(*targets)], [other])

    def test_one_device_with_two_flows(self) -> None:
        """RFC 5626: the second flow only when the first one fails."""
        first, second = (
            Target(URI.parse(f"sip:1002@192.0.2.{host}"), instance="<urn:uuid:1>")
            for host in (61, 62)
        )
        self.assertEqual(len(self.sent_to(first, second)), 1)
        self.user_agent.sent.clear()
        self.registrar.contacts.clear()
        self.user_agent.answers[str(first.uri)] = 430
        self.assertEqual(len(self.sent_to(first, second)), 2)
        self.assertEqual(self.rows(), [])


class CrashTests(MessageSiloTestCase):
    """Nothing is lost, nothing comes twice unless the answer was lost."""

    def test_between_store_and_delivery(self) -> None:
        self.store(b"1")
        self.store(b"2")
        self.kill()
        self.silo = self.node()
        self.register()
        self.advance(200)
        self.assertEqual(self.user_agent.bodies(), [(PHONE, b"1"), (PHONE, b"2")])
        self.kill()
        self.silo = self.node()
        self.register()
        self.advance(200)
        self.assertEqual(self.user_agent.sent, [])

    def test_before_the_answer(self) -> None:
        """The phone may have it or not: it gets it again."""
        self.store()
        self.user_agent.answers[PHONE] = 0
        self.register()
        self.advance()
        self.assertEqual(len(self.user_agent.sent), 1)
        self.kill()
        self.silo = self.node()
        self.register()
        self.advance()
        self.assertEqual((len(self.user_agent.sent), self.rows()), (1, []))

    def test_registered_when_started(self) -> None:
        """Bindings outlive a restart: nobody has to register for it."""
        self.store()
        self.kill()
        self.restored[BOB] = [Target(URI.parse(PHONE))]
        self.silo = self.node()
        self.advance()
        self.assertEqual(len(self.user_agent.sent), 1)

    def test_not_deleted(self) -> None:
        """The database fails after the phone has it: deleted later, not sent again."""
        self.store()
        self.database.failing["DELETE"] = Kind.UNAVAILABLE
        self.register()
        self.advance(2)
        self.register()
        self.advance(100)
        self.assertEqual((len(self.user_agent.sent), len(self.rows())), (1, 1))
        self.database.failing.clear()
        self.advance(100)
        self.assertEqual((len(self.user_agent.sent), self.rows()), (1, []))

    def test_not_read(self) -> None:
        """The database is away when the phone registers: delivered when it is back."""
        self.store()
        self.database.failing["SELECT"] = Kind.UNAVAILABLE
        self.register()
        self.advance(10)
        self.database.failing.clear()
        self.advance(60)
        self.assertEqual((len(self.user_agent.sent), self.rows()), (1, []))

    def test_stopped(self) -> None:
        """What is planned stays in the table, and no timer stays."""
        self.store()
        self.register()
        self.successResultOf(Deferred.fromCoroutine(self.silo.stop()))
        self.advance(200)
        self.assertEqual((self.user_agent.sent, len(self.rows())), ([], 1))
        self.assertEqual(len(self.wheel), 0)


class TableTests(MessageSiloTestCase):
    """Rows of other programs, and old ones."""

    def test_found_later(self) -> None:
        """Within check_time, for a user who is registered and for one who comes."""
        self.register()
        self.insert(b"1")
        self.insert(b"2", user="1003")
        self.advance(31)
        self.assertEqual(self.user_agent.bodies(), [(PHONE, b"1")])
        self.register(aor="1003@pbx.test")
        self.advance()
        self.assertEqual(self.user_agent.bodies(), [(PHONE, b"2")])

    def test_deleted_by_others(self) -> None:
        """Not sent, and no longer counted after the thorough look."""
        self.store()
        self.successResultOf(self.database.execute("DELETE FROM silo"))
        self.advance(151)
        self.assertEqual(self.counted("waiting_messages"), 0)
        self.register()
        self.advance()
        self.assertEqual(self.user_agent.sent, [])

    def test_id_given_again(self) -> None:
        """The row of another user under an id that we remember is left to its owner."""
        self.store()
        self.successResultOf(self.database.execute("DELETE FROM silo"))
        self.insert(b"private", user="1003")
        self.registrar.contacts["1003@pbx.test"] = [Target(URI.parse("sip:3@192.0.2.63"))]
        self.register()
        self.advance()
        self.assertEqual(self.user_agent.sent, [])
        self.advance(151)
        self.assertEqual(self.user_agent.bodies(), [("sip:3@192.0.2.63", b"private")])

    def test_expired(self) -> None:
        """Not delivered, and removed; 0 lasts for ever."""
        self.store(headers=f"{TEXT}\nExpires: 100")
        self.insert(b"eternal", exp_time=0)
        self.advance(101)
        self.register()
        self.advance()
        self.assertEqual(self.user_agent.bodies(), [(PHONE, b"eternal")])
        self.advance(50)
        self.assertEqual((self.rows(), self.counted("waiting_messages")), ([], 0))

    def test_list(self) -> None:
        """`msilo_list`."""
        self.store()
        self.store()
        ((name, recipes, call),) = self.silo.commands()
        self.assertEqual((name, recipes), ("msilo_list", [[]]))
        self.assertEqual(call(), {"Mailboxes": [{"aor": BOB, "messages": 2, "delivering": False}]})


class ReminderTests(MessageSiloTestCase):
    def test_at_its_time(self) -> None:
        """snd_time: not before, also when the user registers before."""
        self.assertEqual(self.store(send_at=NOW + 100), Reply(202))
        self.assertEqual(self.rows("snd_time, exp_time"), [(NOW + 100, NOW + 100 + 259200)])
        self.store(b"now")
        self.register()
        self.advance(98)
        self.assertEqual(self.user_agent.bodies(), [(PHONE, b"now")])
        self.advance(4)
        self.assertEqual(self.user_agent.bodies(), [(PHONE, b"hello")])
        self.assertEqual((self.counted("dumped_reminders"), self.rows()), (1, []))

    def test_away_at_its_time(self) -> None:
        """At the next registration."""
        self.store(send_at=NOW + 100)
        self.advance(200)
        self.assertEqual(self.user_agent.sent, [])
        self.register()
        self.advance()
        self.assertEqual(len(self.user_agent.sent), 1)

    def test_restart(self) -> None:
        self.store(send_at=NOW + 100)
        self.kill()
        self.silo = self.node()
        self.register()
        self.advance(99)
        self.assertEqual(self.user_agent.sent, [])
        self.advance(3)
        self.assertEqual(len(self.user_agent.sent), 1)


class WaitingTests(MessageSiloTestCase):
    """Whoever shows waiting messages hears how many there are."""

    def node(self, **settings: Any) -> MessageSilo:
        silo = super().node(**settings)
        self.told: list[tuple[str, int]] = []
        self.events.subscribe(
            MessagesWaiting, lambda event: self.told.append((event.aor, event.count))
        )
        return silo

    def test_stored_and_delivered(self) -> None:
        self.store()
        self.store()
        self.register()
        self.advance()
        self.assertEqual(self.told, [(BOB, 1), (BOB, 2), (BOB, 0)])

    def test_restart(self) -> None:
        """What was there is told when it is found: the event server is up before the silo reads."""
        self.store()
        self.told.clear()
        self.advance(31)
        self.assertEqual(self.told, [])
        self.insert()
        self.advance(30)
        self.assertEqual(self.told, [(BOB, 2)])

    def test_reminders_of_later(self) -> None:
        self.store(send_at=NOW + 100)
        self.assertEqual(self.told, [])
        self.advance(102)
        self.assertEqual(self.told, [(BOB, 1)])

    def test_deleted_by_others(self) -> None:
        self.store()
        self.successResultOf(self.database.execute("DELETE FROM silo"))
        self.advance(200)
        self.assertEqual(self.told, [(BOB, 1), (BOB, 0)])


class SharedTests(MessageSiloTestCase):
    """Several nodes, one table."""

    def test_one_node_sends(self) -> None:
        """The user registers with both at once."""
        self.store()
        nodes = []
        for _ in range(2):
            self.node(shared=True)
            self.user_agent.answers[PHONE] = 0
            self.register()
            nodes.append(self.user_agent)
        self.advance(10)
        self.assertEqual(sorted(len(agent.sent) for agent in nodes), [0, 1])
        sender = next(agent for agent in nodes if agent.sent)
        sender.answer(200)
        self.advance(400)
        self.assertEqual(sum(len(agent.sent) for agent in nodes), 1)
        self.assertEqual(self.rows(), [])

    def test_news_of_another_node(self) -> None:
        """What one node of a cluster stored is known to the others at once."""
        hub = Hub()
        told: list[MessagesWaiting] = []
        clusters = [
            Cluster(
                ClusterSettings(node=name),
                FakeBus(hub),
                self.database,
                FakeFlows(Address("UDP", f"192.0.2.{number}", 5060)),
                Events(),
                self.clock,
                frozenset,
            )
            for number, name in enumerate("ab", 1)
        ]
        for cluster in clusters:
            self.successResultOf(Deferred.fromCoroutine(cluster.start()))
        self.advance()
        silos = []
        for cluster in clusters:
            self.cluster = cluster
            silos.append(self.node(shared=True))
            self.events.subscribe(MessagesWaiting, told.append)
        self.silo = silos[0]
        self.store()
        self.advance()
        self.assertEqual(told, [MessagesWaiting(BOB, 1)] * 2)
        self.register()
        self.advance(2)
        self.assertEqual(self.user_agent.bodies(), [(PHONE, b"hello")])

    def test_claim_of_a_dead_node(self) -> None:
        """Ends by itself."""
        self.insert(snd_time=-(NOW + 180))
        self.silo = self.node(shared=True)
        self.register()
        self.advance(170)
        self.assertEqual(self.user_agent.sent, [])
        self.advance(20)
        self.assertEqual((len(self.user_agent.sent), self.rows()), (1, []))

    def test_failed(self) -> None:
        """The claim is given back."""
        self.silo = self.node(shared=True)
        self.store()
        self.user_agent.answers[PHONE] = 503
        self.register()
        self.advance()
        self.assertEqual(self.rows("snd_time"), [(0,)])
