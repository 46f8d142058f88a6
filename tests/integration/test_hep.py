"""A capture server's view of calls, read by tshark."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

from tests.integration.harness import (
    PBX,
    PROJECT,
    PBXTestCase,
    capture,
    free_port,
    program,
    until,
)

SCRIPT = PROJECT / "etc" / "monitoring" / "hep.lua"


class Server:
    """Takes what comes by UDP or TCP; tshark looks at the wire."""

    def __init__(self, kind: str, port: int = 0) -> None:
        kinds = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}
        self.socket = socket.socket(socket.AF_INET, kinds[kind])
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.port: int = self.socket.getsockname()[1]
        self.data = b""
        self._connection: socket.socket | None = None
        if kind == "tcp":
            self.socket.listen()
        threading.Thread(target=self._read, args=(kind,), daemon=True).start()

    def _read(self, kind: str) -> None:
        try:
            source = self.socket
            if kind == "tcp":
                source = self._connection = self.socket.accept()[0]
            while data := source.recv(65536):
                self.data += data
        except OSError:
            return

    def close(self) -> None:
        for one in (self.socket, self._connection):
            if one is not None:
                one.close()


class HEPTests(PBXTestCase):
    """A call through a FreeSWITCH stand-in: two legs, two Call-IDs."""

    def start(self, kind: str, port: int) -> PBX:
        key = self.folder / "hep.key"
        key.write_text("the key\n")
        hep = {"target": f"{kind}:127.0.0.1:{port}", "capture_id": 77, "key_file": str(key)}
        server = self.pbx(
            {"hep": hep, "plugins": {"enabled": ["nat_ping", "hep"]}}, users=["alice", "bob"]
        )
        internal, external = free_port(), free_port()
        node = self.run_program(
            [
                *(sys.executable, "-m", "tests.integration.b2bua", "127.0.0.1"),
                *map(str, (internal, external, server.ports["udp"])),
            ],
            "node",
        )
        node.wait_for("ready")
        server.add_node(1, 1, internal)
        server.add_node(2, 3, external)
        until(lambda: len(server.load()) == 2, "the nodes are known")
        return server

    def call(self, server: PBX) -> None:
        alice = self.registered(server, "alice")
        bob = self.registered(server, "bob", "tcp")
        invite = alice.invite("bob")
        # The node answers leg A before it bridges (O15).
        dialog = alice.called(invite, alice.response(200))
        bob.answer(bob.request("INVITE"))
        bob.request("ACK")
        alice.send(alice.within(dialog, "BYE"))
        alice.response(200)
        bob.respond(bob.request("BYE"), 200)

    def decoded(self, kind: str, port: int, only: str, *fields: str) -> list[list[str]]:
        """The chosen fields of every packet that tshark finds, with our dissector for HEPv3."""
        command = [
            *(program("tshark"), "-X", f"lua_script:{SCRIPT}"),
            *("-d", f"{kind}.port=={port},hep3", "-r", str(self.folder / "capture.pcap")),
            *("-Y", only, "-T", "fields", "-E", "occurrence=a", "-E", "aggregator=|"),
        ]
        for field in fields:
            command += ["-e", field]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        rows: list[list[str]] = []
        for line in done.stdout.splitlines():
            # Several messages may share a segment.
            columns = [column.split("|") for column in line.split("\t")]
            rows.extend(map(list, zip(*columns, strict=True)))
        return rows

    def check(self, kind: str) -> None:
        """The INVITEs of both legs are there, joined, with addresses, id and key."""
        receiver = Server(kind)
        self.addCleanup(receiver.close)
        server = self.start(kind, receiver.port)
        with capture(self.folder, [receiver.port]):
            self.call(server)
            until(lambda: receiver.data.count(b"BYE sip:") >= 4, "both legs are captured")
        rows = self.decoded(
            kind,
            receiver.port,
            "hep3 && sip",
            *("hep3.correlation", "hep3.capture_id", "hep3.key", "sip.Call-ID", "sip.CSeq.method"),
            *("hep3.srcport", "hep3.dstport", "hep3.protocol", "hep3.seconds"),
        )
        self.assertEqual({row[1] for row in rows}, {"77"})
        self.assertEqual({row[2] for row in rows}, {"the key"})
        calls = [row for row in rows if row[4] in ("INVITE", "ACK", "BYE")]
        self.assertEqual(len({row[3] for row in calls}), 2, "two legs")
        joint = {row[0] for row in calls}
        self.assertEqual(len(joint), 1, "one correlation id")
        self.assertIn(joint.pop(), {row[3] for row in calls})
        registers = [row for row in rows if row[4] == "REGISTER"]
        self.assertEqual({row[7] for row in registers}, {"17", "6"})
        for row in registers:
            self.assertEqual(row[0], row[3])
            self.assertIn(int(row[5]) if row[7] == "17" else int(row[6]), self.known(server, row))
        self.assertEqual(self.decoded(kind, receiver.port, "_ws.malformed", "frame.number"), [])
        self.assertNotIn(b'response="', receiver.data.replace(b'response="*', b""))
        self.assertEqual(server.statistic("hep:dropped"), 0)

    def known(self, server: PBX, row: list[str]) -> list[int]:
        """Ports of which one side of a REGISTER must be ours."""
        ours = [server.ports["udp"], server.ports["tcp"]]
        return [*ours, int(row[5]), int(row[6])] if {*map(int, row[5:7])} & set(ours) else []

    def test_udp(self) -> None:
        self.check("udp")

    def test_tcp(self) -> None:
        self.check("tcp")

    def test_server_away(self) -> None:
        """Nobody listens: calls go on; when it comes, what waited is sent."""
        port = free_port(socket.SOCK_STREAM)
        server = self.start("tcp", port)
        self.call(server)
        self.assertEqual(server.statistic("hep:connected"), 0)
        waiting = server.statistic("hep:queued")
        self.assertGreater(waiting, 20)
        receiver = Server("tcp", port)
        self.addCleanup(receiver.close)
        until(lambda: server.statistic("hep:connected") == 1, "it connects", 40)
        until(lambda: receiver.data.count(b"HEP3") >= waiting, "all is sent")
