"""What the ring remembers, what belongs together, and why calls failed: on the golden ladders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pbx.commands import CommandFailed
from pbx.management.trace import Recorder, Tracer, TraceSettings
from pbx.management.trace.calls import Filter, grouped
from pbx.management.trace.messages import TracedMessage, read
from pbx.management.trace.recorder import MAX_BYTES
from pbx.sip.address import Address
from pbx.sip.masking import masked
from pbx.transport.delivery import Delivery
from tests.fakes import LOCAL, PEER, FakeFlow
from tests.ladder import Ladder
from tests.whole import WholeSystem, wait

LADDERS = Path(__file__).parents[1] / "ladders"
NODE = Address("UDP", "192.0.2.101", 5080)

#: Ladder: messages, legs and the sentence of each call in it.
OUTCOMES = {
    "busy_ack_lost": [(1, "alice -> bob: bob is busy (486 Busy Here)")],
    "call": [(1, "alice -> bob: answered after 3.0 s, ended by the callee after 7.0 s")],
    "callee_silent": [
        (
            1,
            "alice -> bob: no answer at all from udp:192.0.2.60:5060 (408 Request Timeout)",
        )
    ],
    "cancel_ringing": [
        (
            1,
            "alice -> bob: the caller gave up after 0.0 s of ringing"
            ' [SIP;cause=600;text="Changed my mind"]',
        )
    ],
    "dialog_timeout": [
        (
            1,
            "alice -> bob: answered after 0.0 s, ended by the PBX after 60.0 s"
            ' [SIP;cause=408;text="Dialog Timeout"]',
        )
    ],
    "flow_closed": [
        (
            1,
            "alice -> bob: the connection to ws:192.0.2.70:40000 was lost"
            " (480 Temporarily Unavailable)",
        ),
        (
            1,
            "alice -> bob: the PBX knows no way to bob: no phone registered"
            " (480 Temporarily Unavailable)",
        ),
    ],
    "fork_6xx": [(1, "alice -> bob: bob declined (603 Decline)")],
    "fork_serial": [(1, "alice -> bob: answered after 5.0 s, ended by the callee after 0.0 s")],
    "loop": [(1, "alice -> carol: the request came back to the PBX: a loop (482 Loop Detected)")],
    "node": [(2, "alice -> bob: answered after 0.0 s, ended by the caller after 0.0 s")],
    "rings_out": [
        (1, "alice -> bob: bob rang for 55.0 s and nobody answered (408 Request Timeout)")
    ],
}


def seen(
    text: str, *, sent: bool = False, peer: Address = PEER, time: float = 1.0, number: int = 0
) -> TracedMessage:
    """A message of which only the named headers are there."""
    lines = [line.strip() for line in text.strip().splitlines()]
    data = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return read(number, (time, sent, LOCAL, (LOCAL.host, LOCAL.port), peer, data))


def invite(call_id: str, more: str = "", **where: Any) -> TracedMessage:
    return seen(
        f"""INVITE sip:bob@pbx.test SIP/2.0
        From: <sip:alice@pbx.test>;tag=a
        To: <sip:bob@pbx.test>
        Call-ID: {call_id}
        CSeq: 1 INVITE{more}""",
        **where,
    )


class OutcomeTests(SynchronousTestCase):
    def test_of_every_ladder(self) -> None:
        """What operators read above the ladder."""
        for name, expected in OUTCOMES.items():
            ladder = Ladder.read(LADDERS / f"pbx_{name}.txt")
            system = WholeSystem({n: actor.address for n, actor in ladder.actors.items()})
            try:
                ladder.play(system)
                calls = wait(system.part(Tracer).trace_calls())["Calls"]
            finally:
                system.close()
            found = [(len(call["call_ids"]), call["outcome"]) for call in calls]
            self.assertEqual(found, expected, name)

    def test_registration(self) -> None:
        """Other exchanges count with ``everything`` only."""
        ladder = Ladder.read(LADDERS / "pbx_register.txt")
        system = WholeSystem({n: actor.address for n, actor in ladder.actors.items()})
        self.addCleanup(system.close)
        ladder.play(system)
        tracer = system.part(Tracer)
        self.assertEqual(wait(tracer.trace_calls())["Calls"], [])
        calls = wait(tracer.trace_calls("bob", "1"))["Calls"]
        self.assertIn("REGISTER of bob: 200 OK", {call["outcome"] for call in calls})


class MessageTests(SynchronousTestCase):
    def test_secrets(self) -> None:
        """Proofs of passwords, keys of media and typed digits; not one byte more or less."""
        data = (
            b"INFO sip:a SIP/2.0\r\n"
            b'Authorization: Digest username="u", nonce="n", response="0123456789abcdef",\r\n'
            b' cnonce="c"\r\nProxy-Authorization: Basic dTpw\r\n\r\n'
            b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0|2^20\r\n"
            b"a=ice-pwd:abcdef\r\nSignal=5\r\n"
        )
        found = masked(data)
        self.assertEqual(len(found), len(data))
        for secret in (b"0123", b"dTpw", b"c2Vj", b":abcdef", b"=5"):
            self.assertNotIn(secret, found)
        for kept in (b'username="u"', b'nonce="n"', b"|2^20", b"Basic ****"):
            self.assertIn(kept, found)

    def test_no_sip_at_all(self) -> None:
        """Whatever came is shown."""
        message = read(7, (1.0, False, LOCAL, ("x", 1), PEER, b"\xff\xfe\x00"))
        self.assertEqual((message.call_id, message.method, message.status), ("", "", 0))
        self.assertEqual(message.as_json("c")["text"], "\udcff\udcfe\0")
        self.assertEqual(len(grouped([message])), 1)

    def test_compact_and_wildcard(self) -> None:
        """Short header names; a wildcard listener shows the address that we told the peer."""
        data = b"BYE sip:x SIP/2.0\r\ni: c1\r\nf: <sip:1001@x>\r\nt: <sip:2@y>;tag=9\r\n\r\n"
        message = read(
            1, (1.0, True, Address("UDP", "0.0.0.0", 5060), ("192.0.2.9", 5060), PEER, data)
        )
        self.assertEqual((message.call_id, message.user("from")), ("c1", ("1001", "x")))
        self.assertEqual((message.own.host, message.to_tag), ("192.0.2.9", "9"))


class GroupTests(SynchronousTestCase):
    def test_legs_joined_by_header(self) -> None:
        """X-PBX-Call goes out in one leg and comes back in the other."""
        messages = [
            invite("one"),
            invite("one", "\nX-PBX-Call: d.1", sent=True, peer=NODE),
            invite("two", "\nX-PBX-Call: d.1", peer=Address("UDP", "192.0.2.101", 5090)),
            invite("three"),
        ]
        self.assertEqual(
            [tuple(call.call_ids) for call in grouped(messages)], [("one", "two"), ("three",)]
        )

    def test_legs_joined_by_node(self) -> None:
        """Without the header: the same users, from where we called, and soon."""
        first = [invite("one"), invite("one", sent=True, peer=NODE)]
        self.assertEqual(len(grouped([*first, invite("two", peer=NODE, time=20.0)])), 1)
        self.assertEqual(len(grouped([*first, invite("two", peer=NODE, time=40.0)])), 2)
        self.assertEqual(len(grouped([*first, invite("two", time=2.0)])), 2)

    def test_filters(self) -> None:
        call = grouped([invite("one"), invite("one", sent=True, peer=NODE)])[0]
        for wanted in ("alice", "sip:bob@pbx.test", "192.0.2.50", "192.0.2.101:5080", "one", ""):
            self.assertTrue(Filter(what=wanted).wants(call), wanted)
        for other in ("carol", "bob@else.test", "192.0.2.5", "on"):
            self.assertFalse(Filter(what=other).wants(call), other)
        self.assertTrue(Filter(caller="alice", callee="bob", ip="192.0.2.101").wants(call))
        self.assertFalse(Filter(caller="bob").wants(call))
        self.assertFalse(Filter(caller="alice", callee="alice").wants(call))


class RecorderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.delivery = Delivery()
        self.flow = FakeFlow()

    def recorder(self, size: int) -> Recorder:
        recorder = Recorder(TraceSettings(messages=size), self.delivery, self.clock.seconds)
        recorder.start()
        self.addCleanup(recorder.stop)
        return recorder

    def see(self, count: int, size: int = 10) -> None:
        for _ in range(count):
            if self.delivery.watch is not None:
                self.delivery.watch(False, self.flow, b"x" * size)

    def numbers(self, recorder: Recorder) -> list[int]:
        async def pause() -> None:
            self.see(1)

        return [message.number for message in wait(recorder.messages(pause))]

    def test_bounded(self) -> None:
        """So many messages, so many bytes; the numbers go on."""
        recorder = self.recorder(5)
        self.see(4)
        self.assertEqual(self.numbers(recorder), [0, 1, 2, 3])
        self.see(3, MAX_BYTES + 100)
        self.assertEqual((recorder.count, recorder.kept), (7, 5))
        self.assertEqual(self.numbers(recorder), [2, 3, 4, 5, 6])
        found = wait(recorder.messages(Deferred))
        self.assertEqual(len(found[-1].data), MAX_BYTES)
        self.see(100)
        self.assertEqual(self.numbers(recorder), [102, 103, 104, 105, 106])

    def test_what_comes_meanwhile(self) -> None:
        """Reading many makes pauses, in which more may come."""
        recorder = self.recorder(2000)
        self.see(1200)
        self.assertEqual(self.numbers(recorder), list(range(1202)))

    def test_off(self) -> None:
        """Nobody taps until somebody follows, and nothing is kept afterwards."""
        recorder = self.recorder(0)
        self.assertIsNone(self.delivery.watch)
        recorder.follow()
        self.see(2)
        self.assertEqual(recorder.kept, 2)
        recorder.unfollow()
        self.assertIsNone(self.delivery.watch)
        self.assertEqual(recorder.kept, 0)

    def test_bad_setting(self) -> None:
        with self.assertRaisesRegex(ValueError, "messages"):
            TraceSettings(messages=-1)


class FollowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.delivery = Delivery()
        self.tracer = Tracer(TraceSettings(messages=0), self.delivery, self.clock)
        wait(self.tracer.start())

    def ask(self, since: object, seconds: object = 5, what: str = "") -> Deferred[Any]:
        return Deferred.fromCoroutine(self.tracer.trace_follow(since, seconds, what))

    def see(self, message: TracedMessage) -> None:
        assert self.delivery.watch is not None
        self.delivery.watch(message.sent, FakeFlow(message.peer), message.data)

    def test_waits_for_messages(self) -> None:
        """Those of others do not end the wait; the next question goes on where this one ended."""
        asked = self.ask(-1, 5, "alice")
        self.see(seen("INVITE sip:x SIP/2.0\nFrom: <sip:carol@x>\nCall-ID: other\nCSeq: 1 INVITE"))
        self.clock.advance(1)
        self.assertNoResult(asked)
        self.see(invite("one"))
        self.clock.pump([0.1] * 3)
        answer = self.successResultOf(asked)
        self.assertEqual([m["call_id"] for m in answer["messages"]], ["one"])
        self.assertEqual((answer["next"], answer["lost"], answer["ended"]), (2, 0, []))
        again = self.ask(answer["next"], 1)
        self.clock.pump([0.1] * 12)
        self.assertEqual(self.successResultOf(again)["messages"], [])

    def test_nobody_asks_any_more(self) -> None:
        """The tap goes."""
        asked = self.ask(-1, 0)
        self.assertEqual(self.successResultOf(asked)["next"], 0)
        self.clock.advance(29)
        self.assertIsNotNone(self.delivery.watch)
        self.clock.advance(2)
        self.assertIsNone(self.delivery.watch)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        self.ask(-1, 0)
        wait(self.tracer.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_fast(self) -> None:
        """Who asks too late is told how many he missed."""
        asked = self.ask(-1, 0)
        self.assertEqual(self.successResultOf(asked)["next"], 0)
        for number in range(5000):
            self.see(invite(f"c{number}"))
        asked = self.ask(0, 0)
        self.clock.pump([0.1] * 20)
        answer = self.successResultOf(asked)
        self.assertEqual(answer["lost"], 5000 - 4096)
        self.assertEqual((len(answer["messages"]), answer["next"]), (2000, 5000 - 4096 + 2000))

    def test_bad_numbers(self) -> None:
        for bad in ("x", "-2", "nan", "1e99", [1]):
            failure = self.failureResultOf(self.ask(bad), CommandFailed)
            self.assertEqual(failure.value.code, 400)
