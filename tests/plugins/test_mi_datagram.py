"""The management interface by datagrams (specification 40, section 1.3)."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

import plugins
from pbx.config import ConfigError, settings
from pbx.interfaces import IPBXPlugin
from pbx.management.commands import Commands
from plugins.mi_datagram import ManagementDatagrams, MIDatagramSettings, parse, remove_stale

PEER = ("127.0.0.1", 4000)


class Transport:
    """Remembers what was sent; "nobody" is a peer that went away."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, object]] = []

    def write(self, data: bytes, address: object) -> None:
        if address == "nobody":
            raise ConnectionRefusedError("nobody is there")
        self.sent.append((data, address))


class DatagramTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.slow: Deferred[object] = Deferred()
        commands = Commands()
        commands.add_command("big", (("size",),), lambda size: "x" * int(size))
        commands.add_command("slow", ((),), lambda: self.slow)
        self.protocol = ManagementDatagrams(commands.handle)
        self.transport = Transport()
        self.protocol.transport = self.transport  # type: ignore[assignment]

    def send(self, method: str, *params: object, peer: Any = PEER, **members: object) -> None:
        request = {"jsonrpc": "2.0", "method": method, "params": list(params), **members}
        self.protocol.datagramReceived(json.dumps(request).encode(), peer)

    def answers(self) -> list[Any]:
        return [json.loads(data) for data, _ in self.transport.sent]

    def test_answer_goes_to_the_sender(self) -> None:
        """Each gets his own, in whatever order."""
        self.send("slow", id=1)
        self.send("which", "slow", id=2, peer=("127.0.0.1", 5000))
        self.slow.callback("late")
        self.assertEqual([answer["id"] for answer in self.answers()], [2, 1])
        self.assertEqual([peer for _, peer in self.transport.sent], [("127.0.0.1", 5000), PEER])

    def test_no_answer(self) -> None:
        """To a notification, and to a Unix socket without a name."""
        self.send("which")
        self.send("which", id=1, peer=None)
        self.send("which", id=1, peer="")
        self.assertEqual(self.transport.sent, [])

    def test_peer_that_went_away(self) -> None:
        """Is no failure of ours."""
        self.send("which", id=1, peer="nobody")
        self.send("which", "which", id=2)
        self.assertEqual([answer["id"] for answer in self.answers()], [2])

    def test_garbage(self) -> None:
        for datagram in (b"", b"\xff", b"{", b"[" * 60_000):
            self.protocol.datagramReceived(datagram, PEER)
        self.assertEqual([answer["error"]["code"] for answer in self.answers()], [-32700] * 4)

    def test_large_answers(self) -> None:
        """What does not fit is an error rather than silence."""
        self.send("big", 65_000, id=1)
        self.send("big", 66_000, id=2)
        first, second = self.answers()
        self.assertEqual(len(first["result"]), 65_000)
        self.assertEqual((second["id"], second["error"]["code"]), (2, -32000))


class SettingsTests(SynchronousTestCase):
    def test_plugin_is_found(self) -> None:
        self.assertIn("mi_datagram", {plugin.name for plugin in getPlugins(IPBXPlugin, plugins)})

    def test_listen(self) -> None:
        self.assertEqual(parse("udp:127.0.0.1:8080"), ("127.0.0.1", 8080))
        self.assertEqual(parse("udp:[::1]:0"), ("::1", 0))
        self.assertEqual(parse("unix:var/mi"), "var/mi")

    def test_faults(self) -> None:
        """Nobody proves who he is: only addresses of this host (oddity O21)."""
        for text in (
            "udp:0.0.0.0:8080",
            "udp:192.0.2.1:8080",
            "udp:localhost:8080",
            "udp:127.0.0.1",
            "udp:127.0.0.1:x",
            "udp:127.0.0.1:65536",
            "tcp:127.0.0.1:8080",
            "unix:",
        ):
            with self.assertRaises(ConfigError) as caught:
                settings(MIDatagramSettings, {"listen": [text]}, "mi_datagram")
            self.assertIn("[mi_datagram] listen: expected", str(caught.exception))
        with self.assertRaises(ConfigError):
            settings(MIDatagramSettings, {"mode": "0999"}, "mi_datagram")


class StaleSocketTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "s"

    def test_left_behind(self) -> None:
        """Is removed; one that somebody listens at is not."""
        remove_stale(str(self.path))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(str(self.path))
            self.assertRaises(OSError, remove_stale, str(self.path))
            self.assertTrue(self.path.is_socket())
        remove_stale(str(self.path))
        self.assertFalse(os.path.lexists(self.path))

    def test_something_else(self) -> None:
        """Stays."""
        self.path.write_text("precious")
        self.assertRaises(OSError, remove_stale, str(self.path))
        self.assertEqual(self.path.read_text(), "precious")
