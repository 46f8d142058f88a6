"""TLS: certificates, who is asked for one, and whether the peer is who it should be (RFC 5922)."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from pbx.sip.errors import TransportFailed
from pbx.transport.certificates import CertificateFailed, make_certificate, read_certificate
from pbx.transport.hosts import literal

_MINIMUM = {"1.2": TLSVersion.TLSv1_2, "1.3": TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSSettings:
    """Certificates for TLS and secure WebSocket."""

    certificate: Path = Path()
    """PEM file with our certificate and what leads to its authority; without one the PBX makes
    itself a certificate at its first start."""
    private_key: Path = Path()
    "PEM file with its key, without password."
    ca: Path = Path()
    "PEM file with the authorities to believe; those of the system when empty."
    verify_client: bool = False
    "Refuse phones without a certificate of the authorities in `ca`."
    verify: bool = True
    "Check certificate and name of the servers that we connect to (RFC 5922)."
    minimum: str = "1.2"
    "Oldest version of TLS to talk: 1.2 or 1.3."

    def __post_init__(self) -> None:
        if self.minimum not in _MINIMUM:
            raise ValueError(f"minimum: expected 1.2 or 1.3, not {self.minimum!r}")
        if is_set(self.certificate) != is_set(self.private_key):
            raise ValueError("certificate and private_key belong together")
        if self.verify_client and not is_set(self.ca):
            raise ValueError("verify_client needs ca")


def is_set(path: Path) -> bool:
    """Whether a file was named."""
    return path != Path()


class Names(Protocol):
    """A TLS connection of which the peer's certificate can be asked."""

    def getPeerCertificate(self) -> object:
        """The certificate, None for none."""


@implementer(IOpenSSLServerConnectionCreator)
class TLSContexts:
    """The contexts for connections in both directions.

    Raises CertificateFailed. `reload` reads the files again; open connections go on with what they
    began with. ``folder`` is where a certificate of our own is kept and ``names`` what it shows.
    """

    def __init__(self, settings: TLSSettings, folder: Path, names: Sequence[str] = ()) -> None:
        self._settings = settings
        self.is_own = not is_set(settings.certificate)
        self.certificate_file = settings.certificate
        self.key_file = settings.private_key
        if self.is_own:
            self.certificate_file = folder / "tls-certificate.pem"
            self.key_file = folder / "tls-key.pem"
            if not (self.certificate_file.exists() and self.key_file.exists()):
                make_certificate(self.certificate_file, self.key_file, names)
        self._server: SSL.Context
        self._client: SSL.Context
        self.not_after: datetime.datetime
        self.reload()

    def reload(self) -> None:
        """Read the files again, for new connections. Raises CertificateFailed, changing nothing."""
        chain, key = read_certificate(self.certificate_file, self.key_file)
        server = self._context(chain, key)
        client = self._context(chain, key)
        settings = self._settings
        try:
            if settings.verify_client:
                server.load_verify_locations(str(settings.ca))
                server.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _accept)
            if settings.verify:
                if is_set(settings.ca):
                    client.load_verify_locations(str(settings.ca))
                else:
                    client.set_default_verify_paths()
                client.set_verify(SSL.VERIFY_PEER, _accept)
        except SSL.Error:
            raise CertificateFailed(f"{settings.ca}: no certificates in it") from None
        self._server = server
        self._client = client
        self.not_after = chain[0].not_valid_after_utc

    def _context(self, chain: Sequence[x509.Certificate], key: object) -> SSL.Context:
        minimum = _MINIMUM[self._settings.minimum]
        try:
            options = CertificateOptions(
                privateKey=key,  # type: ignore[arg-type]
                certificate=chain[0],  # type: ignore[arg-type]
                extraCertChain=list(chain[1:]),  # type: ignore[arg-type]
                insecurelyLowerMinimumTo=minimum,
            )
            context: SSL.Context = options.getContext()
        except (SSL.Error, ValueError, TypeError):
            raise CertificateFailed(
                f"{self.key_file}: does not belong to {self.certificate_file}"
            ) from None
        # RFC 5246 section 7.2.1: sessions would outlive a change of what we verify.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        return context

    def serverConnectionForTLS(
        self,
        tlsProtocol: TLSMemoryBIOProtocol,  # noqa: N803
    ) -> SSL.Connection:
        """For Twisted: one incoming connection."""
        return SSL.Connection(self._server, None)

    def client(self, name: str) -> ClientCreator:
        """For one connection that we open to a host of that name."""
        return ClientCreator(self._client, name)

    def check_peer(self, transport: Names, names: Iterable[str]) -> None:
        """Raises TransportFailed unless the peer's certificate shows one of the names."""
        if not self._settings.verify:
            return
        certificate = transport.getPeerCertificate()
        shown = () if certificate is None else identities(certificate.to_cryptography())  # type: ignore[attr-defined]
        wanted = {literal(name) or name.lower().rstrip(".") for name in names}
        if wanted.isdisjoint(shown):
            raise TransportFailed(f"Certificate Is Not For {' or '.join(sorted(wanted))}")


@implementer(IOpenSSLClientConnectionCreator)
class ClientCreator:
    """One outgoing TLS connection, with server name indication for names."""

    def __init__(self, context: SSL.Context, name: str) -> None:
        self._context = context
        self._name = name

    def clientConnectionForTLS(
        self,
        tlsProtocol: TLSMemoryBIOProtocol,  # noqa: N803
    ) -> SSL.Connection:
        """For Twisted."""
        connection = SSL.Connection(self._context, None)
        if self._name and not literal(self._name):
            connection.set_tlsext_host_name(self._name.encode("idna"))
        return connection


def identities(certificate: x509.Certificate) -> frozenset[str]:
    """The SIP domains a certificate speaks for (RFC 5922 section 7.1): URIs, else DNS names, and
    IP addresses; the common name only without any of them. Wildcards count for nothing (7.2).
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return frozenset(str(name.value).lower() for name in common)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    # A SIP domain is a URI without user.
    domains = {uri[4:].lower() for uri in uris if uri[:4].lower() == "sip:" and "@" not in uri}
    if not domains:
        domains = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
    return frozenset(domains | {str(ip) for ip in names.get_values_for_type(x509.IPAddress)})


def _accept(
    connection: SSL.Connection, certificate: object, error: int, depth: int, good: int
) -> bool:
    return bool(good)
