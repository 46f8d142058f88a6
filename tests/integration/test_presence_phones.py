"""baresip and pjsua2 watch each other: what they publish and what they show, through the PBX."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

from tests.integration.harness import PBX, PBXTestCase, Process, free_block, program, until
from tests.integration.test_calls_baresip import modules

CONFIG = """\
poll_method epoll
sip_listen 127.0.0.1:{sip_port}
module_path {modules}
module_tmp account.so
module_app contact.so
module_app menu.so
module_app presence.so
module ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control_port}
net_interface 127.0.0.1
"""


class Baresip:
    """A softphone that publishes and watches one user."""

    def __init__(self, case: PBXTestCase, pbx: PBX, user: str, watched: str) -> None:
        port = free_block(4)
        self._control = port + 2
        folder = case.folder / user
        folder.mkdir()
        config = CONFIG.format(sip_port=port, control_port=self._control, modules=modules())
        (folder / "config").write_text(config)
        (folder / "contacts").write_text(f'"{watched}" <sip:{watched}@pbx.test>;presence=p2p\n')
        (folder / "accounts").write_text(
            f"<sip:{user}@pbx.test>;auth_user={user};auth_pass=secret;regint=600;pubint=600;"
            f'outbound="sip:127.0.0.1:{pbx.ports["udp"]};transport=udp"\n'
        )
        self.process = case.run_program(
            [program("baresip"), "-f", str(folder), "-v"], f"baresip-{user}"
        )

    def do(self, command: str) -> str:
        """What it answers to a command of its menu."""
        text = json.dumps({"command": command, "params": "", "token": "1"})
        with socket.create_connection(("127.0.0.1", self._control), timeout=5) as connection:
            connection.sendall(f"{len(text)}:{text},".encode())
            connection.settimeout(5)
            answer = connection.recv(65536).partition(b":")[2].rstrip(b",")
        return str(json.loads(answer)["data"])

    def shows(self, word: str) -> None:
        """Wait until its contact is so: Online, Busy, Offline or Unknown."""
        until(lambda: word in self.do("contacts"), f"baresip shows {word}")


class PJSUA:
    """A phone of pjsua2 in a process of its own."""

    def __init__(self, case: PBXTestCase, pbx: PBX, user: str, watched: str) -> None:
        path = Path(__file__).parent / "pjsua_phone.py"
        place = f"127.0.0.1:{pbx.ports['udp']}"
        self.process: Process = case.run_program(
            [sys.executable, str(path), user, "secret", "pbx.test", place, watched], "pjsua"
        )

    def do(self, command: str) -> None:
        """A line to its standard input."""
        pipe = self.process.popen.stdin
        assert pipe is not None
        pipe.write(command.encode() + b"\n")
        pipe.flush()

    def shows(self, line: str) -> None:
        """Wait until this is the last that it said of its buddy."""

        def last() -> bool:
            lines = [text for text in self.process.text().split("\n") if text.startswith("buddy ")]
            return bool(lines) and lines[-1].strip() == line

        until(last, f"pjsua shows {line}")


class PhonesTests(PBXTestCase):
    def test_watch_each_other(self) -> None:
        """Online, busy with a note (RPID), offline, and back, in both directions."""
        pbx = self.pbx(users=("alice", "bob"))
        bob = PJSUA(self, pbx, "bob", "alice")
        bob.process.wait_for("registered")
        bob.shows("buddy unknown")
        alice = Baresip(self, pbx, "alice", "bob")
        bob.shows("buddy online")
        alice.shows("Unknown")
        bob.do("busy in a meeting")
        alice.shows("Busy")
        bob.do("open back again")
        alice.shows("Online")
        bob.do("away")
        alice.shows("Offline")
        alice.do("presence_offline")
        bob.shows("buddy offline")
        alice.do("presence_online")
        bob.shows("buddy online")
        states = {one["presentity"]: one for one in pbx.mi("presence_presentities")["Presentities"]}
        self.assertEqual(states["alice@pbx.test"]["watchers"], 1)
        self.assertTrue(states["bob@pbx.test"]["state"].startswith("closed"))
        bob.do("quit")
        # It withdraws what it published, and its subscription ends.
        until(
            lambda: (
                [one["watcher"] for one in pbx.mi("presence_subscriptions")["Subscriptions"]]
                == ["alice@pbx.test"]
            ),
            "bob's subscription has ended",
        )
