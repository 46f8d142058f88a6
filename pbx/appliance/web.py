"""The web site, if there is one: what serves pages is only loaded where `[http]` listens (4 MB)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zope.interface import implementer

from pbx.appliance.foundation import Foundation
from pbx.appliance.presence import UserDocuments
from pbx.appliance.services import Services
from pbx.appliance.storage import Storage
from pbx.appliance.transport import Transport
from pbx.http.settings import HTTPSettings
from pbx.interfaces import IManagement, IWebSite
from pbx.sip.address import Address

if TYPE_CHECKING:
    from twisted.web.resource import IResource


class WebSite:
    """What others ask about the site. This one is nowhere."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def parts(self) -> Sequence[object]:
        """What listens, in the order in which it starts: after all that pages show."""
        return (self._transport.ways.listeners,)

    def addresses(self) -> Sequence[str]:
        """Where browsers find the site: of this machine first, then of others."""
        return ()

    def url(self) -> str:
        """Where a browser on this host finds it."""
        return ""

    async def links(self, user: str, domain: str) -> Sequence[str]:
        """Such that log a user in, one for each address."""
        return ()

    def sip_listeners(self) -> Sequence[Address]:
        """Those of the configuration: what the web site listens on is told with it."""
        return self._transport.flows.listeners()


@implementer(IWebSite)
class Nowhere:
    """Takes the pages of plugins, and shows them to nobody."""

    def put(self, path: str, page: IResource) -> None:
        """Nobody can ask for it."""


def build_website(
    foundation: Foundation,
    storage: Storage,
    transport: Transport,
    services: Services,
    kept: UserDocuments,
    management: IManagement,
) -> WebSite:
    """The pages for programs, users and operators; plugins put their own beside them."""
    if not foundation.tables.of(HTTPSettings).listen:
        foundation.registry.provide(IWebSite, Nowhere())
        return WebSite(transport)
    from pbx.appliance.pages import build_pages

    return build_pages(foundation, storage, transport, services, kept, management)
