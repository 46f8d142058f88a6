"""The event server: SUBSCRIBE, PUBLISH and NOTIFY (RFC 6665, RFC 3903).

What is known about a presentity is the business of the packages; who is told, when, and for how
long is decided here. The number of subscriptions and publications is bounded by the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from pbx.events import DocumentChanged, Registered, Unregistered
from pbx.interfaces import (
    IAliases,
    ICluster,
    ICommands,
    IContactLists,
    IDatabase,
    IDocuments,
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
from pbx.services.presence.contacts import Contacts
from pbx.services.presence.dialog_info import DialogPackage
from pbx.services.presence.message_summary import MessageSummaryPackage
from pbx.services.presence.pidf import PresencePackage
from pbx.services.presence.publications import Publications
from pbx.services.presence.publisher import Publisher
from pbx.services.presence.registration_info import RegistrationPackage
from pbx.services.presence.requests import Requests
from pbx.services.presence.settings import PresenceSettings
from pbx.services.presence.sharing import Sharing
from pbx.services.presence.store import PresenceStore
from pbx.services.presence.subscriber import Subscriber
from pbx.services.presence.subscription import Package
from pbx.services.presence.waiting import Waiting
from pbx.services.presence.watcher_info import WatcherInfoPackage
from pbx.services.presence.watching import Watching
from pbx.sip.message import Request
from pbx.verdicts import Arrival, Reply

#: Seconds between two NOTIFYs to restored subscriptions, so that a start is no flood.
RESTORE_SPACING = 0.005


@implementer(IPresence, IStartable, ICommands, IStatistics)
class EventServer:
    """Subscriptions and publications of every event package."""

    def __init__(
        self,
        settings: PresenceSettings,
        database: IDatabase,
        presentity_rows: IWriteBehind,
        watcher_rows: IWriteBehind,
        waiting_rows: IWriteBehind,
        agent: IUserAgent,
        domains: IDomains,
        aliases: IAliases,
        registrar: IRegistrar,
        documents: IDocuments,
        lists: IContactLists,
        events: IEvents,
        clock: IReactorTime,
        timers: ITimers,
        cluster: ICluster | None = None,
    ) -> None:
        self._clock = clock
        # The column that holds it is short.
        node = "" if cluster is None else cluster.name[:32]
        self._store = PresenceStore(database, presentity_rows, watcher_rows, node)
        self._packages: dict[str, Package] = {}
        self._requests = Requests(settings, self._packages, domains, aliases)
        user_of = self._requests.local_user
        contacts = Contacts(settings, lists, self._packages, user_of)
        self._waiting = Waiting(settings, database, waiting_rows, clock, timers)
        self._watching = Watching(
            settings,
            self._store,
            self._waiting,
            contacts,
            documents,
            agent,
            events,
            clock,
            timers,
        )
        changed = self._watching.changed
        self._publications = Publications(
            settings,
            clock,
            timers,
            self._published,
            self._store.save_publication,
            self._store.remove_publication,
        )
        self._presence = PresencePackage(settings, self._publications, documents, registrar)
        self.messages = MessageSummaryPackage(
            settings.count_stored_messages, self._publications, changed, events
        )
        lamps = DialogPackage(settings.force_single_dialog, user_of, changed, events, timers)
        for package in (
            self._presence,
            WatcherInfoPackage(self._watching.table, self._waiting),
            self.messages,
            RegistrationPackage(registrar, self._watching.table.watched, changed, events, timers),
            lamps,
        ):
            self._packages[package.name] = package
        self._cluster = cluster
        self._sharing: Sharing | None = None
        if cluster is not None:
            self._sharing = Sharing(
                cluster, self._publications, self._packages, lamps, events, timers
            )
        self._subscriber = Subscriber(settings, self._requests, contacts, self._watching, clock)
        self._publisher = Publisher(settings, self._requests, self._publications, clock)
        self._commands = PresenceCommands(
            self._watching.table,
            self._publications,
            self._packages,
            events,
            changed,
            self.sweep,
            clock,
        )
        events.subscribe(DocumentChanged, self._document_changed)
        if settings.show_registered:
            events.subscribe(Registered, self._registered)
            events.subscribe(Unregistered, self._registered)

    # Start and stop

    async def start(self) -> None:
        """Read back what was published and who watches; every watcher is told the state."""
        now = self._clock.seconds()
        for publication in await self._store.publications(self._packages, now):
            self._publications.restore(publication)
        await self._waiting.start()
        await self._restore("")
        if self._cluster is not None and self._sharing is not None:
            for name in await self._store.nodes():
                # Once it is known by name it is missed, if it is dead.
                self._cluster.node(name)
            self._sharing.start(self._restore, partial(self._look, self._sharing))

    async def _restore(self, node: str) -> int:
        """Go on with the subscriptions of the last run, or of a dead node; how many there are."""
        delay = 0.0
        found = await self._store.subscriptions(self._packages, self._clock.seconds(), node)
        for subscription in found:
            delay += RESTORE_SPACING
            self._watching.restore(subscription, delay)
        return len(found)

    async def _look(self, sharing: Sharing) -> None:
        """Read what other nodes wrote."""
        now = self._clock.seconds()
        for publication in await self._store.publications(self._packages, now):
            sharing.found(publication)

    async def stop(self) -> None:
        """Subscriptions and publications live on in the database."""
        for subscription in self._watching.table.all():
            subscription.stop_timers()
            self._store.save(subscription)
        await self._store.flush()
        await self._waiting.flush()

    # Requests

    async def subscribe(self, request: Request, arrival: Arrival) -> Reply:
        """RFC 6665 section 4.2.1."""
        return self._subscriber.subscribe(request, arrival)

    async def publish(self, request: Request, arrival: Arrival) -> Reply:
        """RFC 3903 section 6."""
        return self._publisher.publish(request)

    # Changes

    def _published(self, package: str, presentity: str) -> None:
        if package == "presence":
            self._presence.forget(presentity)
        self._watching.changed(package, presentity)

    def _document_changed(self, event: DocumentChanged) -> None:
        if event.auid == "pidf-manipulation":
            self._published("presence", event.owner)

    def _registered(self, event: Registered | Unregistered) -> None:
        refresh = isinstance(event, Registered) and not event.new
        if not refresh and not self._publications.of("presence", event.aor):
            self._watching.changed("presence", event.aor)

    # Management

    def sweep(self) -> None:
        """End at once what has expired; timers do the same in their time."""
        self._watching.sweep()
        now = self._clock.seconds()
        for publication in self._publications.all():
            if publication.expires <= now:
                self._publications.remove(publication)

    def commands(self) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """Lists, ``refresh_watchers`` and ``cleanup``."""
        return self._commands.commands()

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters by name."""
        notifier = self._watching.notifier
        return {
            "presence:subscriptions": len(self._watching.table),
            "presence:waiting": len(self._waiting),
            "presence:publications": len(self._publications),
            "presence:notifies_sent": notifier.sent,
            "presence:notifies_unanswered": notifier.unanswered,
            "presence:notifies_refused": notifier.refused,
            "presence:throttled_requests": self._requests.throttle.refused,
        }
