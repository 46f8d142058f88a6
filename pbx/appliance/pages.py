"""The pages of the site: health, metrics, SIP over WebSocket, documents, web phone, console."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from twisted.internet.interfaces import IOpenSSLContextFactory

from pbx.appliance.foundation import Foundation
from pbx.appliance.presence import UserDocuments
from pbx.appliance.services import Services
from pbx.appliance.storage import Storage
from pbx.appliance.transport import Transport
from pbx.appliance.web import WebSite
from pbx.health import Health, overall
from pbx.http.api import About, Web
from pbx.http.health import HealthPage
from pbx.http.metrics import MetricsPage
from pbx.http.networks import networks
from pbx.http.settings import HTTPSettings, IceSettings, WebSettings
from pbx.http.site import Site
from pbx.http.upgrade import UpgradePage
from pbx.http.visitors import Visitors
from pbx.interfaces import IManagement, IWebSite
from pbx.lifecycle import web_addresses
from pbx.media.settings import MediaSettings
from pbx.services.xcap import XCAPSettings
from pbx.services.xcap.page import XCAPPage
from pbx.services.xcap.server import XCAPServer
from pbx.sip.address import Address
from pbx.tables import SipSettings
from pbx.transport.hosts import real_client
from pbx.transport.settings import WebSocketSettings
from pbx.transport.web import WebSIP


class ListeningSite(WebSite):
    """The site and its pages. ``sip`` is SIP on the site, ``web`` knows links that log in."""

    def __init__(self, transport: Transport, site: Site, sip: WebSIP | None, web: Web) -> None:
        super().__init__(transport)
        self._site = site
        self._sip = sip
        self._web = web

    def parts(self) -> Sequence[object]:
        """The site, the listeners, then SIP on the site, which needs both."""
        found = [self._site, *super().parts()]
        return found if self._sip is None else [*found, self._sip]

    def addresses(self) -> Sequence[str]:
        """Where browsers find the site: of this machine first, then of others."""
        return self._web.urls()

    def url(self) -> str:
        """Where a browser on this host finds it, "" when nowhere."""
        return self._site.url()

    async def links(self, user: str, domain: str) -> Sequence[str]:
        """Such that log a user in, one for each address."""
        return await self._web.links.links(user, domain)

    def sip_listeners(self) -> Sequence[Address]:
        """Those of the configuration: what the web site listens on is told with it."""
        others = () if self._sip is None else self._sip.addresses()
        return [at for at in super().sip_listeners() if at not in others]


def build_pages(
    foundation: Foundation,
    storage: Storage,
    transport: Transport,
    services: Services,
    kept: UserDocuments,
    management: IManagement,
) -> ListeningSite:
    """A site with all pages but those of plugins."""
    site = Site(
        foundation.tables.of(HTTPSettings),
        foundation.reactor,
        lambda: cast(IOpenSSLContextFactory, transport.tls.contexts()),
        transport.guard.banned,
        foundation.tables.of(WebSocketSettings).trusted_proxies,
    )
    make = transport.ways.web_sip
    sip = None if make is None else make(site.listeners)
    _for_programs(foundation, site, sip)
    _documents(foundation, site, services, kept)
    web = _for_people(foundation, storage, transport, services, site, management)
    foundation.registry.provide(IWebSite, site)
    return ListeningSite(transport, site, sip, web)


def _for_programs(foundation: Foundation, site: Site, sip: WebSIP | None) -> None:
    def health() -> Health:
        return overall(foundation.parts)

    site.put("health", HealthPage(health))
    allowed = networks(foundation.tables.of(HTTPSettings).metrics_allow)
    site.put("metrics", MetricsPage(lambda: foundation.parts, health, allowed))
    if sip is not None:
        site.put("sip", UpgradePage("websocket", sip.successor))


def _documents(foundation: Foundation, site: Site, services: Services, kept: UserDocuments) -> None:
    """Where users edit them, unless that is off."""
    settings = foundation.tables.of(XCAPSettings)
    if settings.enabled:
        people = services.people
        server = XCAPServer(
            settings, kept.documents, kept.list_uris, people.authenticator, people.domains
        )
        site.put(settings.root, XCAPPage(server))


def _for_people(
    foundation: Foundation,
    storage: Storage,
    transport: Transport,
    services: Services,
    site: Site,
    management: IManagement,
) -> Web:
    """The pages for users and operators, and what they ask."""
    tables, people = foundation.tables, services.people
    settings, websocket = tables.of(WebSettings), tables.of(WebSocketSettings)
    trusted = websocket.trusted_proxies
    advertise = tables.of(SipSettings).advertise
    web = Web(
        settings,
        tables.of(IceSettings),
        Visitors(
            lambda peer, forwarded: real_client(peer, forwarded, trusted),
            trusted,
            websocket.allowed_origins,
        ),
        About(settings.name, tables.of(SipSettings).domain, tables.of(MediaSettings).engine),
        people.subscribers,
        people.domains,
        storage.database,
        transport.guard,
        services.registrar.is_registered,
        foundation.base.joinpath,
        lambda: web_addresses(site.listeners(), advertise),
        foundation.reactor,
    )
    web.add_console(
        people.domains.is_local,
        management,
        services.dialogs,
        services.registrar.page,
        foundation.reactor.seconds,
    )
    foundation.parts.extend(web.parts)
    site.put("api", web.api)
    site.put("/", web.front)
    site.put("console", web.console)
    return web
