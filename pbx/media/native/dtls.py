"""DTLS-SRTP: one handshake per browser, keys for both directions (RFC 5763, 5764). No sockets."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple

import pylibsrtp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.logger import Logger

from pbx.errors import MediaFailed
from pbx.interfaces import ITimer, ITimers

#: Datagrams of a handshake must pass every path.
MTU = 1200
_LABEL = b"EXTRACTOR-dtls_srtp"
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha-256": hashes.SHA256(),
    "sha-384": hashes.SHA384(),
    "sha-512": hashes.SHA512(),
}
#: RFC 5764 section 4.1.2, RFC 7714 section 14.2: name, libsrtp's number, bytes of key and salt.
_PROFILES = {
    b"SRTP_AEAD_AES_128_GCM": (pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16, 12),
    b"SRTP_AES128_CM_SHA1_80": (pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 16, 14),
    b"SRTP_AEAD_AES_256_GCM": (pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 32, 12),
}
#: Packets that libsrtp has room for beside its trailer.
_MAX_PACKET = 1300
#: Sources that one side may use in a call: libsrtp keeps state for each.
_MAX_SOURCES = 512
#: Seconds that a handshake may take once both sides are there.
_PATIENCE = 30.0


class Role(Enum):
    """``a=setup`` of our own (RFC 4145): who sends the ClientHello."""

    ACTIVE = "active"
    PASSIVE = "passive"


class Fingerprint(NamedTuple):
    """``a=fingerprint`` (RFC 8122 section 5)."""

    algorithm: str
    digest: bytes

    def __str__(self) -> str:
        return f"{self.algorithm} {self.digest.hex(':').upper()}"


def parse_fingerprints(values: Sequence[str]) -> tuple[Fingerprint, ...]:
    """Those with a hash that is still good. Raises MediaFailed when there is none."""
    found: list[Fingerprint] = []
    for value in values:
        algorithm, _, text = value.partition(" ")
        known = _HASHES.get(algorithm.lower())
        try:
            digest = bytes.fromhex(text.strip().replace(":", ""))
        except ValueError:
            continue
        if known is not None and len(digest) == known.digest_size:
            found.append(Fingerprint(algorithm.lower(), digest))
    if not found:
        raise MediaFailed("No Usable Fingerprint", warning=302)
    return tuple(found)


class Identity:
    """The certificate of this process, made at start: one for all calls."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pbx")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=3650))
            .sign(key, hashes.SHA256())
        )
        self.fingerprint = Fingerprint("sha-256", certificate.fingerprint(hashes.SHA256()))
        # The published types of pyOpenSSL know nothing of the classes of cryptography.
        context: Any = SSL.Context(SSL.DTLS_METHOD)
        context.use_certificate(certificate)
        context.use_privatekey(key)
        context.set_tlsext_use_srtp(b":".join(_PROFILES))
        # Whoever it is, is decided by the fingerprint, and afterwards.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _any)
        context.set_min_proto_version(_DTLS_1_2)
        self.context = context


_DTLS_1_2 = 0xFEFD


def _any(*about: object) -> bool:
    return True


class Keys:
    """SRTP in both directions. Bad packets give None."""

    __slots__ = ("_inbound", "_outbound", "_sources", "bad")

    def __init__(self, inbound: pylibsrtp.Session, outbound: pylibsrtp.Session) -> None:
        self._inbound = inbound
        self._outbound = outbound
        self._sources: set[bytes] = set()
        self.bad = 0

    def unprotect(self, packet: bytes) -> bytes | None:
        """A packet of the peer, in clear."""
        return self._try(self._inbound.unprotect, packet)

    def unprotect_rtcp(self, packet: bytes) -> bytes | None:
        """The same for RTCP."""
        return self._try(self._inbound.unprotect_rtcp, packet)

    def protect(self, packet: bytes) -> bytes | None:
        """A packet for the peer."""
        source = packet[8:12]
        if source not in self._sources:
            if len(self._sources) >= _MAX_SOURCES:
                self.bad += 1
                return None
            self._sources.add(source)
        return self._try(self._outbound.protect, packet)

    def protect_rtcp(self, packet: bytes) -> bytes | None:
        """The same for RTCP."""
        return self._try(self._outbound.protect_rtcp, packet)

    def _try(self, change: Callable[[bytes], bytes], packet: bytes) -> bytes | None:
        if len(packet) <= _MAX_PACKET:
            try:
                return change(packet)
            except pylibsrtp.Error:
                pass
        self.bad += 1
        return None


class Association:
    """One DTLS connection. ``send`` takes datagrams; ``done`` hears of the keys, ``failed`` why
    there are none.
    """

    log = Logger()

    def __init__(
        self,
        identity: Identity,
        role: Role,
        fingerprints: Sequence[Fingerprint],
        timers: ITimers,
        send: Callable[[bytes], object],
        done: Callable[[Keys], object],
        failed: Callable[[str], object],
    ) -> None:
        self.role = role
        self.fingerprints = tuple(fingerprints)
        self._timers = timers
        self._send = send
        self._done = done
        self._failed = failed
        self._timer: ITimer | None = None
        self._handshaking = True
        self._closed = False
        self._left = _PATIENCE
        self._connection: Any = SSL.Connection(identity.context, None)
        self._connection.set_ciphertext_mtu(MTU)
        if role is Role.PASSIVE:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()

    def start(self) -> None:
        """Send the ClientHello if that is our part."""
        if self.role is Role.ACTIVE:
            self._drive()

    def received(self, datagram: bytes) -> None:
        """A datagram of the peer."""
        if self._closed:
            return
        try:
            self._connection.bio_write(datagram)
        except SSL.Error:
            return
        if self._handshaking:
            self._drive()
        else:
            self._read()

    def close(self) -> None:
        """Tell the peer and forget."""
        if self._closed:
            return
        if not self._handshaking:
            try:
                self._connection.shutdown()
                self._flush()
            except SSL.Error:
                pass
        self._end()

    def _end(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drive(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            self._flush()
            self._arm()
            return
        except SSL.Error as error:
            # The alert, if any, goes out; without keys nothing else ever will.
            self._flush()
            self._give_up(f"DTLS handshake failed: {_reason(error)}")
            return
        self._handshaking = False
        self._flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._established()

    def _established(self) -> None:
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        if certificate is None or not any(
            certificate.fingerprint(_HASHES[one.algorithm]) == one.digest
            for one in self.fingerprints
        ):
            self._give_up("the DTLS certificate is not the announced one")
            return
        profile = _PROFILES.get(self._connection.get_selected_srtp_profile())
        if profile is None:
            self._give_up("no common SRTP profile")
            return
        number, key, salt = profile
        material = self._connection.export_keying_material(_LABEL, 2 * (key + salt))
        client = material[:key] + material[2 * key : 2 * key + salt]
        server = material[key : 2 * key] + material[2 * key + salt :]
        if self.role is Role.PASSIVE:
            theirs, ours = client, server
        else:
            theirs, ours = server, client
        inbound = _session(number, theirs, pylibsrtp.Policy.SSRC_ANY_INBOUND)
        outbound = _session(number, ours, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        self._done(Keys(inbound, outbound))

    def _read(self) -> None:
        """After the handshake: our last flight again, a close, or what nobody asked for."""
        try:
            self._connection.recv(4096)
        except SSL.WantReadError:
            pass
        except SSL.Error:
            # Also ZeroReturnError: the peer has said goodbye.
            self._end()
            self._failed("the peer has closed its DTLS connection")
            return
        self._flush()

    def _flush(self) -> None:
        """Whole records, packed up to the MTU (RFC 6347 section 4.1.1)."""
        datagram = b""
        while True:
            try:
                flight = self._connection.bio_read(16384)
            except SSL.Error:
                break
            at = 0
            while at + 13 <= len(flight):
                size = 13 + int.from_bytes(flight[at + 11 : at + 13], "big")
                record = flight[at : at + size]
                if datagram and len(datagram) + len(record) > MTU:
                    self._send(datagram)
                    datagram = b""
                datagram += record
                at += size
        if datagram:
            self._send(datagram)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wait = self._connection.DTLSv1_get_timeout()
        # Nothing of ours is on its way: the peer has to speak first.
        self._timer = None
        if wait is not None:
            self._timer = self._timers.call_later(max(wait, 0.01), self._timed_out, wait)

    def _timed_out(self, waited: float) -> None:
        self._timer = None
        self._left -= max(waited, 0.01)
        if self._left <= 0:
            self._give_up("no answer to the DTLS handshake")
            return
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error as error:
            self._give_up(f"DTLS handshake failed: {_reason(error)}")
            return
        self._flush()
        self._arm()

    def _give_up(self, why: str) -> None:
        self._end()
        self._failed(why)


def _session(profile: int, key: bytes, direction: int) -> pylibsrtp.Session:
    policy = pylibsrtp.Policy(key=key, ssrc_type=direction, srtp_profile=profile)
    policy.window_size = 1024
    return pylibsrtp.Session(policy)


def _reason(error: SSL.Error) -> str:
    """The last words of OpenSSL."""
    details = error.args[0] if error.args else ()
    if isinstance(details, list) and details:
        return str(details[-1][-1])
    return type(error).__name__
