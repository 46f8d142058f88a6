"""Two baresip, one on UDP and one on TCP, register, call, talk and hang up."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.integration.harness import (
    PBX,
    PBXTestCase,
    Process,
    capture,
    free_block,
    program,
    until,
)

#: Ports of one phone; it takes any even one of them.
RTP_PORTS = 10
CONFIG = """\
poll_method epoll
sip_listen 127.0.0.1:{sip_port}
call_local_timeout 30
call_max_calls 4
audio_player aubridge,{name}
audio_source ausine,{hertz}
audio_alert aubridge,{name}
ausrc_srate 48000
auplay_srate 8000
ausrc_channels 2
auplay_channels 1
rtp_ports {rtp_port}-{rtp_end}
rtp_stats yes
module_path {modules}
module g711.so
module ausine.so
module aubridge.so
module_tmp account.so
module_app menu.so
module ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control_port}
net_interface 127.0.0.1
module sndfile.so
snd_path {recordings}
"""


class Baresip:
    """One softphone with a configuration of its own, told what to do over its control port."""

    def __init__(
        self, case: PBXTestCase, pbx: PBX, user: str, transport: str, hertz: int = 440
    ) -> None:
        self.user = user
        #: Where it keeps what it heard, as WAV files.
        self.recordings = case.folder / f"{user}-heard"
        self.recordings.mkdir()
        # SIP, SIP over TLS beside it, control, and from an even port on RTP.
        sip_port = free_block(4 + RTP_PORTS)
        self._control = sip_port + 2
        self.rtp = sip_port + 4
        folder = case.folder / user
        folder.mkdir()
        config = CONFIG.format(
            name=user,
            sip_port=sip_port,
            rtp_port=self.rtp,
            rtp_end=self.rtp + RTP_PORTS - 1,
            control_port=self._control,
            modules=modules(),
            hertz=hertz,
            recordings=self.recordings,
        )
        (folder / "config").write_text(config)
        (folder / "contacts").write_text("")
        (folder / "accounts").write_text(
            f"<sip:{user}@pbx.test>;auth_user={user};auth_pass=secret;regint=600;"
            f'outbound="sip:127.0.0.1:{pbx.ports[transport]};transport={transport}";'
            "audio_codecs=pcmu;answermode=manual\n"
        )
        self.process: Process = case.run_program(
            [program("baresip"), "-f", str(folder), "-v"], f"baresip-{user}"
        )

    def do(self, command: str, parameters: str = "") -> None:
        """A command of its menu, as a netstring of JSON."""
        text = json.dumps({"command": command, "params": parameters, "token": "1"})
        with socket.create_connection(("127.0.0.1", self._control), timeout=5) as connection:
            connection.sendall(f"{len(text)}:{text},".encode())
            connection.settimeout(5)
            connection.recv(4096)

    def heard(self) -> bytes:
        """The last second of what it heard in its newest call, 16 bits at 8 kHz."""
        files = sorted(self.recordings.glob("*-dec.wav"), key=lambda path: path.stat().st_mtime)
        return files[-1].read_bytes()[44:][-16000:] if files else b""

    def hears_nothing(self, seconds: float = 10) -> None:
        """Wait until a second passes in which no sound comes."""

        def is_silent() -> bool:
            before = self._received()
            time.sleep(1)
            return self._received() == before

        until(is_silent, "no sound comes", seconds)

    def _received(self) -> int:
        return sum(path.stat().st_size for path in self.recordings.glob("*-dec.wav"))

    def ports(self) -> range:
        """Where its RTP may come from."""
        return range(self.rtp, self.rtp + RTP_PORTS)

    def says(self, text: str, seconds: float = 15) -> None:
        """Wait for a line of its output."""
        self.process.wait_for(text, seconds)


def modules() -> Path:
    """Where Debian puts the modules."""
    return next(Path("/usr/lib").rglob("baresip/modules/g711.so")).parent


def rtp_senders(path: Path, ports: Sequence[int]) -> list[int]:
    """Source ports of the RTP packets of a capture, PCMU of 20 ms each.

    ``ports`` are read as RTP whatever else is known for them: some belong to old games.
    """
    decoding = [word for port in ports for word in ("-d", f"udp.port=={port},rtp")]
    chosen = ["-Y", "rtp.p_type == 0", "-T", "fields", "-e", "udp.srcport"]
    done = subprocess.run(
        [program("tshark"), "-r", str(path), *decoding, *chosen],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return [int(port) for port in done.stdout.split()]


class BaresipTests(PBXTestCase):
    def test_register_call_talk_hang_up(self) -> None:
        """RTP flows both ways, the cdr row and the rows of acc are right."""
        pbx = self.pbx(users=("alice", "bob"))
        alice = Baresip(self, pbx, "alice", "udp")
        bob = Baresip(self, pbx, "bob", "tcp")
        until(lambda: pbx.statistic("usrloc:registered_users") == 2, "both registered")
        contacts = dict(pbx.sql("SELECT username, contact FROM location"))
        until(lambda: len(pbx.sql("SELECT 1 FROM location")) == 2, "both are written", 5)
        contacts = dict(pbx.sql("SELECT username, contact FROM location"))
        self.assertNotIn("transport=tcp", contacts["alice"])
        self.assertIn("transport=tcp", contacts["bob"])
        with capture(self.folder, [*alice.ports(), *bob.ports()]) as path:
            alice.do("dial", "sip:bob@pbx.test")
            bob.says("Incoming call from")
            bob.do("accept")
            alice.says("Call established")
            bob.says("Call established")
            self.assertEqual(pbx.statistic("dialog:active_dialogs"), 1)
            until(lambda: path.exists() and path.stat().st_size > 40_000, "RTP flows", 10)
            bob.do("hangup")
            alice.says("session closed")
        senders = rtp_senders(path, [*alice.ports(), *bob.ports()])
        for phone in (alice, bob):
            sent = sum(port in phone.ports() for port in senders)
            self.assertGreater(sent, 20, phone.user)
        until(lambda: pbx.sql("SELECT 1 FROM cdr"), "the cdr", 5)
        query = "SELECT caller, callee, disposition, ended_by, sip_code, legs, duration FROM cdr"
        ((*row, duration),) = pbx.sql(query)
        self.assertEqual(row, ["alice", "bob", "answered", "callee", 200, 1])
        self.assertTrue(0.5 < duration < 20, duration)
        until(lambda: len(pbx.sql("SELECT 1 FROM acc")) == 2, "two rows of acc", 5)
        rows = pbx.sql("SELECT method, sip_code FROM acc ORDER BY id")
        self.assertEqual(rows, [("INVITE", "200"), ("BYE", "200")])
        self.assertEqual(pbx.statistic("dialog:active_dialogs"), 0)
