"""The leg of a browser: one port for STUN, DTLS, SRTP and SRTCP (RFC 7983)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from pbx.errors import MediaFailed
from pbx.interfaces import ITimers
from pbx.legs import LegKind, MediaLeg
from pbx.media.bridging import Endpoint, audio_of
from pbx.media.native.addresses import Addresses
from pbx.media.native.dtls import Association, Fingerprint, Identity, Keys, Role, parse_fingerprints
from pbx.media.native.leg import Path
from pbx.media.native.port import Ports, Sockaddr
from pbx.media.native.rtp import Stream, is_rtcp
from pbx.media.native.stun import new_credentials, parse_check, response
from pbx.media.sdp import SessionDescription

#: Seconds without a good check after which the peer no longer consents (RFC 7675 section 5.1).
CONSENT = 30.0
#: Seconds that a browser which said goodbye has to come back with another certificate.
_GOODBYE = 2.0
#: Addresses of a peer that are remembered as checked; each needed our password.
_MAX_CHECKED = 16
#: RFC 8445 section 5.1.2.1: type preference of host candidates, local preference, component 1.
_HOST_PRIORITY = (126 << 24) + 255


class WebRTCLeg:
    """ICE-lite, DTLS-SRTP and multiplexed RTP with one browser."""

    log = Logger()
    kind = LegKind.WEBRTC

    def __init__(
        self,
        ports: Ports,
        addresses: Addresses,
        identity: Identity,
        peer: str,
        timers: ITimers,
        now: Callable[[], float],
        connected: Callable[[], object],
        failed: Callable[[], object],
    ) -> None:
        self._place = addresses.place(peer, LegKind.WEBRTC)
        self._identity = identity
        self._timers = timers
        self._now = now
        self._on_connected = connected
        self._on_failed = failed
        self.stream = Stream()
        self.sink: Path | None = None
        self.payloads: frozenset[int] = frozenset()
        self.heard = now()
        self.connected = False
        self.description: SessionDescription | None = None
        self.remote: Sockaddr | None = None
        self._checked: set[Sockaddr] = set()
        self._own = new_credentials()
        self._former = self._own
        self._remote_ufrag = ""
        self._association: Association | None = None
        self._role: Role | None = None
        self._keys: Keys | None = None
        self._closed = False
        self._port = ports.single(self._place.bind, self._received)

    # Descriptions

    def endpoint(self, offer: SessionDescription | None) -> Endpoint:
        """Our candidates and keys; an ICE restart of the peer gets new ones of ours."""
        setup = "actpass"
        if offer is not None:
            audio = audio_of(offer)
            ufrag = offer.inherited(audio, "ice-ufrag") or ""
            if self._remote_ufrag and ufrag != self._remote_ufrag and self._own == self._former:
                # The old ones hold until the new are used (RFC 8445 section 9).
                self._own = new_credentials()
            setup = self._role_for(offer.inherited(audio, "setup")).value
        hosts = (self._place.told, *self._place.others)
        return Endpoint(
            kind=LegKind.WEBRTC,
            host=self._place.told,
            port=self._port.port,
            ufrag=self._own.ufrag,
            password=self._own.password,
            fingerprint=str(self._identity.fingerprint),
            setup=setup,
            candidates=tuple(
                f"{at + 1} 1 UDP {_HOST_PRIORITY + ((65535 - at) << 8)} {host}"
                f" {self._port.port} typ host"
                for at, host in enumerate(hosts)
            ),
        )

    def check(self, description: SessionDescription) -> None:
        """WebRTC with a certificate that can be told, from a peer that does the ICE checks."""
        if description.kind is not LegKind.WEBRTC:
            raise MediaFailed("The Browser Speaks Plain RTP", warning=302)
        if description.get("ice-lite") is not None:
            raise MediaFailed("Both Sides Are ICE-Lite")
        _fingerprints(description)

    def describe(self, description: SessionDescription, peer: MediaLeg) -> None:
        """Whose certificate to expect, and who begins the handshake."""
        audio = audio_of(description)
        fingerprints = _fingerprints(description)
        self._remote_ufrag = description.inherited(audio, "ice-ufrag") or ""
        role = self._role_for(description.inherited(audio, "setup"))
        if self.description is None:
            self.heard = self._now()
        self.description = description
        association = self._association
        if association is not None:
            if association.fingerprints == fingerprints:
                return
            # Another certificate means another browser at the same leg.
            association.close()
            self._keys = None
        self._associate(role, fingerprints)

    def _role_for(self, setup: str | None) -> Role:
        """Ours, by ``a=setup`` of the peer (RFC 5763 section 5); a free choice is made once
        (RFC 8842 section 5).
        """
        if setup == "passive":
            return Role.ACTIVE
        return Role.PASSIVE if setup == "active" else self._role or Role.PASSIVE

    def _associate(self, role: Role, fingerprints: tuple[Fingerprint, ...]) -> None:
        self._role = role
        self._association = Association(
            self._identity,
            role,
            fingerprints,
            self._timers,
            self._send,
            self._secured,
            self._not_secured,
        )
        if self.remote is not None:
            self._association.start()

    def _secured(self, keys: Keys) -> None:
        self._keys = keys
        if not self.connected:
            self.connected = True
            self._on_connected()

    def _not_secured(self, why: str) -> None:
        if self._keys is None:
            self.log.warn("a browser cannot be heard: {why}", why=why)
            self._on_failed()
            return
        # A tab that was closed tells nothing by SIP; one that is reloaded may go on.
        self._keys = None
        self._timers.call_later(_GOODBYE, self._gone, self._association)

    def _gone(self, association: Association | None) -> None:
        if self._association is association and not self._closed:
            self._on_failed()

    # From the browser

    def _received(self, packet: bytes, source: Sockaddr) -> None:
        first = packet[0]
        if first > 127:
            if first < 192 and source in self._checked and self._keys is not None:
                self._media_received(packet, self._keys)
        elif first < 4:
            self._stun_received(packet, source)
        elif 20 <= first <= 63 and source in self._checked and self._association is not None:
            self._association.received(packet)

    def _media_received(self, packet: bytes, keys: Keys) -> None:
        if is_rtcp(packet):
            clear = keys.unprotect_rtcp(packet)
            if clear is not None and self.sink is not None:
                self.sink.rtcp(clear)
            return
        clear = keys.unprotect(packet)
        if clear is None:
            return
        self.stream.received(clear, self._now())
        sink = self.sink
        if sink is not None:
            sink.rtp(clear)

    def _stun_received(self, packet: bytes, source: Sockaddr) -> None:
        own = self._own
        check = parse_check(packet, own)
        if check is None:
            if self._former is own:
                return
            own = self._former
            check = parse_check(packet, own)
            if check is None:
                return
        elif self._former is not own:
            self._former = own
        self.heard = self._now()
        if source not in self._checked:
            if len(self._checked) >= _MAX_CHECKED:
                self._checked = {one for one in (self.remote,) if one is not None}
            self._checked.add(source)
        self._port.send(response(check, own, source[0], source[1]), source)
        if check.nominates and source != self.remote:
            begin = self.remote is None
            self.remote = source
            if begin and self._association is not None:
                self._association.start()

    # To the browser

    def send_rtp(self, packet: bytes) -> None:
        """Encrypted, and only to an address that proved itself."""
        keys = self._keys
        if keys is not None and self.remote is not None:
            secret = keys.protect(packet)
            if secret is not None:
                self._port.send(secret, self.remote)

    def send_rtcp(self, packet: bytes) -> None:
        """The same for RTCP."""
        keys = self._keys
        if keys is not None and self.remote is not None:
            secret = keys.protect_rtcp(packet)
            if secret is not None:
                self._port.send(secret, self.remote)

    def _send(self, datagram: bytes) -> None:
        if self.remote is not None:
            self._port.send(datagram, self.remote)

    def silent_since(self, now: float, limit: float) -> bool:
        """Without consent, whatever else comes (RFC 7675)."""
        return self.description is not None and now - self.heard >= CONSENT

    def close(self) -> None:
        """Say goodbye and free the port."""
        self.sink = None
        self._closed = True
        if self._association is not None:
            self._association.close()
        self._keys = None
        self._port.close()


def _fingerprints(description: SessionDescription) -> tuple[Fingerprint, ...]:
    values = audio_of(description).get_all("fingerprint")
    values += [one.value or "" for one in description.attributes if one.name == "fingerprint"]
    return parse_fingerprints(values)
