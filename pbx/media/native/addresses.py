"""Which address of ours a peer is told to send its media to."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import NamedTuple

from pbx.errors import MediaFailed
from pbx.legs import LegKind
from pbx.media.networks import is_inside

#: Candidates for browsers on this machine: more interfaces than that are containers'.
_MAX_CANDIDATES = 8


class Place(NamedTuple):
    """Where to bind, what to tell, and what else a browser may try."""

    bind: str
    told: str
    others: tuple[str, ...] = ()


class Addresses:
    """Picks by the peer: neighbours are told our real address, peers outside the public one."""

    def __init__(
        self,
        public: str,
        source_towards: Callable[[str], str],
        local_addresses: Callable[[], frozenset[str]],
    ) -> None:
        self._public = public if public and _is_literal(public) else ""
        self._source_towards = source_towards
        self._local_addresses = local_addresses

    def place(self, peer: str, kind: LegKind) -> Place:
        """For a leg whose signalling or media comes from ``peer``. Raises MediaFailed."""
        address = ip_address(peer.partition("%")[0])
        if kind is LegKind.WEBRTC and address.is_loopback:
            return self._here()
        source = self._source_towards(peer)
        if not source:
            raise MediaFailed("No Route For Media", status=503)
        public = self._public
        if not public or (":" in public) != (":" in source) or is_inside(peer):
            return Place(source, source)
        return Place(source, public, (source,) if source != public else ())

    def single(self, peer: str) -> tuple[str, str]:
        """One address to bind and one to tell, for who cannot offer a choice.

        Raises MediaFailed.
        """
        place = self.place(peer, LegKind.RTP)
        return place.bind, place.told

    def _here(self) -> Place:
        """A browser on this machine, or behind a proxy on it: it may use any interface."""
        own = sorted(
            host
            for host in self._local_addresses()
            if ":" not in host and not ip_address(host).is_loopback
        )
        others = [self._public] if self._public and ":" not in self._public else []
        others += [host for host in own if host not in others]
        return Place("0.0.0.0", "127.0.0.1", tuple(others[:_MAX_CANDIDATES]))


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
