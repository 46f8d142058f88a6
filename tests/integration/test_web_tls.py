"""https and wss with the certificate that the PBX makes itself, and with a new one meanwhile."""

from __future__ import annotations

import datetime
import signal
import socket
import ssl
from pathlib import Path
from typing import Any

from cryptography import x509

from pbx.transport.certificates import make_certificate
from tests.integration.harness import PBX, PBXTestCase, until
from tests.integration.phone import Phone, WebSocket, exchange
from tests.integration.web import Browser, port_of


def trusting(path: Path) -> ssl.SSLContext:
    """Checks names and dates, and trusts this one certificate."""
    return ssl.create_default_context(cafile=str(path))


class OwnCertificateTests(PBXTestCase):
    def start(self, **tables: Any) -> PBX:
        listen = [f"{kind}:127.0.0.1:0" for kind in ("udp", "ws", "wss")]
        return self.pbx(
            {
                "sip": {"domain": "pbx.test", "listen": listen},
                "http": {"listen": ["tls:127.0.0.1:0"]},
                **tables,
            },
            users=("alice", "bob"),
        )

    def test_page_phone_and_call(self) -> None:
        """Log-in by https and calls by wss at /sip and at the listener, all checked."""
        pbx = self.start()
        context = trusting(self.folder / "var" / "tls-certificate.pem")
        browser = Browser(port_of(pbx), context)
        self.assertEqual(browser.log_in("alice")["user"], "alice")
        self.assertTrue(all(name.startswith("__Host-pbx_session") for name in browser.cookies))
        self.assertEqual(browser.get("/api/me")["user"], "alice")
        alice = browser.phone("alice")
        self.addCleanup(alice.close)
        alice.register()
        bob = Phone("bob", WebSocket("127.0.0.1", pbx.ports["wss"], "/", context))
        self.addCleanup(bob.close)
        bob.register()
        invite = alice.invite("bob")
        called = bob.answer(bob.request("INVITE"))
        calling = alice.called(invite, alice.response(200))
        bob.request("ACK")
        exchange(bob, called, alice, "INVITE")
        exchange(alice, calling, bob, "BYE")
        self.assertEqual(pbx.statistic("net:wss_connections"), 2)

    def test_certificate(self) -> None:
        """ECDSA on P-256 for the domain and every address, its key for us only, kept for good."""
        pbx = self.start()
        file, key = (self.folder / "var" / f"tls-{name}.pem" for name in ("certificate", "key"))
        found = x509.load_pem_x509_certificate(file.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertIn("pbx.test", names.get_values_for_type(x509.DNSName))
        addresses = {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}
        self.assertLessEqual({"127.0.0.1", "::1"}, addresses)
        self.assertEqual(found.public_key().curve.name, "secp256r1")  # type: ignore[union-attr]
        self.assertEqual(key.stat().st_mode & 0o777, 0o600)
        self.assertGreater(pbx.statistic("tls:certificate_days_left"), 800)
        pbx.stop()
        pbx.start()
        self.assertEqual(x509.load_pem_x509_certificate(file.read_bytes()), found)

    def test_new_certificate_while_connected(self) -> None:
        """SIGHUP: new connections see the new one, open ones and a call on them go on."""
        file, key = self.folder / "my.pem", self.folder / "my.key"
        make_certificate(file, key, ["127.0.0.1"])
        before = file.read_bytes()
        pbx = self.start(tls={"certificate": "my.pem", "private_key": "my.key"})
        browser = Browser(port_of(pbx), trusting(file))
        alice, bob = browser.phone("alice"), self.registered(pbx, "bob")
        self.addCleanup(alice.close)
        alice.register()
        invite = alice.invite("bob")
        called = bob.answer(bob.request("INVITE"))
        calling = alice.called(invite, alice.response(200))
        bob.request("ACK")
        make_certificate(file, key, ["127.0.0.1"])
        self.assertNotEqual(file.read_bytes(), before)
        assert pbx.process is not None
        pbx.process.popen.send_signal(signal.SIGHUP)
        fresh = Browser(port_of(pbx), trusting(file))

        def is_shown() -> bool:
            try:
                return bool(fresh.get("/api/site"))
            except ssl.SSLCertVerificationError:
                return False

        until(is_shown, "the new certificate is shown")
        with self.assertRaises(ssl.SSLCertVerificationError):
            browser.get("/api/site")
        exchange(bob, called, alice, "INVITE")
        exchange(alice, calling, bob, "BYE")

    def test_bad_certificate_changes_nothing(self) -> None:
        """The answer says what is wrong; the old one serves on."""
        file, key = self.folder / "my.pem", self.folder / "my.key"
        make_certificate(file, key, ["127.0.0.1"])
        context = trusting(file)
        pbx = self.start(tls={"certificate": str(file), "private_key": str(key)})
        key.write_text("nonsense")
        with self.assertRaises(ValueError) as caught:
            pbx.mi("reload")
        self.assertIn("my.key", str(caught.exception))
        self.assertEqual(Browser(port_of(pbx), context).get("/api/site")["domain"], "pbx.test")

    def test_worry(self) -> None:
        """Degraded, with the reason, while a certificate of the operator has few days left."""
        file, key = self.folder / "my.pem", self.folder / "my.key"
        make_certificate(file, key, ["127.0.0.1"], datetime.timedelta(days=10))
        pbx = self.start(tls={"certificate": str(file), "private_key": str(key)})
        health = pbx.mi("status")["health"]
        self.assertEqual(health["status"], "degraded")
        self.assertIn("expires in 9 days", health["reasons"][0])
        self.assertEqual(pbx.statistic("tls:certificate_days_left"), 9)
        make_certificate(file, key, ["127.0.0.1"])
        pbx.mi("reload")
        self.assertEqual(pbx.mi("status")["health"]["status"], "ok")

    def test_strangers(self) -> None:
        """Plain text and half handshakes at a TLS port; the next browser is served."""
        pbx = self.start()
        port = port_of(pbx)
        strangers = []
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02", b""):
            stranger = socket.create_connection(("127.0.0.1", port), timeout=10)
            self.addCleanup(stranger.close)
            stranger.sendall(data)
            strangers.append(stranger)
        context = trusting(self.folder / "var" / "tls-certificate.pem")
        self.assertEqual(Browser(port, context).get("/api/site")["domain"], "pbx.test")
        for stranger in strangers:
            stranger.close()
        until(lambda: pbx.statistic("http:connections_used") == 0, "they are counted off")
