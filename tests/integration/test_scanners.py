"""SIPVicious against a running PBX: out within seconds, and nothing found out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

from pbx.sip.message import Response
from tests.integration.harness import ENVIRONMENT, PBX, PROJECT, PBXTestCase, program, until
from tests.integration.phone import Datagrams, Phone, WebSocket, exchange

#: The tools take 127.0.0.1, whatever they are told to bind; the phones are elsewhere.
ATTACKER, OFFICE = "127.0.0.1", "127.0.0.2"


#: A user name that tries to look like another address in the log.
FORGED = r'"x\" host=192.0.2.9"'


class OfficePhone(Datagrams):
    """A phone on another address of this machine."""

    host = OFFICE


class ScannerTests(PBXTestCase):
    """``1010`` exists, with a password that the tools try; ``1020`` calls ``1030`` meanwhile."""

    def start(self, **guard: Any) -> PBX:
        server = self.pbx({"guard": {"allow": [], **guard}}, users=["1020", "1030"])
        server.add_user("1010", "150")
        until(lambda: server.mi("auth_knows", "1010@pbx.test"), "1010 is known")
        self.caller, self.callee = (self.office_phone(server, name) for name in ("1020", "1030"))
        for phone in (self.caller, self.callee):
            phone.register()
        return server

    def office_phone(self, server: PBX, user: str) -> Phone:
        phone = Phone(user, OfficePhone(server.host, server.ports["udp"]), "secret")
        self.addCleanup(phone.close)
        return phone

    def attack(self, name: str, server: PBX, *more: str) -> Any:
        """One of the tools, started."""
        home = {**ENVIRONMENT, "HOME": str(self.folder)}
        output = (self.folder / f"{name}.out").open("wb")
        self.addCleanup(output.close)
        process = subprocess.Popen(
            [program(name), "-p", str(server.ports["udp"]), *more, server.host],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=home,
            cwd=self.folder,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def found(self, name: str) -> str:
        return (self.folder / f"{name}.out").read_text("utf-8", "replace")

    def is_banned(self, server: PBX) -> dict[str, Any]:
        """The ban of the attacker; it comes within seconds."""
        bans: list[dict[str, Any]] = until(
            lambda: server.mi("ban_list")["Bans"], "the attacker is banned", 10
        )
        self.assertEqual([ban["source"] for ban in bans], [ATTACKER])
        return bans[0]

    def call(self) -> None:
        """A call in the office, there and back."""
        invite = self.caller.invite("1030")
        self.callee.answer(self.callee.request("INVITE"))
        dialog = self.caller.called(invite, self.caller.response(200))
        self.callee.request("ACK")
        exchange(self.caller, dialog, self.callee, "BYE")

    def test_map(self) -> None:
        """svmap does not even find a SIP device."""
        server = self.start()
        process = self.attack("svmap", server)
        self.assertIn("scanner", self.is_banned(server)["reason"])
        self.call()
        process.wait(30)
        self.assertIn("found nothing", self.found("svmap"))

    def test_extensions(self) -> None:
        """svwar is banned by its name."""
        server = self.start()
        process = self.attack("svwar", server, "-e", "1000-1050", "--maximumtime", "3")
        self.assertIn("scanner", self.is_banned(server)["reason"])
        self.call()
        process.wait(30)
        self.assertIn("found nothing", self.found("svwar"))

    def test_extensions_under_a_false_name(self) -> None:
        """Without knowing its name: it finds no extension, since all answers are the same."""
        server = self.start(scanners=[])
        for method in ("REGISTER", "INVITE", "OPTIONS"):
            process = self.attack(
                "svwar", server, "-e", "1005-1015", "-m", method, "--force", "--maximumtime", "2"
            )
            process.wait(60)
            self.assertIn("found nothing", self.found("svwar"), method)
            self.assertNotIn("| 1010", self.found("svwar"), method)
        self.call()

    def test_many_extensions_under_a_false_name(self) -> None:
        """Who asks for one extension after the other and never logs in is banned; svwar gives up
        before that, a tool that does not compare answers would go on.
        """
        server = self.start(max_unproved=50)
        for user in range(1000, 1051):
            scanner = self.phone(server, str(user))
            scanner.send(scanner.make("REGISTER", "sip:pbx.test", to=scanner.aor))
        # An office whose phones all start has a moment for the first login.
        time.sleep(5.5)
        scanner.send(scanner.make("REGISTER", "sip:pbx.test", to=scanner.aor))
        self.assertIn("without a login", self.is_banned(server)["reason"])
        self.call()

    def test_passwords(self) -> None:
        """svcrack under another name is banned after 20 of the 150 tries that it needs."""
        server = self.start(scanners=[])
        self.attack("svcrack", server, "-u", "1010", "-r", "1-500", "--maximumtime", "2")
        self.assertEqual(self.is_banned(server)["reason"], "20 failed logins")
        self.call()
        self.assertNotIn("150", self.found("svcrack"))
        self.assertEqual(server.statistic("guard:failed_logins"), 20)

    def test_passwords_by_name(self) -> None:
        server = self.start()
        self.attack("svcrack", server, "-u", "1010", "-r", "1-500", "--maximumtime", "2")
        self.assertIn("scanner", self.is_banned(server)["reason"])
        self.call()
        self.assertEqual(server.statistic("guard:failed_logins"), 0)

    def test_operator(self) -> None:
        """pbxctl shows bans, makes them and lifts them; over a restart they stay."""
        server = self.start()
        self.attack("svmap", server)
        self.is_banned(server)
        self.assertIn("friendly-scanner", self.pbxctl(server, "bans"))
        self.assertIn("banned for", self.pbxctl(server, "ban", "192.0.2.7", "3600"))
        until(lambda: "192.0.2.7" in str(server.sql("SELECT value FROM pbx_state")), "written")
        server.kill()
        server.start()
        self.assertEqual(len(server.mi("ban_list")["Bans"]), 2)
        stranger = Phone("1010", Datagrams(server.host, server.ports["udp"]), "150")
        self.addCleanup(stranger.close)
        stranger.send(stranger.make("OPTIONS", "sip:pbx.test"))
        self.assertTrue(stranger.silent())
        with self.assertRaises(OSError):
            self.phone(server, "1010", "ws")
        self.assertIn("let in again", self.pbxctl(server, "unban", ATTACKER))
        self.assertIn("not banned", self.pbxctl(server, "unban", ATTACKER, status=1).lower())
        stranger.register()
        self.assertIn("192.0.2.7", self.pbxctl(server, "--json", "bans"))
        self.pbxctl(server, "unban", "all")
        self.assertIn("nobody", self.pbxctl(server, "bans"))

    def pbxctl(self, server: PBX, *arguments: str, status: int = 0) -> str:
        command = [
            sys.executable,
            "-m",
            "pbx.ctl.main",
            "-c",
            str(server.config),
        ]
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, env=ENVIRONMENT
        )
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout + done.stderr

    def test_connections(self) -> None:
        """A ban closes the connections of its source with the next message."""
        server = self.start(max_failures=3)
        browser = self.phone(server, "1010", "ws", "wrong")
        for _ in range(3):
            browser.authenticated(browser.make("REGISTER", "sip:pbx.test", to=browser.aor))
            browser.response(401)
        self.is_banned(server)
        browser.send(browser.make("OPTIONS", "sip:pbx.test"))
        until(lambda: server.statistic("net:ws_connections") == 0, "the connection is closed")
        self.call()

    def proxied(self, server: PBX, client: str, password: str) -> Phone:
        """The browser of a client behind a web server that is 127.0.0.1."""

        class Proxied(WebSocket):
            def _handshake(self, host: str, path: str, more: str) -> None:
                super()._handshake(host, path, f"{more}X-Forwarded-For: {client}\r\n")

        phone = Phone("1010", Proxied(server.host, server.ports["ws"]), password)
        self.addCleanup(phone.close)
        return phone

    def test_behind_a_proxy(self) -> None:
        """The client is banned, not the proxy, nor the next client."""
        server = self.pbx(
            {
                "guard": {"allow": [], "max_failures": 3},
                "websocket": {"trusted_proxies": ["127.0.0.1"]},
            },
            users=["1010"],
        )
        bad = self.proxied(server, "198.51.100.7", "wrong")
        for _ in range(3):
            bad.authenticated(bad.make("REGISTER", "sip:pbx.test", to=bad.aor))
            bad.response(401)
        bans = server.mi("ban_list")["Bans"]
        self.assertEqual([ban["source"] for ban in bans], ["198.51.100.7"])
        with self.assertRaises(OSError):
            self.proxied(server, "198.51.100.7", "secret")
        self.proxied(server, "198.51.100.8", "secret").register()
        self.phone(server, "1010").register()

    def test_web(self) -> None:
        """Wrong passwords on the web page and in SIP add up; the ban is for both."""
        server = self.start(max_failures=5)
        for _ in range(3):
            self.assertEqual(self.web_login(server, "wrong"), 401)
        phone = self.phone(server, "1010", password="wrong")
        for _ in range(2):
            phone.authenticated(phone.make("REGISTER", "sip:pbx.test", to=phone.aor))
            phone.response(401)
        self.assertEqual(self.is_banned(server)["reason"], "5 failed logins")
        with self.assertRaises(OSError):
            self.web_login(server, "150")
        self.pbxctl(server, "unban", ATTACKER)
        self.assertEqual(self.web_login(server, "150"), 200)

    def web_login(self, server: PBX, password: str) -> int:
        asked = urllib.request.Request(
            server.mi("status")["web"] + "api/login",
            json.dumps({"user": "1010", "password": password}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def test_fail2ban(self) -> None:
        """Its filter finds each failure in the log, with the right host."""
        server = self.start(max_failures=0)
        phone = self.phone(server, "1010", password="wrong")
        asked = phone.make("REGISTER", "sip:pbx.test", to=phone.aor)
        phone.authenticated(asked)
        again = phone.again(asked, phone.response(401))
        again.set("authorization", (again.get("authorization") or "").replace('"1010"', FORGED))
        phone.send(again)
        phone.response(401)
        until(lambda: server.output().count("failed login") == 2, "the failures are logged")
        checked = subprocess.run(
            [
                program("fail2ban-regex"),
                "--print-all-matched",
                str(server.folder / "pbx.out"),
                str(PROJECT / "etc/fail2ban/filter.d/pbx.conf"),
            ],
            capture_output=True,
            text=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
        self.assertIn(" 2 matched", checked.stdout, checked.stdout + checked.stderr)
        self.assertNotIn("192.0.2.9", checked.stdout.partition("|- Matched line")[0])


class EnumerationTests(PBXTestCase):
    """What a stranger hears of users that there are and that there are not."""

    def test_answers(self) -> None:
        """Equal byte for byte but for what is random, for every method, with and without login."""
        server = self.pbx(users=["1010"])
        self.registered(server, "1010")
        seen: dict[str, set[bytes]] = {}
        for user in ("1010", "1999"):
            phone = self.phone(server, user, password="wrong")
            for method in ("REGISTER", "INVITE", "OPTIONS", "MESSAGE", "SUBSCRIBE", "PUBLISH"):
                uri = "sip:pbx.test" if method == "REGISTER" else f"sip:{user}@pbx.test"
                for name, from_ in (("user", phone.aor), ("stranger", "sip:x@192.0.2.9")):
                    to = from_ if method == "REGISTER" else uri
                    made = phone.make(method, uri, to=to, headers=[("Event", "presence")])
                    made.set("from", f"<{from_}>;tag=f")
                    self.answers(phone, made, user, seen.setdefault(f"{method} {name}", set()))
        for what, answers in seen.items():
            challenged = "user" in what or what.startswith("REGISTER")
            self.assertEqual(len(answers), 2 if challenged else 1, (what, answers))

    def answers(self, phone: Phone, request: Any, user: str, seen: set[bytes]) -> None:
        phone.send(request)
        response = self.final(phone)
        seen.add(self.plain(response, user))
        if request.method == "INVITE":
            phone.acknowledge(request, response)
        if response.status in (401, 407):
            again = phone.again(request, response)
            phone.send(again)
            refused = self.final(phone)
            # With another word, so that the two steps are told apart.
            seen.add(b"after wrong password: " + self.plain(refused, user))
            if request.method == "INVITE":
                phone.acknowledge(again, refused)

    def final(self, phone: Phone) -> Response:
        while True:
            message = phone.receive()
            if isinstance(message, Response) and message.status >= 200:
                return message

    def plain(self, response: Response, user: str) -> bytes:
        """Without what differs by chance and without what the stranger himself said."""
        data = bytes(response).replace(user.encode(), b"USER")
        for pattern in (
            rb'nonce="[0-9a-f]+"',
            rb"(?<=^To: )(.*);tag=\w+",
            rb"(?<=branch=)[\w-]+",
            rb"(?<=^Call-ID: ).*",
            rb"(?<=^CSeq: )\d+",
            rb"(?<=127\.0\.0\.1:)\d+",
            rb"(?<=rport=)\d+",
        ):
            data = re.sub(pattern, b"-", data, flags=re.MULTILINE)
        return data
