"""Ladders and capture files out of what the PBX tells."""

from __future__ import annotations

import io
import struct
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pbx.ctl.ladder import ASCII, Ladder
from pbx.ctl.pcap import Capture


def message(start: str, peer: str, **more: Any) -> dict[str, Any]:
    return {
        "time": 100.0,
        "sent": False,
        "own": "udp:192.0.2.1:5060",
        "peer": peer,
        "call": "c",
        "call_id": "c",
        "start": start,
        "method": start.split(" ")[0],
        "cseq": "1",
        "from": "alice",
        "to": "bob",
        "uri": "sip:bob@pbx.test",
        "leg": "",
        "sdp": False,
        "text": start + "\r\n\r\n",
        **more,
    }


CALL = [
    message("INVITE sip:bob@pbx.test SIP/2.0", "udp:192.0.2.50:5060", sdp=True),
    message(
        "INVITE sip:bob@192.0.2.60 SIP/2.0",
        "udp:192.0.2.60:5060",
        sent=True,
        uri="sip:bob@192.0.2.60",
        time=100.25,
    ),
    message(
        "INVITE sip:bob@192.0.2.60 SIP/2.0",
        "udp:192.0.2.60:5060",
        sent=True,
        uri="sip:bob@192.0.2.60",
        time=100.75,
    ),
    message("SIP/2.0 486 Busy Here", "udp:192.0.2.60:5060", method="INVITE", time=101.0),
    message(
        "SIP/2.0 486 A reason phrase that is longer than any column",
        "udp:192.0.2.50:5060",
        method="INVITE",
        sent=True,
        time=101.0,
    ),
]
DRAWN = """\
                    alice                    PBX                     bob
               192.0.2.50:5060          192.0.2.1:5060         192.0.2.60:5060
                       |                       |                       |
    0.000              |------ INVITE SDP ---->|                       |
    0.250              |                       |-------- INVITE ------>|
    0.750              |                       |----- INVITE again --->|
    1.000              |                       |<--- 486 Busy Here ----|
    1.000              |<- 486 A reason ph.. --|                       |"""


class LadderTests(SynchronousTestCase):
    def test_call(self) -> None:
        """Names, addresses, directions, repeats; long texts are shortened."""
        ladder = Ladder(83, ASCII)
        ladder.learn(CALL)
        lines = [*ladder.titles(), *(line for one in CALL for line in ladder.add(one))]
        self.assertEqual("\n".join(line.rstrip() for line in lines), DRAWN)

    def test_a_party_that_comes_later(self) -> None:
        """Live, the titles come again with one column more."""
        ladder = Ladder(83, ASCII)
        self.assertEqual(len(ladder.add(CALL[0])), 4)
        self.assertEqual(len(ladder.add(CALL[1])), 4)
        self.assertEqual(len(ladder.add(CALL[2])), 1)

    def test_text_from_the_wire(self) -> None:
        """Cannot steer the terminal."""
        ladder = Ladder(83, ASCII)
        lines = ladder.add(message("\x1b[2J sip:x SIP/2.0", "udp:1.2.3.4:5", **{"from": "\x1b"}))
        self.assertNotIn("\x1b", "".join(lines))


class CaptureTests(SynchronousTestCase):
    def packets(self, *messages: dict[str, Any]) -> list[bytes]:
        file = io.BytesIO()
        capture = Capture(file)
        for one in messages:
            capture.add(one)
        data, found = file.getvalue()[24:], []
        while data:
            length = struct.unpack("<I", data[8:12])[0]
            found.append(data[16 : 16 + length])
            data = data[16 + length :]
        return found

    def test_datagram(self) -> None:
        """Addresses in the direction that the message took."""
        received, sent = self.packets(CALL[0], CALL[1])
        self.assertEqual(received[12:20], bytes((192, 0, 2, 50, 192, 0, 2, 1)))
        self.assertEqual(sent[12:20], bytes((192, 0, 2, 1, 192, 0, 2, 60)))
        self.assertEqual((received[9], received[28:].decode()), (17, CALL[0]["text"]))

    def test_stream(self) -> None:
        """Sequence numbers go on: 16 bytes of text after the first segment."""
        one = message("A sip:x SIP/2.0", "ws:[2001:db8::1]:9", own="ws:[2001:db8::2]:5062")
        first, second, back = self.packets(one, one, {**one, "sent": True})
        self.assertEqual((first[0] >> 4, first[6]), (6, 6))
        numbers = [struct.unpack("!II", packet[44:52]) for packet in (first, second, back)]
        length = len(one["text"])
        self.assertEqual(numbers, [(1, 1), (1 + length, 1), (1, 1 + 2 * length)])
