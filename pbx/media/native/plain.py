"""The leg of a phone: an RTP port and an RTCP port, and the rules for who may send to them."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from pbx.errors import MediaFailed
from pbx.legs import LegKind, MediaLeg
from pbx.media.bridging import Endpoint, audio_of
from pbx.media.native.addresses import Addresses
from pbx.media.native.leg import Path
from pbx.media.native.port import Ports, Sockaddr
from pbx.media.native.rtp import Stream, is_rtcp
from pbx.media.sdp import Media, SessionDescription, is_address

#: Packets for an address that only a session description vouches for: a second of sound wakes a
#: gateway that waits to be spoken to, and is no weapon.
UNPROVEN = 50


class Source:
    """Where packets of one port come from and go to (spec 35 section 2).

    An address is learnt once per session description, from the host that it names, or behind a
    NAT from the host that the signalling comes from. What comes from elsewhere is not let in, so
    nobody can turn a stream to himself. The very address of the description always counts: it
    takes the place of another port of its host.
    """

    __slots__ = ("_allowance", "_host", "_named", "foreign", "proven", "remote")

    def __init__(self) -> None:
        self.remote: Sockaddr | None = None
        self.proven = False
        self.foreign = 0
        self._host = ""
        self._named: Sockaddr | None = None
        self._allowance = 0

    def expect(self, host: str, remote: Sockaddr | None, allowance: int) -> None:
        """Packets will come from this host; until then up to ``allowance`` go to ``remote``."""
        self._host = host
        self.remote = self._named = remote
        self.proven = False
        self._allowance = allowance

    def admits(self, source: Sockaddr, plausible: bool) -> bool:
        """Whether a packet from there belongs to us; a ``plausible`` one may settle where it is."""
        if self.proven and source == self.remote:
            return True
        if not plausible or source[0].partition("%")[0] != self._host:
            self.foreign += 1
            return False
        if self.proven and source[:2] != self._named:
            self.foreign += 1
            return False
        self.remote = source
        self.proven = True
        return True

    def target(self) -> Sockaddr | None:
        """Where to send the next packet to, None for nowhere."""
        if not self.proven:
            if self._allowance <= 0:
                return None
            self._allowance -= 1
        return self.remote


class PlainLeg:
    """RTP and RTCP with one phone."""

    kind = LegKind.RTP

    def __init__(
        self,
        ports: Ports,
        addresses: Addresses,
        peer: str,
        now: Callable[[], float],
        connected: Callable[[], object],
    ) -> None:
        place = addresses.place(peer, LegKind.RTP)
        self._told = place.told
        self._now = now
        self._on_connected = connected
        self.stream = Stream()
        self.sink: Path | None = None
        self.payloads: frozenset[int] = frozenset()
        self.heard = now()
        self.connected = False
        self.description: SessionDescription | None = None
        self._place = ("", 0, 0)
        self._rtp_source = Source()
        self._rtcp_source = Source()
        self._rtp, self._rtcp = ports.pair(place.bind, self._rtp_received, self._rtcp_received)

    def endpoint(self, offer: SessionDescription | None) -> Endpoint:
        """The same in offers and answers."""
        port = self._rtp.port
        return Endpoint(kind=LegKind.RTP, host=self._told, port=port, rtcp_port=port + 1)

    def check(self, description: SessionDescription) -> None:
        """Plain RTP, in the IP version of our ports."""
        if description.kind is not LegKind.RTP:
            raise MediaFailed("The Phone Speaks WebRTC", warning=302)
        host = description.host_of(audio_of(description))
        if is_address(host) and (":" in host) != (":" in self._told):
            raise MediaFailed("The Other IP Version", warning=301)

    def describe(self, description: SessionDescription, peer: MediaLeg) -> None:
        """Where it wants its packets."""
        audio = audio_of(description)
        if self.description is None:
            self.heard = self._now()
        self.description = description
        place = (_short(description.host_of(audio)), audio.port, _rtcp_port(audio))
        if place != self._place:
            self._place = place
            self._expect(*place, peer)

    def _expect(self, host: str, port: int, rtcp_port: int, peer: MediaLeg) -> None:
        near = peer.peer.host
        if peer.behind_nat or not _is_reachable(host, near):
            # Also the hold of RFC 2543, with 0.0.0.0.
            self._rtp_source.expect(near, None, 0)
            self._rtcp_source.expect(near, None, 0)
            return
        # What is where the signalling comes from is as good as proven.
        allowance = 1 << 62 if host == near else UNPROVEN
        self._rtp_source.expect(host, (host, port), allowance)
        self._rtcp_source.expect(host, (host, rtcp_port), allowance)

    # From the phone

    def _rtp_received(self, packet: bytes, source: Sockaddr) -> None:
        if packet[0] >> 6 != 2:
            return
        payload = packet[1] & 127
        if not self._rtp_source.admits(source, payload in self.payloads):
            return
        now = self.heard = self._now()
        if not self.connected:
            self.connected = True
            self._on_connected()
        if is_rtcp(packet):
            # RTCP on the RTP port: nobody agreed to that, but it does no harm either.
            return
        self.stream.received(packet, now)
        sink = self.sink
        if sink is not None:
            sink.rtp(packet)

    def _rtcp_received(self, packet: bytes, source: Sockaddr) -> None:
        if packet[0] >> 6 != 2 or not is_rtcp(packet):
            return
        if not self._rtcp_source.admits(source, packet[1] <= 204):
            return
        self.heard = self._now()
        sink = self.sink
        if sink is not None:
            sink.rtcp(packet)

    # To the phone

    def send_rtp(self, packet: bytes) -> None:
        """To the address of its description, or of its packets."""
        target = self._rtp_source.target()
        if target is not None:
            self._rtp.send(packet, target)

    def send_rtcp(self, packet: bytes) -> None:
        """To the port beside it, or the one that it named."""
        target = self._rtcp_source.target()
        if target is not None:
            self._rtcp.send(packet, target)

    def silent_since(self, now: float, limit: float) -> bool:
        """Neither RTP nor RTCP."""
        return self.description is not None and now - self.heard >= limit

    @property
    def foreign(self) -> int:
        """Packets from where none should come from."""
        return self._rtp_source.foreign + self._rtcp_source.foreign

    def close(self) -> None:
        """Free both ports."""
        self.sink = None
        self._rtp.close()
        self._rtcp.close()


def _rtcp_port(audio: Media) -> int:
    """RFC 3605; the next port otherwise."""
    number = (audio.get("rtcp") or "").split(" ")[0]
    if number.isascii() and number.isdigit() and 0 < int(number) <= 65535:
        return int(number)
    return min(audio.port + 1, 65535)


def _short(host: str) -> str:
    """An address as the kernel writes it."""
    try:
        return str(ip_address(host))
    except ValueError:
        return host


def _is_reachable(host: str, peer: str) -> bool:
    """Whether an address in a description can be meant for us: not a name, not nowhere, and not
    this machine when the phone is on another.
    """
    if not is_address(host):
        return False
    address = ip_address(host)
    if address.is_loopback or address.is_link_local:
        other = ip_address(peer.partition("%")[0])
        return other.is_loopback if address.is_loopback else other.is_link_local
    return True
