"""URLs of servers: scheme://user:password@host:port/name?option=value.

Passwords may hold any character as they are (OpenSIPS does not decode them) and ``%XX`` escapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

_ESCAPES_ONLY = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerURL:
    """The parts of a URL; "" and () for what it lacks."""

    scheme: str
    user: str = ""
    password: str = field(default="", repr=False)
    hosts: tuple[tuple[str, int], ...] = ()
    name: str = ""
    options: Mapping[str, str]

    @property
    def shown(self) -> str:
        """The URL without password and options."""
        hosts = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts
        )
        user = f"{self.user}@" if self.user else ""
        return f"{self.scheme}://{user}{hosts}/{self.name}"


def server_url(url: str, default_port: int) -> ServerURL:
    """Raises ValueError without the password in its text. The option ``password_file`` names a file
    that holds the password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError(f"{scheme.partition(':')[0]}: needs //host, as in {scheme}://host/name")
    account, at, place = rest.rpartition("@")
    hosts, _, path = place.partition("/")
    user, _, password = account.partition(":") if at else ("", "", "")
    name, _, query = path.partition("?")
    options = dict(part.partition("=")[::2] for part in query.split("&") if part)
    if "password_file" in options:
        password = _password_in(options.pop("password_file"))
    return ServerURL(
        scheme=scheme,
        user=_decoded(user),
        password=_decoded(password),
        hosts=tuple(_host(host, default_port) for host in hosts.split(",") if host),
        name=_decoded(name),
        options={key: _decoded(value) for key, value in options.items()},
    )


def _decoded(text: str) -> str:
    return unquote(text) if _ESCAPES_ONLY.fullmatch(text) else text


def _host(text: str, default_port: int) -> tuple[str, int]:
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{port!r} is no port")
    return host, int(port or default_port)


def _password_in(path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip(" \t\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"password_file {path}: {error}") from None
