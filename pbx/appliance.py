"""Builds everything, in order; the only module that knows everybody.

The order in `build` is the dependency order: a part that asks for one that comes later fails at
start. Nothing that is built here is bound, read or written before the service starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from twisted.internet.interfaces import IOpenSSLContextFactory, IReactorCore, IReactorTime
from twisted.names.client import Resolver
from zope.interface import implementer

from pbx.config import ConfigError
from pbx.events import Events
from pbx.health import Health, overall
from pbx.http.access import networks
from pbx.http.api import About, Web
from pbx.http.health import HealthPage
from pbx.http.metrics import MetricsPage
from pbx.http.settings import IceSettings, WebSettings
from pbx.http.site import HTTPSettings, Site
from pbx.http.upgrade import UpgradePage
from pbx.http.visitors import Visitors
from pbx.interfaces import (
    IAliases,
    IAuthenticator,
    IBlacklists,
    ICache,
    ICommands,
    IDatabase,
    IDialogs,
    IDocuments,
    IDomains,
    IEvents,
    IFlows,
    IFolder,
    IGuard,
    IHTTPLogin,
    ILoadBalancer,
    IManagement,
    IMessageSilo,
    IPresence,
    IRegistrar,
    ISubscribers,
    ITally,
    ITimers,
    ITransactions,
    ITransportUser,
    IUserAgent,
    IWebSite,
    IWire,
)
from pbx.lifecycle import Lifecycle, greet, web_addresses
from pbx.logs import LOG, LogSettings
from pbx.management.commands import Commands, module_of
from pbx.management.core import CoreCommands
from pbx.management.events import EventInterface
from pbx.management.logs import LogCommands
from pbx.management.reports import StatusReports
from pbx.management.requests import RequestCommands
from pbx.management.trace import Tracer, TraceSettings, TraceStreams
from pbx.management.unix import ManagementSettings, ManagementSocket
from pbx.management.wire_log import WireLog
from pbx.media.calls import CallMedia
from pbx.media.open import EngineParts, open_engine
from pbx.media.settings import MediaSettings
from pbx.proxy.core import ProxyCore
from pbx.proxy.forward import Forwarder
from pbx.proxy.relay import ProxySettings, Relayer
from pbx.proxy.replies import Replier
from pbx.proxy.user_agent import UserAgent
from pbx.registry import Registry
from pbx.routing.loader import PolicyError, ReloadablePolicy
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
from pbx.services.guard import Guard, GuardSettings, KnownHosts
from pbx.services.load_balancer import LoadBalancer, LoadBalancerSettings
from pbx.services.msilo import Courier, MessageSilo, MessageSiloSettings
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
from pbx.services.registrar import (
    LOCATION_COLUMNS,
    LOCATION_KEY,
    Registrar,
    RegistrarSettings,
)
from pbx.services.xcap import (
    ContactLists,
    Documents,
    ServiceURIs,
    XCAPPage,
    XCAPServer,
    XCAPSettings,
)
from pbx.sip.address import Address
from pbx.storage.open import open_bus, open_cache, open_database
from pbx.storage.watcher import TableWatcher
from pbx.storage.write_behind import WriteBehind
from pbx.tables import (
    RoutingSettings,
    SipSettings,
    StorageSettings,
    Tables,
)
from pbx.timing import TimerWheel
from pbx.transaction.layer import TransactionLayer
from pbx.transaction.timers import Timers
from pbx.transport.connection import Connections
from pbx.transport.delivery import Delivery
from pbx.transport.flows import Flows
from pbx.transport.hosts import local_addresses, own_names, real_client, source_towards
from pbx.transport.listeners import Listeners, ListenFailed
from pbx.transport.locate import DNSSettings, Locator
from pbx.transport.settings import TransportSettings, WebSocketSettings
from pbx.transport.shared_tls import SharedTLS
from pbx.transport.tls import TLSSettings, is_set
from pbx.transport.web import WebSIP

PartT = TypeVar("PartT")

#: Tables that other programs may change while we run.
WATCHED = (
    "subscriber",
    "uri",
    "usr_preferences",
    "domain",
    "dbaliases",
    "load_balancer",
    "dialplan",
    "dispatcher",
    "dr_gateways",
    "dr_rules",
    "dr_carriers",
    "dr_groups",
    "xcap",
)


def build(config: Mapping[str, Any], base: Path, reactor: IReactorTime) -> Appliance:
    """The PBX that a configuration describes; relative paths start from ``base``.

    Raises ConfigError with every fault of the tables, or what keeps a part from being built.
    """
    tables = Tables(config)
    try:
        return Builder(tables, base, reactor).build()
    except (ListenFailed, PolicyError) as error:
        raise ConfigError(str(error)) from None


class Listening(Protocol):
    """What hears peers; started and stopped like any other part."""

    def deliver_to(self, user: ITransportUser) -> None:
        """Who gets the messages."""


@implementer(IFolder)
@dataclass(frozen=True, slots=True)
class Folder:
    """Where relative paths start."""

    base: Path

    def located(self, path: Path) -> Path:
        """Absolute ones stay."""
        return self.base / path


class Builder:
    """One PBX in the making."""

    def __init__(self, tables: Tables, base: Path, reactor: IReactorTime) -> None:
        self._tables = tables
        self._base = base
        self._reactor: Any = reactor
        self._registry = Registry()
        self._events = Events()
        self._wheel = TimerWheel(reactor)
        self._parts: list[object] = []
        self._queues: list[WriteBehind] = []
        self._commands = Commands(reactor)
        self._delivery = Delivery()
        self._web_sip: WebSIP | None = None

    def build(self) -> Appliance:
        """Everything, bottom up."""
        registry = self._registry
        LOG.configure(self._tables.of(LogSettings))
        with registry.building():
            registry.provide(IEvents, self._events)
            registry.provide(ITimers, self._wheel)
            self._storage()
            self._transport()
            self._services()
            self._media()
            self._management()
            self._web_pages()
            for plugin in self._tables.plugins:
                before = registry.parts()
                plugin.provide(registry, self._reactor, self._tables.of_plugin(plugin.name))
                self._parts.extend(part for part in registry.parts() if part not in before)
            path = self._base / self._tables.of(RoutingSettings).policy
            policy = ReloadablePolicy(path, registry, registry.building)
        self._parts.append(policy)
        self._proxy(policy)
        return self._finish()

    def _add(self, part: PartT) -> PartT:
        self._parts.append(part)
        return part

    # Storage

    def _storage(self) -> None:
        storage = self._tables.of(StorageSettings)
        url = storage.database
        path = url.removeprefix("sqlite:")
        if path != url and not path.startswith("/"):
            url = f"sqlite:{self._base / path}"
        try:
            self._database = self._add(open_database(url, self._reactor))
            self._cache = self._add(open_cache(storage.cache, self._reactor))
        except ValueError as error:
            raise ConfigError(f"[storage] {error}") from None
        self._registry.provide(IDatabase, self._database)
        self._registry.provide(ICache, self._cache)
        proxies = self._tables.of(WebSocketSettings).trusted_proxies
        self._guard = Guard(
            self._tables.of(GuardSettings),
            self._database,
            self._events,
            self._reactor,
            lambda: self._parts,
            proxies,
        )
        self._registry.provide(IGuard, self._add(self._guard))
        self._delivery.guard = self._guard

    def _behind(self, table: str, key: Sequence[str], columns: Sequence[str]) -> WriteBehind:
        storage = self._tables.of(StorageSettings)
        interval, limit = storage.write_interval, storage.queue_limit
        queue = WriteBehind(self._database, self._reactor, table, key, columns, interval, limit)
        self._queues.append(queue)
        return self._add(queue)

    # Transport and transactions

    def _transport(self) -> None:
        tables, reactor = self._tables, self._reactor
        self._tls = self._add(self._shared_tls())
        self._registry.provide(IWire, self._delivery)
        flows, self._listeners = self.listening()
        self._flows = self._add(flows)
        self._registry.provide(IFlows, flows)
        self._layer = self._add(TransactionLayer(tables.of(Timers), reactor, self._wheel))
        self._layer.flows = flows
        self._registry.provide(ITransactions, self._layer)
        self._user_agent = self._add(UserAgent(self._layer, flows))
        self._registry.provide(IUserAgent, self._user_agent)

    def listening(self) -> tuple[IFlows, Listening]:
        """The transports: ways to peers, and what hears them. Tests put their own here."""
        tables, reactor = self._tables, self._reactor
        transport = tables.of(TransportSettings)
        dns = tables.of(DNSSettings)
        resolver = Resolver(  # type: ignore[no-untyped-call]
            resolv="/etc/resolv.conf",
            servers=[(server, 53) for server in dns.servers] or None,
            reactor=reactor,
        )
        locator = Locator(dns, resolver, reactor)
        connections = Connections(transport, self._wheel, self._delivery, reactor.seconds)
        flows = Flows(connections, locator, reactor, self._tls.contexts)
        sip = tables.of(SipSettings)
        listeners = Listeners(
            sip.listen,
            sip.advertise,
            flows,
            transport,
            tables.of(WebSocketSettings),
            self._tls.contexts,
            reactor,
        )
        self._web_sip = WebSIP(
            connections,
            listeners,
            tables.of(WebSocketSettings),
            reactor,
            lambda: self._site.listeners(),
        )
        return flows, listeners

    def _http_tls(self) -> IOpenSSLContextFactory | None:
        return cast(IOpenSSLContextFactory, self._tls.contexts())

    def _shared_tls(self) -> SharedTLS:
        tables, base = self._tables, self._base
        found = tables.of(TLSSettings)
        files = {name: getattr(found, name) for name in ("certificate", "private_key", "ca")}
        located = {name: base / path for name, path in files.items() if is_set(path)}
        sip = tables.of(SipSettings)
        return SharedTLS(
            replace(found, **located),
            base / "var",
            lambda: own_names(sip.domain, sip.advertise),
            self._reactor,
        )

    # Services

    def _join(self) -> None:
        """The other nodes on the same database, when there are any."""
        self._cluster: Cluster | None = None
        self._tally: ITally | None = None
        settings = self._tables.of(ClusterSettings)
        if not settings.node:
            return
        storage = self._tables.of(StorageSettings)
        try:
            bus = open_bus(storage.cache, storage.database, self._database, self._reactor)
        except ValueError as error:
            raise ConfigError(f"[cluster] {error}") from None
        self._tally = bus
        self._cluster = self._add(
            Cluster(
                settings,
                bus,
                self._database,
                self._flows,
                self._events,
                self._reactor,
                local_addresses,
            )
        )

    def _services(self) -> None:
        self._join()
        tables, events, reactor, wheel = self._tables, self._events, self._reactor, self._wheel
        registry, database, flows = self._registry, self._database, self._flows
        domains = self._add(
            Domains(tables.of(SipSettings).domain, flows.is_own_host, database, events)
        )
        registry.provide(IDomains, domains)
        aliases = self._add(Aliases(database, events))
        registry.provide(IAliases, aliases)
        registry.provide(IBlacklists, self._add(Blacklists(reactor)))
        auth = tables.of(AuthenticatorSettings)
        self._authenticator = self._add(
            Authenticator(auth, database, domains, events, reactor, self._guard)
        )
        registry.provide(IAuthenticator, self._authenticator)
        registry.provide(IHTTPLogin, self._authenticator)
        people = Subscribers(auth, self._authenticator, database, domains, events)
        registry.provide(ISubscribers, self._add(people))
        # Before the dialogs: it counts the calls that they restore.
        balancer = LoadBalancer(
            tables.of(LoadBalancerSettings),
            database,
            self._user_agent,
            flows,
            events,
            reactor,
            wheel,
            self._cluster,
            self._tally,
        )
        registry.provide(ILoadBalancer, self._add(balancer))
        accounting = tables.of(AccountingSettings)
        self._add(
            Accounting(
                accounting,
                self._behind("acc", (), acc_columns(accounting)),
                self._behind("missed_calls", (), missed_columns(accounting)),
                self._behind("pbx_cdr", CDR_KEY, CDR_COLUMNS),
                events,
                reactor,
            )
        )
        self._dialogs = Dialogs(
            tables.of(DialogSettings),
            database,
            self._behind("dialog", DIALOG_KEY, DIALOG_COLUMNS),
            self._user_agent,
            flows,
            events,
            reactor,
            wheel,
            self._cluster,
        )
        registry.provide(IDialogs, self._add(self._dialogs))
        self._add(CallMetrics(events, reactor))
        if tables.of(LogSettings).calls:
            self._add(CallLog(events))
        registrar = Registrar(
            tables.of(RegistrarSettings),
            database,
            self._behind("location", LOCATION_KEY, LOCATION_COLUMNS),
            self._cache,
            domains,
            flows,
            events,
            reactor,
            wheel,
            self._cluster,
        )
        self._registrar = registrar
        self._add(KnownHosts(self._guard, registrar.hosts))
        registry.provide(IRegistrar, self._add(registrar))
        msilo = tables.of(MessageSiloSettings)
        if msilo.enabled:
            courier = Courier(self._user_agent, registrar, flows)
            if self._cluster is not None:
                msilo = replace(msilo, shared=True)
            silo = MessageSilo(
                msilo, database, courier, domains, events, reactor, wheel, self._cluster
            )
            registry.provide(IMessageSilo, self._add(silo))
        # Before the event server: it tells of every document that it has read.
        self._documents = self._add(Documents(database, events, reactor))
        registry.provide(IDocuments, self._documents)
        self._list_uris = ServiceURIs(self._documents, events)
        self._presence(domains, aliases, registrar)
        watched: tuple[str, ...] = WATCHED
        if tables.of(RegistrarSettings).db_mode == 3:
            watched = (*WATCHED, "location")
        self._add(TableWatcher(database, events, reactor, watched))

    def _presence(self, domains: IDomains, aliases: IAliases, registrar: IRegistrar) -> None:
        presence = self._tables.of(PresenceSettings)
        if not presence.enabled:
            return
        root = self._tables.of(XCAPSettings).root
        lists = ContactLists(root, self._documents, self._list_uris, domains)
        server = EventServer(
            presence,
            self._database,
            self._behind("presentity", PRESENTITY_KEY, PRESENTITY_COLUMNS),
            self._behind("active_watchers", WATCHERS_KEY, WATCHERS_COLUMNS),
            self._behind("watchers", WAITING_KEY, WAITING_COLUMNS),
            self._user_agent,
            domains,
            aliases,
            registrar,
            self._documents,
            lists,
            self._events,
            self._reactor,
            self._wheel,
            self._cluster,
        )
        self._registry.provide(IPresence, self._add(server))

    # Media

    def _media(self) -> None:
        parts = EngineParts(
            settings=self._tables.of(MediaSettings),
            advertise=self._tables.of(SipSettings).advertise,
            reactor=self._reactor,
            timers=self._wheel,
            source_towards=source_towards,
            local_addresses=local_addresses,
            folder=self._base / "var",
        )
        try:
            engine = open_engine(parts)
        except ValueError as error:
            raise ConfigError(f"[media] engine: {error}") from None
        if engine is not None:
            self._add(engine)
        self._call_media = self._add(
            CallMedia(
                engine,
                self._tables.of(MediaSettings).relay_phones,
                self._dialogs,
                self._events,
                self._wheel,
                self._reactor.seconds,
            )
        )

    # What plugins put their own things on

    def _management(self) -> None:
        http = self._tables.of(HTTPSettings)
        proxies = self._tables.of(WebSocketSettings).trusted_proxies
        self._site = Site(http, self._reactor, self._http_tls, self._guard.banned, proxies)

        def health() -> Health:
            return overall(self._parts)

        self._site.put("health", HealthPage(health))
        allowed = networks(http.metrics_allow)
        self._site.put("metrics", MetricsPage(lambda: self._parts, health, allowed))
        if self._web_sip is not None:
            self._site.put("sip", UpgradePage("websocket", self._web_sip.successor))
        self._registry.provide(IWebSite, self._site)
        xcap = self._tables.of(XCAPSettings)
        if xcap.enabled:
            server = XCAPServer(
                xcap,
                self._documents,
                self._list_uris,
                self._authenticator,
                IDomains(self._registry),
            )
            self._site.put(xcap.root, XCAPPage(server))
        self._registry.provide(IManagement, self._commands)
        self._registry.provide(IFolder, Folder(self._base))

    def _web_pages(self) -> None:
        """The pages for users, and what they ask."""
        tables, registry = self._tables, self._registry
        web, websocket = tables.of(WebSettings), tables.of(WebSocketSettings)
        trusted = websocket.trusted_proxies
        domain = tables.of(SipSettings).domain
        self._web = Web(
            web,
            tables.of(IceSettings),
            Visitors(
                lambda peer, forwarded: real_client(peer, forwarded, trusted),
                trusted,
                websocket.allowed_origins,
            ),
            About(web.name, domain, tables.of(MediaSettings).engine),
            ISubscribers(registry),
            IDomains(registry),
            self._database,
            self._guard,
            IRegistrar(registry).is_registered,
            self._base.joinpath,
            self._web_addresses,
            self._reactor,
        )
        self._web.add_console(
            IDomains(registry).is_local,
            self._commands,
            self._dialogs,
            self._registrar.page,
            self._reactor.seconds,
        )
        self._parts.extend(self._web.parts)
        self._site.put("api", self._web.api)
        self._site.put("/", self._web.front)
        self._site.put("console", self._web.console)

    def _web_addresses(self) -> Sequence[str]:
        """Where browsers find the site: of this machine first, then of others."""
        return web_addresses(self._site.listeners(), self._tables.of(SipSettings).advertise)

    # The proxy

    def _proxy(self, policy: ReloadablePolicy) -> None:
        proxy = self._tables.of(ProxySettings)
        relayer = Relayer(
            transactions=self._layer,
            flows=self._flows,
            forwarder=Forwarder(self._authenticator.is_own_realm),
            dialogs=self._dialogs,
            events=self._events,
            timers=self._wheel,
            settings=proxy,
            replier=Replier(proxy.server_header),
            media=self._call_media,
        )
        self._layer.deliver_to(self._add(ProxyCore(relayer, policy, self._cluster)))
        self._listeners.deliver_to(self._layer)

    # Management and start

    def _finish(self) -> Appliance:
        management = self._tables.of(ManagementSettings)
        site, commands = self._site, self._commands
        reactor = cast(IReactorCore, self._reactor)
        self._add(EventInterface(self._events, self._registrar, self._reactor))
        self._add(LogCommands())
        self._add(WireLog(self._delivery, self._reactor))
        self._add(StatusReports(lambda: self._parts, module_of, self._events, self._reactor))
        self._add(RequestCommands(self._layer, self._user_agent, self._flows, self._dialogs))
        self._add(TraceStreams(self._delivery, self._reactor))
        self._add(Tracer(self._tables.of(TraceSettings), self._delivery, self._reactor))
        self._add(
            CoreCommands(
                self._reactor,
                lambda: [*self._parts, site],
                self._sip_listeners,
                reactor.stop,
                site.url,
            )
        )
        for part in self._parts:
            if ICommands.providedBy(part):
                commands.add(part)
        socket = ManagementSocket(
            management, self._base / management.socket, self._reactor, commands.handle
        )
        web_sip = [] if self._web_sip is None else [self._web_sip]
        parts = [*self._parts, site, self._listeners, *web_sip, socket]
        domain = self._tables.of(SipSettings).domain
        known = self._authenticator.reload

        async def welcome() -> None:
            await greet(
                self._database,
                domain,
                self._sip_listeners(),
                self._web_addresses(),
                self._web.links.links,
                known,
            )

        service = Lifecycle(self._database, parts, welcome)
        return Appliance(service, tuple(parts))

    def _sip_listeners(self) -> Sequence[Address]:
        """Those of the configuration: what the web site listens on is told with it."""
        others = () if self._web_sip is None else self._web_sip.addresses()
        return [at for at in self._flows.listeners() if at not in others]


@dataclass(frozen=True, slots=True)
class Appliance:
    """A PBX that is ready to start; ``service`` starts and stops it."""

    service: Lifecycle
    parts: tuple[object, ...]
