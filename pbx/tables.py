"""The tables of pbx.toml: which settings each of them holds, and which plugins are used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from twisted.plugin import CachedDropin, getCache

import plugins
from pbx.config import ConfigError, settings, suggestion
from pbx.http.settings import HTTPSettings, IceSettings, WebSettings
from pbx.interfaces import IPBXPlugin
from pbx.logs import LogSettings
from pbx.management.trace import TraceSettings
from pbx.management.unix import ManagementSettings
from pbx.media.settings import MediaSettings
from pbx.proxy.settings import ProxySettings
from pbx.services.accounting import AccountingSettings
from pbx.services.authenticator import AuthenticatorSettings
from pbx.services.cluster import ClusterSettings
from pbx.services.dialogs import DialogSettings
from pbx.services.guard import GuardSettings
from pbx.services.load_balancer import LoadBalancerSettings
from pbx.services.msilo import MessageSiloSettings
from pbx.services.presence import PresenceSettings
from pbx.services.registrar import RegistrarSettings
from pbx.services.xcap import XCAPSettings
from pbx.transaction.timers import Timers
from pbx.transport.settings import DNSSettings, TransportSettings, WebSocketSettings
from pbx.transport.tls import TLSSettings

SettingsT = TypeVar("SettingsT")


@dataclass(frozen=True, slots=True, kw_only=True)
class SipSettings:
    """The ``[sip]`` table."""

    domain: str
    """The default domain and digest realm; the listeners' own addresses count as it."""
    listen: tuple[str, ...] = ("udp:0.0.0.0:5060", "tcp:0.0.0.0:5060", "ws:0.0.0.0:5062")
    """Where SIP is spoken: udp:, tcp:, tls:, ws: or wss:, address, port; IPv6 in brackets."""
    advertise: str = ""
    """Public host or address for Via, Record-Route and SDP; empty for the real one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """The ``[storage]`` table."""

    database: str = "sqlite:var/pbx.db"
    """memory: | sqlite:PATH | postgresql://user@host/db."""
    cache: str = "memory:"
    """memory: | redis://:password@host:6379/0 | rediss://host:6379/0?ca_file=/etc/pbx/redis-ca.pem
    (TLS; without ``ca_file`` who this machine trusts). ``password_file`` names a file with the
    password."""
    write_interval: float = 1.0
    """Seconds that changes may wait for their batch: what a power cut can cost."""
    queue_limit: int = 200_000
    """Changes of each table that wait at most while the database is away. Beyond, the oldest rows
    of accounting are dropped and new registrations are not written; the log says how many."""

    def __post_init__(self) -> None:
        if self.write_interval < 0 or self.queue_limit < 1:
            raise ValueError("write_interval, queue_limit: expected more than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingSettings:
    """The ``[routing]`` table."""

    policy: Path = Path("etc/routing.py")
    """The operator's routing policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginsSettings:
    """The ``[plugins]`` table."""

    enabled: tuple[str, ...] = ("nat_ping",)
    """Modules of ``plugins/`` to use; each may have a table of its own name."""


SETTINGS: dict[str, type] = {
    "sip": SipSettings,
    "storage": StorageSettings,
    "cluster": ClusterSettings,
    "routing": RoutingSettings,
    "http": HTTPSettings,
    "web": WebSettings,
    "ice": IceSettings,
    "plugins": PluginsSettings,
    "log": LogSettings,
    "management": ManagementSettings,
    "trace": TraceSettings,
    "proxy": ProxySettings,
    "auth": AuthenticatorSettings,
    "guard": GuardSettings,
    "registrar": RegistrarSettings,
    "dialog": DialogSettings,
    "accounting": AccountingSettings,
    "load_balancer": LoadBalancerSettings,
    "msilo": MessageSiloSettings,
    "presence": PresenceSettings,
    "media": MediaSettings,
    "xcap": XCAPSettings,
    "transaction": Timers,
    "transport": TransportSettings,
    "tls": TLSSettings,
    "websocket": WebSocketSettings,
    "dns": DNSSettings,
}


class Tables:
    """The settings of every module. Raises ConfigError with all faults at once."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._made: dict[str, object] = {}
        faults: list[str] = []
        for name, kind in SETTINGS.items():
            try:
                self._made[name] = settings(kind, _table(config, name), name)
            except ConfigError as error:
                faults.extend(error.faults)
        found = known_plugins()
        wanted = self._made.get("plugins")
        self.plugins: list[IPBXPlugin] = []
        for name in wanted.enabled if isinstance(wanted, PluginsSettings) else ():
            if name not in found:
                faults.append(f"[plugins] enabled: no plugin {name!r}{suggestion(name, found)}")
                continue
            try:
                self.plugins.append(found[name]())
            except ImportError as error:
                faults.append(f"[plugins] enabled: {name}: {error}")
        for name in config:
            if name not in SETTINGS and name not in found:
                known = {**SETTINGS, **found}
                faults.append(f"[{name}]: unknown table{suggestion(name, known)}")
        if faults:
            raise ConfigError(*faults)
        self._config = config

    def of(self, kind: type[SettingsT]) -> SettingsT:
        """The settings of a module."""
        return next(made for made in self._made.values() if isinstance(made, kind))

    def of_plugin(self, name: str) -> Mapping[str, Any]:
        """The raw table of a plugin."""
        return _table(self._config, name)


def known_plugins() -> dict[str, Callable[[], IPBXPlugin]]:
    """How to load each of ``plugins/``, by module, which is its name: what is not used is not."""
    found: dict[str, CachedDropin] = getCache(plugins)  # type: ignore[no-untyped-call]
    return {
        module: plugin.load
        for module, dropin in found.items()
        for plugin in dropin.plugins
        if any(provided.isOrExtends(IPBXPlugin) for provided in plugin.provided)
    }


def _table(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = config.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{name}: expected a table [{name}]")
    return table
