"""Messages out of a byte stream."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.errors import MalformedMessage
from pbx.sip.limits import Limits
from pbx.sip.message import Message, Request
from pbx.sip.stream import KeepAlive, Received, StreamParser

HEAD = (
    "MESSAGE sip:1002@pbx.test SIP/2.0\r\n"
    "Via: SIP/2.0/TCP 192.0.2.50;branch=z9hG4bK1\r\n"
    "From: <sip:1001@pbx.test>;tag=a\r\n"
    "To: <sip:1002@pbx.test>\r\n"
    "Call-ID: call-1\r\n"
    "CSeq: 1 MESSAGE\r\n"
)


def text(body: str = "", head: str = HEAD, length: str | None = None) -> bytes:
    """A MESSAGE as it goes over the wire."""
    length = str(len(body)) if length is None else length
    return f"{head}Content-Length: {length}\r\n\r\n{body}".encode()


def bodies(found: list[Received]) -> list[bytes]:
    return [one.body for one in found if isinstance(one, Message)]


class FramingTests(SynchronousTestCase):
    """RFC 3261 section 18.3."""

    def test_one_at_a_time(self) -> None:
        parser = StreamParser()
        self.assertEqual(bodies(parser.feed(text("hello"))), [b"hello"])
        self.assertEqual(bodies(parser.feed(text(""))), [b""])
        self.assertTrue(parser.idle)

    def test_many_at_once(self) -> None:
        found = StreamParser().feed(text("one") + text("two") + text("three"))
        self.assertEqual(bodies(found), [b"one", b"two", b"three"])

    def test_byte_by_byte(self) -> None:
        parser = StreamParser()
        found: list[Received] = []
        for byte in text("a\r\n\r\nb") + text("c"):
            found.extend(parser.feed(bytes([byte])))
        self.assertEqual(bodies(found), [b"a\r\n\r\nb", b"c"])

    def test_every_split(self) -> None:
        data = text("first") + text("second")
        for at in range(len(data)):
            parser = StreamParser()
            found = parser.feed(data[:at]) + parser.feed(data[at:])
            self.assertEqual(bodies(found), [b"first", b"second"], at)

    def test_idle_only_between_messages(self) -> None:
        parser = StreamParser()
        self.assertTrue(parser.idle)
        parser.feed(text("hello")[:-1])
        self.assertFalse(parser.idle)
        parser.feed(b"o")
        self.assertTrue(parser.idle)

    def test_compact_content_length(self) -> None:
        found = StreamParser().feed(HEAD.encode() + b"l: 2\r\n\r\nhi")
        self.assertEqual(bodies(found), [b"hi"])

    def test_long_bodies_take_linear_time(self) -> None:
        parser = StreamParser(Limits(message=4_000_000, body=4_000_000))
        data = text("x" * 2_000_000)
        started = time.process_time()
        found: list[Received] = []
        for at in range(0, len(data), 100):
            found.extend(parser.feed(data[at : at + 100]))
        self.assertEqual(len(found), 1)
        self.assertLess(time.process_time() - started, 2)

    def test_long_heads_take_linear_time(self) -> None:
        parser = StreamParser(Limits(message=4_000_000))
        data = b"OPTIONS sip:a SIP/2.0\r\nX: " + b"x" * 1_000_000
        started = time.process_time()
        for at in range(0, len(data), 10):
            self.assertEqual(parser.feed(data[at : at + 10]), [])
        self.assertLess(time.process_time() - started, 2)


class KeepAliveTests(SynchronousTestCase):
    """RFC 5626 sections 3.5.1 and 4.4.1; RFC 3261 section 7.5."""

    def test_ping(self) -> None:
        parser = StreamParser()
        self.assertEqual(parser.feed(b"\r\n\r\n"), [KeepAlive.PING])
        self.assertEqual(parser.feed(b"\r\n\r\n\r\n\r\n"), [KeepAlive.PING] * 2)
        self.assertTrue(parser.idle)

    def test_pong(self) -> None:
        parser = StreamParser()
        self.assertEqual(parser.feed(b"\r\n"), [KeepAlive.PONG])
        self.assertTrue(parser.idle)

    def test_ping_in_pieces(self) -> None:
        """The first line end may have been a pong; the second makes a ping of them."""
        for pieces in ((b"\r\n", b"\r\n"), (b"\r", b"\n\r", b"\n"), (b"\r\n\r", b"\n")):
            parser = StreamParser()
            found = [one for piece in pieces for one in parser.feed(piece)]
            self.assertEqual(found[-1], KeepAlive.PING, pieces)
            self.assertEqual(found.count(KeepAlive.PING), 1, pieces)

    def test_between_messages(self) -> None:
        found = StreamParser().feed(text("one") + b"\r\n\r\n" + text("two") + b"\r\n" + text(""))
        self.assertEqual(bodies(found), [b"one", b"two", b""])
        self.assertEqual(found[1], KeepAlive.PING)

    def test_a_message_between_two_line_ends(self) -> None:
        parser = StreamParser()
        found = parser.feed(b"\r\n" + text("x")) + parser.feed(b"\r\n")
        self.assertNotIn(KeepAlive.PING, found)


class ErrorTests(SynchronousTestCase):
    def fail_with(self, data: bytes, limits: Limits | None = None) -> MalformedMessage:
        parser = StreamParser(limits or Limits())
        found = parser.feed(data)
        self.assertTrue(parser.failed)
        self.assertEqual(parser.feed(text("x")), [], "nothing is read any more")
        error = found[-1]
        assert isinstance(error, MalformedMessage)
        return error

    def test_no_content_length(self) -> None:
        """18.3: MUST be there on a stream; nobody knows where the message ends."""
        error = self.fail_with(HEAD.encode() + b"\r\n")
        self.assertEqual((error.status, error.reason), (400, "Missing Content-Length"))
        assert error.request is not None
        self.assertEqual(error.request.call_id, "call-1")

    def test_bad_content_length(self) -> None:
        for length in ("-1", "x", "", "1 2", "99999999999999999999"):
            error = self.fail_with(text("", length=length))
            self.assertEqual(error.status, 400, length)

    def test_two_content_lengths(self) -> None:
        self.assertEqual(self.fail_with(text("", HEAD + "l: 0\r\n")).status, 400)

    def test_malformed_but_framed(self) -> None:
        """The connection of a phone does not die of one bad header."""
        parser = StreamParser()
        found = parser.feed(text("x", HEAD.replace("CSeq: 1", "CSeq: x")) + text("good"))
        self.assertIsInstance(found[0], MalformedMessage)
        self.assertEqual(bodies(found), [b"good"])
        self.assertFalse(parser.failed)

    def test_body_too_large(self) -> None:
        error = self.fail_with(text("", length="1001"), Limits(body=1000))
        self.assertEqual(error.status, 413)
        self.assertIsNotNone(error.request)

    def test_message_too_large(self) -> None:
        error = self.fail_with(text("x" * 300), Limits(message=400))
        self.assertEqual(error.status, 513)
        self.assertIsNotNone(error.request)

    def test_endless_head(self) -> None:
        """The limit counts before anything more is kept."""
        error = self.fail_with(b"x" * 70000)
        self.assertEqual(error.status, 513)
        self.assertIsNone(error.request)

    def test_noise(self) -> None:
        self.assertEqual(self.fail_with(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").status, 400)
        self.assertEqual(self.fail_with(b"\rx").status, 400)

    def test_what_came_before_is_still_delivered(self) -> None:
        found = StreamParser().feed(text("good") + b"rubbish\r\n\r\n")
        self.assertEqual(bodies(found), [b"good"])
        self.assertIsInstance(found[1], MalformedMessage)

    def test_method(self) -> None:
        (found,) = StreamParser().feed(text("hello"))
        assert isinstance(found, Request)
        self.assertEqual(found.method, "MESSAGE")
