"""Settings and modules of the old file to our tables: what needs more than one line of a table."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path

from pbx.ctl.importer import values
from pbx.ctl.importer.draft import Draft
from pbx.ctl.importer.mapping import CORE_MODULES, FIXED, MODULES, SETTINGS
from pbx.ctl.importer.parser import Script, Setting

#: Ports where the old file names none.
PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 80, "wss": 443}
#: Plugins by the module that makes them needed.
PLUGINS = {
    "nathelper": "nat_ping",
    "mi_http": "mi_http",
    "mi_json": "mi_http",
    "mi_fifo": "mi_fifo",
    "mi_datagram": "mi_datagram",
    "dialplan": "dialplan",
    "drouting": "drouting",
    "dispatcher": "dispatcher",
}
_SECRET = re.compile(r"(://[^:/@\s]*):[^@\s]*@|(://)[^:/@\s]*@")
#: How errors begin that say nothing to an operator.
_PYTHON = ("invalid literal", "could not convert")
_HIDDEN = re.compile("passw|secret|credential|token")


def convert(script: Script, draft: Draft) -> None:
    """Everything but the routes."""
    _Converter(script, draft).run()


def shown(setting: Setting) -> str:
    """As it stood, without passwords."""
    value = _SECRET.sub(lambda m: f"{m[1]}:***@" if m[1] else f"{m[2]}***@", setting.value)
    if _HIDDEN.search(setting.name) and "column" not in setting.name:
        value = "***"
    if not setting.module:
        return f"{setting.name} = {value}"
    return f"modparam({setting.module}, {setting.name}) = {value}"


class _Converter:
    def __init__(self, script: Script, draft: Draft) -> None:
        self._script = script
        self._draft = draft
        self._special: dict[tuple[str, str], Callable[[Setting], None]] = {
            ("", "listen"): self._listen,
            ("", "socket"): self._listen,
            ("", "alias"): self._alias,
            ("", "advertised_address"): self._advertise,
            ("", "advertised_port"): self._advertise,
            ("mi_fifo", "fifo_mode"): self._fifo_mode,
            ("acc", "extra_fields"): self._extra_fields,
            ("acc", "db_extra"): self._extra_fields,
            ("nathelper", "sipping_bflag"): self._sip_pings,
            ("nathelper", "sipping_flag"): self._sip_pings,
            ("nathelper", "remove_on_timeout_bflag"): self._remove_on_timeout,
            ("drouting", "default_group"): self._default_group,
            ("cachedb_redis", "cachedb_url"): self._redis,
            ("rtpproxy", "rtpproxy_sock"): self._media,
            ("rtpengine", "rtpengine_sock"): self._media,
            ("httpd", "ip"): self._http,
            ("httpd", "port"): self._http,
            ("mi_http", "root"): self._mi_root,
            ("mi_http", "mi_http_root"): self._mi_root,
            ("mi_datagram", "socket_name"): self._datagrams,
        }
        for module in ("proto_tls", "tls_mgm"):
            for name in ("certificate", "private_key", "ca_list", "require_cert", "verify_cert"):
                self._special[(module, name)] = self._tls
            self._special[(module, "tls_method")] = self._tls_method
        for port in ("ws_port", "wss_port", "tls_port"):
            self._special[(f"proto_{port.partition('_')[0]}", port)] = self._port

    def run(self) -> None:
        """Settings in their order, then what follows from all of them."""
        draft = self._draft
        draft.tables["sip"] = {}
        for setting in self._script.settings:
            self._setting(setting)
        self._domain()
        self._database()
        self._modules()
        for line, text in self._script.strange:
            if text.startswith(("include_file", "import_file")):
                draft.leave(line, text, "other files are not read: import them too, or paste them")
            else:
                draft.leave(line, text, "not understood")

    def _setting(self, setting: Setting) -> None:
        key = (setting.module, setting.name)
        if setting.name in ("db_url", "default_db_url") or key == ("", "db_default_url"):
            return
        try:
            if not setting.module and not setting.value.strip("\"' "):
                raise ValueError("no value")
            if special := self._special.get(key):
                special(setting)
            elif to := SETTINGS.get(key):
                value = to.convert(setting.value)
                for table in filter(None, (to.table, to.also)):
                    self._draft.put(table, to.key, value, setting.line, shown(setting))
            else:
                self._fixed(setting)
        except ValueError as error:
            text = str(error)
            why = "cannot be used here" if text.startswith(_PYTHON) else text
            self._draft.leave(setting.line, shown(setting), why)

    def _fixed(self, setting: Setting) -> None:
        known = FIXED.get((setting.module, setting.name))
        general = FIXED.get((setting.module, "*"), "")
        if known:
            self._draft.differ(setting.line, shown(setting), known)
        elif general.startswith("see "):
            self._draft.leave(setting.line, shown(setting), f"no such setting; {general}")
        elif general:
            self._draft.differ(setting.line, shown(setting), general)
        elif setting.module in MODULES:
            self._draft.leave(setting.line, shown(setting), MODULES[setting.module])
        else:
            self._draft.leave(setting.line, shown(setting), "nothing like it here")

    # Listeners and names

    def _listen(self, setting: Setting) -> None:
        bound, _, advertised = setting.value.partition(" as ")
        words = bound.split()
        place, extras = words[0], words[1:]
        transport, _, rest = place.partition(":")
        transport = transport.lower()
        if transport not in PORTS:
            raise ValueError(f"{transport} is not spoken; udp, tcp, tls, ws and wss are")
        host, port = _host_port(rest)
        draft = self._draft
        if not (_is_ip(host) or host == "*"):
            draft.differ(
                setting.line,
                shown(setting),
                f"{host} is no address: every address of this machine is listened on",
            )
            host = "0.0.0.0"
        if not port:
            known = self._script.value(f"proto_{transport}", f"{transport}_port")
            port = int(known) if known and known.isdigit() else PORTS[transport]
        text = f"{transport}:[{host}]:{port}" if ":" in host else f"{transport}:{host}:{port}"
        if advertised.strip():
            text += f" as {advertised.split()[0]}"
            extras += advertised.split()[1:]
        listen = draft.tables["sip"].setdefault("listen", [])
        assert isinstance(listen, list)
        if text not in listen:
            listen.append(text)  # type: ignore[arg-type]
        draft.put("sip", "listen", listen, setting.line, shown(setting))
        draft.origins.pop(("sip", "listen"), None)
        if extras:
            draft.differ(setting.line, shown(setting), f"without {' '.join(extras)}")
        if transport == "ws":
            draft.differ(
                setting.line,
                shown(setting),
                "browsers refuse ws: on https pages; the HTTP site has /sip by TLS",
                "O31",
            )

    def _port(self, setting: Setting) -> None:
        self._draft.differ(setting.line, shown(setting), "part of [sip] listen")

    def _alias(self, setting: Setting) -> None:
        name = setting.value.strip("\"'").split()[0]
        if name.partition(":")[0].lower() in PORTS:
            name = name.partition(":")[2]
        host, _ = _host_port(name)
        aliases = self._draft.tables.setdefault("transport", {}).setdefault("aliases", [])
        assert isinstance(aliases, list)
        if host not in aliases:
            aliases.append(host)  # type: ignore[arg-type]
        self._draft.put("transport", "aliases", aliases, setting.line, shown(setting))

    def _advertise(self, setting: Setting) -> None:
        host = self._script.value("", "advertised_address")
        port = self._script.value("", "advertised_port")
        if host is None:
            raise ValueError("a port without advertised_address")
        self._draft.put(
            "sip", "advertise", f"{host}:{port}" if port else host, setting.line, shown(setting)
        )

    def _domain(self) -> None:
        """What phones are configured with: a name if there is one."""
        draft = self._draft
        names: list[str] = []
        aliases = draft.tables.get("transport", {}).get("aliases", [])
        if isinstance(aliases, list):
            names += [str(name) for name in aliases if not _is_ip(str(name))]
        if advertised := str(draft.tables["sip"].get("advertise", "")):
            names.append(_host_port(advertised)[0])
        listen = draft.tables["sip"].get("listen", [])
        if isinstance(listen, list):
            names += [_host_port(str(one).split()[0].partition(":")[2])[0] for one in listen]
        names = [name for name in names if name not in ("*", "0.0.0.0", "::")]
        domain = names[0] if names else "pbx.example"
        if not names:
            draft.todo.append("[sip] domain: put in the domain that phones are configured with")
        draft.tables["sip"] = {"domain": domain, **draft.tables["sip"]}
        draft.origins[("sip", "domain")] = (
            "what phones are configured with; further ones: table domain"
        )
        if not listen:
            draft.todo.append("[sip] listen: the file names no listener, the defaults are used")

    # Storage

    def _database(self) -> None:
        draft = self._draft
        urls: dict[str, list[str]] = {}
        first: Setting | None = None
        for setting in self._script.settings:
            if setting.name in ("db_url", "default_db_url") or (
                (setting.module, setting.name) == ("", "db_default_url")
            ):
                urls.setdefault(setting.value, []).append(setting.module or "the core")
                first = first or setting
        if first is None:
            draft.put("storage", "database", "sqlite:var/pbx.db", 0, "no db_url in the file")
            return
        url = first.value
        scheme, _, rest = url.partition("://")
        if scheme in ("postgres", "postgresql"):
            account, at, place = rest.rpartition("@")
            user, colon, _ = account.partition(":")
            value = f"postgresql://{user}{at}{place}"
            if colon:
                draft.todo.append(
                    "the database password is not written here: set PGPASSWORD or use ~/.pgpass"
                )
                draft.differ(
                    first.line,
                    f"db_url = {scheme}://{user}:***@{place}",
                    "passwords stand in PGPASSWORD or ~/.pgpass, never in the configuration",
                    "O21",
                )
        elif scheme == "sqlite":
            value = f"sqlite:{rest}"
        else:
            value = "sqlite:var/pbx.db"
            draft.todo.append(
                f"{scheme} is not spoken: move the tables to PostgreSQL (or this SQLite file)"
            )
            draft.leave(first.line, f"db_url = {scheme}://...", f"{scheme} is not spoken")
        origin = f"db_url of {', '.join(dict.fromkeys(urls[url]))}"
        draft.put("storage", "database", value, first.line, origin)
        for other, modules in urls.items():
            if other != url:
                scheme = other.partition(":")[0]
                draft.leave(
                    0, f"db_url of {', '.join(modules)} ({scheme})", "one database for everything"
                )

    def _redis(self, setting: Setting) -> None:
        head, separator, rest = setting.value.partition("://")
        if not separator or not head.startswith("redis"):
            raise ValueError("not a URL of Redis")
        account, _, place = rest.rpartition("@")
        host, _, number = place.partition("/")
        value = f"redis://{host}/{number if number.isdigit() else 0}"
        known = self._draft.tables.get("storage", {}).get("cache")
        if known not in (None, value):
            raise ValueError("one cache for everything: the first one counts")
        self._draft.put("storage", "cache", value, setting.line, shown(setting))
        if account:
            self._draft.todo.append(
                "[storage] cache: the password of Redis is not written here: put it into a file and"
                f' use "{value}?password_file=/etc/pbx/redis"'
            )
            self._draft.differ(
                setting.line,
                shown(setting),
                "passwords stand in a file of their own, never in the configuration",
                "O21",
            )

    # Management

    def _fifo_mode(self, setting: Setting) -> None:
        mode = values.integer(setting.value)
        if not 0 <= mode <= 0o777:
            raise ValueError("expected an octal mode")
        ours = mode & ~0o007
        self._draft.put("mi_fifo", "fifo_mode", f"{ours:04o}", setting.line, shown(setting))
        if mode != ours:
            self._draft.differ(
                setting.line, shown(setting), f"not for everybody: {ours:04o}", "O21"
            )

    def _http(self, setting: Setting) -> None:
        port = values.positive(self._script.value("httpd", "port") or "8888")
        host = self._script.value("httpd", "ip") or "*"
        listen = [f"tcp:127.0.0.1:{port}"]
        if setting.name == "port" or self._script.value("httpd", "port") is None:
            self._draft.put("http", "listen", listen, setting.line, shown(setting))
        if host not in ("127.0.0.1", "localhost"):
            self._draft.differ(
                setting.line,
                shown(setting),
                f"only this host may manage the PBX ({host} could before): [mi_http] has token_file"
                " and allow for others",
                "O21",
            )

    def _mi_root(self, setting: Setting) -> None:
        root = setting.value.strip("/")
        if not root.isidentifier():
            raise ValueError("expected one word")
        self._draft.put("mi_http", "root", root, setting.line, shown(setting))

    def _datagrams(self, setting: Setting) -> None:
        text = setting.value
        if text.startswith("/"):
            listen = [f"unix:{text}"]
        else:
            host, port = _host_port(text.removeprefix("udp:"))
            listen = [f"udp:127.0.0.1:{port or 8080}"]
            if host != "127.0.0.1":
                self._draft.differ(setting.line, shown(setting), "only this host may", "O21")
        self._draft.put("mi_datagram", "listen", listen, setting.line, shown(setting))

    # Modules with parameters of another kind

    def _extra_fields(self, setting: Setting) -> None:
        """``db: column->name; column2`` names columns; what goes in is said in the routes."""
        found: dict[str, str] = {}
        text = setting.value.removeprefix("db:")
        pairs = [part.strip() for part in re.split(r"[;\n]", text) if part.strip()]
        for pair in pairs:
            name, arrow, column = pair.partition("->")
            column = (column if arrow else pair.partition("=")[0]).strip()
            source = SOURCES.get(pair.partition("=")[2].strip()) or SOURCES.get(name.strip())
            if source is None or not column.isidentifier():
                self._draft.leave(
                    setting.line, f"acc {setting.name}: {pair}", "[accounting] extra_fields by hand"
                )
            else:
                found[column] = source
        if found:
            self._draft.put("accounting", "extra_fields", found, setting.line, shown(setting))

    def _sip_pings(self, setting: Setting) -> None:
        self._draft.put("nat_ping", "method", "OPTIONS", setting.line, shown(setting))
        calls = self._script.calls("setbflag", "setflag")
        if not any(call.arguments[:1] == (setting.value,) for call in calls):
            self._draft.differ(setting.line, shown(setting), "no route sets it, here it counts")

    def _remove_on_timeout(self, setting: Setting) -> None:
        self._draft.put("nat_ping", "remove_on_timeout", True, setting.line, shown(setting))

    def _default_group(self, setting: Setting) -> None:
        group = values.count(setting.value)
        self._draft.put("drouting", "default_group", group, setting.line, shown(setting))

    def _media(self, setting: Setting) -> None:
        engine = "rtpproxy" if setting.module == "rtpproxy" else "rtpengine"
        text = setting.value.partition("==")[2] or setting.value
        sockets = [part.partition("=")[0] for part in re.split(r"[\s;]+", text) if ":" in part]
        usable = [part for part in sockets if part.startswith("udp:")]
        if not usable:
            raise ValueError("only udp:HOST:PORT is spoken")
        host, port = _host_port(usable[0].removeprefix("udp:"))
        if not port:
            raise ValueError("expected udp:HOST:PORT")
        if "media" in self._draft.tables:
            raise ValueError("one media engine: the first one counts")
        value = f"{engine}:udp:{host}:{port}"
        self._draft.put("media", "engine", value, setting.line, shown(setting))
        if len(sockets) > 1:
            self._draft.differ(setting.line, shown(setting), f"only {usable[0]} is used")

    def _tls(self, setting: Setting) -> None:
        keys = {"certificate": "certificate", "private_key": "private_key", "ca_list": "ca"}
        value = re.sub(r"^\[[^\]]*\]", "", setting.value).strip()
        key = keys.get(setting.name)
        if key is None:
            wanted = values.truth(value)
            if setting.name == "verify_cert":
                self._draft.put("tls", "verify", wanted, setting.line, shown(setting))
            elif wanted and "ca" in self._tls_files():
                self._draft.put("tls", "verify_client", True, setting.line, shown(setting))
            elif wanted:
                raise ValueError("[tls] verify_client needs ca, a file that is there")
            return
        files = self._tls_files()
        if key not in files or (key != "ca" and not {"certificate", "private_key"} <= set(files)):
            self._draft.todo.append(f"[tls] {key}: {value} is not on this machine")
            raise ValueError(f"[tls] {key}: the file is not on this machine")
        if "tls" in self._draft.tables and key in self._draft.tables["tls"]:
            raise ValueError("one certificate for all listeners: the first one counts")
        self._draft.put("tls", key, value, setting.line, shown(setting))

    def _tls_files(self) -> dict[str, str]:
        """Those that are there: without them nothing would start."""
        found: dict[str, str] = {}
        keys = {"certificate": "certificate", "private_key": "private_key", "ca_list": "ca"}
        for setting in self._script.settings:
            if setting.module in ("proto_tls", "tls_mgm") and setting.name in keys:
                path = re.sub(r"^\[[^\]]*\]", "", setting.value).strip()
                if Path(path).is_file():
                    found.setdefault(keys[setting.name], path)
        return found

    def _tls_method(self, setting: Setting) -> None:
        value = re.sub(r"^\[[^\]]*\]", "", setting.value).strip().lower()
        oldest = value.partition("-")[0]
        minimum = "1.3" if "1_3" in oldest or "1.3" in oldest else "1.2"
        self._draft.put("tls", "minimum", minimum, setting.line, shown(setting))
        if "1_2" not in value and "1_3" not in value and "1.2" not in value:
            self._draft.differ(setting.line, shown(setting), "nothing older than TLS 1.2 is spoken")

    # What follows from the modules

    def _modules(self) -> None:
        script, draft = self._script, self._draft
        draft.tables.setdefault("plugins", {}).setdefault("enabled", [])
        for module, line in script.modules.items():
            if plugin := PLUGINS.get(module):
                draft.enable(plugin)
            if module in MODULES:
                draft.leave(line, f"loadmodule {module}", MODULES[module])
            elif module not in CORE_MODULES:
                draft.leave(line, f"loadmodule {module}", "nothing like it here")
        for module, line in script.repeated:
            draft.differ(line, f"loadmodule {module}", "loaded twice; no harm", "O20")
        if script.value("nathelper", "natping_interval") in (None, "0"):
            enabled = draft.tables["plugins"]["enabled"]
            if isinstance(enabled, list) and "nat_ping" in enabled:
                enabled.remove("nat_ping")  # type: ignore[arg-type]
                draft.tables.pop("nat_ping", None)
        for module, table in (("msilo", "msilo"), ("presence", "presence")):
            if module not in script.modules:
                draft.put(table, "enabled", False, 0, f"module {module} is not loaded")
        if "presence" not in script.modules:
            draft.tables["presence"] = {"enabled": False}
            draft.put("xcap", "enabled", False, 0, "module presence is not loaded")
        if "mi_http" in script.modules and "listen" not in draft.tables.get("http", {}):
            draft.put("http", "listen", ["tcp:127.0.0.1:8888"], 0, "httpd, its usual port")
        elif "listen" not in draft.tables.get("http", {}):
            draft.put("http", "listen", [], 0, "module httpd is not loaded")
        self._passwords()

    def _passwords(self) -> None:
        """Without calculate_ha1 the old default column is another one."""
        script = self._script
        if "auth_db" not in script.modules:
            return
        clear = values.truth(script.value("auth_db", "calculate_ha1") or "0")
        if not clear and script.value("auth_db", "password_column") is None:
            self._draft.put("auth", "calculate_ha1", False, 0, "auth_db calculate_ha1 is off")
            self._draft.put("auth", "password_column", "ha1", 0, "auth_db password_column")


#: What acc records, by the pseudo-variable that was stored.
SOURCES = {
    "$fU": "from_user",
    "$tU": "to_user",
    "$rU": "request_user",
    "$fu": "from_uri",
    "$tu": "to_uri",
    "$ru": "request_uri",
    "$si": "src_ip",
    "$ua": "header:User-Agent",
}


def _host_port(text: str) -> tuple[str, int]:
    """``host``, ``host:port``, ``[v6]:port``."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{port} is no port")
    return host, int(port or 0)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
