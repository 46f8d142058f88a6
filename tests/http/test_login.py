"""Logging in and out by password and by link, and who may not."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.address import IPv6Address

from pbx.commands import CommandFailed
from pbx.config import ConfigError
from pbx.http.links import MAX_LINKS
from pbx.sip.digest import ha1
from tests.http.web_case import JSON, LOOPBACK, OTHER, PASSWORD, PROXY, WebTestCase

ALICE = {
    "user": "1001",
    "domain": "pbx.test",
    "name": "Alice Liddell",
    "realm": "pbx.test",
    "ha1": ha1("MD5", "1001", "pbx.test", PASSWORD),
    "sip_uri": "sip:1001@pbx.test",
}


class PasswordTests(WebTestCase):
    def test_right(self) -> None:
        """All that a phone needs to register, and a cookie that no script sees."""
        answer = self.log_in()
        self.assertEqual((answer.status, answer.json()), (200, ALICE))
        self.assertEqual(answer.headers["cache-control"], "no-store")
        attributes = answer.headers["set-cookie"].lower().split("; ")
        self.assertTrue(attributes[0].startswith("pbx_session="))
        self.assertLessEqual({"path=/", "httponly", "samesite=strict"}, set(attributes))
        self.assertNotIn("secure", attributes)

    def test_cookie_by_https(self) -> None:
        """The prefix makes browsers refuse it from pages without TLS (RFC 6265bis 4.1.3.2)."""
        answer = self.log_in(secure=True)
        self.assertTrue(answer.cookie.startswith("__Host-pbx_session="))
        self.assertIn("; secure", answer.headers["set-cookie"].lower())
        header = ("Cookie", answer.cookie)
        self.assertEqual(self.ask("GET", "/api/me", header, secure=True).status, 200)
        self.assertEqual(self.ask("GET", "/api/me", header).status, 401)

    def test_wrong_and_unknown_look_the_same(self) -> None:
        """Nobody finds out who exists; who counts failures hears of both."""
        wrong, unknown = self.log_in(password="x"), self.log_in("1009")
        self.assertEqual((wrong.status, wrong.body), (unknown.status, unknown.body))
        self.assertEqual((wrong.status, wrong.json()["error"]), (401, "wrong_password"))
        self.assertNotIn("set-cookie", wrong.headers)
        told = [(found.peer.host, found.username, found.reason) for found in self.failures]
        self.assertEqual(
            told, [("127.0.0.1", "1001", "wrong password"), ("127.0.0.1", "1009", "unknown user")]
        )

    def test_name_with_domain(self) -> None:
        """Of the domain, or of an address of ours."""
        for name in ("1001@pbx.test", "1001@192.0.2.1", " 1001 ", "sip:1001@PBX.test"):
            self.assertEqual(self.log_in(name).json(), ALICE)
        self.assertEqual(self.log_in("1001@other.test").status, 401)

    def test_table_of_hashes(self) -> None:
        """A row without password: its MD5 hash is what browsers need (RFC 7616 3.4.2)."""
        secret = ha1("MD5", "1005", "pbx.test", PASSWORD)
        self.sql(
            "INSERT INTO subscriber (username, domain, ha1) VALUES ('1005', 'pbx.test', ?)",
            (secret,),
        )
        other = ha1("SHA-256", "1006", "pbx.test", PASSWORD)
        self.sql(
            "INSERT INTO subscriber (username, domain, ha1_sha256) VALUES ('1006', 'pbx.test', ?)",
            (other,),
        )
        self.use()
        self.assertEqual(self.log_in("1005").json()["ha1"], secret)
        self.assertEqual(self.log_in("1005", "x").status, 401)
        answer = self.log_in("1006")
        self.assertEqual((answer.status, answer.json()["error"]), (403, "no_md5"))
        self.assertEqual(self.log_in("1006", "x").json()["error"], "wrong_password")

    def test_realm_for_everybody(self) -> None:
        self.use(auth={"realm": "office"})
        found = self.log_in().json()
        self.assertEqual(found["realm"], "office")
        self.assertEqual(found["ha1"], ha1("MD5", "1001", "office", PASSWORD))


class SessionTests(WebTestCase):
    def me(self, cookie: tuple[str, str]) -> int:
        return self.ask("GET", "/api/me", cookie).status

    def test_stays_over_a_restart(self) -> None:
        cookie = self.cookie()
        self.use()
        answer = self.ask("GET", "/api/me", cookie)
        self.assertEqual((answer.status, answer.json()), (200, ALICE))

    def test_expires_unless_used(self) -> None:
        """Every use in its second half gives it the whole time again."""
        self.use(web={"session_time": 1000})
        cookie = self.cookie()
        self.clock.advance(499)
        self.assertNotIn("set-cookie", self.ask("GET", "/api/me", cookie).headers)
        self.clock.advance(2)
        renewed = ("Cookie", self.ask("GET", "/api/me", cookie).cookie)
        self.clock.advance(500)
        self.assertEqual((self.me(cookie), self.me(renewed)), (401, 200))

    def test_log_out(self) -> None:
        """The cookie, and what it was renewed to, are good no more, also after a restart."""
        self.use(web={"session_time": 1000})
        cookie = self.cookie()
        self.clock.advance(600)
        renewed = ("Cookie", self.ask("GET", "/api/me", cookie).cookie)
        answer = self.post("/api/logout", {}, cookie)
        self.assertEqual((answer.status, answer.body), (204, b""))
        self.assertIn("max-age=0", answer.headers["set-cookie"].lower())
        self.assertEqual((self.me(cookie), self.me(renewed)), (401, 401))
        self.use(web={"session_time": 1000})
        self.assertEqual((self.me(cookie), self.me(renewed)), (401, 401))
        self.assertEqual(self.post("/api/logout", {}).status, 204)

    def test_two_windows_of_one_browser(self) -> None:
        """Each says who it is; without a word it is who logged in last."""
        jar: dict[str, str] = {}
        for user in ("1001", "1002"):
            for cookie in self.log_in(user).cookies:
                name, _, value = cookie.partition("=")
                jar[name] = value
        self.assertEqual(len(jar), 3)
        cookies = ("Cookie", "; ".join(f"{name}={value}" for name, value in jar.items()))

        def me(*headers: tuple[str, str]) -> str:
            answer = self.ask("GET", "/api/me", cookies, *headers)
            return str(answer.json().get("user") or answer.status)

        self.assertEqual(me(), "1002")
        self.assertEqual(me(("X-PBX-User", "1001")), "1001")
        self.assertEqual(me(("X-PBX-User", "1002@pbx.test")), "1002")
        self.assertEqual(me(("X-PBX-User", "1001%40pbx.test")), "1001")
        self.assertEqual(me(("X-PBX-User", "1009")), "401")
        gone = self.post("/api/logout", {}, cookies, ("X-PBX-User", "1001"))
        self.assertEqual((gone.status, len(gone.cookies)), (204, 1))
        self.assertEqual((me(("X-PBX-User", "1001")), me()), ("401", "1002"))

    def test_cookie_under_the_name_of_another(self) -> None:
        """Proves nothing."""
        mine = self.log_in("1001").cookies[0].partition("=")[2]
        name = self.log_in("1002").cookies[0].partition("=")[0]
        header = ("X-PBX-User", "1002")
        self.assertEqual(
            self.ask("GET", "/api/me", ("Cookie", f"{name}={mine}"), header).status, 401
        )

    def test_new_password_ends_sessions(self) -> None:
        cookie, other = self.cookie(), self.cookie("1002")
        self.sql("UPDATE subscriber SET password = 'new' WHERE username = '1001'")
        self.use()
        self.assertEqual((self.me(cookie), self.me(other)), (401, 200))

    def test_removed_user(self) -> None:
        cookie = self.cookie()
        self.sql("DELETE FROM subscriber WHERE username = '1001'")
        self.use()
        self.assertEqual(self.me(cookie), 401)

    def test_forged_cookies(self) -> None:
        """Nothing but what we signed, as a whole."""
        name, _, value = self.log_in().cookie.partition("=")
        text, _, signature = value.partition(".")
        other = self.log_in("1002").cookie.partition("=")[2].partition(".")[0]
        for forged in (
            "",
            ".",
            text,
            f"{text}.",
            f"{other}.{signature}",
            f"{text}x.{signature}",
            f"{text}.{signature[:-1]}0" if signature[-1] != "0" else f"{text}.{signature[:-1]}1",
            f"{text}.{'é' * 64}",
            "x" * 5000,
            "\x7f\x80",
        ):
            self.assertEqual(self.me(("Cookie", f"{name}={forged}")), 401, forged)


class LinkTests(WebTestCase):
    def link(self, user: str = "1001") -> str:
        (found, *_) = self.done(self.web.links.links(user, "pbx.test"))
        return found.partition("#login=")[2]

    def redeem(self, token: str, **how: object) -> tuple[int, str]:
        answer = self.post("/api/login", {"token": token}, **how)  # type: ignore[arg-type]
        return answer.status, answer.json().get("error") or answer.json()["user"]

    def test_once(self) -> None:
        """Logs in and is used up; the table holds no token."""
        token = self.link()
        rows = self.done(self.database.query("SELECT hash FROM pbx_web"))
        self.assertEqual(len(rows), 1)
        self.assertNotIn(token, rows[0][0])
        self.assertEqual(self.redeem(token), (200, "1001"))
        self.assertEqual(self.redeem(token), (401, "token_used"))

    def test_restart_and_expiry(self) -> None:
        """A restart does not hurt; waiting does."""
        token, late = self.link(), self.link("1002")
        self.use(web={"link_time": 3600})
        self.assertEqual(self.redeem(token), (200, "1001"))
        self.clock.advance(3600)
        self.assertEqual(self.redeem(late), (401, "token_used"))

    def test_nobody_listens_in(self) -> None:
        """This machine, or https; through a proxy that is trusted to say so."""
        token = self.link()
        self.assertEqual(self.redeem(token, peer=OTHER), (403, "not_private"))
        self.use(trusted=(PROXY.host,))
        body = json.dumps({"token": token}).encode()
        headers = (("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Proto", "https"))
        for peer, status in ((OTHER, 403), (LOOPBACK, 403), (PROXY, 200)):
            answer = self.ask("POST", "/api/login", JSON, *headers, body=body, peer=peer)
            self.assertEqual(answer.status, status, peer)
        self.assertTrue(answer.cookie.startswith("__Host-"))
        self.assertEqual(self.redeem(self.link(), peer=OTHER, secure=True), (200, "1001"))

    def test_wrong_tokens_count_as_failures(self) -> None:
        for _ in range(10):
            self.assertEqual(self.redeem("x" * 32), (401, "token_used"))
        self.assertEqual(self.redeem(self.link()), (429, "too_many"))

    def test_command(self) -> None:
        """One token, an address for this machine and one for others; bounded per user."""
        link: Any = self.web.links.commands()[0][2]
        found: Any = self.done(link("1001"))
        self.assertEqual((found["user"], found["expires"]), ("1001@pbx.test", 3600))
        near, far = (text.partition("#login=") for text in found["links"])
        self.assertEqual((near[0], far[0]), ("http://127.0.0.1:8888/", "https://192.0.2.1:8443/"))
        self.assertEqual(near[2], far[2])
        for _ in range(MAX_LINKS + 5):
            self.done(link("1001"))
        rows = self.done(self.database.query("SELECT COUNT(*) FROM pbx_web"))
        self.assertEqual(rows[0][0], MAX_LINKS)
        with self.assertRaises(CommandFailed):
            link("1009").send(None)


class RateTests(WebTestCase):
    def test_too_many(self) -> None:
        """Ten wrong ones in five minutes; others are served, and in the end the same again."""
        for _ in range(10):
            self.assertEqual(self.log_in(password="x", peer=OTHER).status, 401)
        answer = self.log_in(peer=OTHER)
        self.assertEqual((answer.status, answer.json()["error"]), (429, "too_many"))
        self.assertEqual(answer.headers["retry-after"], "301")
        self.assertEqual(self.log_in().status, 200)
        self.clock.advance(301)
        self.assertEqual(self.log_in(peer=OTHER).status, 200)

    def test_guard(self) -> None:
        """A ban for SIP counts here, and who logs in here is known to the guard."""
        self.use(trusted=(PROXY.host,))
        name, _, ban = self.guard.commands()[1]
        self.assertEqual(name, "ban")
        ban(OTHER.host, "60")
        self.assertIsNone(self.site.factory.buildProtocol(OTHER))
        body = json.dumps({"user": "1001", "password": PASSWORD}).encode()
        header = ("X-Forwarded-For", OTHER.host)
        answer = self.ask("POST", "/api/login", JSON, header, body=body, peer=PROXY)
        self.assertEqual((answer.status, answer.headers["retry-after"]), (429, "61"))
        self.clock.advance(61)
        self.assertTrue(self.guard.source(OTHER.host).stranger)
        self.assertEqual(self.log_in(peer=OTHER).status, 200)
        self.assertFalse(self.guard.source(OTHER.host).stranger)

    def test_ipv6_counts_by_network(self) -> None:
        """Who has one address has 2^64 of them."""
        for last in range(10):
            self.log_in(password="x", peer=IPv6Address("TCP", f"2001:db8::{last:x}", 4000))
        peer = IPv6Address("TCP", "2001:db8::ffff", 4000)
        self.assertEqual(self.log_in(peer=peer).status, 429)
        self.assertEqual(self.log_in(peer=IPv6Address("TCP", "2001:db8:0:1::1", 4000)).status, 200)

    def test_client_behind_a_trusted_proxy(self) -> None:
        """The client's address counts, not the proxy's; nobody else's word is taken for it."""
        self.use(trusted=(PROXY.host,))
        for _ in range(10):
            body = json.dumps({"user": "1001", "password": "x"}).encode()
            header = ("X-Forwarded-For", "203.0.113.5, 192.0.2.7")
            self.ask("POST", "/api/login", JSON, header, body=body, peer=PROXY)
        self.assertEqual({found.peer.host for found in self.failures}, {"192.0.2.7"})
        self.assertEqual(self.log_in(peer=PROXY).status, 200)
        self.assertEqual(self.log_in(peer=OTHER).status, 429)

    def test_commands(self) -> None:
        """Who fails is shown, and may be forgiven."""
        attempts = self.web.parts[2]
        commands = {name: function for name, _, function in attempts.commands()}
        for _ in range(10):
            self.log_in(password="x", peer=OTHER)
        self.assertEqual(
            commands["web_failures"](),
            {"Sources": [{"source": "192.0.2.7", "failures": 10, "wait": 300}]},
        )
        commands["web_forgive"]("192.0.2.7")
        self.assertEqual(self.log_in(peer=OTHER).status, 200)
        self.assertEqual(commands["web_failures"](), {"Sources": []})


class BadQuestionTests(WebTestCase):
    def test_bodies(self) -> None:
        """Each gets its own answer, and the next question is served."""
        deep = b"[" * 30_000
        for body, status, code in (
            (b"", 400, "bad_json"),
            (b"{", 400, "bad_json"),
            (b"\xff", 400, "bad_json"),
            (b"[]", 400, "bad_json"),
            (deep, 400, "bad_json"),
            (b"{}", 400, "bad_value"),
            (b'{"user": 1001, "password": "x"}', 400, "bad_value"),
            (b'{"user": null, "password": "x"}', 400, "bad_value"),
            (b'{"user": "10\\u000001", "password": "x"}', 400, "bad_value"),
            (b'{"user": "%s", "password": "x"}' % (b"x" * 200), 400, "bad_value"),
            (b'{"user": "\\ud800", "password": "\\udfff"}', 401, "wrong_password"),
            (b'{"token": ["x"]}', 400, "bad_value"),
            (b'{"user": "' + b"x" * 70_000 + b'"}', 413, "too_large"),
        ):
            answer = self.ask("POST", "/api/login", JSON, body=body)
            found = (answer.status, answer.json()["error"])
            self.assertEqual(found, (status, code), body[:60])
        self.assertEqual(self.log_in().status, 200)

    def test_types_and_methods(self) -> None:
        """A form of a browser is no question of ours."""
        body = b'{"user": "1001", "password": "Tiger7"}'
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            answer = self.ask("POST", "/api/login", ("Content-Type", kind), body=body)
            self.assertEqual((answer.status, answer.json()["error"]), (415, "content_type"))
        kind = "Application/JSON; charset=utf-8"
        self.assertEqual(
            self.ask("POST", "/api/login", ("Content-Type", kind), body=body).status, 200
        )
        answer = self.ask("GET", "/api/login")
        self.assertEqual((answer.status, answer.headers["allow"]), (405, "POST"))
        self.assertEqual(self.ask("DELETE", "/api/me").status, 405)
        for path in ("/api", "/api/", "/api/x", "/api/login/x", "/api/../api/x"):
            answer = self.ask("GET", path)
            self.assertEqual((answer.status, answer.json()["error"]), (404, "not_found"), path)

    def test_pages_of_others(self) -> None:
        """No other site may use the browser of one who is logged in (CSRF)."""
        own = {"Origin": "http://127.0.0.1:8888"}
        for headers, status in (
            (own, 200),
            ({"Origin": "HTTP://127.0.0.1:8888"}, 200),
            ({"Origin": "http://127.0.0.1:8889"}, 403),
            ({"Origin": "https://evil.test"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": ""}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-origin", **own}, 200),
        ):
            answer = self.post(
                "/api/login", {"user": "1001", "password": PASSWORD}, *headers.items()
            )
            self.assertEqual(answer.status, status, headers)
        self.use(allowed=("https://pages.test",))
        header = ("Origin", "https://pages.test")
        self.assertEqual(self.post("/api/logout", {}, header).status, 204)

    def test_settings(self) -> None:
        for table in ({"session_time": 0}, {"max_failures": 0}, {"link_time": -1}):
            with self.assertRaises(ConfigError):
                self.use(web=table)
