"""opensips-cli as PyPI has it, by HTTP and by FIFO, against a running PBX (specification 40, 5)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.integration.harness import ENVIRONMENT, PBXTestCase, free_port, until
from tests.integration.servers import postgres_server

CLI = Path(sys.executable).parent / "opensips-cli"


class OpensipsCliTestCase(PBXTestCase):
    tables: dict[str, dict[str, Any]] = {}
    plugins: tuple[str, ...] = ("mi_http", "mi_fifo", "mi_datagram")

    def setUp(self) -> None:
        super().setUp()
        port = free_port()
        self.running = self.pbx(
            {
                "plugins": {"enabled": list(self.plugins)},
                "http": {"listen": [f"tcp:127.0.0.1:{port}"]},
                "mi_fifo": {"fifo_name": "fifo", "reply_dir": str(self.folder)},
                "mi_datagram": {"listen": [f"udp:127.0.0.1:{port}", "unix:datagrams"]},
                **self.tables,
            }
        )
        self.ways: dict[str, list[str]] = {
            "http": ["communication_type=http", f"url=http://127.0.0.1:{port}/mi"],
            "fifo": [
                "communication_type=fifo",
                f"fifo_file={self.folder}/fifo",
                f"fifo_reply_dir={self.folder}",
            ],
            "udp": ["communication_type=datagram", f"datagram_port={port}"],
            "unix": [
                "communication_type=datagram",
                f"datagram_unix_socket={self.folder}/datagrams",
            ],
        }

    def cli(self, way: str, *command: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
        """Exit status and output."""
        chosen = [part for option in (*self.ways[way], *options) for part in ("-o", option)]
        found = subprocess.run(
            [CLI, *chosen, "-x", *command],
            env={**ENVIRONMENT, "HOME": str(self.folder)},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return found.returncode, found.stdout + found.stderr

    def mi(self, way: str, *command: str) -> Any:
        """The result of a command."""
        status, output = self.cli(way, "mi", *command)
        self.assertEqual(status, 0, (way, command, output))
        return json.loads(output)

    def error(self, way: str, *command: str) -> str:
        """What the tool says about an error."""
        status, output = self.cli(way, "mi", *command)
        self.assertNotEqual(status, 0, (way, command, output))
        return output


class CommandsTests(OpensipsCliTestCase):
    def commands(self, way: str) -> None:
        """Every command of section 5, item 1."""
        names = self.mi(way, "which")
        self.assertEqual(names, sorted(names))
        self.assertLess({"ul_dump", "lb_list", "dlg_list", "get_statistics"}, set(names))
        self.assertEqual(
            self.mi(way, "which", "lb_status"),
            [["destination_id"], ["destination_id", "new_status"]],
        )
        self.assertEqual(len(self.mi(way, "ps")["Processes"]), 1)
        self.assertRegex(self.mi(way, "uptime")["Up time"], r"^\d+ \[sec\]$")
        self.assertRegex(self.mi(way, "version")["Server"], r"^OpenSIPS \(3\.6\.8")
        self.assertEqual(self.mi(way, "dlg_list")["Dialogs"], [])
        self.assertIn("core:rcv_requests", self.mi(way, "get_statistics", "all"))
        domains = self.mi(way, "domain_dump")["Domains"]
        self.assertEqual([row["name"] for row in domains], ["other.test"])

    def bindings(self, way: str) -> None:
        """Positional and named."""
        found = self.mi(way, "ul_dump")["Domains"][0]
        self.assertEqual([record["AOR"] for record in found["AORs"]], ["2001@pbx.test"])
        for contact in ("location 2001@pbx.test", "aor=2001@pbx.test table_name=location"):
            shown = self.mi(way, "ul_show_contact", *contact.split())
            self.assertEqual(len(shown["Contacts"]), 1, contact)
        # A lone list is one word in the named form.
        for wanted in (["core:", "location-users"], ["statistics=core: location-users"]):
            numbers = self.mi(way, "get_statistics", *wanted)
            self.assertEqual(numbers["usrloc:location-users"], 1, wanted)
            self.assertIn("core:rcv_requests", numbers, wanted)

    def balancer(self, way: str) -> None:
        """Numbers come as text."""
        self.assertEqual(self.mi(way, "lb_status", "1"), {"enable": "yes"})
        self.assertEqual(self.mi(way, "lb_status", "1", "0"), "OK")
        self.assertEqual(self.mi(way, "lb_status", "destination_id=1"), {"enable": "no"})
        self.assertEqual(self.mi(way, "lb_status", "new_status=1", "destination_id=1"), "OK")
        rows = self.mi(way, "lb_list")["Destinations"]
        self.assertEqual([(row["id"], row["enabled"]) for row in rows], [(1, "yes")])

    def errors(self, way: str) -> None:
        """Section 5, item 2."""
        self.assertIn("Invalid params", self.error(way, "lb_status", "1", "0", "x"))
        self.assertIn("Destination ID not found", self.error(way, "lb_status", "99"))
        self.assertIn("unknown MI command", self.error(way, "which", "no_such_command"))
        self.assertIn("Statistics Not Found", self.error(way, "get_statistics", "no_such"))

    def test_every_way(self) -> None:
        """The same by HTTP, FIFO, UDP and Unix datagrams."""
        self.running.add_user("2001")
        self.running.add_node(1, 1, free_port(), mode=0)
        until(lambda: self.running.mi("auth_knows", "2001@pbx.test"), "the user is known", 6)
        self.running.sql("INSERT INTO domain (domain) VALUES ('other.test')")
        self.running.mi("reload")
        self.phone(self.running, "2001").register()
        for way in ("http", "fifo"):
            self.commands(way)
            self.bindings(way)
            self.balancer(way)
            self.errors(way)
        for way in ("udp", "unix"):
            self.balancer(way)

    def test_help(self) -> None:
        """Every command says what it does and where it comes from."""
        for name in self.running.mi("which"):
            found = self.running.mi("help", name)
            self.assertNotEqual(found["Help"], "not available for this command", name)
            self.assertNotIn(found["Exported by"], ("pbx", "plugins"), name)
        self.assertEqual(self.mi("fifo", "help", "lb_list")["Exported by"], "load_balancer")

    def test_diagnose(self) -> None:
        """The overview and the memory report find what they ask for."""
        for command, expected in (
            ((), "SQL queries:     OK"),
            (("memory",), "OK: no issues detected."),
            (("load",), "OpenSIPS Processing Status"),
            (("dns",), "DNS Queries"),
            (("sql",), "SQL Queries"),
            (("nosql",), "NoSQL (CacheDB) Queries"),
        ):
            chosen = [part for option in self.ways["http"] for part in ("-o", option)]
            name = "-".join(("diagnose", *command))
            tool = self.run_program([str(CLI), *chosen, "-x", "diagnose", *command], name)
            tool.wait_for(expected)
            tool.stop(signal.SIGINT)
            self.assertNotIn("Traceback", tool.text())

    def test_clients_at_a_time(self) -> None:
        """Of the FIFO: each gets its own answer."""
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(self.mi, "fifo", "which", name) for name in ("kill", "help") * 4]
        self.assertEqual([one.result() for one in asked], [[[]], [[], ["mi_cmd"]]] * 4)

    def test_fifo_that_vanishes(self) -> None:
        """Is there again soon."""
        fifo = self.folder / "fifo"
        fifo.unlink()
        until(fifo.exists, "the FIFO is made again", 5)
        self.assertEqual(self.mi("fifo", "which", "kill"), [[]])


class UserTests(OpensipsCliTestCase):
    """Direct SQL of the tool, no management command (section 2)."""

    def url(self) -> tuple[str, ...]:
        return (f"database_url=sqlite:///{self.folder}/pbx.db",)

    def user(self, *command: str) -> str:
        return self.cli("http", "user", *command, options=self.url())[1]

    def test_add_password_delete(self) -> None:
        """A user who was added can register; a new password counts soon; then he is gone."""
        aor = "1004@pbx.test"
        self.assertIn("Successfully added", self.user("add", aor, "first"))
        until(lambda: self.running.mi("auth_knows", aor), "the user is known", 6)
        self.phone(self.running, "1004", password="first").register()
        self.assertIn("Successfully changed", self.user("password", aor, "second"))
        until(self.accepts_second, "the new password counts", 10)
        self.assertIn("Successfully deleted", self.user("delete", aor))
        until(lambda: not self.running.mi("auth_knows", aor), "the user is forgotten", 6)

    def accepts_second(self) -> bool:
        try:
            self.phone(self.running, "1004", password="second").register()
        except AssertionError:
            return False
        return True


class PostgresUserTests(UserTests):
    """The same in PostgreSQL."""

    def setUp(self) -> None:
        server = postgres_server()
        self.database = f"cli_{free_port()}"
        server.sql(f"CREATE DATABASE {self.database}")
        self.tables = {"storage": {"database": server.url(self.database)}}
        super().setUp()

    def url(self) -> tuple[str, ...]:
        port = postgres_server().port
        return (
            f"database_url=postgresql://pbx@127.0.0.1:{port}/postgres",
            f"database_name={self.database}",
        )
