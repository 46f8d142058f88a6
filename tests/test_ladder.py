"""The ladder player itself: what its actors compose, and that it notices differences."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.address import Address
from pbx.sip.message import Message, Request
from pbx.sip.parser import parse
from tests.ladder import Ladder

ALICE = Address("UDP", "192.0.2.50", 5060)
BOB = Address("TCP", "192.0.2.60", 5070)
ACTORS = """
    alice = udp 192.0.2.50:5060
    bob = tcp 192.0.2.60:5070
"""


class Wire:
    """A system that passes everything on to the other one, with a Record-Route."""

    def __init__(self) -> None:
        self.seen: list[Message] = []
        self.now = 0.0
        self.done: list[str] = []
        self._out: list[tuple[Address, bytes] | str] = []

    def deliver(self, source: Address, data: bytes) -> None:
        message = parse(data)
        self.seen.append(parse(data))
        if isinstance(message, Request) and message.method == "INVITE":
            message.append("record-route", "<sip:pbx.test;lr>")
        self._out.append((BOB if source == ALICE else ALICE, bytes(message)))

    def sent(self) -> Sequence[tuple[Address, bytes] | str]:
        out, self._out = self._out, []
        return out

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def timers_left(self) -> int:
        return 3

    def do(self, words: str) -> None:
        self.done.append(words)
        self._out.append(words)


class LadderTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.wire = Wire()

    def play(self, text: str) -> None:
        lines = "\n".join(line.strip() and line[4:] for line in (ACTORS + text).split("\n"))
        Ladder(lines).play(self.wire)

    def header(self, at: int, name: str) -> str | None:
        return self.wire.seen[at].get(name)


CALL = """
    alice -> pbx  INVITE sip:bob@pbx.test
    pbx -> bob  INVITE sip:bob@pbx.test
    bob -> pbx  180 Ringing
    pbx -> alice  180 Ringing
    bob -> pbx  200 OK
    pbx -> alice  200 OK
        To: *;tag=bob-tag
    alice -> pbx  ACK
    pbx -> bob  ACK sip:bob@192.0.2.60:5070;transport=tcp
        Route: <sip:pbx.test;lr>
"""


class ComposeTests(LadderTestCase):
    def test_dialog_of_the_caller(self) -> None:
        """ACK and BYE: Contact as Request-URI, Route from Record-Route, both tags, next CSeq."""
        self.play(
            CALL
            + """
    alice -> pbx  BYE
    pbx -> bob  BYE sip:bob@192.0.2.60:5070;transport=tcp
        Route: <sip:pbx.test;lr>
        CSeq: 2 BYE
    bob -> pbx  200 OK
    pbx -> alice  200 OK (BYE)
"""
        )
        ack, bye = self.wire.seen[3:5]
        self.assertEqual((ack.cseq.number, bye.cseq.number), (1, 2))
        self.assertEqual(ack.to.tag, "bob-tag")
        self.assertNotEqual(ack.via.branch, self.wire.seen[0].via.branch)

    def test_dialog_of_the_callee(self) -> None:
        """From and To change places."""
        self.play(
            CALL
            + """
    bob -> pbx  BYE
    pbx -> alice  BYE sip:alice@192.0.2.50:5060
        From: *;tag=bob-tag
        To: *;tag=alice-1
        Route: <sip:pbx.test;lr>
    alice -> pbx  200 OK
    pbx -> bob  200 OK
"""
        )

    def test_ack_and_cancel_hop_by_hop(self) -> None:
        """Branch and Request-URI of the INVITE; only the ACK has the To tag."""
        self.play(
            """
    alice -> pbx  INVITE sip:bob@pbx.test
        Supported: 100rel
        !Max-Forwards
        | v=0
    pbx -> bob  INVITE sip:bob@pbx.test
        !Max-Forwards
        Supported: 100rel
        | v=0
    alice -> pbx  CANCEL
    pbx -> bob  CANCEL sip:*
    bob -> pbx  200 OK (CANCEL)
    pbx -> alice  200 OK (CANCEL)
    bob -> pbx  487 Request Terminated
    pbx -> alice  487 Request Terminated (INVITE)
    alice -> pbx  ACK
    pbx -> bob  ACK sip:bob@pbx.test
    alice -> pbx  INVITE again
    pbx -> bob  INVITE sip:bob@pbx.test
"""
        )
        invite, cancel, _, _, ack, again = self.wire.seen
        self.assertEqual({invite.get("via")}, {cancel.get("via"), ack.get("via")})
        self.assertEqual((cancel.to.tag, ack.to.tag), (None, "bob-tag"))
        self.assertEqual(bytes(invite), bytes(again))

    def test_time_and_reports(self) -> None:
        """``after`` is exact whatever the number of steps; ``do`` and ``told`` go by text."""
        self.play("    after 1.5\n    do it\n    told it\n    after 0.25\n    timers left: 3\n")
        self.assertAlmostEqual(self.wire.now, 1.75, 5)


class DifferenceTests(LadderTestCase):
    def fails(self, text: str, *parts: str) -> None:
        error = self.assertRaises(AssertionError, self.play, text)
        for part in parts:
            self.assertIn(part, str(error))

    def test_missing(self) -> None:
        """What was expected and did not come."""
        self.fails("    after 1\n    pbx -> bob  100 Trying\n", "-pbx -> bob  100 Trying")

    def test_unexpected(self) -> None:
        """What came and was not expected."""
        self.fails(
            "    alice -> pbx  OPTIONS sip:bob@pbx.test\n", "+pbx -> bob  OPTIONS sip:bob@pbx.test"
        )

    def test_headers(self) -> None:
        """Another value, a missing one, one too many."""
        self.fails(
            """
    alice -> pbx  OPTIONS sip:bob@pbx.test
    pbx -> bob  OPTIONS sip:bob@pbx.test
        Max-Forwards: 69
        Route: <sip:x>
        !From
""",
            "-    Max-Forwards: 69\n",
            "+    Max-Forwards: 70",
            "-    Route: <sip:x>",
            "+    !Route",
            "-    !From",
            "+    From: <sip:alice@pbx.test>;tag=alice-1",
        )

    def test_timers(self) -> None:
        """The leak check."""
        self.fails("    timers left: 0\n", "-timers left: 0", "+timers left: 3")

    def test_nothing_to_answer(self) -> None:
        """A response to nothing, a line that is none."""
        self.fails("    alice -> pbx  200 OK\n", "alice received no request to answer")
        self.fails("    alice waves\n", "not understood: alice waves")

    def test_lost(self) -> None:
        """A lost line does not arrive, in neither direction."""
        self.play("    alice -> pbx  OPTIONS sip:bob@pbx.test    lost\n")
        self.assertEqual(self.wire.seen, [])
        self.fails(
            """
    alice -> pbx  OPTIONS sip:bob@pbx.test
    pbx -> bob  OPTIONS sip:bob@pbx.test  lost
    bob -> pbx  200 OK
""",
            "bob received no request to answer",
        )
