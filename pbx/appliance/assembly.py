"""The order in which a PBX is put together, bottom up.

It is the dependency order: a layer is handed those below it, and a part that asks the registry for
one that comes later fails at start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorTime

from pbx.appliance.foundation import Foundation
from pbx.appliance.management import build_management, open_commands
from pbx.appliance.media import build_media
from pbx.appliance.presence import build_documents, build_presence
from pbx.appliance.proxy import build_proxy
from pbx.appliance.services import Services, build_services
from pbx.appliance.storage import Storage, build_storage, watch_tables
from pbx.appliance.transport import Ways, build_transport, sockets
from pbx.appliance.web import WebSite, build_website
from pbx.config import ConfigError
from pbx.lifecycle import Lifecycle, greet
from pbx.logs import LOG, LogSettings
from pbx.routing.loader import PolicyError, ReloadablePolicy
from pbx.tables import RoutingSettings, SipSettings, Tables
from pbx.transport.listeners import ListenFailed
from pbx.transport.shared_tls import SharedTLS


@dataclass(frozen=True, slots=True)
class Appliance:
    """A PBX that is ready to start; ``service`` starts and stops it."""

    service: Lifecycle
    parts: tuple[object, ...]


def build(config: Mapping[str, Any], base: Path, reactor: IReactorTime) -> Appliance:
    """The PBX that a configuration describes; relative paths start from ``base``.

    Raises ConfigError with every fault of the tables, or what keeps a part from being built.
    """
    foundation = Foundation(Tables(config), base, reactor)
    try:
        return assemble(foundation)
    except (ListenFailed, PolicyError) as error:
        raise ConfigError(str(error)) from None


def assemble(
    foundation: Foundation, listening: Callable[[Foundation, SharedTLS], Ways] = sockets
) -> Appliance:
    """Everything on a foundation; tests have their own transports."""
    LOG.configure(foundation.tables.of(LogSettings))
    with foundation.registry.building():
        foundation.provide()
        storage = build_storage(foundation)
        transport = build_transport(foundation, storage, listening)
        services = build_services(foundation, storage, transport)
        kept = build_documents(foundation, storage)
        build_presence(foundation, storage, transport, services, kept)
        watch_tables(foundation, storage)
        media = build_media(foundation, services)
        commands = open_commands(foundation)
        website = build_website(foundation, storage, transport, services, kept, commands)
        _plugins(foundation)
        policy = _policy(foundation)
    build_proxy(foundation, transport, services, media, policy)
    socket = build_management(foundation, transport, services, website, commands)
    parts = [*foundation.parts, *website.parts(), socket]
    service = _service(foundation, storage, services, website, parts)
    return Appliance(service, tuple(parts))


def _plugins(foundation: Foundation) -> None:
    registry, tables = foundation.registry, foundation.tables
    for plugin in tables.plugins:
        before = registry.parts()
        plugin.provide(registry, foundation.reactor, tables.of_plugin(plugin.name))
        foundation.parts.extend(part for part in registry.parts() if part not in before)


def _policy(foundation: Foundation) -> ReloadablePolicy:
    path = foundation.base / foundation.tables.of(RoutingSettings).policy
    registry = foundation.registry
    return foundation.add(ReloadablePolicy(path, registry, registry.building))


def _service(
    foundation: Foundation,
    storage: Storage,
    services: Services,
    website: WebSite,
    parts: list[object],
) -> Lifecycle:
    domain = foundation.tables.of(SipSettings).domain

    async def welcome() -> None:
        await greet(
            storage.database,
            domain,
            website.sip_listeners(),
            website.addresses(),
            website.links,
            services.people.authenticator.reload,
        )

    return Lifecycle(storage.database, parts, welcome)
