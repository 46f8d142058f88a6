"""SUBSCRIBE as a request: what is checked before a subscription begins, goes on or ends
(RFC 6665 section 4.2.1).
"""

from __future__ import annotations

import secrets

from twisted.internet.interfaces import IReactorTime

from pbx.services.presence.contacts import Contacts
from pbx.services.presence.requests import Requests
from pbx.services.presence.settings import PresenceSettings
from pbx.services.presence.subscription import (
    PENDING,
    TERMINATED,
    Package,
    Subscription,
)
from pbx.services.presence.watching import Watching
from pbx.sip.dialog import Dialog, target_of
from pbx.sip.errors import SIPError
from pbx.sip.events import Event, accepts
from pbx.sip.message import Request
from pbx.sip.nat import repair_contact
from pbx.sip.uri import DEFAULT_PORTS, join_host_port
from pbx.verdicts import Arrival, Reply


class Subscriber:
    """Initial subscription, refresh, fetch and the end."""

    def __init__(
        self,
        settings: PresenceSettings,
        requests: Requests,
        contacts: Contacts,
        watching: Watching,
        clock: IReactorTime,
    ) -> None:
        self._settings = settings
        self._requests = requests
        self._contacts = contacts
        self._watching = watching
        self._clock = clock

    def subscribe(self, request: Request, arrival: Arrival) -> Reply:
        """The answer. Raises SIPError for every refusal."""
        now = self._clock.seconds()
        if request.in_dialog:
            return self._within(request, arrival, now)
        watcher = self._requests.sender(request, now)
        event, package = self._requests.package(request)
        expires = self._requests.expires(request, self._settings.max_expires_subscribe)
        subscription = self._made(request, event, package, watcher)
        if expires:
            self._refuse_too_many(subscription)
        subscription.local_contact = self._contact(arrival)
        self._refresh(subscription, request, arrival, now + expires)
        if expires:
            self._watching.begin(subscription)
        else:
            # A fetch (4.4.3).
            subscription.status, subscription.reason = TERMINATED, "timeout"
        self._watching.notifier.answer(subscription)
        return self._accepted(subscription, expires)

    def _made(self, request: Request, event: Event, package: Package, watcher: str) -> Subscription:
        """To one presentity or to a list of them, as the watcher may see them."""
        presentity = self._requests.presentity(request)
        dialog = Dialog.uas(request, secrets.token_hex(8))
        listed = self._contacts.find(presentity)
        if listed is not None:
            subscription: Subscription = self._contacts.begin(
                request, event, dialog, watcher, listed
            )
            self._watching.authorise(subscription)
            return subscription
        if not package.may_watch(presentity, watcher):
            raise SIPError(status=403)
        content_type = accepts(request, package.content_types)
        if not content_type:
            raise SIPError(status=406, headers=[("Accept", ", ".join(package.content_types))])
        subscription = Subscription(dialog, event, package, presentity, watcher)
        subscription.content_type = content_type
        self._watching.authorise(subscription)
        if subscription.status == TERMINATED:
            # Blocked (RFC 5025 section 3.2.1).
            raise SIPError(status=403)
        return subscription

    def _within(self, request: Request, arrival: Arrival, now: float) -> Reply:
        """Refresh or end (4.2.1.3)."""
        watching = self._watching
        subscription = watching.table.find(
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
            watching.renew(subscription)
        else:
            watching.end(subscription, "timeout")
        watching.notifier.answer(subscription)
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
        headers = [("Expires", str(expires)), ("Contact", subscription.local_contact)]
        if subscription.required:
            headers.append(("Require", subscription.required))
        status = 202 if subscription.status == PENDING else 200
        return Reply(status, headers=tuple(headers), to_tag=subscription.dialog.local_tag)

    def _refuse_too_many(self, subscription: Subscription) -> None:
        settings, table = self._settings, self._watching.table
        views = sum(1 for _ in subscription.views())
        mine = table.count_of(subscription.watcher) + views
        if (
            table.views + views > settings.max_subscriptions
            or mine > settings.max_subscriptions_per_watcher
        ):
            raise SIPError("Too Many Subscriptions", 503, [("Retry-After", "60")])

    def _contact(self, arrival: Arrival) -> str:
        host, port = arrival.flow.sent_by
        transport = arrival.flow.local.transport
        usual = 5060 if transport in ("UDP", "TCP") else DEFAULT_PORTS.get(transport, 5060)
        where = join_host_port(host, None if port == usual else port)
        suffix = "" if transport == "UDP" else f";transport={transport.lower()}"
        return f"<sip:{self._settings.contact_user}@{where}{suffix}>"


def _target(request: Request, arrival: Arrival) -> str:
    """The Contact as the watcher can be reached (oddity O10)."""
    value = request.get("contact")
    if value is None:
        return ""
    copy = Request("SUBSCRIBE", "", ["contact"], [f"Contact: {value}"])
    repair_contact(copy, arrival.peer)
    return target_of(copy)
