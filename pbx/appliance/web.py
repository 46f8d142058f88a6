"""The web site: health, metrics, SIP over WebSocket, documents, the web phone and the console."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from twisted.internet.interfaces import IOpenSSLContextFactory

from pbx.appliance.foundation import Foundation
from pbx.appliance.presence import UserDocuments
from pbx.appliance.services import Services
from pbx.appliance.storage import Storage
from pbx.appliance.transport import Transport
from pbx.health import Health, overall
from pbx.http.access import networks
from pbx.http.api import About, Web
from pbx.http.health import HealthPage
from pbx.http.metrics import MetricsPage
from pbx.http.settings import IceSettings, WebSettings
from pbx.http.site import HTTPSettings, Site
from pbx.http.upgrade import UpgradePage
from pbx.http.visitors import Visitors
from pbx.interfaces import IManagement, IWebSite
from pbx.lifecycle import web_addresses
from pbx.media.settings import MediaSettings
from pbx.services.xcap import XCAPPage, XCAPServer, XCAPSettings
from pbx.sip.address import Address
from pbx.tables import SipSettings
from pbx.transport.hosts import real_client
from pbx.transport.settings import WebSocketSettings
from pbx.transport.web import WebSIP


class WebSite:
    """The site and what others ask about it. It starts after all parts that it shows."""

    def __init__(self, foundation: Foundation, transport: Transport) -> None:
        tables = foundation.tables
        self._transport = transport
        self._advertise = tables.of(SipSettings).advertise
        self.site = Site(
            tables.of(HTTPSettings),
            foundation.reactor,
            lambda: cast(IOpenSSLContextFactory, transport.tls.contexts()),
            transport.guard.banned,
            tables.of(WebSocketSettings).trusted_proxies,
        )
        make = transport.ways.web_sip
        self.sip: WebSIP | None = None if make is None else make(self.site.listeners)

    def addresses(self) -> Sequence[str]:
        """Where browsers find the site: of this machine first, then of others."""
        return web_addresses(self.site.listeners(), self._advertise)

    def sip_listeners(self) -> Sequence[Address]:
        """Those of the configuration: what the web site listens on is told with it."""
        others = () if self.sip is None else self.sip.addresses()
        return [at for at in self._transport.flows.listeners() if at not in others]


def build_site(foundation: Foundation, transport: Transport) -> WebSite:
    """What programs ask; plugins put their own pages beside it."""
    made = WebSite(foundation, transport)
    site = made.site

    def health() -> Health:
        return overall(foundation.parts)

    site.put("health", HealthPage(health))
    allowed = networks(foundation.tables.of(HTTPSettings).metrics_allow)
    site.put("metrics", MetricsPage(lambda: foundation.parts, health, allowed))
    if made.sip is not None:
        site.put("sip", UpgradePage("websocket", made.sip.successor))
    foundation.registry.provide(IWebSite, site)
    return made


def put_documents(
    foundation: Foundation, website: WebSite, services: Services, kept: UserDocuments
) -> None:
    """Where users edit them, unless that is off."""
    settings = foundation.tables.of(XCAPSettings)
    if settings.enabled:
        people = services.people
        server = XCAPServer(
            settings, kept.documents, kept.list_uris, people.authenticator, people.domains
        )
        website.site.put(settings.root, XCAPPage(server))


def put_pages(
    foundation: Foundation,
    storage: Storage,
    transport: Transport,
    services: Services,
    website: WebSite,
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
