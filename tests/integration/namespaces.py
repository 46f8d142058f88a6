"""Homes behind NAT routers, made of network namespaces and nftables; only root can."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.trial.unittest import SkipTest

from tests.integration.harness import PBX, program

ResultT = TypeVar("ResultT")
_CLONE_NEWNET = 0x40000000
PUBLIC = "198.51.100"
#: Every packet out of a home gets another port, and a mapping lasts this long without traffic.
MAPPING_SECONDS = 4
_RULES = """
table ip nat {
  chain post { type nat hook postrouting priority 100; oifname "out" masquerade random; }
}
table ip filter {
  chain forward {
    type filter hook forward priority 0; policy drop;
    iifname "in" accept
    ct state established,related accept
  }
}
"""


def _run(*words: str, text: str = "") -> None:
    subprocess.run(words, input=text.encode(), check=True, capture_output=True)


class Internet:
    """A network 198.51.100.0/24 with the server at .1, and homes behind routers."""

    def __init__(self) -> None:
        if os.getuid():
            raise SkipTest("no network namespaces: not root")
        program("ip")
        program("nft")
        self._tag = f"t{os.getpid() % 100000}"
        self._names: list[str] = []
        self._links = 0
        self.server = self._add("s")
        try:
            self._build()
        except subprocess.CalledProcessError:
            self.close()
            raise

    def _build(self) -> None:
        _run("ip", "-n", self.server, "link", "add", "name", "lan", "type", "bridge")
        for address in (1, 2):
            _run("ip", "-n", self.server, "addr", "add", f"{PUBLIC}.{address}/24", "dev", "lan")
        _run("ip", "-n", self.server, "link", "set", "lan", "up")

    def _add(self, kind: str) -> str:
        name = f"{self._tag}{kind}{len(self._names)}"
        try:
            _run("ip", "netns", "add", name)
        except subprocess.CalledProcessError as error:
            # Containers without the capability have no way to it.
            raise SkipTest(f"no network namespaces: {error.stderr.decode()}") from None
        self._names.append(name)
        _run("ip", "-n", name, "link", "set", "lo", "up")
        return name

    def _wire(self, one: str, end: str, other: str, far: str) -> None:
        _run(
            *("ip", "-n", one, "link", "add", end, "type", "veth"),
            *("peer", "name", far, "netns", other),
        )
        _run("ip", "-n", one, "link", "set", end, "up")
        _run("ip", "-n", other, "link", "set", far, "up")

    def home(self, number: int) -> str:
        """A namespace at 192.168.77.20 behind a router at 198.51.100.NUMBER."""
        router, inside = self._add("r"), self._add("h")
        self._links += 1
        port = f"p{self._links}"
        self._wire(router, "out", self.server, port)
        _run("ip", "-n", self.server, "link", "set", port, "master", "lan")
        _run("ip", "-n", router, "addr", "add", f"{PUBLIC}.{number}/24", "dev", "out")
        self._wire(router, "in", inside, "eth")
        _run("ip", "-n", router, "addr", "add", "192.168.77.1/24", "dev", "in")
        _run("ip", "-n", inside, "addr", "add", "192.168.77.20/24", "dev", "eth")
        _run("ip", "-n", inside, "route", "add", "default", "via", "192.168.77.1")
        _run("ip", "netns", "exec", router, "nft", "-f", "-", text=_RULES)
        timeout = f"net.netfilter.nf_conntrack_udp_timeout={MAPPING_SECONDS}"
        stream = f"net.netfilter.nf_conntrack_udp_timeout_stream={MAPPING_SECONDS}"
        _run(
            *("ip", "netns", "exec", router, "sysctl", "-qw"),
            *("net.ipv4.ip_forward=1", timeout, stream),
        )
        return inside

    def within(self, name: str, make: Callable[[], ResultT]) -> ResultT:
        """What is made in a namespace; its sockets stay there for ever."""
        found: list[ResultT] = []
        errors: list[BaseException] = []

        def enter() -> None:
            try:
                with Path("/run/netns", name).open() as file:
                    if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                found.append(make())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return found[0]

    def close(self) -> None:
        """Nothing is left of it."""
        for name in reversed(self._names):
            with contextlib.suppress(subprocess.CalledProcessError):
                _run("ip", "netns", "del", name)


class PublicPBX(PBX):
    """A PBX at 198.51.100.1 of an `Internet`."""

    def __init__(self, folder: Path, internet: Internet, tables: dict[str, dict[str, Any]]) -> None:
        super().__init__(folder, tables)
        self.host = f"{PUBLIC}.1"
        self.prefix = ("ip", "netns", "exec", internet.server)
        self.tables["sip"]["listen"] = [f"{kind}:{self.host}:0" for kind in ("udp", "tcp", "ws")]
        self.write_config()
