"""Settings of the HTTP site."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pbx.config import ConfigError, settings
from pbx.http.settings import HTTPSettings, parse_listener
from pbx.sip.address import Address


class ListenTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        self.assertEqual(parse_listener("tcp:127.0.0.1:8888"), Address("TCP", "127.0.0.1", 8888))
        self.assertEqual(parse_listener("tls:[::]:0"), Address("TLS", "::", 0))

    def test_faults(self) -> None:
        """Each says what would be right."""
        for text in ("127.0.0.1:80", "udp:127.0.0.1:80", "tcp:127.0.0.1", "tcp:h:x", "tcp:h:65536"):
            with self.assertRaises(ConfigError) as caught:
                settings(HTTPSettings, {"listen": [text]}, "http")
            self.assertIn("[http] listen: expected", str(caught.exception))
        with self.assertRaises(ConfigError) as caught:
            settings(HTTPSettings, {"listen": ["tcp:::1:80"]}, "http")
        self.assertIn('"tcp:[::1]:80"', str(caught.exception))
