"""Subscriptions to contact lists: whose they are, and who is in them (RFC 4662, RFC 4826)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pbx.contact_lists import ContactList
from pbx.interfaces import IContactLists
from pbx.services.presence.lists import (
    CONTENT_TYPE,
    META_TYPE,
    ListPackage,
    ListSubscription,
    Member,
)
from pbx.services.presence.settings import PresenceSettings
from pbx.services.presence.subscription import Package, Subscription
from pbx.sip.dialog import Dialog
from pbx.sip.errors import MalformedURI, SIPError
from pbx.sip.events import Event, accepts
from pbx.sip.message import Request
from pbx.sip.uri import URI

#: Packages that make sense for many at once; the others are about the watcher alone.
PACKAGES = ("presence", "dialog", "message-summary")


class Contacts:
    """Makes list subscriptions; ``user_of`` gives the user of ours behind a URI, "" for others."""

    def __init__(
        self,
        settings: PresenceSettings,
        lists: IContactLists,
        packages: Mapping[str, Package],
        user_of: Callable[[URI], str],
    ) -> None:
        self._most = settings.max_list_members
        self._lists = lists
        self._packages = packages
        self._user_of = user_of

    def find(self, presentity: str) -> ContactList | None:
        """The list of this address."""
        return self._lists.contact_list(presentity)

    def begin(
        self, request: Request, event: Event, dialog: Dialog, watcher: str, listed: ContactList
    ) -> ListSubscription:
        """A new subscription. Raises SIPError: 403 for others than the owner, 421 when the watcher
        does not know lists, 489 for packages that the list is not for, 406.
        """
        if watcher != listed.owner:
            raise SIPError(status=403)
        supported = [name.lower() for name in request.get_list("supported")]
        if "eventlist" not in supported:
            raise SIPError(status=421, headers=[("Require", "eventlist")])
        name = event.package
        if name not in PACKAGES or (listed.packages and name not in listed.packages):
            allowed = [one for one in PACKAGES if not listed.packages or one in listed.packages]
            raise SIPError(status=489, headers=[("Allow-Events", ", ".join(allowed))])
        inner = self._packages[name]
        for kinds in ((CONTENT_TYPE,), (META_TYPE,), inner.content_types):
            if not accepts(request, kinds):
                wanted = (CONTENT_TYPE, META_TYPE, *inner.content_types)
                raise SIPError(status=406, headers=[("Accept", ", ".join(wanted))])
        presentity = self._aor(listed.uri)
        subscription = ListSubscription(
            dialog, event, ListPackage(inner), presentity, watcher, listed
        )
        self.fill(subscription, listed)
        return subscription

    def restored(self, subscription: Subscription, listed: ContactList) -> Subscription:
        """The same dialog, as the subscription to a list that it is."""
        package = subscription.package
        if package.name not in PACKAGES or subscription.watcher != listed.owner:
            return subscription
        made = ListSubscription(
            subscription.dialog,
            subscription.event,
            ListPackage(package),
            subscription.presentity,
            subscription.watcher,
            listed,
        )
        made.expires = subscription.expires
        made.version = subscription.version
        made.socket = subscription.socket
        made.local_contact = subscription.local_contact
        made.node = subscription.node
        made.saved = made.informed = True
        try:
            self.fill(made, listed)
        except SIPError:
            return subscription
        return made

    def fill(self, subscription: ListSubscription, listed: ContactList) -> None:
        """Its members are these now. Raises SIPError 403 for too many of them."""
        if len(listed.contacts) > self._most:
            raise SIPError("List Too Long", 403)
        members: dict[str, Member] = {}
        strangers: list[tuple[str, str]] = []
        for contact in listed.contacts:
            user = self._aor(contact.uri)
            if not user:
                strangers.append((contact.uri, contact.name))
            elif user not in members:
                known = subscription.members.get(user)
                members[user] = known or Member(user, contact.uri, contact.name)
        subscription.listed = listed
        subscription.members = members
        subscription.strangers = tuple(strangers)

    def _aor(self, uri: str) -> str:
        try:
            return self._user_of(URI.parse(uri))
        except MalformedURI:
            return ""
