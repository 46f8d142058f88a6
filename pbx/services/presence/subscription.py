"""Subscriptions: one dialog each, and the table that finds them (RFC 6665)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pbx.interfaces import IFlow, ITimer
from pbx.services.presence.rules import FULL
from pbx.sip.dialog import Dialog
from pbx.sip.events import Event
from pbx.sip.uri import escape_user, join_host_port

#: The ``status`` column.
ACTIVE, PENDING, TERMINATED = 1, 2, 3
STATES = {ACTIVE: "active", PENDING: "pending", TERMINATED: "terminated"}


def sip_uri(aor: str) -> str:
    """``user@domain`` as a URI."""
    user, _, host = aor.rpartition("@")
    return f"sip:{escape_user(user)}@{join_host_port(host, None)}"


class Package(Protocol):
    """An event package: what is told about a presentity, ``user@domain``."""

    name: str
    content_types: tuple[str, ...]
    publishable: bool
    """Whether PUBLISH is accepted."""

    def document(self, view: View) -> bytes:
        """The full state as it may be seen; ``version`` is that of this document. b"" for nothing
        known.
        """
        ...

    def may_watch(self, presentity: str, watcher: str) -> bool:
        """Whether a user may subscribe at all."""
        ...

    def check(self, body: bytes) -> None:
        """Raises SIPError for a published body that is no document of this package."""


class View:
    """What somebody gets to see of one presentity.

    ``informed`` says that there was something to see before; ``cause`` is what led to its state
    (RFC 3857), ``reason`` why it has ended.
    """

    __slots__ = ("cause", "informed", "permission", "presentity", "reason", "status", "version")

    def __init__(self, presentity: str) -> None:
        self.presentity = presentity
        self.permission = FULL
        self.status = ACTIVE
        self.reason = ""
        self.cause = "subscribe"
        self.version = -1
        self.informed = False


class Subscription(View):
    """One watcher of one presentity, seen as the dialog that it is.

    ``flow`` is the way back when the watcher can only be reached on it. ``expires`` is a time of
    the clock. ``not_before`` limits the rate; ``dirty`` says that state has changed while a NOTIFY
    was ``in_flight``. ``node`` is the node of a cluster that it belongs to. ``required`` is an
    extension that every NOTIFY needs.
    """

    __slots__ = (
        "content_type",
        "dialog",
        "dirty",
        "due",
        "event",
        "expires",
        "expiry",
        "failures",
        "flow",
        "in_flight",
        "local_contact",
        "node",
        "not_before",
        "package",
        "saved",
        "socket",
        "timer",
        "watcher",
    )

    required = ""

    def __init__(
        self, dialog: Dialog, event: Event, package: Package, presentity: str, watcher: str
    ) -> None:
        super().__init__(presentity)
        self.dialog = dialog
        self.event = event
        self.package = package
        self.watcher = watcher
        self.content_type = package.content_types[0]
        self.flow: IFlow | None = None
        self.local_contact = self.socket = self.node = ""
        self.expires = self.not_before = self.due = 0.0
        self.failures = 0
        self.dirty = self.in_flight = self.saved = False
        self.timer: ITimer | None = None
        self.expiry: ITimer | None = None

    def views(self) -> Iterable[View]:
        """What is seen by it: one presentity, or each one of a list."""
        return (self,)

    def view_of(self, presentity: str) -> View:
        """What is seen of one of them."""
        return self

    def heard(self, presentity: str) -> None:
        """There is something new about a presentity."""

    def tell_all(self) -> None:
        """The next NOTIFY must not rely on what those before it told."""

    @property
    def id(self) -> tuple[str, str, str]:
        """Call-ID, our tag and the watcher's."""
        return self.dialog.id

    def stop_timers(self) -> None:
        """Nothing more happens by itself."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None


class SubscriptionTable:
    """Every subscription that has not ended, by dialog, by what is watched and by watcher."""

    def __init__(self) -> None:
        self._by_dialog: dict[tuple[str, str, str], Subscription] = {}
        self._by_state: dict[tuple[str, str], dict[Subscription, None]] = {}
        self._per_watcher: dict[str, int] = {}
        self._lists: dict[str, dict[Subscription, None]] = {}
        #: Presentities that are watched, each as often as it is: what lists cost counts.
        self.views = 0

    def __len__(self) -> int:
        return len(self._by_dialog)

    def find(self, call_id: str, to_tag: str, from_tag: str) -> Subscription | None:
        """By dialog as the watcher's requests name it."""
        return self._by_dialog.get((call_id, to_tag, from_tag))

    def holds(self, subscription: Subscription) -> bool:
        """Whether it has not ended."""
        return self._by_dialog.get(subscription.id) is subscription

    def watching(self, package: str, presentity: str) -> Iterable[Subscription]:
        """Who watches this; a copy, safe to change the table under."""
        return list(self._by_state.get((package, presentity), ()))

    def watches(self, subscription: Subscription, package: str, presentity: str) -> bool:
        """Whether a subscription is one to this."""
        return subscription in self._by_state.get((package, presentity), ())

    def watched(self, package: str, presentity: str) -> bool:
        """Whether anybody watches this."""
        return (package, presentity) in self._by_state

    def count_of(self, watcher: str) -> int:
        """How many presentities a watcher watches."""
        return self._per_watcher.get(watcher, 0)

    def lists_of(self, watcher: str) -> Iterable[Subscription]:
        """The subscriptions of a watcher that are to lists; a copy."""
        return list(self._lists.get(watcher, ()))

    def all(self) -> Iterable[Subscription]:
        """Every subscription; a copy."""
        return list(self._by_dialog.values())

    def add(self, subscription: Subscription) -> None:
        """It has begun."""
        self._by_dialog[subscription.id] = subscription
        for view in subscription.views():
            key = (subscription.package.name, view.presentity)
            self._by_state.setdefault(key, {})[subscription] = None
        if subscription.required:
            self._lists.setdefault(subscription.watcher, {})[subscription] = None
        self._count(subscription, 1)

    def remove(self, subscription: Subscription) -> bool:
        """It has ended; False when it was not here any more."""
        if not self.holds(subscription):
            return False
        del self._by_dialog[subscription.id]
        for view in subscription.views():
            key = (subscription.package.name, view.presentity)
            watching = self._by_state[key]
            del watching[subscription]
            if not watching:
                del self._by_state[key]
        if subscription.required:
            lists = self._lists[subscription.watcher]
            del lists[subscription]
            if not lists:
                del self._lists[subscription.watcher]
        self._count(subscription, -1)
        return True

    def _count(self, subscription: Subscription, sign: int) -> None:
        views = sign * max(sum(1 for _ in subscription.views()), 1)
        self.views += views
        watcher = subscription.watcher
        count = self._per_watcher.get(watcher, 0) + views
        if count:
            self._per_watcher[watcher] = count
        else:
            del self._per_watcher[watcher]
