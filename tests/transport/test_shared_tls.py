"""The certificate of all listeners: when it is made, renewed and complained of."""

from __future__ import annotations

import datetime
import tempfile
import time
from pathlib import Path

from cryptography import x509
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pbx.transport.certificates import LIFE, CertificateFailed, make_certificate
from pbx.transport.hosts import own_names
from pbx.transport.shared_tls import SharedTLS
from pbx.transport.tls import TLSSettings

DAY = 86400


class SharedTLSTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.clock = Clock()
        self.clock.advance(time.time())
        self.file = self.folder / "tls-certificate.pem"

    def make(self, settings: TLSSettings | None = None) -> SharedTLS:
        return SharedTLS(settings or TLSSettings(), self.folder, lambda: ["pbx.test"], self.clock)

    def operators(self, days: float) -> TLSSettings:
        """A certificate that is not ours."""
        file, key = self.folder / "my.pem", self.folder / "my.key"
        make_certificate(file, key, ["pbx.test"], datetime.timedelta(days=days))
        return TLSSettings(certificate=file, private_key=key)

    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.file.read_bytes()).serial_number

    def test_made_when_wanted(self) -> None:
        """Without a TLS listener there is none, and nothing to tell."""
        tls = self.make()
        self.assertFalse(self.file.exists())
        self.assertEqual((tls.statistics(), tls.health()), ({}, ("ok", "")))
        first = tls.contexts()
        self.assertIs(tls.contexts(), first)
        self.assertTrue(self.file.exists())
        self.assertEqual(tls.statistics(), {"tls:certificate_days_left": LIFE.days - 1})

    def test_own_one_is_renewed(self) -> None:
        """A month before its end, by itself."""
        tls = self.make()
        tls.contexts()
        self.successResultOf(Deferred.fromCoroutine(tls.start()))
        first = self.serial()
        for _ in range(LIFE.days - 32):
            self.clock.advance(DAY)
        self.assertEqual(self.serial(), first)
        # The new one begins at the machine's time, not at this clock's.
        self.clock.advance(2 * DAY)
        self.assertNotEqual(self.serial(), first)
        self.successResultOf(Deferred.fromCoroutine(tls.stop()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_operators_is_left_alone(self) -> None:
        """It is complained of instead."""
        for days, word, why in (
            (20, "ok", ""),
            (13.5, "degraded", "expires in 13 days"),
            (0.5, "degraded", "expires in 0 days"),
            (-0.5, "degraded", "has expired"),
        ):
            tls = self.make(self.operators(days))
            tls.contexts()
            self.successResultOf(Deferred.fromCoroutine(tls.reload()))
            status, text = tls.health()
            self.assertEqual((status, text.endswith(why)), (word, True), text)

    def test_folder_that_cannot_be_written(self) -> None:
        (self.folder / "var").write_text("a file")
        tls = SharedTLS(TLSSettings(), self.folder / "var", lambda: ["x"], self.clock)
        with self.assertRaises(CertificateFailed):
            tls.contexts()

    def test_names(self) -> None:
        """The domain first, whatever the machine is called, no name twice."""
        names = own_names("pbx.test", "203.0.113.1")
        self.assertEqual(names[:2], ["pbx.test", "203.0.113.1"])
        self.assertLessEqual({"localhost", "127.0.0.1", "::1"}, set(names))
        self.assertEqual(len(names), len(set(names)))
