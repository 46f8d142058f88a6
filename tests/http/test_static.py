"""The pages at the root: types, caching, what may not be asked for."""

from __future__ import annotations

import gzip

from pbx.http.static import file_of, load, takes_gzip
from tests.http.web_case import WebTestCase

SCRIPT = b"console.log('a phone');\n" * 100


class StaticTests(WebTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.pages = self.folder / "pages"
        (self.pages / "assets").mkdir(parents=True)
        (self.pages / "help").mkdir()
        (self.pages / "index.html").write_text("<!doctype html>phone")
        (self.pages / "help" / "index.html").write_text("<!doctype html>help")
        (self.pages / "assets" / "app-BqK3d_8s.js").write_bytes(SCRIPT)
        (self.pages / "assets" / "logo.svg").write_text("<svg/>")
        (self.pages / ".secret").write_text("x")
        (self.folder / "outside").write_text("x")
        self.use(web={"pages": "pages"})

    def test_front_page(self) -> None:
        """With everything that keeps foreign scripts and frames away."""
        answer = self.ask("GET", "/")
        self.assertEqual((answer.status, answer.body), (200, b"<!doctype html>phone"))
        headers = answer.headers
        self.assertEqual(headers["content-type"], "text/html; charset=utf-8")
        self.assertEqual(headers["cache-control"], "no-cache")
        self.assertEqual(headers["x-content-type-options"], "nosniff")
        self.assertIn("microphone=(self)", headers["permissions-policy"])
        policy = headers["content-security-policy"]
        for rule in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"):
            self.assertIn(rule, policy.split("; "))
        self.assertNotIn("unsafe", policy)
        self.assertEqual(self.ask("GET", "/help/").body, b"<!doctype html>help")

    def test_hashed_name(self) -> None:
        """Never asked for again; smaller for who can unpack it."""
        path = "/assets/app-BqK3d_8s.js"
        plain = self.ask("GET", path)
        self.assertEqual((plain.status, plain.body), (200, SCRIPT))
        self.assertEqual(plain.headers["content-type"], "text/javascript; charset=utf-8")
        self.assertEqual(plain.headers["cache-control"], "public, max-age=31536000, immutable")
        packed = self.ask("GET", path, ("Accept-Encoding", "br, gzip;q=0.8"))
        self.assertEqual(packed.headers["content-encoding"], "gzip")
        self.assertEqual(gzip.decompress(packed.body), SCRIPT)
        self.assertEqual(packed.headers["vary"], "accept-encoding")
        self.assertNotEqual(packed.headers["etag"], plain.headers["etag"])

    def test_not_modified(self) -> None:
        etag = self.ask("GET", "/").headers["etag"]
        answer = self.ask("GET", "/", ("If-None-Match", etag))
        self.assertEqual((answer.status, answer.body), (304, b""))
        self.assertEqual(self.ask("GET", "/", ("If-None-Match", '"x"')).status, 200)

    def test_head(self) -> None:
        answer = self.ask("HEAD", "/assets/logo.svg")
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(answer.headers["content-type"], "image/svg+xml")

    def test_nothing_else(self) -> None:
        """No path leads out of the folder, to hidden files or to the disk at all."""
        for path in (
            "/.secret",
            "/../outside",
            "/assets/../../outside",
            "/%2e%2e/outside",
            "/..%2foutside",
            "/assets/%2e%2e/index.html",
            "/%00",
            "/%ff",
            "//etc/passwd",
            "/assets",
            "/assets/",
            "/index.html/",
        ):
            answer = self.ask("GET", path)
            self.assertEqual(answer.status, 404, path)
        self.assertEqual(self.ask("POST", "/", body=b"").status, 405)

    def test_new_build(self) -> None:
        """Seen after a reload."""
        (self.pages / "index.html").write_text("<!doctype html>newer")
        self.assertEqual(self.ask("GET", "/").body, b"<!doctype html>phone")
        self.done(self.web.front.reload())
        self.assertEqual(self.ask("GET", "/").body, b"<!doctype html>newer")

    def test_not_built(self) -> None:
        """One page says how."""
        self.use(web={"pages": "nowhere"})
        answer = self.ask("GET", "/")
        self.assertEqual(answer.status, 503)
        self.assertIn(b"make web", answer.body)
        self.assertEqual(self.ask("GET", "/app.js").status, 404)
        self.assertEqual(self.ask("GET", "/api/site").status, 200)

    def test_names_with_hash(self) -> None:
        for name, forever in (
            ("index-BqK3d_8s.js", True),
            ("app-4XK2LMNO.css", True),
            ("app.3f2a9c1d.js", True),
            ("app.js", False),
            ("web-settings.js", False),
            ("index.html", False),
        ):
            self.assertEqual(file_of(name, b"").forever, forever, name)

    def test_unknown_type(self) -> None:
        """Is saved, never shown."""
        self.assertEqual(file_of("x.exe", b"").kind, "application/octet-stream")
        self.assertEqual(load(self.folder / "none"), {})

    def test_accept_encoding(self) -> None:
        for text, expected in (
            ("gzip", True),
            ("deflate, GZIP", True),
            ("*", True),
            ("gzip;q=0", False),
            ("gzip; q=0.0", False),
            ("br", False),
            ("", False),
        ):
            self.assertEqual(takes_gzip(text), expected, text)
