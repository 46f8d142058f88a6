"""The web phone's questions to a running PBX: log-in, names, history, TURN."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from functools import partial
from typing import Any

from pbx.sip.digest import ha1
from tests.integration.harness import ENVIRONMENT, PBX, PBXTestCase, free_port, program, until
from tests.integration.phone import exchange
from tests.integration.servers import postgres_server
from tests.integration.web import Browser, port_of


class WebCase(PBXTestCase):
    def web(self, pbx: PBX) -> Browser:
        """A fresh browser."""
        return Browser(port_of(pbx))

    def ctl(self, pbx: PBX, *arguments: str) -> Any:
        """What pbxctl answers to programs."""
        command = [sys.executable, "-m", "pbx.ctl.main", "-c", str(pbx.config), "--json"]
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=60, env=ENVIRONMENT
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def call(self, pbx: PBX, caller: str, callee: str) -> None:
        """A short call that is answered."""
        one, other = self.registered(pbx, caller), self.registered(pbx, callee)
        invite = one.invite(callee)
        other.answer(other.request("INVITE"))
        dialog = one.called(invite, one.response(200))
        other.request("ACK")
        exchange(one, dialog, other, "BYE")


class WebAPITests(WebCase):
    def test_log_in_and_register(self) -> None:
        """What the log-in gives is enough for the phone in the page; the cookie for the rest."""
        pbx = self.pbx(users=("alice", "bob"))
        self.ctl(pbx, "user", "name", "bob", "Bob Müller")
        browser = self.web(pbx)
        self.assertEqual(browser.get("/api/site")["domain"], "pbx.test")
        self.assertEqual(browser.log_in("alice", "wrong"), (401, "wrong_password"))
        found = browser.log_in("alice")
        self.assertEqual(found["ha1"], ha1("MD5", "alice", "pbx.test", "secret"))
        self.assertEqual(browser.get("/api/me"), found)
        phone = browser.phone(found["user"])
        self.addCleanup(phone.close)
        phone.register()
        until(lambda: browser.get("/api/directory?q=M%C3%BC"), "the name is known", 6)
        self.assertEqual(
            browser.get("/api/directory?q=bob"),
            [{"user": "bob", "name": "Bob Müller", "uri": "sip:bob@pbx.test", "online": False}],
        )
        bob = self.registered(pbx, "bob")
        self.assertTrue(browser.get("/api/directory?q=bob")[0]["online"])
        invite = phone.invite("bob")
        bob.respond(bob.request("INVITE"), 486)
        bob.request("ACK")
        phone.acknowledge(invite, phone.response(486))
        (call,) = until(lambda: browser.get("/api/history"), "the call is in the history", 5)
        shown = (call["direction"], call["peer"], call["peer_name"], call["disposition"])
        self.assertEqual(shown, ("out", "bob", "Bob Müller", "busy"))
        self.assertFalse(call["answered"])
        self.assertEqual(browser.ask("POST", "/api/logout", {})[0], 204)
        self.assertEqual(browser.ask("GET", "/api/me")[0], 401)

    def test_calls_missed_while_the_page_was_closed(self) -> None:
        """They stand in the history of who was away, and of the caller."""
        pbx = self.pbx(users=("alice", "bob"))
        alice = self.phone(pbx, "alice")
        invite = alice.invite("bob")
        alice.acknowledge(invite, alice.response(480))
        for user, direction, peer in (("bob", "in", "alice"), ("alice", "out", "bob")):
            browser = self.web(pbx)
            browser.log_in(user)
            (call,) = until(partial(browser.get, "/api/history"), "the missed call", 5)
            shown = (call["direction"], call["peer"], call["disposition"], call["answered"])
            self.assertEqual(shown, (direction, peer, "missed", False))

    def test_session_and_link_survive_a_restart(self) -> None:
        """kill -9 included: both are in the database before they are used."""
        pbx = self.pbx({"http": {"listen": [f"tcp:127.0.0.1:{free_port()}"]}}, users=("alice",))
        browser = self.web(pbx)
        browser.log_in("alice")
        made = self.ctl(pbx, "user", "link", "alice")
        self.assertEqual(made["user"], "alice@pbx.test")
        pbx.kill()
        pbx.start()
        self.assertEqual(browser.get("/api/me")["user"], "alice")
        other = self.web(pbx)
        self.assertEqual(other.redeem(made["links"][0])["user"], "alice")
        self.assertEqual(other.get("/api/me")["user"], "alice")
        self.assertEqual(other.redeem(made["links"][0]), (401, "token_used"))

    def test_changed_password(self) -> None:
        """Locks the browser out as fast as the phones."""
        pbx = self.pbx(users=("alice",))
        browser = self.web(pbx)
        browser.log_in("alice")
        pbx.sql("UPDATE subscriber SET password = 'other' WHERE username = 'alice'")
        until(lambda: browser.ask("GET", "/api/me")[0] == 401, "it is logged out", 6)
        self.assertEqual(browser.log_in("alice", "other")["user"], "alice")

    def test_guessing(self) -> None:
        """Is slowed down, counted and shown; phones go on."""
        pbx = self.pbx({"web": {"max_failures": 4, "failure_time": 3}}, users=("alice",))
        browser = self.web(pbx)
        answers = [browser.log_in(f"10{number}", "x") for number in range(4)]
        self.assertEqual(answers, [(401, "wrong_password")] * 4)
        self.assertEqual(browser.log_in("alice"), (429, "too_many"))
        self.assertGreater(int(browser.headers["retry-after"]), 0)
        self.registered(pbx, "alice")
        self.assertEqual(pbx.mi("web_failures")["Sources"][0]["failures"], 4)
        self.assertEqual(pbx.statistic("web:failed_logins"), 4)
        until(lambda: browser.log_in("alice") != (429, "too_many"), "it is forgotten", 10)

    def test_bodies_and_strangers(self) -> None:
        """Bodies of a megabyte, half requests and pages of others; the site goes on."""
        pbx = self.pbx(users=("alice",))
        browser = self.web(pbx)
        huge = {"user": "x" * 900_000, "password": ""}
        self.assertEqual(browser.ask("POST", "/api/login", huge)[0], 413)
        with socket.create_connection(("127.0.0.1", browser.port), timeout=10) as half:
            half.sendall(b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            self.assertEqual(
                browser.ask("POST", "/api/login", {}, Origin="https://evil.test")[0], 403
            )
        self.assertEqual(browser.log_in("alice")["user"], "alice")
        until(lambda: pbx.statistic("http:connections_used") == 0, "nothing is left open")

    def test_many_connections(self) -> None:
        """Beyond the limit of a source they are closed at once; later ones are served."""
        pbx = self.pbx({"http": {"max_connections_per_source": 50}}, users=("alice",))
        browser = self.web(pbx)
        open_ones: list[socket.socket] = []
        try:
            for _ in range(300):
                open_ones.append(socket.create_connection(("127.0.0.1", browser.port), timeout=10))
            until(lambda: pbx.statistic("http:refused_connections") >= 250, "they are refused")
            self.assertLessEqual(pbx.statistic("http:connections_used"), 50)
        finally:
            for one in open_ones:
                one.close()
        until(lambda: pbx.statistic("http:connections_used") == 0, "all are gone")
        self.assertEqual(browser.log_in("alice")["user"], "alice")

    def test_curl(self) -> None:
        """As the documentation shows it."""
        pbx = self.pbx(users=("alice",))
        site = f"http://127.0.0.1:{port_of(pbx)}"
        jar = str(self.folder / "cookies")
        question = json.dumps({"user": "alice", "password": "secret"})
        curl = [program("curl"), "-sS", "-c", jar, "-b", jar]
        header = ["-H", "Content-Type: application/json", "-d", question]
        made = subprocess.run(
            [*curl, *header, f"{site}/api/login"], capture_output=True, timeout=30
        )
        self.assertEqual(json.loads(made.stdout)["user"], "alice", made.stderr)
        found = subprocess.run([*curl, f"{site}/api/me"], capture_output=True, timeout=30)
        self.assertEqual(found.stdout, made.stdout)
        head = subprocess.run([*curl, "-I", f"{site}/"], capture_output=True, text=True, timeout=30)
        self.assertIn("content-security-policy", head.stdout.lower())


class PostgresTests(WebCase):
    def test_history_on_postgresql(self) -> None:
        """The same statements as on SQLite: pages, sessions and links."""
        server = postgres_server()
        server.sql("CREATE DATABASE web")
        pbx = self.pbx({"storage": {"database": server.url("web")}})
        for user in ("alice", "bob"):
            server.sql(
                "INSERT INTO subscriber (username, domain, password)"
                f" VALUES ('{user}', 'pbx.test', 'secret')",
                "web",
            )
        until(lambda: pbx.mi("auth_knows", "bob@pbx.test"), "the users are known", 6)
        browser = self.web(pbx)
        link = pbx.mi("web_link", "alice")["links"][0]
        self.assertEqual(browser.redeem(link)["user"], "alice")
        self.assertEqual(browser.redeem(link), (401, "token_used"))
        self.call(pbx, "alice", "bob")
        self.call(pbx, "bob", "alice")
        until(lambda: len(browser.get("/api/history")) == 2, "both calls", 6)
        newest, oldest = browser.get("/api/history")
        self.assertEqual((newest["direction"], oldest["direction"]), ("in", "out"))
        self.assertTrue(newest["answered"])
        (older,) = browser.get(f"/api/history?before={newest['id']}")
        self.assertEqual(older, oldest)
        self.assertEqual(browser.ask("POST", "/api/logout", {})[0], 204)
        self.assertEqual(browser.ask("GET", "/api/me")[0], 401)
        pbx.stop()


class TurnTests(WebCase):
    SECRET = "a-secret-of-32-characters-or-so-"

    def turn_server(self, port: int) -> None:
        """coturn with the shared secret, on loopback."""
        server = self.run_program(
            [
                *(program("turnserver"), "-n", "-L", "127.0.0.1", "-p", str(port)),
                *("--use-auth-secret", f"--static-auth-secret={self.SECRET}"),
                *(
                    "--realm=pbx.test",
                    "--no-tls",
                    "--no-dtls",
                    "--no-cli",
                    "--allow-loopback-peers",
                ),
                *("--relay-ip=127.0.0.1", "--min-port=49160", "--max-port=49200"),
                *(f"--pidfile={self.folder}/turn.pid", "--log-file=stdout", "--simple-log"),
                f"--db={self.folder}/turn.db",
            ],
            "turnserver",
        )

        def answers() -> bool:
            self.assertIsNone(server.popen.poll(), server.text())
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(answers, "coturn listens")

    def relays(self, port: int, user: str, password: str) -> bool:
        """Whether coturn lets this user send packets through itself."""
        client = [program("turnutils_uclient"), "-u", user, "-w", password]
        done = subprocess.run(
            [*client, "-y", "-n", "4", "-m", "1", "-l", "100", "-p", str(port), "127.0.0.1"],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.folder,
        )
        text = done.stdout + done.stderr
        return done.returncode == 0 and "lost packets 0" in text and "Total transmit time" in text

    def test_credentials_that_coturn_takes(self) -> None:
        """And only those: not of another secret, not changed, not when they are over."""
        port = free_port()
        self.turn_server(port)
        secret = self.folder / "turn.secret"
        secret.write_text(self.SECRET + "\n")
        url = f"turn:127.0.0.1:{port}?transport=udp"
        ice = {"turn": [url], "secret_file": str(secret), "ttl": 60}
        pbx = self.pbx({"ice": ice}, users=("alice",))
        browser = self.web(pbx)
        self.assertEqual(browser.ask("GET", "/api/ice")[0], 401)
        browser.log_in("alice")
        found = browser.get("/api/ice")
        (server,) = found["iceServers"]
        self.assertEqual((server["urls"], found["ttl"]), ([url], 60))
        name, password = server["username"], server["credential"]
        self.assertEqual(name.partition(":")[2], "alice@pbx.test")
        self.assertLessEqual(abs(int(name.partition(":")[0]) - time.time() - 60), 10)
        self.assertTrue(self.relays(port, name, password))
        self.assertFalse(self.relays(port, name.replace("alice", "carol"), password))
        self.assertFalse(self.relays(port, name, password[:-3] + "AA="))
