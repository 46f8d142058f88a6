"""Certificate files: reading them, and making one of our own (RFC 5280)."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pbx.transport.hosts import literal

#: As long as systems that are told to trust such a certificate accept.
LIFE = datetime.timedelta(days=825)


class CertificateFailed(Exception):
    """A certificate or key file that cannot be used; the text is one line."""


def make_certificate(
    certificate_file: Path, key_file: Path, names: Sequence[str], life: datetime.timedelta = LIFE
) -> None:
    """Write a self-signed certificate for these hosts, and its key. Raises CertificateFailed.

    Both files appear at once and whole, the key for our user only.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    shown: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        if address := literal(name):
            shown.append(x509.IPAddress(ip_address(address)))
        elif name.isascii():
            shown.append(x509.DNSName(name))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, (names or ["pbx"])[0][:64])])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
    )
    if shown:
        builder = builder.add_extension(x509.SubjectAlternativeName(shown), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        certificate_file.parent.mkdir(parents=True, exist_ok=True)
        _write(key_file, secret, 0o600)
        _write(certificate_file, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    except OSError as error:
        raise CertificateFailed(f"{error.filename}: {error.strerror}") from None


def _write(path: Path, data: bytes, mode: int) -> None:
    fresh = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as out:
        out.write(data)
    fresh.replace(path)


def read_certificate(
    certificate_file: Path, key_file: Path
) -> tuple[Sequence[x509.Certificate], object]:
    """The chain and the key of two PEM files. Raises CertificateFailed."""
    try:
        chain = x509.load_pem_x509_certificates(certificate_file.read_bytes())
    except OSError as error:
        raise CertificateFailed(f"{certificate_file}: {error.strerror}") from None
    except ValueError:
        raise CertificateFailed(f"{certificate_file}: no certificate in it") from None
    try:
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    except OSError as error:
        raise CertificateFailed(f"{key_file}: {error.strerror}") from None
    except (ValueError, TypeError):
        raise CertificateFailed(f"{key_file}: no private key without password in it") from None
    return chain, key
