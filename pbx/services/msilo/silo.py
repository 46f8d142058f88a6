"""Keeps messages for users who are away and delivers them when they are back (RFC 3428, 202)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from pbx.errors import DatabaseError
from pbx.events import MessagesWaiting, Registered
from pbx.interfaces import (
    ICluster,
    ICommands,
    IDatabase,
    IDomains,
    IEvents,
    IMessageSilo,
    IStartable,
    IStatistics,
    ITimers,
)
from pbx.services.msilo.courier import Courier, Outcome
from pbx.services.msilo.mailbox import Mailbox
from pbx.services.msilo.settings import MessageSiloSettings
from pbx.services.msilo.stored import SiloTable, StoredMessage, stored_message
from pbx.sip.errors import SIPError
from pbx.sip.message import Request
from pbx.sip.uri import URI
from pbx.timing import Periodic
from pbx.verdicts import Arrival, Reply

#: Seconds that a claim holds: longer than any delivery of one message takes.
CLAIM = 180
_RETRY_AFTER = (("Retry-After", "30"),)


@implementer(IMessageSilo, IStartable, IStatistics, ICommands)
class MessageSilo:
    """The database holds the messages, memory knows whose they are.

    A row goes when a phone has answered 2xx, and not before: a crash may repeat a message whose
    answer was lost, and loses none. One run at a time delivers to an owner, message by message.
    """

    log = Logger()

    def __init__(
        self,
        settings: MessageSiloSettings,
        database: IDatabase,
        courier: Courier,
        domains: IDomains,
        events: IEvents,
        clock: IReactorTime,
        timers: ITimers,
        cluster: ICluster | None = None,
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._table = SiloTable(database)
        self._courier = courier
        self._domains = domains
        self._events = events
        self._clock = clock
        self._timers = timers
        self._mailboxes: dict[str, Mailbox] = {}
        self._ready: deque[Mailbox] = deque()
        self._active = 0
        self._highest = 0
        self._looks = 0
        self._looking = False
        self._stopped = False
        self._stored = self._dumped = self._failed = 0
        self._dumped_reminders = self._failed_reminders = 0
        self._periodic = Periodic(clock, settings.check_time, self._check)
        events.subscribe(Registered, self._registered)
        if cluster is not None:
            cluster.listen("stored", lambda node, body: self._check())

    async def start(self) -> None:
        """Learn who has messages; those who are registered get them soon."""
        await self._look_at_all()
        self._periodic.start()

    async def stop(self) -> None:
        """No further delivery. What is not answered yet stays in the table."""
        self._stopped = True
        self._periodic.stop()
        self._ready.clear()
        for mailbox in self._mailboxes.values():
            mailbox.cancel_timer()

    # Storing

    async def store(
        self,
        request: Request,
        arrival: Arrival,
        owner: URI | None = None,
        send_at: float = 0.0,
    ) -> Reply:
        """202 once the database has it, else why not."""
        now = self._clock.seconds()
        try:
            owner = self._owner(request.uri if owner is None else owner)
            message = stored_message(request, owner, send_at, now, self._settings)
        except SIPError as error:
            return Reply(error.status, error.reason, error.headers)
        was_registered = self._courier.is_registered(owner)
        mailbox = self._mailbox(owner.user, owner.host)
        if 0 < self._settings.max_messages <= len(mailbox):
            return Reply(480, "Too Many Messages Stored")
        mailbox.reserved += 1
        try:
            await mailbox.inserting.run(self._insert, mailbox, message)
        except DatabaseError as error:
            self.log.warn("a message was not stored: {why}", why=error.message)
            if error.refused:
                return Reply(480, "Message Cannot Be Stored")
            return Reply(503, headers=_RETRY_AFTER)
        finally:
            mailbox.reserved -= 1
            self._tidy(mailbox)
        self._stored += 1
        self._tell(mailbox)
        if self._cluster is not None:
            # The user may come back to any node.
            self._cluster.publish("stored", 0)
        if message.snd_time:
            self._sleep(mailbox)
        elif self._courier.is_registered(owner):
            # Came back meanwhile; or was there all the time and did not answer.
            patience = self._settings.retry_interval if was_registered else self._settings.delay
            self._wake(mailbox, patience)
        return Reply(202)

    def _insert(self, mailbox: Mailbox, message: StoredMessage) -> Deferred[None]:
        async def insert() -> None:
            mailbox.add(await self._table.insert(message), message.snd_time)

        return Deferred.fromCoroutine(insert())

    def _owner(self, uri: URI) -> URI:
        return URI("sip", uri.user, self._domains.canonical(uri.host))

    def _mailbox(self, user: str, domain: str) -> Mailbox:
        key = f"{user}@{domain}".lower()
        mailbox = self._mailboxes.get(key)
        if mailbox is None:
            mailbox = self._mailboxes[key] = Mailbox(key, URI("sip", user, domain))
        return mailbox

    def _tell(self, mailbox: Mailbox) -> None:
        """Whoever shows waiting messages hears how many there are."""
        count = mailbox.waiting(self._clock.seconds())
        if count != mailbox.told:
            mailbox.told = count
            self._events.publish(MessagesWaiting(mailbox.owner.aor, count))

    def _tidy(self, mailbox: Mailbox) -> None:
        if mailbox.idle and self._mailboxes.get(mailbox.key) is mailbox:
            mailbox.cancel_timer()
            del self._mailboxes[mailbox.key]

    # When to deliver

    def deliver(self, owner: URI) -> None:
        """Send what waits for a user soon."""
        owner = self._owner(owner)
        mailbox = self._mailboxes.get(f"{owner.user}@{owner.host}".lower())
        if mailbox is not None:
            self._begin_anew(mailbox)

    def _registered(self, event: Registered) -> None:
        if not self._mailboxes:
            return
        aor = event.aor if "@" in event.aor else f"{event.aor}@{self._domains.names()[0]}"
        mailbox = self._mailboxes.get(aor.lower())
        if mailbox is not None:
            if event.new:
                mailbox.refused.clear()
            self._begin_anew(mailbox)

    def _begin_anew(self, mailbox: Mailbox) -> None:
        mailbox.attempts = 0
        self._wake(mailbox, self._settings.delay)

    def _wake(self, mailbox: Mailbox, seconds: float) -> None:
        """Deliver after so many seconds, or sooner when that was planned already."""
        if self._stopped:
            return
        if mailbox.running:
            mailbox.woken = seconds if mailbox.woken is None else min(seconds, mailbox.woken)
            return
        due = self._clock.seconds() + seconds
        if mailbox.timer is not None:
            if mailbox.timer_due <= due:
                return
            mailbox.timer.cancel()
        mailbox.timer_due = due
        mailbox.timer = self._timers.call_at(due, self._run, mailbox)

    def _sleep(self, mailbox: Mailbox) -> None:
        """Until the next reminder, or the end of another node's claim."""
        now = self._clock.seconds()
        due = mailbox.next_due(now)
        if due is not None:
            self._wake(mailbox, due - now)

    def _run(self, mailbox: Mailbox) -> None:
        mailbox.timer = None
        mailbox.running = True
        # Reminders may be due by now.
        self._tell(mailbox)
        self._ready.append(mailbox)
        self._start_runs()

    def _start_runs(self) -> None:
        while self._ready and self._active < self._settings.parallel:
            mailbox = self._ready.popleft()
            self._active += 1
            Deferred.fromCoroutine(self._deliver(mailbox)).addErrback(
                lambda failure: self.log.failure("a delivery failed", failure=failure)
            ).addCallback(self._run_ended, mailbox)

    def _run_ended(self, retry: float | None, mailbox: Mailbox) -> None:
        self._active -= 1
        mailbox.running = False
        woken, mailbox.woken = mailbox.woken, None
        self._tell(mailbox)
        if mailbox.rows or mailbox.delivered:
            for seconds in (woken, retry):
                if seconds is not None:
                    self._wake(mailbox, seconds)
            self._sleep(mailbox)
        self._tidy(mailbox)
        self._start_runs()

    # Delivering

    async def _deliver(self, mailbox: Mailbox) -> float | None:
        """Everything that is due, in order; when to try again, None for not before an event."""
        try:
            for id, inc_time in list(mailbox.delivered.items()):
                await self._delete(mailbox, id, inc_time)
            while not self._stopped:
                id_ready = mailbox.ready(self._clock.seconds())
                if id_ready is None:
                    return None
                outcome = await self._deliver_row(mailbox, id_ready)
                if outcome is Outcome.AWAY:
                    return None
                if outcome is Outcome.UNREACHABLE:
                    return self._retry(mailbox)
        except DatabaseError as error:
            self.log.warn("stored messages wait for the database: {why}", why=error.message)
            return self._settings.retry_interval
        return None

    def _retry(self, mailbox: Mailbox) -> float | None:
        mailbox.attempts += 1
        if mailbox.attempts > self._settings.retries:
            return None
        return float(self._settings.retry_interval * 2 ** (mailbox.attempts - 1))

    async def _deliver_row(self, mailbox: Mailbox, id: int) -> Outcome | None:
        """What became of it; None when there was nothing to send."""
        if not self._courier.is_registered(mailbox.owner):
            return Outcome.AWAY
        message = await self._table.read(id)
        now = self._clock.seconds()
        # SQLite gives an id again: the row may be somebody else's by now.
        if message is None or message.expired(now) or message.aor.lower() != mailbox.key:
            mailbox.forget([id])
            return None
        if abs(message.snd_time) > now:
            mailbox.add(id, message.snd_time)
            return None
        if self._settings.shared and not await self._table.claim(id, message.snd_time, now + CLAIM):
            mailbox.add(id, int(now) + CLAIM)
            return None
        outcome = await self._courier.deliver(message, self._settings.add_date_to_body)
        self._count(outcome, message)
        if outcome is Outcome.DELIVERED:
            mailbox.forget([id])
            mailbox.delivered[id] = message.inc_time
            await self._delete(mailbox, id, message.inc_time)
            return outcome
        if outcome is Outcome.REFUSED:
            mailbox.refused.add(id)
        if self._settings.shared:
            await self._table.release(id)
        return outcome

    async def _delete(self, mailbox: Mailbox, id: int, inc_time: int) -> None:
        await self._table.delete(id, inc_time)
        mailbox.delivered.pop(id, None)

    def _count(self, outcome: Outcome, message: StoredMessage) -> None:
        reminder = message.snd_time > 0
        if outcome is Outcome.DELIVERED:
            self._dumped += not reminder
            self._dumped_reminders += reminder
        elif outcome is not Outcome.AWAY:
            self._failed += not reminder
            self._failed_reminders += reminder

    # What others put into the table, and what is too old

    def _check(self) -> None:
        if self._looking:
            return
        self._looking = True
        self._looks += 1
        thorough = self._looks % self._settings.clean_period == 0
        Deferred.fromCoroutine(self._look(thorough)).addErrback(
            lambda failure: self.log.failure("the silo was not read", failure=failure)
        ).addCallback(self._looked)

    def _looked(self, result: object) -> None:
        self._looking = False

    async def _look(self, thorough: bool) -> None:
        try:
            if thorough:
                await self._table.expire(self._clock.seconds())
                await self._look_at_all()
            else:
                self._found(await self._table.waiting(self._highest))
        except DatabaseError as error:
            self.log.warn("the silo cannot be read: {why}", why=error.message)

    async def _look_at_all(self) -> None:
        """Also what came late with a low id, and what others deleted."""
        known = [(box, list(box.rows)) for box in self._mailboxes.values()]
        rows = await self._table.waiting(0)
        present = {row[0] for row in rows}
        for mailbox, ids in known:
            mailbox.forget([id for id in ids if id not in present])
            self._tell(mailbox)
            self._tidy(mailbox)
        self._found(rows)

    def _found(self, rows: Sequence[tuple[int, str, str, int]]) -> None:
        fresh: dict[str, Mailbox] = {}
        for id, user, domain, due in rows:
            self._highest = max(self._highest, id)
            mailbox = self._mailbox(user, domain)
            if id not in mailbox.rows:
                mailbox.add(id, due)
                fresh[mailbox.key] = mailbox
        for mailbox in fresh.values():
            self._tell(mailbox)
            if self._courier.is_registered(mailbox.owner):
                self._wake(mailbox, self._settings.delay)
            self._sleep(mailbox)

    # Management

    def statistics(self) -> Mapping[str, int]:
        """Counters of msilo, and how many messages wait."""
        return {
            "msilo:stored_messages": self._stored,
            "msilo:dumped_messages": self._dumped,
            "msilo:failed_messages": self._failed,
            "msilo:dumped_reminders": self._dumped_reminders,
            "msilo:failed_reminders": self._failed_reminders,
            "msilo:waiting_messages": sum(map(len, self._mailboxes.values())),
        }

    def commands(self) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """``msilo_list``: who has messages, and how many."""
        return [("msilo_list", [[]], self._list)]

    def _list(self) -> dict[str, object]:
        """Who has how many messages waiting."""
        return {
            "Mailboxes": [
                {
                    "aor": mailbox.owner.aor,
                    "messages": len(mailbox.rows),
                    "delivering": mailbox.running,
                }
                for mailbox in self._mailboxes.values()
                if mailbox.rows
            ]
        }
