"""The documents that users keep with us, and the event server that reads them."""

from __future__ import annotations

from dataclasses import dataclass

from pbx.appliance.foundation import Foundation
from pbx.appliance.services import Services
from pbx.appliance.storage import Storage
from pbx.appliance.transport import Transport
from pbx.interfaces import IDocuments, IPresence
from pbx.services.presence import (
    PRESENTITY_COLUMNS,
    PRESENTITY_KEY,
    WAITING_COLUMNS,
    WAITING_KEY,
    WATCHERS_COLUMNS,
    WATCHERS_KEY,
    EventServer,
    PresenceSettings,
)
from pbx.services.xcap import ContactLists, Documents, ServiceURIs, XCAPSettings


@dataclass(frozen=True, slots=True)
class UserDocuments:
    """What `build_documents` made: presence reads it, users edit it on the web site."""

    documents: Documents
    list_uris: ServiceURIs


def build_documents(foundation: Foundation, storage: Storage) -> UserDocuments:
    """Before the event server: it tells of every document that it has read."""
    events = foundation.events
    documents = foundation.add(Documents(storage.database, events, foundation.reactor))
    foundation.registry.provide(IDocuments, documents)
    return UserDocuments(documents, ServiceURIs(documents, events))


def build_presence(
    foundation: Foundation,
    storage: Storage,
    transport: Transport,
    services: Services,
    kept: UserDocuments,
) -> None:
    """Unless it is off."""
    settings = foundation.tables.of(PresenceSettings)
    if not settings.enabled:
        return
    people = services.people
    root = foundation.tables.of(XCAPSettings).root
    server = EventServer(
        settings,
        storage.database,
        storage.behind("presentity", PRESENTITY_KEY, PRESENTITY_COLUMNS),
        storage.behind("active_watchers", WATCHERS_KEY, WATCHERS_COLUMNS),
        storage.behind("watchers", WAITING_KEY, WAITING_COLUMNS),
        transport.user_agent,
        people.domains,
        people.aliases,
        services.registrar,
        kept.documents,
        ContactLists(root, kept.documents, kept.list_uris, people.domains),
        foundation.events,
        foundation.reactor,
        foundation.wheel,
        services.nodes.cluster,
    )
    foundation.registry.provide(IPresence, foundation.add(server))
