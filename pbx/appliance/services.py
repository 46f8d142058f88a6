"""The services but presence: who we are, who may, the calls, the bindings, the stored messages."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pbx.appliance.foundation import Foundation
from pbx.appliance.storage import Storage
from pbx.appliance.transport import Transport
from pbx.config import ConfigError
from pbx.interfaces import (
    IAliases,
    IAuthenticator,
    IBlacklists,
    IDialogs,
    IDomains,
    IHTTPLogin,
    ILoadBalancer,
    IMessageSilo,
    IRegistrar,
    ISubscribers,
    ITally,
)
from pbx.logs import LogSettings
from pbx.services.accounting import (
    CDR_COLUMNS,
    CDR_KEY,
    Accounting,
    AccountingSettings,
    acc_columns,
    missed_columns,
)
from pbx.services.aliases import Aliases
from pbx.services.authenticator import Authenticator, AuthenticatorSettings, Subscribers
from pbx.services.blacklists import Blacklists
from pbx.services.call_log import CallLog
from pbx.services.call_metrics import CallMetrics
from pbx.services.cluster import Cluster, ClusterSettings
from pbx.services.dialogs import DIALOG_COLUMNS, DIALOG_KEY, Dialogs, DialogSettings
from pbx.services.domains import Domains
from pbx.services.guard import KnownHosts
from pbx.services.load_balancer import LoadBalancer, LoadBalancerSettings
from pbx.services.msilo import Courier, MessageSilo, MessageSiloSettings
from pbx.services.registrar import (
    LOCATION_COLUMNS,
    LOCATION_KEY,
    Registrar,
    RegistrarSettings,
)
from pbx.storage.open import open_bus
from pbx.tables import SipSettings, StorageSettings
from pbx.transport.hosts import local_addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """The other nodes on the same database, and what is counted with them; None without any."""

    cluster: Cluster | None = None
    tally: ITally | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Who is ours, under which names and passwords."""

    domains: Domains
    aliases: Aliases
    authenticator: Authenticator
    subscribers: Subscribers


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What `build_services` made, as far as others need it."""

    nodes: Nodes
    people: People
    dialogs: Dialogs
    registrar: Registrar


def build_services(foundation: Foundation, storage: Storage, transport: Transport) -> Services:
    """In the order in which they need each other."""
    nodes = _nodes(foundation, storage, transport)
    people = _people(foundation, storage, transport)
    # Before the dialogs: it counts the calls that they restore.
    _load_balancer(foundation, storage, transport, nodes)
    _accounting(foundation, storage)
    dialogs = _dialogs(foundation, storage, transport, nodes)
    foundation.add(CallMetrics(foundation.events, foundation.reactor))
    if foundation.tables.of(LogSettings).calls:
        foundation.add(CallLog(foundation.events))
    registrar = _registrar(foundation, storage, transport, nodes, people)
    _message_silo(foundation, storage, transport, nodes, people, registrar)
    return Services(nodes=nodes, people=people, dialogs=dialogs, registrar=registrar)


def _nodes(foundation: Foundation, storage: Storage, transport: Transport) -> Nodes:
    settings = foundation.tables.of(ClusterSettings)
    if not settings.node:
        return Nodes()
    urls = foundation.tables.of(StorageSettings)
    try:
        bus = open_bus(urls.cache, urls.database, storage.database, foundation.reactor)
    except ValueError as error:
        raise ConfigError(f"[cluster] {error}") from None
    cluster = Cluster(
        settings,
        bus,
        storage.database,
        transport.flows,
        foundation.events,
        foundation.reactor,
        local_addresses,
    )
    return Nodes(cluster=foundation.add(cluster), tally=bus)


def _people(foundation: Foundation, storage: Storage, transport: Transport) -> People:
    tables, registry = foundation.tables, foundation.registry
    database, events, reactor = storage.database, foundation.events, foundation.reactor
    domain = tables.of(SipSettings).domain
    domains = foundation.add(Domains(domain, transport.flows.is_own_host, database, events))
    registry.provide(IDomains, domains)
    aliases = foundation.add(Aliases(database, events))
    registry.provide(IAliases, aliases)
    registry.provide(IBlacklists, foundation.add(Blacklists(reactor)))
    settings = tables.of(AuthenticatorSettings)
    authenticator = foundation.add(
        Authenticator(settings, database, domains, events, reactor, transport.guard)
    )
    registry.provide(IAuthenticator, authenticator)
    registry.provide(IHTTPLogin, authenticator)
    subscribers = foundation.add(Subscribers(settings, authenticator, database, domains, events))
    registry.provide(ISubscribers, subscribers)
    return People(
        domains=domains, aliases=aliases, authenticator=authenticator, subscribers=subscribers
    )


def _load_balancer(
    foundation: Foundation, storage: Storage, transport: Transport, nodes: Nodes
) -> None:
    balancer = LoadBalancer(
        foundation.tables.of(LoadBalancerSettings),
        storage.database,
        transport.user_agent,
        transport.flows,
        foundation.events,
        foundation.reactor,
        foundation.wheel,
        nodes.cluster,
        nodes.tally,
    )
    foundation.registry.provide(ILoadBalancer, foundation.add(balancer))


def _accounting(foundation: Foundation, storage: Storage) -> None:
    settings = foundation.tables.of(AccountingSettings)
    foundation.add(
        Accounting(
            settings,
            storage.behind("acc", (), acc_columns(settings)),
            storage.behind("missed_calls", (), missed_columns(settings)),
            storage.behind("pbx_cdr", CDR_KEY, CDR_COLUMNS),
            foundation.events,
            foundation.reactor,
        )
    )


def _dialogs(
    foundation: Foundation, storage: Storage, transport: Transport, nodes: Nodes
) -> Dialogs:
    dialogs = Dialogs(
        foundation.tables.of(DialogSettings),
        storage.database,
        storage.behind("dialog", DIALOG_KEY, DIALOG_COLUMNS),
        transport.user_agent,
        transport.flows,
        foundation.events,
        foundation.reactor,
        foundation.wheel,
        nodes.cluster,
    )
    foundation.registry.provide(IDialogs, foundation.add(dialogs))
    return dialogs


def _registrar(
    foundation: Foundation, storage: Storage, transport: Transport, nodes: Nodes, people: People
) -> Registrar:
    registrar = Registrar(
        foundation.tables.of(RegistrarSettings),
        storage.database,
        storage.behind("location", LOCATION_KEY, LOCATION_COLUMNS),
        storage.cache,
        people.domains,
        transport.flows,
        foundation.events,
        foundation.reactor,
        foundation.wheel,
        nodes.cluster,
    )
    foundation.add(KnownHosts(transport.guard, registrar.hosts))
    foundation.registry.provide(IRegistrar, foundation.add(registrar))
    return registrar


def _message_silo(
    foundation: Foundation,
    storage: Storage,
    transport: Transport,
    nodes: Nodes,
    people: People,
    registrar: Registrar,
) -> None:
    settings = foundation.tables.of(MessageSiloSettings)
    if not settings.enabled:
        return
    if nodes.cluster is not None:
        settings = replace(settings, shared=True)
    silo = MessageSilo(
        settings,
        storage.database,
        Courier(transport.user_agent, registrar, transport.flows),
        people.domains,
        foundation.events,
        foundation.reactor,
        foundation.wheel,
        nodes.cluster,
    )
    foundation.registry.provide(IMessageSilo, foundation.add(silo))
