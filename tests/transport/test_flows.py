"""Who we are, what listeners are called, which name a certificate shows."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.address import Address
from pbx.sip.uri import URI
from pbx.transport.certificates import CertificateFailed, make_certificate
from pbx.transport.flows import Identity
from pbx.transport.hosts import literal, local_addresses
from pbx.transport.listeners import ListenFailed, ListenSpec, parse_advertised, parse_listener
from pbx.transport.tls import (
    TLSContexts,
    TLSSettings,
    identities,
)

BOUND = (
    Address("UDP", "0.0.0.0", 5060),
    Address("TCP", "0.0.0.0", 5060),
    Address("TLS", "192.0.2.1", 5061),
    Address("WSS", "0.0.0.0", 5063),
    Address("UDP", "::1", 5070),
)
MACHINE = frozenset(("127.0.0.1", "192.0.2.1", "::1", "2001:db8::1"))


class IdentityTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.own = Identity(("Alias.test",), BOUND, MACHINE, [("pbx.example", None)])

    def test_own(self) -> None:
        """16.4: host, port and transport."""
        for uri in (
            "sip:192.0.2.1",
            "sip:192.0.2.1:5060;transport=tcp;lr",
            "sip:127.0.0.1;transport=udp",
            "sips:192.0.2.1",
            "sips:192.0.2.1;transport=tcp",
            "sip:192.0.2.1:5063;transport=ws",
            "sip:192.0.2.1:5063;transport=wss",
            "sip:[0:0::1]:5070",
            "sip:pbx.example",
            "sip:PBX.example.:5060;transport=tcp",
            "sip:alias.test",
            "sip:alias.test:5061;transport=tls",
        ):
            with self.subTest(uri):
                self.assertTrue(self.own.is_own(URI.parse(uri)))

    def test_not_own(self) -> None:
        for uri in (
            "sip:192.0.2.2",
            "sip:192.0.2.1:5080",
            "sip:127.0.0.31",
            "sip:192.0.2.1;transport=ws",
            "sip:[2001:db8::1]:5060",
            "sip:other.test",
            "sip:pbx.example:5099",
            "tel:+4930",
        ):
            with self.subTest(uri):
                self.assertFalse(self.own.is_own(URI.parse(uri)))

    def test_host_alone(self) -> None:
        for host in ("192.0.2.1", "PBX.EXAMPLE", "alias.test", "0:0::1", "[::1]"):
            self.assertTrue(self.own.is_own_host(host), host)
        self.assertFalse(self.own.is_own_host("192.0.2.2"))


class SpecTests(SynchronousTestCase):
    def test_specs(self) -> None:
        for text, address, advertised in (
            ("udp:0.0.0.0:5060", Address("UDP", "0.0.0.0", 5060), ("", None)),
            ("tls:[::]", Address("TLS", "::", 5061), ("", None)),
            ("wss:*:0", Address("WSS", "0.0.0.0", 0), ("", None)),
            (
                "udp:192.0.2.1 as pbx.example:5080",
                Address("UDP", "192.0.2.1", 5060),
                ("pbx.example", 5080),
            ),
        ):
            with self.subTest(text):
                self.assertEqual(parse_listener(text), ListenSpec(address, advertised))

    def test_mistakes(self) -> None:
        for text in (
            "5060",
            "sctp:0.0.0.0:5060",
            "udp:0.0.0.0:x",
            "udp:",
            "udp:[::",
            "udp:no.invalid",
        ):
            with self.subTest(text), self.assertRaises(ListenFailed) as caught:
                parse_listener(text)
            self.assertTrue(str(caught.exception).startswith(text))

    def test_advertised(self) -> None:
        self.assertEqual(parse_advertised(""), ("", None))
        self.assertEqual(parse_advertised("2001:db8::1"), ("2001:db8::1", None))
        self.assertEqual(parse_advertised("pbx.example:5080"), ("pbx.example", 5080))


class HostTests(SynchronousTestCase):
    def test_literal(self) -> None:
        self.assertEqual(literal("[2001:DB8:0::1]"), "2001:db8::1")
        self.assertEqual(literal("::ffff:192.0.2.1"), "192.0.2.1")
        self.assertEqual(literal("fe80::1%eth0"), "fe80::1")
        self.assertEqual(literal("192.0.2"), "")
        self.assertEqual(literal("pbx.test"), "")

    def test_interfaces(self) -> None:
        """A /8 of loopback is not ours, single addresses are."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "fib_trie").write_text(
            "  +-- 127.0.0.0/8 2 0 2\n"
            "     |-- 127.0.0.0\n        /8 host LOCAL\n"
            "     |-- 192.0.2.77\n        /32 host LOCAL\n"
            "     |-- 192.0.2.255\n        /32 link BROADCAST\n"
        )
        (folder / "if_inet6").write_text("20010db8000000000000000000000077 02 40 00 80 eth0\n")
        found = local_addresses(folder)
        self.assertLessEqual({"127.0.0.1", "::1", "192.0.2.77", "2001:db8::77"}, found)
        self.assertTrue(found.isdisjoint({"127.0.0.0", "192.0.2.255"}))


class CertificateTests(SynchronousTestCase):
    def certificate(self, *names: x509.GeneralName) -> x509.Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "common.test")])
        now = datetime.datetime(2026, 1, 1)
        builder = (
            x509.CertificateBuilder(subject, subject, key.public_key(), 1)
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=1))
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(key, hashes.SHA256())

    def test_identities(self) -> None:
        """RFC 5922 section 7.1: SIP URIs before DNS names before the common name."""
        uri = x509.UniformResourceIdentifier("sip:Example.com")
        user = x509.UniformResourceIdentifier("sip:alice@example.org")
        name = x509.DNSName("host.example.com")
        self.assertEqual(identities(self.certificate(uri, name)), {"example.com"})
        self.assertEqual(identities(self.certificate(user, name)), {"host.example.com"})
        self.assertEqual(identities(self.certificate()), {"common.test"})

    def test_made_at_first_start_and_kept(self) -> None:
        folder = Path(self.mktemp())
        first = TLSContexts(TLSSettings(), folder, ["pbx.test", "192.0.2.1"])
        text = first.certificate_file.read_bytes()
        self.assertEqual(
            identities(x509.load_pem_x509_certificate(text)), {"pbx.test", "192.0.2.1"}
        )
        self.assertEqual(first.key_file.stat().st_mode & 0o777, 0o600)
        TLSContexts(TLSSettings(), folder, ["other.test"])
        self.assertEqual(first.certificate_file.read_bytes(), text)

    def test_bad_files(self) -> None:
        """One line that names the file; a failed reload changes nothing."""
        folder = Path(self.mktemp())
        contexts = TLSContexts(TLSSettings(), folder, ["pbx.test"])
        until = contexts.not_after
        make_certificate(folder / "other.pem", folder / "other.key", ["pbx.test"])
        good = contexts.key_file.read_bytes()
        for content in (b"nonsense", (folder / "other.key").read_bytes()):
            contexts.key_file.write_bytes(content)
            with self.assertRaises(CertificateFailed) as caught:
                contexts.reload()
            self.assertIn(str(contexts.key_file), str(caught.exception))
        self.assertEqual(contexts.not_after, until)
        contexts.key_file.write_bytes(good)
        contexts.reload()
        missing = TLSSettings(certificate=folder / "none.pem", private_key=folder / "none.key")
        with self.assertRaises(CertificateFailed):
            TLSContexts(missing, folder)

    def test_settings(self) -> None:
        with self.assertRaises(ValueError):
            TLSSettings(minimum="1.0")
        with self.assertRaises(ValueError):
            TLSSettings(certificate=Path("a.pem"))
        with self.assertRaises(ValueError):
            TLSSettings(verify_client=True)
