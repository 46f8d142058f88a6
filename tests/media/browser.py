"""A browser without sockets: ICE, DTLS and SRTP as a WebRTC peer does them, and its offers.

Written against the RFCs and not with the code of `pbx.media`, except for the STUN request.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from typing import Any

import pylibsrtp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from pbx.media.native import stun

Sockaddr = tuple[Any, ...]
LINES = """\
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=candidate:1 1 udp 2122194687 3f0ae0a3-0e65-4ee6-a97c-0c0dcd7b8f40.local 49984 typ host
a=ice-ufrag:{ufrag}
a=ice-pwd:{password}
a=ice-options:trickle
a=fingerprint:sha-256 {fingerprint}
a=setup:{setup}
a=mid:{mid}
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a={direction}
a=msid:stream track
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:13 CN/8000
a=rtpmap:110 telephone-event/48000
a=rtpmap:126 telephone-event/8000
a=ssrc:1234 cname:x
"""
HEAD = """\
v=0
o=- 6798698091143193490 {version} IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE {mid}
a=extmap-allow-mixed
a=msid-semantic: WMS stream
"""


class Certificate:
    """Made once per test run: 5 ms each."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "WebRTC")])
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(7)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .sign(key, hashes.SHA256())
        )
        context: Any = SSL.Context(SSL.DTLS_METHOD)
        context.use_certificate(made)
        context.use_privatekey(key)
        context.set_verify(SSL.VERIFY_PEER, lambda *about: True)
        context.set_tlsext_use_srtp(b"SRTP_AES128_CM_SHA1_80")
        self.context = context
        self.fingerprint = made.fingerprint(hashes.SHA256()).hex(":").upper()


CERTIFICATE = Certificate()


class Browser:
    """One peer connection. ``send(data, sockaddr)`` leaves by its one port."""

    def __init__(
        self,
        send: Callable[[bytes, Sockaddr], object],
        certificate: Certificate = CERTIFICATE,
    ) -> None:
        self._send = send
        self.certificate = certificate
        self.announced = certificate.fingerprint
        self.version = 1
        self.mid = "0"
        self.direction = "sendrecv"
        self.further = ""
        self.ssrc = os.urandom(4)
        self.restart()
        self.remote: Sockaddr | None = None
        self.role = ""
        self.stun_answers: list[bytes] = []
        self.rtp: list[bytes] = []
        self.rtcp: list[bytes] = []
        self.refused = 0
        self.peer_fingerprint = ""
        self._connection: Any = None
        self._inbound: Any = None
        self._outbound: Any = None
        self._number = 1000
        self._timestamp = 5000
        self._their_ufrag = self._their_password = ""

    # Descriptions

    def restart(self) -> None:
        """New ICE credentials."""
        self.ufrag = os.urandom(2).hex()
        self.password = os.urandom(12).hex()

    def description(self, setup: str) -> bytes:
        """Our own, as Chromium writes it."""
        text = (HEAD + LINES + self.further).format(
            version=self.version,
            mid=self.mid,
            ufrag=self.ufrag,
            password=self.password,
            fingerprint=self.announced,
            setup=setup,
            direction=self.direction,
        )
        self.version += 1
        return text.replace("\n", "\r\n").encode()

    def offer(self) -> bytes:
        """With both roles open."""
        return self.description("actpass")

    def answer(self, setup: str = "active") -> bytes:
        """To what `accept` was given."""
        return self.description(setup)

    def accept(self, sdp: bytes, setup: str = "") -> None:
        """The description of the other side; ``setup`` is our own role when we answer."""
        lines = sdp.decode().split("\r\n")
        values: dict[str, str] = {}
        for line in lines:
            if line.startswith("a="):
                name, _, value = line[2:].partition(":")
                values.setdefault(name, value)
        assert "rtcp-mux" in values, sdp
        assert values["group"] == f"BUNDLE {values['mid']}", sdp
        audio = next(line for line in lines if line.startswith("m=audio"))
        connection = next(line for line in lines if line.startswith("c="))
        self.mid = values["mid"]
        self.remote = (connection.split()[2], int(audio.split()[1]))
        self._their_ufrag, self._their_password = values["ice-ufrag"], values["ice-pwd"]
        self.peer_fingerprint = values["fingerprint"].split()[1]
        theirs = values["setup"]
        if theirs == "actpass":
            assert setup, "an answer must choose"
            self.role = setup
        elif not self.role:
            self.role = "active" if theirs == "passive" else "passive"

    # ICE

    def check(self, nominate: bool = True, password: str = "") -> None:
        """One connectivity check, also for consent."""
        assert self.remote is not None
        username = f"{self._their_ufrag}:{self.ufrag}"
        secret = password or self._their_password
        self._send(stun.request(os.urandom(12), username, secret, nominate=nominate), self.remote)

    # DTLS

    def connect(self) -> None:
        """Check, then begin the handshake if that is our part."""
        self.check()
        self.handshake()

    def handshake(self) -> None:
        """DTLS only."""
        self._connection = SSL.Connection(self.certificate.context, None)
        self._connection.set_ciphertext_mtu(1200)
        if self.role == "active":
            self._connection.set_connect_state()
            self._drive()
        else:
            self._connection.set_accept_state()

    def again(self) -> None:
        """The handshake timer has fired."""
        if self._connection is not None and self._inbound is None:
            self._connection.DTLSv1_handle_timeout()
            self._flush()

    def goodbye(self) -> None:
        """As a tab that is closed."""
        self._connection.shutdown()
        self._flush()

    @property
    def connected(self) -> bool:
        """Whether there are keys."""
        return self._inbound is not None

    def received(self, data: bytes, source: Sockaddr) -> None:
        """A datagram for our port."""
        if data[0] < 4:
            self.stun_answers.append(data)
        elif 20 <= data[0] <= 63:
            if self._connection is None:
                if self.role != "passive":
                    return
                self.handshake()
            self._connection.bio_write(data)
            if self._inbound is None:
                self._drive()
        elif self._inbound is not None:
            try:
                if 192 <= data[1] <= 223:
                    self.rtcp.append(self._inbound.unprotect_rtcp(data))
                else:
                    self.rtp.append(self._inbound.unprotect(data))
            except pylibsrtp.Error:
                self.refused += 1

    def _drive(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            self._flush()
            return
        self._flush()
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        assert certificate.fingerprint(hashes.SHA256()).hex(":").upper() == self.peer_fingerprint
        material = self._connection.export_keying_material(b"EXTRACTOR-dtls_srtp", 60)
        client, server = material[:16] + material[32:46], material[16:32] + material[46:]
        ours, theirs = (client, server) if self.role == "active" else (server, client)
        policy = pylibsrtp.Policy
        self._inbound = pylibsrtp.Session(policy(theirs, policy.SSRC_ANY_INBOUND))
        self._outbound = pylibsrtp.Session(policy(ours, policy.SSRC_ANY_OUTBOUND))

    def _flush(self) -> None:
        assert self.remote is not None
        while True:
            try:
                flight = self._connection.bio_read(16384)
            except SSL.WantReadError:
                return
            while flight:
                size = 13 + int.from_bytes(flight[11:13], "big")
                self._send(flight[:size], self.remote)
                flight = flight[size:]

    # RTP

    def send_rtp(self, payload: int, sound: bytes, marker: bool = False) -> None:
        """One packet of 20 ms."""
        self._number = (self._number + 1) & 0xFFFF
        self._timestamp += 160
        self.send_packet(packet(payload, self._number, self._timestamp, self.ssrc, sound, marker))

    def send_key(self, payload: int, digit: str, milliseconds: int = 100) -> None:
        """A key as RFC 4733 tells it: a few updates, the end three times."""
        self._timestamp += 160
        event = "0123456789*#ABCD".index(digit)
        total = milliseconds * 8
        steps = [(total // 2, 0), (total, 0x80), (total, 0x80), (total, 0x80)]
        for at, (duration, end) in enumerate(steps):
            self._number = (self._number + 1) & 0xFFFF
            body = bytes((event, end | 10)) + duration.to_bytes(2, "big")
            self.send_packet(
                packet(payload, self._number, self._timestamp, self.ssrc, body, at == 0)
            )

    def send_packet(self, clear: bytes) -> None:
        """Any packet, encrypted."""
        assert self.remote is not None
        self._send(self._outbound.protect(clear), self.remote)

    def send_rtcp(self, clear: bytes) -> None:
        """Any compound packet, encrypted."""
        assert self.remote is not None
        self._send(self._outbound.protect_rtcp(clear), self.remote)


def packet(
    payload: int,
    number: int,
    timestamp: int,
    ssrc: bytes = b"SSRC",
    body: bytes = b"\xff" * 160,
    marker: bool = False,
) -> bytes:
    """An RTP packet."""
    head = bytes((0x80, payload | (0x80 if marker else 0))) + (number & 0xFFFF).to_bytes(2, "big")
    return head + (timestamp & 0xFFFFFFFF).to_bytes(4, "big") + ssrc + body
