"""The shipped configuration on an empty folder, and disks and policies that fail."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.integration.harness import (
    ENVIRONMENT,
    PBX,
    PROJECT,
    PBXTestCase,
    Process,
    program,
    until,
)
from tests.integration.phone import Datagrams, Phone
from tests.integration.web import Browser

TWISTD = [str(Path(sys.executable).parent / "twistd"), "-n", "--pidfile=", "pbx"]
POLICY = """\
from zope.interface import implementer
from pbx.interfaces import IRoutingPolicy

@implementer(IRoutingPolicy)
class Policy:
    def __init__(self, registry):
        {start}

    async def route_request(self, request, arrival):
        {route}
"""


class ShippedConfigurationTests(PBXTestCase):
    def start(self, run: int) -> Process:
        """The PBX on etc/ of the folder."""
        process = self.run_program([*TWISTD, "-c", "etc/pbx.toml"], f"start-{run}")
        process.wait_for("Web address: ")
        return process

    def test_three_extensions_that_work(self) -> None:
        """Printed once; the second start prints the address only (design contract)."""
        etc = self.folder / "etc"
        etc.mkdir()
        text = (PROJECT / "etc" / "pbx.toml").read_text()
        text = re.sub(r"0\.0\.0\.0:\d+", "127.0.0.1:0", text).replace(
            "127.0.0.1:8888", "127.0.0.1:0"
        )
        text = text.replace('# algorithms = ["SHA-256", "MD5"]', 'algorithms = ["MD5"]')
        (etc / "pbx.toml").write_text(text)
        (etc / "routing.py").write_text((PROJECT / "etc" / "routing.py").read_text())
        process = self.start(1)
        found = re.findall(r"(100[123])\s+password\s+(\S+)", process.text())
        self.assertEqual([name for name, _ in found], ["1001", "1002", "1003"])
        sockets = until(lambda: list(self.folder.glob("var/pbx.sock")), "the socket is there")
        pbx = PBX(self.folder)
        pbx.process = process
        pbx.socket = sockets[0]
        self.assertTrue(pbx.is_ready())
        phones: list[Phone] = []
        for name, password in found:
            phone = Phone(name, Datagrams("127.0.0.1", pbx.ports["udp"]), password)
            self.addCleanup(phone.close)
            phone.domain = "pbx.example"
            phone.register()
            phones.append(phone)
        invite = phones[0].invite("1003")
        phones[2].answer(phones[2].request("INVITE"))
        phones[0].called(invite, phones[0].response(200))
        phones[2].request("ACK")
        self.log_in_by_links(process.text())
        self.assertEqual(process.stop(), 0)
        second = self.start(2)
        self.assertNotIn("password", second.text())
        self.assertNotIn("#login=", second.text())
        for _, password in found:
            self.assertNotIn(password, second.text())
        self.assertEqual(second.stop(), 0)

    def log_in_by_links(self, text: str) -> None:
        """One for each extension; each works once."""
        links = re.findall(r"(100[123])  http://127\.0\.0\.1:(\d+)/(#login=\S+)", text)
        self.assertEqual([name for name, _, _ in links], ["1001", "1002", "1003"])
        for name, port, link in links:
            browser = Browser(int(port))
            self.assertEqual(browser.redeem(link)["user"], name)
            self.assertEqual(browser.redeem(link), (401, "token_used"))
            self.assertEqual(browser.get("/api/me")["user"], name)


class FaultTests(PBXTestCase):
    def refused(self, command: Sequence[str] = (), seconds: float = 30) -> str:
        """The start ends with status 1 and one line that is no log entry, which is returned."""
        pbx = PBX(self.folder)
        pbx.tables["storage"]["database"] = f"sqlite:{self.folder}/data/pbx.db"
        pbx.write_config()
        done = subprocess.run(
            [*command, *TWISTD, "-c", str(pbx.config)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=seconds,
            env=ENVIRONMENT,
        )
        text = done.stdout + done.stderr
        self.assertEqual(done.returncode, 1, text)
        self.assertNotIn("Traceback", text)
        (line,) = (line for line in text.splitlines() if line.startswith("pbx: "))
        return line

    def data(self) -> Path:
        """The folder of the database."""
        folder = self.folder / "data"
        folder.mkdir()
        return folder

    def test_read_only_folder(self) -> None:
        """Root is bound by permissions too when it gives up that privilege."""
        folder = self.data()
        folder.chmod(0o555)
        self.addCleanup(folder.chmod, 0o755)
        caps = "--bounding-set=-dac_override,-dac_read_search"
        line = self.refused([program("setpriv"), caps])
        self.assertIn("pbx.db", line)

    def test_full_disk(self) -> None:
        """No file may grow beyond 20 kB: too little for the schema."""
        self.data()
        line = self.refused([program("prlimit"), "--fsize=20480"])
        self.assertIn("pbx.db", line)

    def test_disk_that_fills_up_and_is_freed(self) -> None:
        """Phones register and call as before; what waits is written when there is room again."""
        pbx = self.pbx(users=("alice", "bob"))
        assert pbx.process is not None
        size = max(path.stat().st_size for path in self.folder.glob("pbx.db*"))
        limit = [program("prlimit"), f"--pid={pbx.process.popen.pid}"]
        subprocess.run([*limit, f"--fsize={min(size, 4096)}:unlimited"], check=True)
        alice = self.registered(pbx, "alice")
        bob = self.registered(pbx, "bob")
        until(lambda: pbx.mi("status")["health"]["status"] == "degraded", "it is told", 10)
        invite = alice.invite("bob")
        bob.answer(bob.request("INVITE"))
        dialog = alice.called(invite, alice.response(200))
        bob.request("ACK")
        alice.send(alice.within(dialog, "BYE"))
        bob.respond(bob.request("BYE"), 200)
        alice.response(200)
        self.assertEqual(pbx.sql("SELECT 1 FROM location"), [])
        subprocess.run([*limit, "--fsize=unlimited:unlimited"], check=True)
        until(lambda: len(pbx.sql("SELECT 1 FROM location")) == 2, "the bindings are written", 15)
        until(lambda: len(pbx.sql("SELECT 1 FROM acc")) == 2, "the calls are written", 15)
        until(lambda: pbx.mi("status")["health"]["status"] == "ok", "it is well again", 10)
        self.assertLess(pbx.output().count("Traceback"), 1)


class PolicyFaultTests(PBXTestCase):
    def policy(self, start: str = "pass", route: str = "pass") -> Path:
        """A policy of two lines."""
        path = self.folder / "routing.py"
        path.write_text(POLICY.format(start=start, route=route))
        return path

    def test_policy_that_raises_at_start(self) -> None:
        """One line with the place, status 1, nothing bound."""
        pbx = PBX(self.folder, {"routing": {"policy": str(self.policy(start="1 / 0"))}})
        done = subprocess.run(
            [*TWISTD, "-c", str(pbx.config)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=30,
            env=ENVIRONMENT,
        )
        self.assertEqual(done.returncode, 1)
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertIn("routing.py:7", lines[0])
        self.assertIn("division by zero", lines[0])
        self.assertFalse((self.folder / "pbx.db").exists())

    def test_policy_that_raises_on_a_request(self) -> None:
        """500, the reason is logged, and the next request is served."""
        route = "return 1 / 0 if request.method == 'MESSAGE' else self.reply"
        start = "from pbx.verdicts import Reply; self.reply = Reply(200)"
        path = self.policy(start=start, route=route)
        pbx = self.pbx({"routing": {"policy": str(path)}})
        phone = self.phone(pbx, "alice")
        for method, status in (("MESSAGE", 500), ("INVITE", 200), ("MESSAGE", 500), ("INFO", 200)):
            phone.send(phone.make(method, "sip:bob@pbx.test"))
            phone.response(status)
        self.assertEqual(pbx.statistic("core:err_requests"), 2)
        self.assertIn("the policy failed on MESSAGE sip:bob@pbx.test", pbx.output())
        self.assertIn("ZeroDivisionError", pbx.output())

    def test_policy_that_returns_no_verdict(self) -> None:
        pbx = self.pbx({"routing": {"policy": str(self.policy())}})
        phone = self.phone(pbx, "alice")
        phone.send(phone.make("OPTIONS", "sip:bob@pbx.test"))
        phone.response(500)
