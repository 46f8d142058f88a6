"""The subscriptions there are: how they begin, change, are told and end (RFC 6665 section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import IReactorTime

from pbx.events import DocumentChanged
from pbx.interfaces import IDocuments, IEvents, ITimers, IUserAgent
from pbx.services.presence.authorisation import Authorisation
from pbx.services.presence.contacts import Contacts
from pbx.services.presence.lists import ListSubscription
from pbx.services.presence.notifier import Notifier
from pbx.services.presence.rows import WRITE_EVERY
from pbx.services.presence.settings import PresenceSettings
from pbx.services.presence.store import PresenceStore
from pbx.services.presence.subscription import (
    ACTIVE,
    PENDING,
    TERMINATED,
    Subscription,
    SubscriptionTable,
    View,
)
from pbx.services.presence.waiting import Waiting
from pbx.sip.errors import SIPError

#: Watchers of one presentity that are notified in one go, and seconds until the next ones.
AT_ONCE = 50
PAUSE = 0.01
#: Why a watcher is in this state after somebody decided (RFC 3857 section 4.7.1).
CAUSES = {ACTIVE: "approved", PENDING: "subscribe", TERMINATED: "rejected"}


class Watching:
    """Every subscription that has not ended. Nobody else adds, ends or notifies one."""

    def __init__(
        self,
        settings: PresenceSettings,
        store: PresenceStore,
        waiting: Waiting,
        contacts: Contacts,
        documents: IDocuments,
        agent: IUserAgent,
        events: IEvents,
        clock: IReactorTime,
        timers: ITimers,
    ) -> None:
        self._store = store
        self._waiting = waiting
        self._contacts = contacts
        self._clock = clock
        self._timers = timers
        self.table = SubscriptionTable()
        self.notifier = Notifier(settings, agent, clock, timers, self.end)
        self.authorisation = Authorisation(
            settings, documents, self._rules_changed, events, clock, timers
        )
        events.subscribe(DocumentChanged, self._document_changed)

    # Begin and end

    def authorise(self, subscription: Subscription) -> None:
        """Decide what may be seen by it."""
        package, watcher = subscription.package.name, subscription.watcher
        for view in subscription.views():
            self.authorisation.decide(package, view, watcher)

    def begin(self, subscription: Subscription) -> None:
        """It is accepted."""
        if subscription.package.name == "presence":
            for view in subscription.views():
                self._waiting.remove(view.presentity, subscription.watcher)
        self.table.add(subscription)
        self.renew(subscription)
        self.watchers_changed(subscription)

    def restore(self, subscription: Subscription, delay: float) -> None:
        """It was read back; its watcher is told the state within the delay."""
        listed = self._contacts.find(subscription.presentity)
        if listed is not None:
            subscription = self._contacts.restored(subscription, listed)
        self.authorise(subscription)
        self.table.add(subscription)
        self._expire_later(subscription)
        if subscription.node != self._store.node:
            self._store.save(subscription)
        if subscription.status == TERMINATED:
            self.end(subscription, subscription.reason)
        self.notifier.changed(subscription, delay)

    def renew(self, subscription: Subscription) -> None:
        """It has another expiry or another target."""
        self._expire_later(subscription)
        self._store.save(subscription)

    def _expire_later(self, subscription: Subscription) -> None:
        if subscription.expiry is not None:
            subscription.expiry.cancel()
        subscription.expiry = self._timers.call_at(
            subscription.expires, self._expired, subscription
        )

    def _expired(self, subscription: Subscription) -> None:
        self.end(subscription, "timeout")
        self.notifier.changed(subscription)

    def end(self, subscription: Subscription, reason: str = "") -> None:
        """Out of the table; without a reason nobody is told."""
        subscription.stop_timers()
        if reason == "timeout":
            for view in subscription.views():
                if view.status == PENDING:
                    self._waiting.add(view.presentity, subscription.watcher)
        subscription.status = TERMINATED
        subscription.reason = reason
        subscription.not_before = 0.0
        if self.table.remove(subscription):
            self._store.remove(subscription)
            self.watchers_changed(subscription)

    def sweep(self) -> None:
        """End at once what has expired; timers do the same in their time."""
        now = self._clock.seconds()
        for subscription in self.table.all():
            if subscription.expires <= now:
                self._expired(subscription)

    # Changes

    def changed(self, package: str, presentity: str, delay: float = 0.0) -> None:
        """Tell who watches; a crowd bit by bit, so that calls need not wait for it."""
        for number, subscription in enumerate(self.table.watching(package, presentity)):
            subscription.heard(presentity)
            self.notifier.changed(subscription, delay + number // AT_ONCE * PAUSE)
            if subscription.dialog.local_cseq % WRITE_EVERY == 0:
                self._store.save(subscription)

    def watchers_changed(self, subscription: Subscription) -> None:
        """Who wants to know who watches hears of it (RFC 3857)."""
        if subscription.package.name == "presence":
            for view in subscription.views():
                self.changed("presence.winfo", view.presentity)

    def _rules_changed(self, presentity: str) -> None:
        self._decide(presentity, list(self.table.watching("presence", presentity)))

    def _decide(self, presentity: str, subscriptions: Sequence[Subscription]) -> None:
        """Who gets to see something else hears of it at once, whatever the rate limit says; a crowd
        is decided about bit by bit.
        """
        for subscription in subscriptions[:AT_ONCE]:
            # Meanwhile it may have ended, or its list lost this member.
            if self.table.watches(subscription, "presence", presentity):
                self._decide_about(presentity, subscription)
        rest = subscriptions[AT_ONCE:]
        if rest:
            self._timers.call_later(PAUSE, self._decide, presentity, rest)
            return
        self._decided(presentity)
        self.changed("presence.winfo", presentity)

    def _decide_about(self, presentity: str, subscription: Subscription) -> None:
        view = subscription.view_of(presentity)
        if not self.authorisation.decide("presence", view, subscription.watcher):
            return
        view.cause = CAUSES[view.status]
        if view is subscription and view.status == TERMINATED:
            self.end(subscription, "rejected")
        else:
            subscription.heard(presentity)
            self._store.save(subscription)
        subscription.not_before = 0.0
        self.notifier.changed(subscription)

    def _decided(self, presentity: str) -> None:
        """Those who waited need not wait any more."""
        for watcher, _ in self._waiting.of(presentity):
            view = View(presentity)
            self.authorisation.decide("presence", view, watcher)
            if view.status != PENDING:
                self._waiting.remove(presentity, watcher)

    def _document_changed(self, event: DocumentChanged) -> None:
        if event.auid not in ("rls-services", "resource-lists"):
            return
        for subscription in self.table.lists_of(event.owner):
            if isinstance(subscription, ListSubscription):
                self._list_changed(subscription)

    def _list_changed(self, subscription: ListSubscription) -> None:
        """Members come and go; without its list a subscription has no resource any more."""
        listed = self._contacts.find(subscription.presentity)
        if listed == subscription.listed:
            return
        self.table.remove(subscription)
        try:
            if listed is None:
                raise SIPError(status=404)
            self._contacts.fill(subscription, listed)
        except SIPError:
            self.table.add(subscription)
            self.end(subscription, "noresource")
        else:
            self.authorise(subscription)
            self.table.add(subscription)
            subscription.tell_all()
            subscription.not_before = 0.0
        self.notifier.changed(subscription)
