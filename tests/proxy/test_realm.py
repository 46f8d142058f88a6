"""Whose credentials a Proxy-Authorization holds."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pbx.proxy.forward import _realm


class RealmTests(SynchronousTestCase):
    def test_table(self) -> None:
        """The realm parameter, and nothing that only looks like it inside of another one."""
        for credentials, realm in (
            ('Digest realm="a", username="x"', "a"),
            ('Digest username="x",realm="a",nonce="n"', "a"),
            ('Digest username="x, realm=", realm="a"', "a"),
            ('Digest username="x, realm=\\"b\\"", realm="a"', "a"),
            ('Digest xrealm="b", realm="a"', "a"),
            ('Digest username="x", Realm = "a"', "a"),
            ("Digest username=x, realm=a", "a"),
            ('Digest username="x"', ""),
            ("", ""),
        ):
            self.assertEqual(_realm(credentials), realm, credentials)
