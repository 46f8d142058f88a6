"""Calls for tests: the dialogs and accounting services on a database in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pbx.events import (
    CallAnswered,
    CallEnded,
    CallFailed,
    CallRestored,
    CallRinging,
    CallStarted,
    Events,
    TransactionCompleted,
)
from pbx.interfaces import IFlow, IUserAgent
from pbx.services.accounting import (
    CDR_COLUMNS,
    CDR_KEY,
    Accounting,
    AccountingSettings,
    acc_columns,
    missed_columns,
)
from pbx.services.dialogs import DIALOG_COLUMNS, DIALOG_KEY, Call, Dialogs, DialogSettings
from pbx.sip.address import Address
from pbx.sip.message import Request, Response, response_to
from pbx.sip.params import Params
from pbx.sip.route import OwnRoute
from pbx.sip.uri import URI
from pbx.storage.memory import memory_database
from pbx.storage.write_behind import WriteBehind
from pbx.timing import TimerWheel
from pbx.verdicts import Arrival
from tests.fakes import FakeFlow, FakeFlows, request

START = 1_700_000_000.0
CALLER = Address("UDP", "192.0.2.50", 5060)
CALLEE = Address("UDP", "192.0.2.60", 5060)
NODE = Address("UDP", "192.0.2.112", 5060)
NODE_OUT = Address("UDP", "192.0.2.112", 5080)
KINDS = (CallStarted, CallRinging, CallAnswered, CallFailed, CallEnded, CallRestored)


@implementer(IUserAgent)
class FakeAgent:
    """Keeps what was sent; answers with ``status``."""

    def __init__(self) -> None:
        self.status = 200
        self.sent: list[tuple[Request, URI | None, IFlow | None]] = []

    async def send(
        self,
        request: Request,
        next_hop: URI | None = None,
        flow: IFlow | None = None,
        timeout: float | None = None,
    ) -> Response:
        self.sent.append((request, next_hop, flow))
        return response_to(request, self.status)

    def requests(self) -> list[Request]:
        """What was sent since the last time."""
        sent, self.sent = self.sent, []
        return [entry[0] for entry in sent]


class DialogCase(SynchronousTestCase):
    """``self.dialogs`` with a database that outlives `restart`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = START
        self.database = memory_database(self.clock)
        self.flows = FakeFlows()
        self.agent = FakeAgent()
        self.calls = 0
        self.build(DialogSettings())

    def build(self, settings: DialogSettings, accounting: AccountingSettings | None = None) -> None:
        """A new process on the same database."""
        self.timers = TimerWheel(self.clock)
        self.events = Events()
        self.heard: list[tuple[str, str]] = []
        self.seen: list[Any] = []
        for kind in KINDS:
            self.events.subscribe(kind, self._hear)
        account = accounting or AccountingSettings()
        self.tables = {
            "dialog": self.table("dialog", DIALOG_KEY, DIALOG_COLUMNS),
            "acc": self.table("acc", (), acc_columns(account)),
            "missed_calls": self.table("missed_calls", (), missed_columns(account)),
            "pbx_cdr": self.table("pbx_cdr", CDR_KEY, CDR_COLUMNS),
        }
        self.accounting = Accounting(
            account,
            self.tables["acc"],
            self.tables["missed_calls"],
            self.tables["pbx_cdr"],
            self.events,
            self.clock,
        )
        self.dialogs = Dialogs(
            settings,
            self.database,
            self.tables["dialog"],
            self.agent,
            self.flows,
            self.events,
            self.clock,
            self.timers,
        )
        self.wait(self.dialogs.start())

    def table(self, name: str, key: tuple[str, ...], columns: tuple[str, ...]) -> WriteBehind:
        return WriteBehind(self.database, self.clock, name, key, columns)

    def wait(self, awaitable: Any) -> Any:
        """The result of something that does not really wait."""
        if isinstance(awaitable, Deferred):
            return self.successResultOf(awaitable)
        return self.successResultOf(Deferred.fromCoroutine(awaitable))

    def _hear(self, event: Any) -> None:
        self.seen.append(event)
        self.heard.append((type(event).__name__, event.dialog.did))

    def kill(self, settings: DialogSettings | None = None) -> None:
        """``kill -9`` and a new start."""
        self.timers.stop()
        for call in self.clock.getDelayedCalls():
            call.cancel()
        self.build(settings or DialogSettings())

    def advance(self, seconds: float) -> None:
        """Time passes second by second, as reactors do."""
        while seconds > 1:
            self.clock.advance(1)
            seconds -= 1
        self.clock.advance(seconds)

    def names(self) -> list[str]:
        """Kinds of events since the last time."""
        heard, self.heard = self.heard, []
        return [name for name, _ in heard]

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What the database holds after the write-behind interval."""
        self.advance(1.5)
        rows: list[tuple[Any, ...]] = self.wait(self.database.query(sql))
        return rows

    # One call

    def arrival(
        self,
        peer: Address = CALLER,
        call: str = "",
        did: str | None = None,
        behind_nat: bool = False,
    ) -> Arrival:
        route = None
        if did is not None:
            params = Params.parse(f";lr;did={did}")
            route = OwnRoute(params, URI.parse(f"sip:192.0.2.1;lr;did={did}"))
        return Arrival(
            flow=self.flows.flow(peer),
            peer=peer,
            own_route=route,
            behind_nat=behind_nat,
            call=call,
        )

    def invite(
        self,
        headers: str = "Contact: <sip:1001@192.0.2.50:5060>",
        *,
        from_: str = '"Alice" <sip:1001@pbx.test>;tag=a',
        uri: str = "sip:1002@pbx.test",
        call_id: str = "",
        cseq: int = 2,
    ) -> Request:
        self.calls += 1
        return request(
            f"INVITE {uri}", headers, from_=from_, call_id=call_id or f"c{self.calls}", cseq=cseq
        )

    def begin(
        self, invite: Request | None = None, peer: Address = CALLER, account: bool = True
    ) -> Call:
        """An INVITE is relayed."""
        self.last_invite = invite or self.invite()
        did = self.dialogs.begin(self.last_invite, self.arrival(peer), account)
        call = self.dialogs.find(did)
        assert call is not None
        return call

    def ok(
        self,
        call: Call,
        tag: str = "b",
        contact: str = "<sip:1002@192.0.2.60:5060>",
        peer: Address = CALLEE,
        above: str = "",
        below: str = "",
    ) -> None:
        """A 2xx; ``above`` and ``below`` are Record-Route values around ours."""
        response = self.response(call, 200, tag)
        values = [above, f"<sip:192.0.2.1;lr;did={call.did}>", below]
        response.append("record-route", ", ".join(value for value in values if value))
        response.append("contact", contact)
        downstream: FakeFlow = self.flows.flow(peer)
        self.dialogs.answered(call.did, response, self.flows.flow(call.caller), downstream)

    def response(self, call: Call, status: int, tag: str = "b") -> Response:
        invite = request(
            f"INVITE {call.request_uri}",
            from_=f"<{call.from_uri}>;tag={call.from_tag}",
            call_id=call.call_id,
            cseq=call.caller_leg.invite_cseq,
        )
        return response_to(invite, status, to_tag=tag)

    def within(
        self,
        call: Call,
        method: str,
        *,
        cseq: int,
        by: str = "caller",
        tag: str = "b",
        uri: str | None = None,
        headers: str = "",
        did: str | None = None,
        call_id: str = "",
        behind_nat: bool = False,
    ) -> tuple[Request, str]:
        """A request along our route, and what `IDialogs.within` says."""
        ours = f"<sip:1001@pbx.test>;tag={call.from_tag}"
        theirs = f"<sip:1002@pbx.test>;tag={tag}"
        from_caller = by == "caller"
        if uri is None:
            uri = "sip:1002@192.0.2.60:5060" if from_caller else "sip:1001@192.0.2.50:5060"
        made = request(
            f"{method} {uri}",
            headers,
            from_=ours if from_caller else theirs,
            to=theirs if from_caller else ours,
            call_id=call_id or call.call_id,
            cseq=cseq,
        )
        peer = call.caller if from_caller else CALLEE
        arrival = self.arrival(peer, did=call.did if did is None else did, behind_nat=behind_nat)
        return made, self.dialogs.within(made, arrival)

    def talk(self, invite: Request | None = None, peer: Address = CALLER) -> Call:
        """A call that was answered and acknowledged."""
        call = self.begin(invite, peer)
        self.dialogs.provisional(call.did, self.response(call, 180))
        self.ok(call)
        self.within(call, "ACK", cseq=2)
        return call

    def completed(self, made: Request, response: Response, did: str, created: float = 0.0) -> None:
        """The core's report of an accounted request."""
        self.events.publish(
            TransactionCompleted(made, response, CALLER, created or self.clock.seconds(), did)
        )

    def command(self, name: str) -> Callable[..., Any]:
        """A management command."""
        return next(function for known, _, function in self.dialogs.commands() if known == name)

    def stat(self, name: str) -> int:
        return self.dialogs.statistics()[f"dialog:{name}_dialogs"]
