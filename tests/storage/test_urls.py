"""URLs of database and cache servers."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pbx.storage.postgres_sql import translate
from pbx.storage.urls import server_url


class ServerURLTests(SynchronousTestCase):
    """The forms of OpenSIPS and of libpq."""

    def test_parts(self) -> None:
        """Missing parts are empty, a missing port is the default."""
        url = server_url("postgres://opensips:pw@db.example/opensips?sslmode=require", 5432)
        self.assertEqual(
            (url.user, url.password, url.hosts, url.name, url.options),
            ("opensips", "pw", (("db.example", 5432),), "opensips", {"sslmode": "require"}),
        )
        self.assertEqual(url.shown, "postgres://opensips@db.example:5432/opensips")
        bare = server_url("redis://[::1]:6380", 6379)
        self.assertEqual((bare.user, bare.hosts, bare.name), ("", (("::1", 6380),), ""))
        self.assertEqual(bare.shown, "redis://[::1]:6380/")

    def test_several_hosts(self) -> None:
        """A primary and its standby, separated by commas."""
        self.assertEqual(server_url("postgresql://u@a:1,b/x", 5432).hosts, (("a", 1), ("b", 5432)))

    def test_raw_and_escaped_passwords(self) -> None:
        """``%XX`` is decoded; a password with other percent signs, ``@`` and ``:`` is taken as is."""
        for written, meant in (("a%40b", "a@b"), ("100%", "100%"), ("p@:w", "p@:w")):
            self.assertEqual(server_url(f"postgres://u:{written}@h/d", 1).password, meant)

    def test_password_file(self) -> None:
        """The last line end is not part of the password; a missing file is one clear line."""
        path = Path(self.mktemp())
        path.write_text("se cret\n")
        url = server_url(f"redis://h/0?password_file={path}", 1)
        self.assertEqual((url.password, dict(url.options)), ("se cret", {}))
        self.assertNotIn("se cret", repr(url))
        error = self.assertRaises(ValueError, server_url, "redis://h/0?password_file=/no/such", 1)
        self.assertIn("password_file /no/such", str(error))


class TranslateTests(SynchronousTestCase):
    """Placeholders of PostgreSQL's driver."""

    def test_quotes_are_left_alone(self) -> None:
        """Only a ``?`` outside of quotes is a placeholder; ``%`` is doubled everywhere."""
        self.assertEqual(
            translate("SELECT '?%''?' FROM t WHERE a LIKE ? AND b % 2 = ?"),
            "SELECT '?%%''?' FROM t WHERE a LIKE %s AND b %% 2 = %s",
        )
