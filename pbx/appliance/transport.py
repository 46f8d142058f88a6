"""The guard, TLS, the listeners and flows, and the transactions over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from twisted.names.client import Resolver

from pbx.appliance.foundation import Foundation
from pbx.appliance.storage import Storage
from pbx.interfaces import IFlows, IGuard, ITransactions, ITransportUser, IUserAgent, IWire
from pbx.proxy.user_agent import UserAgent
from pbx.services.guard import Guard, GuardSettings
from pbx.sip.address import Address
from pbx.tables import SipSettings
from pbx.transaction.layer import TransactionLayer
from pbx.transaction.timers import Timers
from pbx.transport.connection import Connections
from pbx.transport.flows import Flows
from pbx.transport.hosts import own_names
from pbx.transport.listeners import Listeners
from pbx.transport.locate import Locator
from pbx.transport.settings import DNSSettings, TransportSettings, WebSocketSettings
from pbx.transport.shared_tls import SharedTLS
from pbx.transport.tls import TLSSettings, is_set
from pbx.transport.web import WebSIP


class Listening(Protocol):
    """What hears peers; started and stopped like any other part."""

    def deliver_to(self, user: ITransportUser) -> None:
        """Who gets the messages."""


#: Makes further listeners of a web site; given what tells the addresses of the site.
MakeWebSIP = Callable[[Callable[[], Sequence[Address]]], WebSIP]


@dataclass(frozen=True, slots=True)
class Ways:
    """The transports: ways to peers, and what hears them."""

    flows: IFlows
    listeners: Listening
    web_sip: MakeWebSIP | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """What `build_transport` made."""

    guard: Guard
    tls: SharedTLS
    ways: Ways
    flows: IFlows
    transactions: TransactionLayer
    user_agent: UserAgent


def build_transport(
    foundation: Foundation, storage: Storage, listening: Callable[[Foundation, SharedTLS], Ways]
) -> Transport:
    """From the bytes to the transactions; who gets those is said when there is a proxy."""
    registry = foundation.registry
    guard = _guard(foundation, storage)
    tls = foundation.add(_shared_tls(foundation))
    registry.provide(IWire, foundation.delivery)
    ways = listening(foundation, tls)
    flows = foundation.add(ways.flows)
    registry.provide(IFlows, flows)
    timers = foundation.tables.of(Timers)
    transactions = foundation.add(TransactionLayer(timers, foundation.reactor, foundation.wheel))
    transactions.flows = flows
    registry.provide(ITransactions, transactions)
    user_agent = foundation.add(UserAgent(transactions, flows))
    registry.provide(IUserAgent, user_agent)
    return Transport(
        guard=guard,
        tls=tls,
        ways=ways,
        flows=flows,
        transactions=transactions,
        user_agent=user_agent,
    )


def sockets(foundation: Foundation, tls: SharedTLS) -> Ways:
    """The transports over the network, bound when they start."""
    tables, reactor = foundation.tables, foundation.reactor
    transport, websocket = tables.of(TransportSettings), tables.of(WebSocketSettings)
    sip, dns = tables.of(SipSettings), tables.of(DNSSettings)
    resolver = Resolver(  # type: ignore[no-untyped-call]
        resolv="/etc/resolv.conf",
        servers=[(server, 53) for server in dns.servers] or None,
        reactor=reactor,
    )
    locator = Locator(dns, resolver, reactor)
    connections = Connections(transport, foundation.wheel, foundation.delivery, reactor.seconds)
    flows = Flows(connections, locator, reactor, tls.contexts)
    listeners = Listeners(
        sip.listen, sip.advertise, flows, transport, websocket, tls.contexts, reactor
    )

    def web_sip(site: Callable[[], Sequence[Address]]) -> WebSIP:
        return WebSIP(connections, listeners, websocket, reactor, site)

    return Ways(flows, listeners, web_sip)


def _guard(foundation: Foundation, storage: Storage) -> Guard:
    """Before the transports: a flow asks it once who its peer is."""
    tables = foundation.tables
    guard = Guard(
        tables.of(GuardSettings),
        storage.database,
        foundation.events,
        foundation.reactor,
        lambda: foundation.parts,
        tables.of(WebSocketSettings).trusted_proxies,
    )
    foundation.registry.provide(IGuard, foundation.add(guard))
    foundation.delivery.guard = guard
    return guard


def _shared_tls(foundation: Foundation) -> SharedTLS:
    base, found = foundation.base, foundation.tables.of(TLSSettings)
    files = {name: getattr(found, name) for name in ("certificate", "private_key", "ca")}
    located = {name: base / path for name, path in files.items() if is_set(path)}
    sip = foundation.tables.of(SipSettings)
    return SharedTLS(
        replace(found, **located),
        base / "var",
        lambda: own_names(sip.domain, sip.advertise),
        foundation.reactor,
    )
