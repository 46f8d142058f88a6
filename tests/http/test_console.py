"""Who may see the operator's console, and what a stranger is told."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import succeed
from zope.interface import implementer

from pbx.config import ConfigError
from pbx.interfaces import IManagement
from tests.http.web_case import LOOPBACK, OTHER, PROXY, WebTestCase

TOKEN = "a-token-of-some-length"


@implementer(IManagement)
class FakeManagement:
    """Answers what it knows; a plugin that is off is an error."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {"status": {"version": "1", "secret": "x", "counts": {}}}

    def handle(self, text: bytes) -> Awaitable[bytes | None]:
        answers = [
            {"id": one["id"], "result": self.results[one["method"]]}
            if one["method"] in self.results
            else {"id": one["id"], "error": {"code": -32601, "message": "Method not found"}}
            for one in json.loads(text)
        ]
        return succeed(json.dumps(answers).encode())


class NoDialogs:
    """Nobody talks."""

    def all(self) -> Sequence[Any]:
        return ()


class ConsoleTests(WebTestCase):
    def use(self, *tables: Any, **more: Any) -> None:
        super().use(*tables, **more)
        self.management = FakeManagement()
        self.bindings: list[Mapping[str, Any]] = []
        dialogs: Any = NoDialogs()
        self.web.add_console(
            lambda host: host == "pbx.test",
            self.management,
            dialogs,
            self.registrations,
            self.clock.seconds,
        )

    def registrations(self, text: str, limit: int) -> tuple[int, Sequence[Mapping[str, Any]]]:
        return len(self.bindings), self.bindings[:limit]

    def console(self, *headers: tuple[str, str], **how: Any) -> tuple[int, str]:
        answer = self.ask("GET", "/api/console", *headers, **how)
        return answer.status, answer.json().get("error", "")

    def test_this_machine(self) -> None:
        """By an address or a domain of ours."""
        for host in ("127.0.0.1:8888", "localhost:8888", "[::1]:8888", "pbx.test", "PBX.test:8443"):
            self.assertEqual(self.console(("Host", host))[0], 200, host)
        for host in ("evil.test", "evil.test:8888", "", "[", "127.0.0.1.evil.test"):
            self.assertEqual(self.console(("Host", host)), (403, "foreign_page"), host)

    def test_others(self) -> None:
        """Not at all without a token; not through a proxy of this machine either."""
        self.assertEqual(self.console(peer=OTHER), (403, "not_operator"))
        forwarded = ("X-Forwarded-For", "192.0.2.7")
        self.assertEqual(self.console(forwarded, peer=LOOPBACK), (403, "not_operator"))
        self.assertEqual(self.console(("Authorization", f"Bearer {TOKEN}"), peer=OTHER)[0], 403)
        self.use(web={"console_allow": ["192.0.2.0/24"]})
        self.assertEqual(self.console(peer=OTHER)[0], 200)
        self.assertEqual(self.console(peer=PROXY), (403, "not_operator"))

    def test_token(self) -> None:
        """Good from everywhere; who guesses waits."""
        (self.folder / "token").write_text(TOKEN + "\n")
        self.use(web={"console_token_file": "token"})
        self.assertEqual(self.console(peer=OTHER), (401, "needs_token"))
        self.assertEqual(self.console(("Authorization", f"Bearer {TOKEN}"), peer=OTHER)[0], 200)
        for guess in ("x", TOKEN + "x", "é"):
            header = ("Authorization", f"Bearer {guess}")
            self.assertEqual(self.console(header, peer=OTHER), (401, "needs_token"))
        for _ in range(7):
            self.console(("Authorization", "Bearer x"), peer=OTHER)
        self.assertEqual(
            self.console(("Authorization", f"Bearer {TOKEN}"), peer=OTHER), (429, "too_many")
        )

    def test_picture(self) -> None:
        """Bounded, with the total; no more of the status than is shown."""
        self.management.results["lb_list"] = {"Destinations": [{"uri": "sip:node"}]}
        self.management.results["ds_list"] = {
            "PARTITIONS": [{"SETS": [{"id": 7, "Destinations": [{"URI": "sip:x"}]}]}]
        }
        binding = {"AOR": "a@pbx.test", "Contact": "sip:a@192.0.2.9", "User-agent": "n/a"}
        self.bindings = [binding] * 700
        found = self.ask("GET", "/api/console?limit=9999").json()
        self.assertNotIn("secret", found["status"])
        self.assertEqual(found["registrations"]["found"], 700)
        self.assertEqual(len(found["registrations"]["rows"]), 500)
        self.assertEqual(found["registrations"]["rows"][0]["agent"], "")
        self.assertEqual(found["nodes"], [{"uri": "sip:node"}])
        self.assertEqual(found["dispatcher"], [{"set": 7, "URI": "sip:x"}])
        self.assertEqual((found["gateways"], found["calls"]["rows"]), ([], []))

    def test_page(self) -> None:
        """Comes with the PBX, with or without a slash, under the same policy as the web phone."""
        for path in ("/console", "/console/", "/console/index.html"):
            answer = self.ask("GET", path)
            self.assertEqual(answer.status, 200, path)
            self.assertIn("script-src 'self'", answer.headers["content-security-policy"])
        self.assertEqual(self.ask("GET", "/console/console.js").status, 200)
        self.assertEqual(self.ask("GET", "/console/../api/console").status, 404)
        self.assertEqual(self.ask("POST", "/api/console", body=b"").status, 405)

    def test_settings(self) -> None:
        (self.folder / "short").write_text("x")
        for table in (
            {"console_allow": ["evil"]},
            {"console_token_file": "none"},
            {"console_token_file": "short"},
        ):
            with self.assertRaises(ConfigError, msg=str(table)):
                self.use(web=table)
