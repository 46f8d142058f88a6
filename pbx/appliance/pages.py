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
from pbx.http.links import LoginLinks
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
    """The site and its pages."""

    def __init__(self, foundation: Foundation, transport: Transport) -> None:
        super().__init__(transport)
        tables = foundation.tables
        self._advertise = tables.of(SipSettings).advertise
        self._login_links: LoginLinks | None = None
        self.site = Site(
            tables.of(HTTPSettings),
            foundation.reactor,
            lambda: cast(IOpenSSLContextFactory, transport.tls.contexts()),
            transport.guard.banned,
            tables.of(WebSocketSettings).trusted_proxies,
        )
        make = transport.ways.web_sip
        self.sip: WebSIP | None = None if make is None else make(self.site.listeners)

    def parts(self) -> Sequence[object]:
        """The site, the listeners, then SIP on the site, which needs both."""
        found = [self.site, *super().parts()]
        return found if self.sip is None else [*found, self.sip]

    def addresses(self) -> Sequence[str]:
        """Where browsers find the site: of this machine first, then of others."""
        return web_addresses(self.site.listeners(), self._advertise)

    def url(self) -> str:
        """Where a browser on this host finds it, "" when nowhere."""
        return self.site.url()

    async def links(self, user: str, domain: str) -> Sequence[str]:
        """Such that log a user in, one for each address."""
        return () if self._login_links is None else await self._login_links.links(user, domain)

    def sip_listeners(self) -> Sequence[Address]:
        """Those of the configuration: what the web site listens on is told with it."""
        others = () if self.sip is None else self.sip.addresses()
        return [at for at in super().sip_listeners() if at not in others]

    def log_in_with(self, links: LoginLinks) -> None:
        """Who makes links."""
        self._login_links = links


def build_pages(
    foundation: Foundation,
    storage: Storage,
    transport: Transport,
    services: Services,
    kept: UserDocuments,
    management: IManagement,
) -> ListeningSite:
    """A site with all pages but those of plugins."""
    website = ListeningSite(foundation, transport)
    _for_programs(foundation, website)
    _documents(foundation, website, services, kept)
    web = _for_people(foundation, storage, transport, services, website, management)
    website.log_in_with(web.links)
    foundation.registry.provide(IWebSite, website.site)
    return website


def _for_programs(foundation: Foundation, website: ListeningSite) -> None:
    site = website.site

    def health() -> Health:
        return overall(foundation.parts)

    site.put("health", HealthPage(health))
    allowed = networks(foundation.tables.of(HTTPSettings).metrics_allow)
    site.put("metrics", MetricsPage(lambda: foundation.parts, health, allowed))
    if website.sip is not None:
        site.put("sip", UpgradePage("websocket", website.sip.successor))


def _documents(
    foundation: Foundation, website: ListeningSite, services: Services, kept: UserDocuments
) -> None:
    """Where users edit them, unless that is off."""
    settings = foundation.tables.of(XCAPSettings)
    if settings.enabled:
        people = services.people
        server = XCAPServer(
            settings, kept.documents, kept.list_uris, people.authenticator, people.domains
        )
        website.site.put(settings.root, XCAPPage(server))


def _for_people(
    foundation: Foundation,
    storage: Storage,
    transport: Transport,
    services: Services,
    website: ListeningSite,
    management: IManagement,
) -> Web:
    """The pages for users and operators, and what they ask."""
    tables, people = foundation.tables, services.people
    settings, websocket = tables.of(WebSettings), tables.of(WebSocketSettings)
    trusted = websocket.trusted_proxies
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
        website.addresses,
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
    website.site.put("api", web.api)
    website.site.put("/", web.front)
    website.site.put("console", web.console)
    return web
