"""Which addresses this machine has, and which of them a peer sees."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path

#: Any address will do to ask the routing table; nothing is sent to them (RFC 5737, RFC 3849).
_OUTSIDE = ("192.0.2.1", "2001:db8::1")


@lru_cache(maxsize=1024)
def literal(host: str) -> str:
    """An IP literal in its shortest form without brackets or zone, "" for anything else."""
    if host[:1] == "[" and host[-1:] == "]":
        host = host[1:-1]
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)


def is_wildcard(host: str) -> bool:
    """Whether a listener on this address takes packets for every address of the machine."""
    return host in ("0.0.0.0", "::")


def real_client(peer: str, forwarded: str, trusted: Sequence[str]) -> str:
    """The address a browser connects from; X-Forwarded-For counts from trusted proxies only."""
    for hop in reversed(forwarded.split(",")):
        if peer not in trusted:
            break
        address = literal(hop.strip())
        if not address:
            break
        peer = address
    return peer


def local_addresses(proc: Path = Path("/proc/net")) -> frozenset[str]:
    """Every IP address of this machine's interfaces, as far as the system tells."""
    found: set[str] = {"127.0.0.1", "::1"}
    found.update(_fib_trie(proc / "fib_trie"))
    found.update(_if_inet6(proc / "if_inet6"))
    found.update(source for peer in _OUTSIDE if (source := source_towards(peer)))
    return frozenset(found)


def own_names(domain: str, advertised: str) -> list[str]:
    """What this host may be called by who connects to it, the domain first."""
    names = [domain, advertised, socket.gethostname(), "localhost", *sorted(local_addresses())]
    return list(dict.fromkeys(name for name in names if name and "%" not in name))


def source_towards(host: str) -> str:
    """The address that the kernel would send from to this peer, "" when there is no route."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 5060))
            return literal(str(probe.getsockname()[0]))
    except OSError:
        return ""


def _fib_trie(path: Path) -> Iterable[str]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return
    address = ""
    for line in lines:
        words = line.split()
        if words and words[0] == "|--":
            address = words[-1]
        elif words[:3] == ["/32", "host", "LOCAL"] and address:
            yield address


def _if_inet6(path: Path) -> Iterable[str]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        digits = line.partition(" ")[0]
        if len(digits) == 32:
            yield literal(":".join(digits[at : at + 4] for at in range(0, 32, 4)))


class Sources:
    """`source_towards` remembered per network of the peer (/24, /64), with a bound."""

    def __init__(self, bound: int = 4096) -> None:
        self._bound = bound
        self._known: dict[str, str] = {}

    def towards(self, host: str) -> str:
        """The address that the kernel would send from to this peer, "" when there is no route."""
        if ":" in host:
            network = ":".join(host.split(":")[:4])
        else:
            network = host.rpartition(".")[0]
        found = self._known.get(network)
        if found is None:
            if len(self._known) >= self._bound:
                self._known.clear()
            found = self._known[network] = source_towards(host)
        return found

    def forget(self) -> None:
        """The interfaces may have changed."""
        self._known.clear()
