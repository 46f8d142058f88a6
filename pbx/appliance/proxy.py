"""The proxy core, and the two lines that connect the layers upwards."""

from __future__ import annotations

from pbx.appliance.foundation import Foundation
from pbx.appliance.services import Services
from pbx.appliance.transport import Transport
from pbx.interfaces import IMedia, IRoutingPolicy
from pbx.proxy.core import ProxyCore
from pbx.proxy.forward import Forwarder
from pbx.proxy.relay import Relayer
from pbx.proxy.replies import Replier
from pbx.proxy.settings import ProxySettings


def build_proxy(
    foundation: Foundation,
    transport: Transport,
    services: Services,
    media: IMedia,
    policy: IRoutingPolicy,
) -> None:
    """After it messages find their way to the policy."""
    settings = foundation.tables.of(ProxySettings)
    relayer = Relayer(
        transactions=transport.transactions,
        flows=transport.flows,
        forwarder=Forwarder(services.people.authenticator.is_own_realm),
        dialogs=services.dialogs,
        events=foundation.events,
        timers=foundation.wheel,
        settings=settings,
        replier=Replier(settings.server_header),
        media=media,
    )
    core = foundation.add(ProxyCore(relayer, policy, services.nodes.cluster))
    transport.transactions.deliver_to(core)
    transport.ways.listeners.deliver_to(transport.transactions)
