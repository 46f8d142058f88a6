"""The management interface by datagrams: one request in each, the answer goes to its sender."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from errno import EEXIST
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from twisted.plugin import IPlugin
from zope.interface import Interface, implementer

from pbx.config import ConfigError, settings
from pbx.interfaces import IFolder, IManagement, IPBXPlugin, IRegistry, IStartable

Handle = Callable[[bytes], Awaitable[bytes | None]]

#: The most that fits a UDP datagram.
LARGEST: Final = 65507


@dataclass(frozen=True, slots=True, kw_only=True)
class MIDatagramSettings:
    """The ``[mi_datagram]`` table."""

    listen: tuple[str, ...] = ("udp:127.0.0.1:8080",)
    """udp:ADDRESS:PORT, with an address of this host only because nobody proves who he is, or
    unix:PATH."""
    mode: str = "0660"
    """Permissions of a Unix socket, octal: who may manage the PBX."""

    def __post_init__(self) -> None:
        if not (len(self.mode) == 4 and set(self.mode) <= set("01234567")):
            raise ValueError(f'mode: expected four octal digits like "0660", not {self.mode!r}')
        for text in self.listen:
            parse(text)


def parse(text: str) -> tuple[str, int] | str:
    """Address and port, or the path of a Unix socket. Raises ValueError."""
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest:
        return rest
    host, _, port = rest.rpartition(":")
    if kind != "udp" or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f'listen: expected "udp:ADDRESS:PORT" or "unix:PATH", not {text!r}')
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise ValueError(f"listen: expected an IP address, not {host!r}") from None
    if not address.is_loopback:
        raise ValueError(f"listen: expected an address of this host only, not {host!r}")
    return str(address), int(port)


class ManagementDatagrams(DatagramProtocol):
    """Answers each datagram; UDP and Unix alike."""

    noisy = False
    log = Logger()

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """One request. Without an address of its own a Unix socket gets no answer."""
        Deferred.fromCoroutine(self._answer(datagram, addr))

    async def _answer(self, datagram: bytes, addr: Any) -> None:
        answer = await self._handle(datagram)
        if answer is None or not addr or self.transport is None:
            return
        if len(answer) > LARGEST:
            answer = _too_large(answer)
        try:
            self.transport.write(answer, addr)
        except OSError as error:
            self.log.debug("no answer to {addr}: {error}", addr=addr, error=error)


def _too_large(answer: bytes) -> bytes:
    found = json.loads(answer)
    error = {"code": -32000, "message": "Server error", "data": "too large for a datagram"}
    id_ = found.get("id") if isinstance(found, dict) else None
    return json.dumps({"jsonrpc": "2.0", "error": error, "id": id_}).encode()


class IManagementDatagrams(Interface):
    """The listeners."""


@implementer(IManagementDatagrams, IStartable)
class DatagramListeners:
    """Listens where the settings say."""

    log = Logger()

    def __init__(
        self, found: MIDatagramSettings, folder: IFolder, handle: Handle, reactor: Any
    ) -> None:
        self._listen = [(text, parse(text)) for text in found.listen]
        self._mode = int(found.mode, 8)
        self._folder = folder
        self._handle = handle
        self._reactor = reactor
        self._ports: list[IListeningPort] = []
        self._paths: list[Path] = []

    async def start(self) -> None:
        """Listen. Raises ConfigError."""
        for text, at in self._listen:
            protocol = ManagementDatagrams(self._handle)
            try:
                if isinstance(at, str):
                    port = self._unix(at, protocol)
                else:
                    port = self._reactor.listenUDP(at[1], protocol, interface=at[0])
            except (OSError, CannotListenError) as error:
                why = getattr(error, "socketError", error)
                raise ConfigError(f"[mi_datagram] listen: {text}: {why}") from None
            self._ports.append(port)
            self.log.info("management interface at {at}", at=text)

    async def stop(self) -> None:
        """Close; the sockets in the file system go away."""
        ports, self._ports = self._ports, []
        for port in ports:
            await maybeDeferred(port.stopListening)
        self._remove_sockets()

    def _remove_sockets(self) -> None:
        paths, self._paths = self._paths, []
        for path in paths:
            path.unlink(missing_ok=True)

    def _unix(self, at: str, protocol: ManagementDatagrams) -> IListeningPort:
        path = self._folder.located(Path(at))
        path.parent.mkdir(parents=True, exist_ok=True)
        # The kernel takes paths of 107 bytes.
        name = min(str(path), os.path.relpath(path), key=len)
        remove_stale(name)
        port: IListeningPort = self._reactor.listenUNIXDatagram(
            name, protocol, maxPacketSize=1 << 17, mode=self._mode
        )
        self._paths.append(path)
        return port


def remove_stale(name: str) -> None:
    """Remove the socket of a dead process. Raises OSError for anything else."""
    try:
        mode = os.lstat(name).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(EEXIST, "exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            os.unlink(name)
            return
    raise OSError(EEXIST, "somebody listens there")


@implementer(IPlugin, IPBXPlugin)
class MIDatagramPlugin:
    """Announces the listeners."""

    name = "mi_datagram"
    settings = MIDatagramSettings

    def provide(self, registry: IRegistry, clock: IReactorTime, table: Mapping[str, Any]) -> None:
        """Build the listeners."""
        found = settings(MIDatagramSettings, table, self.name)
        handle = IManagement(registry).handle
        listeners = DatagramListeners(found, IFolder(registry), handle, clock)
        registry.provide(IManagementDatagrams, listeners)


mi_datagram = MIDatagramPlugin()
