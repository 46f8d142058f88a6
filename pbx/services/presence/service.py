"""The event server: SUBSCRIBE, PUBLISH and NOTIFY (RFC 6665, RFC 3903).

What is known about a presentity is the business of the packages; who is told, when, and for how
long is decided here. The number of subscriptions and publications is bounded by the settings.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from pbx.interfaces import (
    IAliases,
    ICommands,
    IDatabase,
    IDomains,
    IEvents,
    IPresence,
    IRegistrar,
    IStartable,
    IStatistics,
    ITimers,
    IUserAgent,
    IWriteBehind,
)
from pbx.services.presence.commands import PresenceCommands
from pbx.services.presence.dialog_info import DialogPackage
from pbx.services.presence.message_summary import MessageSummaryPackage
from pbx.services.presence.notifier import Notifier
from pbx.services.presence.pidf import PresencePackage
from pbx.services.presence.publications import Publications
from pbx.services.presence.publisher import Publisher
from pbx.services.presence.registration_info import RegistrationPackage
from pbx.services.presence.requests import Requests
from pbx.services.presence.rows import WRITE_EVERY
from pbx.services.presence.settings import PresenceSettings
from pbx.services.presence.store import PresenceStore
from pbx.services.presence.subscription import (
    ACTIVE,
    PENDING,
    TERMINATED,
    Package,
    Subscription,
    SubscriptionTable,
)
from pbx.services.presence.watcher_info import WatcherInfoPackage
from pbx.sip.dialog import Dialog, target_of
from pbx.sip.errors import SIPError
from pbx.sip.events import accepts
from pbx.sip.message import Request
from pbx.sip.nat import repair_contact
from pbx.sip.uri import DEFAULT_PORTS, join_host_port
from pbx.verdicts import Arrival, Reply

#: Seconds between two NOTIFYs to restored subscriptions, so that a start is no flood.
RESTORE_SPACING = 0.005
#: Watchers of one presentity that are notified in one go, and seconds until the next ones.
AT_ONCE = 50
PAUSE = 0.01


@implementer(IPresence, IStartable, ICommands, IStatistics)
class EventServer:
    """Subscriptions and publications of every event package."""

    log = Logger()

    def __init__(
        self,
        settings: PresenceSettings,
        database: IDatabase,
        presentity_rows: IWriteBehind,
        watcher_rows: IWriteBehind,
        agent: IUserAgent,
        domains: IDomains,
        aliases: IAliases,
        registrar: IRegistrar,
        events: IEvents,
        clock: IReactorTime,
        timers: ITimers,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._timers = timers
        self._store = PresenceStore(database, presentity_rows, watcher_rows)
        self._table = SubscriptionTable()
        self._notifier = Notifier(settings, agent, clock, timers, self._end)
        self._publications = Publications(
            settings,
            clock,
            timers,
            self._published,
            self._store.save_publication,
            self._store.remove_publication,
        )
        self._packages: dict[str, Package] = {}
        self._requests = Requests(settings, self._packages, domains, aliases)
        self._presence = PresencePackage(settings, self._publications)
        self.messages = MessageSummaryPackage(self._publications, self._changed)
        winfo = WatcherInfoPackage("presence", self._table)
        reg = RegistrationPackage(registrar, self._changed, events)
        for package in (self._presence, winfo, self.messages, reg):
            self._packages[package.name] = package
        self._packages["dialog"] = DialogPackage(
            settings.force_single_dialog,
            self._requests.local_user,
            self._changed,
            events,
            timers,
        )
        self._publisher = Publisher(settings, self._requests, self._publications, clock)
        self._commands = PresenceCommands(
            self._table, self._publications, self._packages, self._changed, self.sweep
        )

    # Start and stop

    async def start(self) -> None:
        """Read back what was published and who watches; every watcher is told the state."""
        now = self._clock.seconds()
        for publication in await self._store.publications(self._packages, now):
            self._publications.restore(publication)
        due = now
        for subscription in await self._store.subscriptions(self._packages, now):
            self._table.add(subscription)
            self._expire_later(subscription)
            due += RESTORE_SPACING
            self._notifier.changed(subscription, due - now)

    async def stop(self) -> None:
        """Subscriptions and publications live on in the database."""
        for subscription in self._table.all():
            subscription.stop_timers()
            self._store.save(subscription)
        await self._store.flush()

    # SUBSCRIBE

    async def subscribe(self, request: Request, arrival: Arrival) -> Reply:
        """RFC 6665 section 4.2.1."""
        now = self._clock.seconds()
        if request.in_dialog:
            return self._within(request, arrival, now)
        watcher = self._requests.sender(request, now)
        event, package = self._requests.package(request)
        presentity = self._requests.presentity(request)
        expires = self._requests.expires(request, self._settings.max_expires_subscribe)
        if not package.may_watch(presentity, watcher):
            raise SIPError(status=403)
        content_type = accepts(request, package.content_types)
        if not content_type:
            raise SIPError(status=406, headers=[("Accept", ", ".join(package.content_types))])
        if expires:
            self._refuse_too_many(watcher)
        dialog = Dialog.uas(request, secrets.token_hex(8))
        subscription = Subscription(dialog, event, package, presentity, watcher)
        subscription.content_type = content_type
        subscription.local_contact = self._contact(arrival)
        subscription.status = self._authorised(package, presentity, watcher)
        self._refresh(subscription, request, arrival, now + expires)
        if expires:
            self._table.add(subscription)
            self._expire_later(subscription)
            self._store.save(subscription)
            self._watchers_changed(subscription)
        else:
            # A fetch (4.4.3).
            subscription.status, subscription.reason = TERMINATED, "timeout"
        self._notifier.answer(subscription)
        return self._accepted(subscription, expires)

    def _within(self, request: Request, arrival: Arrival, now: float) -> Reply:
        """Refresh or end (4.2.1.3)."""
        subscription = self._table.find(
            request.call_id, request.to.tag or "", request.from_.tag or ""
        )
        # Nobody was asked for a password: what a stranger makes up is not the user's fault.
        self._requests.slow_down(subscription.watcher if subscription else arrival.peer.host, now)
        event, _ = self._requests.package(request)
        if subscription is None or subscription.event != event:
            raise SIPError("Subscription does not exist", 481)
        expires = self._requests.expires(request, self._settings.max_expires_subscribe)
        subscription.dialog.received(request)
        self._refresh(subscription, request, arrival, now + expires)
        if expires:
            self._expire_later(subscription)
            self._store.save(subscription)
            self._notifier.answer(subscription)
        else:
            self._end(subscription, "timeout")
            self._notifier.answer(subscription)
        return self._accepted(subscription, expires)

    def _refresh(
        self, subscription: Subscription, request: Request, arrival: Arrival, expires: float
    ) -> None:
        """Where the watcher is now, and until when."""
        dialog, flow = subscription.dialog, arrival.flow
        remote = arrival.behind_nat or flow.peer.transport in ("WS", "WSS")
        target = _target(request, arrival) if remote else target_of(request)
        if target:
            dialog.target = target
        subscription.flow = flow if remote or flow.reliable else None
        subscription.socket = flow.local.socket
        subscription.expires = expires
        if flow.reliable:
            flow.keep(expires - self._clock.seconds())

    def _accepted(self, subscription: Subscription, expires: int) -> Reply:
        headers = (("Expires", str(expires)), ("Contact", subscription.local_contact))
        status = 202 if subscription.status == PENDING else 200
        return Reply(status, headers=headers, to_tag=subscription.dialog.local_tag)

    def _authorised(self, package: Package, presentity: str, watcher: str) -> int:
        if self._settings.force_active or package.name != "presence" or presentity == watcher:
            return ACTIVE
        return PENDING

    def _refuse_too_many(self, watcher: str) -> None:
        settings = self._settings
        if (
            len(self._table) >= settings.max_subscriptions
            or self._table.count_of(watcher) >= settings.max_subscriptions_per_watcher
        ):
            raise SIPError("Too Many Subscriptions", 503, [("Retry-After", "60")])

    def _expire_later(self, subscription: Subscription) -> None:
        if subscription.expiry is not None:
            subscription.expiry.cancel()
        subscription.expiry = self._timers.call_at(
            subscription.expires, self._expired, subscription
        )

    def _expired(self, subscription: Subscription) -> None:
        self._end(subscription, "timeout")
        self._notifier.changed(subscription)

    def _end(self, subscription: Subscription, reason: str = "") -> None:
        """Out of the table; without a reason nobody is told."""
        subscription.stop_timers()
        subscription.status = TERMINATED
        subscription.reason = reason
        subscription.not_before = 0.0
        if self._table.remove(subscription):
            self._store.remove(subscription)
            self._watchers_changed(subscription)

    def _watchers_changed(self, subscription: Subscription) -> None:
        name = f"{subscription.package.name}.winfo"
        if name in self._packages:
            self._changed(name, subscription.presentity)

    # PUBLISH

    async def publish(self, request: Request, arrival: Arrival) -> Reply:
        """RFC 3903 section 6."""
        return self._publisher.publish(request)

    def _published(self, package: str, presentity: str) -> None:
        if package == "presence":
            self._presence.forget(presentity)
        self._changed(package, presentity)

    def _changed(self, package: str, presentity: str, delay: float = 0.0) -> None:
        """Tell who watches; a crowd bit by bit, so that calls need not wait for it."""
        for number, subscription in enumerate(self._table.watching(package, presentity)):
            self._notifier.changed(subscription, delay + number // AT_ONCE * PAUSE)
            if subscription.dialog.local_cseq % WRITE_EVERY == 0:
                self._store.save(subscription)

    def _contact(self, arrival: Arrival) -> str:
        host, port = arrival.flow.sent_by
        transport = arrival.flow.local.transport
        usual = 5060 if transport in ("UDP", "TCP") else DEFAULT_PORTS.get(transport, 5060)
        where = join_host_port(host, None if port == usual else port)
        suffix = "" if transport == "UDP" else f";transport={transport.lower()}"
        return f"<sip:{self._settings.contact_user}@{where}{suffix}>"

    # Management

    def sweep(self) -> None:
        """End at once what has expired; timers do the same in their time."""
        now = self._clock.seconds()
        for subscription in self._table.all():
            if subscription.expires <= now:
                self._expired(subscription)
        for publication in self._publications.all():
            if publication.expires <= now:
                self._publications.remove(publication)

    def commands(self) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """Lists, ``refresh_watchers`` and ``cleanup``."""
        return self._commands.commands()

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters by name."""
        return {
            "presence:subscriptions": len(self._table),
            "presence:publications": len(self._publications),
            "presence:notifies_sent": self._notifier.sent,
            "presence:notifies_unanswered": self._notifier.unanswered,
            "presence:notifies_refused": self._notifier.refused,
            "presence:throttled_requests": self._requests.throttle.refused,
        }


def _target(request: Request, arrival: Arrival) -> str:
    """The Contact as the watcher can be reached (oddity O10)."""
    value = request.get("contact")
    if value is None:
        return ""
    copy = Request("SUBSCRIBE", "", ["contact"], [f"Contact: {value}"])
    repair_contact(copy, arrival.peer)
    return target_of(copy)
