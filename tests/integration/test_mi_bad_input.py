"""What nobody should send to the management interface: clear errors, nothing changed, and on it goes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import socket
import time
from collections.abc import Callable
from typing import Any

from tests.integration.harness import PBXTestCase, free_port, until

TOKEN = "a-token-of-some-length"
GOOD = b'{"jsonrpc":"2.0","id":"g","method":"lb_status","params":["1"]}'
#: Text and the code of the error that it deserves; 0 for no particular one.
NASTY: tuple[tuple[bytes, int], ...] = (
    (b"{", -32700),
    (b'{"jsonrpc":"2.0","id":1,"method":"lb_status","params":["1",NaN]}', -32700),
    (b"[" * 50_000 + b"]" * 50_000, -32700),
    (b'{"a":' * 30_000 + b"1" + b"}" * 30_000, -32700),
    (b"\xff\xfe\xfd", -32700),
    (b'{"jsonrpc":"2.0","id":1,"method":"lb_status","params":[' + b"9" * 6000 + b"]}", -32700),
    (b"[" + b",".join([GOOD] * 101) + b"]", -32600),
    (b'{"jsonrpc":"2.0","id":[1],"method":"ps"}', -32600),
    (b'{"jsonrpc":"2.0","id":1,"method":{"x":1}}', -32600),
    (b'{"jsonrpc":"2.0","id":1,"method":"no:such:thing"}', -32601),
    (b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * 60_000 + b'"}', -32601),
    (b'{"jsonrpc":"2.0","id":1,"method":"lb_status","params":[[1]]}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"lb_status","params":{"destination_id":{}}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"lb_status","params":["1","maybe"]}', 0),
    (b'{"jsonrpc":"2.0","id":1,"method":"lb_status","params":["1e400"]}', 0),
    (b'{"jsonrpc":"2.0","id":1,"method":"lb_status","params":["\\ud800\\u0000"]}', 0),
    (b'{"jsonrpc":"2.0","id":1,"method":"dr_gw_status","params":["g1","-1"]}', 0),
    (b'{"jsonrpc":"2.0","id":1,"method":"ds_set_state","params":["x","3","sip:a"]}', 0),
    (b'{"jsonrpc":"2.0","id":1,"method":"ul_add","params":["location"]}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"t_uac_dlg","params":["A B","sip:x","From: x"]}', 0),
    (b'{"jsonrpc":"2.0","id":1,"method":"trace_follow","params":["nan"]}', 0),
    (b'{"jsonrpc":"2.0","id":1,"method":"log_level","params":["99"]}', 0),
)


class BadInputTests(PBXTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.port = free_port()
        (self.folder / "token").write_text(TOKEN)
        self.server = self.pbx(
            {
                "plugins": {"enabled": ["mi_http", "mi_fifo", "mi_datagram", "drouting"]},
                "http": {"listen": [f"tcp:127.0.0.1:{self.port}"]},
                "mi_http": {"token_file": "token"},
                "mi_fifo": {"fifo_name": "fifo", "reply_dir": str(self.folder)},
                "mi_datagram": {"listen": [f"udp:127.0.0.1:{self.port}"]},
            },
            ("alice",),
        )
        self.server.add_node(1, 1, free_port(), mode=0)
        self.server.sql(
            "INSERT INTO dr_gateways (gwid, type, address) VALUES ('g1', 1, '127.0.0.1:9')"
        )
        self.server.mi("reload")
        self.registered(self.server, "alice")
        self.before = self.state()

    def state(self) -> Any:
        """What commands could have changed; times of contacts run on."""
        found = [self.server.mi(name) for name in ("lb_list", "dr_gw_status", "ul_dump")]
        text = json.dumps(found)
        return json.loads(
            text, object_hook=lambda one: {k: one[k] for k in one if k not in SHIFTING}
        )

    def unharmed(self) -> None:
        """Nothing changed, and it answers at once."""
        began = time.monotonic()
        self.assertEqual(self.state(), self.before)
        self.assertLess(time.monotonic() - began, 5)
        self.assertNotIn("Traceback", self.server.output())

    # Ways

    def by_socket(self, text: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(self.server.socket))
            connection.sendall(text.replace(b"\n", b" ") + b"\n")
            return connection.makefile("rb").readline()

    def by_http(self, text: bytes, token: str = TOKEN) -> bytes:
        return self.posted(text, {"Authorization": f"Bearer {token}"})[1]

    def posted(self, text: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request("POST", "/mi", text, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def by_datagram(self, text: bytes) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(20)
            client.sendto(text, ("127.0.0.1", self.port))
            return client.recv(65535)

    def by_fifo(self, text: bytes) -> bytes:
        """As opensips-cli does it."""
        name = f"reply_{time.monotonic_ns()}"
        reply = self.folder / name
        os.mkfifo(reply)
        try:
            reader = os.open(reply, os.O_RDONLY | os.O_NONBLOCK)
            with os.fdopen(reader, "rb") as answer:
                with (self.folder / "fifo").open("wb") as fifo:
                    fifo.write(b":" + name.encode() + b":" + text)
                found = b""

                def read() -> bool:
                    nonlocal found
                    found += answer.read() or b""
                    return found.endswith(b"\n")

                until(read, f"an answer to {text[:60]!r}")
            return found
        finally:
            reply.unlink()

    def test_every_way(self) -> None:
        """The same error for the same nonsense, and the next good request is answered."""
        ways: tuple[tuple[Callable[[bytes], bytes], int], ...] = (
            (self.by_socket, 1 << 20),
            (self.by_http, 1 << 20),
            (self.by_datagram, 60_000),
            # On a FIFO only what is JSON has an end; the rest is skipped (unit tests).
            (self.by_fifo, 4096),
        )
        for way, limit in ways:
            for text, code in NASTY:
                if len(text) > limit or (way == self.by_fifo and code == -32700):
                    continue
                answer = json.loads(way(text))
                about = (way.__name__, text[:80], answer)
                self.assertIn("error", answer, about)
                if code:
                    self.assertEqual(answer["error"]["code"], code, about)
                self.assertTrue(answer["error"]["message"], about)
            self.assertEqual(json.loads(way(GOOD))["result"], {"enable": "yes"}, way.__name__)
        self.unharmed()

    def test_a_megabyte(self) -> None:
        """As much as is allowed is read, more is refused without reading it all."""
        padded = GOOD[:-1] + b" " * ((1 << 20) - len(GOOD)) + b"}"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        status, answer = self.posted(padded, headers)
        self.assertEqual((status, json.loads(answer)["result"]), (200, {"enable": "yes"}))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.assertEqual(self.posted(padded + b" " * 4096, headers)[0], 413)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.assertEqual(self.by_socket(b"x" * (2 << 20)), b"")
        self.unharmed()

    def test_wrong_tokens(self) -> None:
        """From elsewhere only the token counts; an Origin of another site never does."""
        elsewhere = {"X-Forwarded-For": "192.0.2.9"}
        for headers in (
            {},
            {"Authorization": "Bearer wrong-token-of-length"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": "Bearer " + "x" * 7000},
            {"Authorization": f"Bearer {TOKEN}x"},
        ):
            status, answer = self.posted(GOOD, {**elsewhere, **headers})
            self.assertIn(status, (401, 403), (headers, answer))
            self.assertNotIn(b"enable", answer)
        good = {"Authorization": f"Bearer {TOKEN}"}
        self.assertEqual(self.posted(GOOD, {**elsewhere, **good})[0], 200)
        self.assertEqual(self.posted(GOOD, {"Origin": "http://elsewhere.test"})[0], 403)
        self.unharmed()

    def test_mutations(self) -> None:
        """5,000 requests with random edits: JSON comes back, nothing changed."""
        random.seed(6)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(self.server.socket))
            answers = connection.makefile("rb")
            for _ in range(50):
                # Those that became notifications have no answer, the others one line of JSON each.
                connection.sendall(b"".join(mutated(GOOD) + b"\n" for _ in range(100)))
                connection.sendall(b'{"jsonrpc":"2.0","id":"end","method":"ps"}\n')
                while json.loads(answers.readline()).get("id") != "end":
                    continue
        self.unharmed()

    def test_fifo_becomes_a_link(self) -> None:
        """It is not followed, said in the health, and mended when the link is gone."""
        fifo, target = self.folder / "fifo", self.folder / "target"
        target.write_text("precious\n")
        fifo.unlink()
        fifo.symlink_to(target)
        until(lambda: self.server.mi("status")["health"]["status"] == "degraded", "it is noticed")
        self.assertIn("fifo", " ".join(self.server.mi("status")["health"]["reasons"]))
        self.assertEqual(target.read_text(), "precious\n")
        fifo.unlink()
        until(lambda: self.server.mi("status")["health"]["status"] == "ok", "it is made again")
        self.assertEqual(json.loads(self.by_fifo(GOOD))["result"], {"enable": "yes"})
        self.unharmed()

    def test_bad_rows(self) -> None:
        """Rows that make no sense are left out with a word in the log; the good ones count."""
        sql = self.server.sql
        sql("INSERT INTO dr_gateways (gwid, type, address) VALUES ('bad', 1, 'sip:[::g]:99999')")
        sql("INSERT INTO dr_gateways (gwid, type, address, strip) VALUES ('neg', 1, '1.2.3.4', -5)")
        sql("INSERT INTO dr_rules (groupid, prefix, gwlist) VALUES ('x', '12a', 'g1=;')")
        sql(
            "INSERT INTO dr_rules (groupid, prefix, timerec, gwlist) VALUES ('0', '1', 'x|y|z', 'g1')"
        )
        sql("INSERT INTO dr_rules (groupid, prefix, gwlist) VALUES ('0', '49', 'g1')")
        sql("INSERT INTO load_balancer (id, group_id, dst_uri, resources) VALUES (9, 1, '', '=;')")
        self.server.mi("reload")
        self.assertEqual(self.server.mi("dr_number_routing", "4930")["Matched Prefix"], "49")
        shown = self.server.mi("dr_gw_status")["Gateways"]
        self.assertEqual([one["ID"] for one in shown], ["g1"])
        until(lambda: self.server.output().count("is left out") >= 4, "the log tells")
        self.unharmed()


#: Members that differ from one moment to the next.
SHIFTING = ("Expires", "State")


def mutated(text: bytes) -> bytes:
    """The text with one to four random edits, no line end among them."""
    out = bytearray(text)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(out))
        match random.randrange(4):
            case 0:
                out[at] = random.randrange(256)
            case 1:
                del out[at : at + random.randint(1, 8)]
            case 2:
                out[at:at] = out[: random.randint(1, 20)]
            case _:
                out[at:at] = random.choice((b'"', b"[", b"{", b"\\", b"\0", b"1e9", b"null"))
    return bytes(out).replace(b"\n", b" ").replace(b'"1"', b'"2"') or b" "
