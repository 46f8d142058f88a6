"""The presence commands of the management interface (spec 40)."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.interfaces import IReactorTime

from pbx.commands import CommandFailed
from pbx.events import PresenceExposed
from pbx.interfaces import IEvents
from pbx.services.presence.publications import Publications
from pbx.services.presence.subscription import (
    STATES,
    Package,
    Subscription,
    SubscriptionTable,
    sip_uri,
)
from pbx.services.presence.words import in_words
from pbx.sip.errors import MalformedURI
from pbx.sip.uri import URI

Json = dict[str, object]
#: The numbers that operators' scripts know packages by; 0 for any other.
NUMBERS = {"presence": 1, "presence.winfo": 2, "dialog": 5, "dialog;sla": 6}


class PresenceCommands:
    """Who watches whom, and what is published."""

    def __init__(
        self,
        table: SubscriptionTable,
        publications: Publications,
        packages: Mapping[str, Package],
        events: IEvents,
        changed: Callable[[str, str], object],
        sweep: Callable[[], object],
        clock: IReactorTime,
    ) -> None:
        self._table = table
        self._publications = publications
        self._packages = packages
        self._events = events
        self._changed = changed
        self._sweep = sweep
        self._clock = clock

    def commands(self) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """See `ICommands`."""
        refresh = (("presentity_uri", "event", "refresh_type"),)
        return (
            ("pres_phtable_list", ((),), self.pres_phtable_list),
            ("subs_phtable_list", ((), ("from", "to")), self.subs_phtable_list),
            ("refresh_watchers", refresh, self.refresh_watchers),
            ("refreshWatchers", refresh, self.refresh_watchers),
            ("cleanup", ((),), self.cleanup),
            ("pres_expose", (("event",), ("event", "filter")), self.pres_expose),
            ("presence_subscriptions", ((),), self.subscriptions),
            ("presence_presentities", ((),), self.presentities),
        )

    def pres_phtable_list(self) -> list[Json]:
        """Every presentity and package with something published."""
        found: dict[tuple[str, str], Json] = {}
        for publication in self._publications.all():
            key = (publication.presentity, publication.package)
            published = self._publications.of(publication.package, publication.presentity)
            found[key] = {
                "pres_uri": sip_uri(publication.presentity),
                "event": NUMBERS.get(publication.package, 0),
                "etag_count": len(published),
                "etag": published[0].etag,
            }
        return list(found.values())

    def subs_phtable_list(self, **limits: str) -> list[Json]:
        """Every subscription; ``from`` and ``to`` are a watcher and a presentity."""
        watcher, presentity = limits.get("from", ""), limits.get("to", "")
        return [
            shown(one)
            for one in self._table.all()
            if watcher in ("", one.watcher, sip_uri(one.watcher))
            and presentity in ("", one.presentity, sip_uri(one.presentity))
        ]

    def subscriptions(self) -> Json:
        """Who watches whom, for people: ``Expires`` in seconds, how many a list has."""
        now = self._clock.seconds()
        return {
            "Subscriptions": [
                {
                    "watcher": one.watcher,
                    "presentity": one.presentity,
                    "event": str(one.event),
                    "state": STATES[one.status],
                    "members": sum(1 for _ in one.views()) if one.required else 0,
                    "expires": max(round(one.expires - now), 0),
                    "contact": one.dialog.target,
                    "failures": one.failures,
                    "callid": one.dialog.call_id,
                }
                for one in self._table.all()
            ]
        }

    def presentities(self) -> Json:
        """What is published of whom, and how many watch."""
        now = self._clock.seconds()
        keys = {(one.presentity, one.package): None for one in self._publications.all()}
        found: list[Json] = []
        for presentity, package in keys:
            published = self._publications.of(package, presentity)
            found.append(
                {
                    "presentity": presentity,
                    "event": package,
                    "state": in_words(published[0].body),
                    "publications": len(published),
                    "watchers": sum(1 for _ in self._table.watching(package, presentity)),
                    "expires": max(round(max(one.expires for one in published) - now), 0),
                }
            )
        return {"Presentities": found}

    def refresh_watchers(self, presentity_uri: str, event: str, refresh_type: str | int = 0) -> str:
        """NOTIFY everybody who watches this."""
        try:
            uri = URI.parse(presentity_uri)
        except MalformedURI:
            raise CommandFailed(404, "Wrong URI") from None
        if event not in self._packages:
            raise CommandFailed(404, "Wrong event parameter")
        self._changed(event, uri.aor)
        return "OK"

    def pres_expose(self, event: str, filter: str | Sequence[str] = "") -> str:
        """Tell subscribers of E_PRESENCE_EXPOSED everything that is published in a package, of
        presentities that match a shell pattern.
        """
        if event not in self._packages:
            raise CommandFailed(404, "Wrong event parameter")
        patterns = [filter] if isinstance(filter, str) else list(filter)
        pattern = str(patterns[0]) if patterns else ""
        for publication in self._publications.all():
            if publication.package == event and (
                not pattern or fnmatch.fnmatchcase(sip_uri(publication.presentity), pattern)
            ):
                self._events.publish(
                    PresenceExposed(
                        publication.presentity,
                        event,
                        publication.expires,
                        publication.etag,
                        publication.body,
                    )
                )
        return "OK"

    def cleanup(self) -> str:
        """End at once what has expired."""
        self._sweep()
        return "OK"


def shown(subscription: Subscription) -> Json:
    """A subscription as ``subs_phtable_list`` shows it."""
    dialog = subscription.dialog
    user, _, domain = subscription.watcher.rpartition("@")
    to_user, _, to_domain = subscription.presentity.rpartition("@")
    return {
        "pres_uri": sip_uri(subscription.presentity),
        "event": str(subscription.event),
        "expires": int(subscription.expires),
        "db_flag": 1 if subscription.saved else 0,
        "version": max(subscription.version, 0),
        "to_user": to_user,
        "to_domain": to_domain,
        "to_tag": dialog.local_tag,
        "from_user": user,
        "from_domain": domain,
        "from_tag": dialog.remote_tag,
        "contact": dialog.target,
        "callid": dialog.call_id,
        "local_cseq": dialog.local_cseq,
        "remote_cseq": dialog.remote_cseq,
    }
