"""Commands over UDP: repeats, answers, silence."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pbx.errors import MediaFailed
from pbx.media.cookies import MAX_WAITING, PAUSES, CookieChannel
from pbx.timing import TimerWheel


class FakeTransport:
    """Keeps what was written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes, address: Any) -> None:
        self.written.append(data)

    def stopListening(self) -> None:
        return None


class CookieChannelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = TimerWheel(self.clock)
        self.channel = CookieChannel("rtpengine", "127.0.0.1", 2223, self.wheel)
        self.transport = FakeTransport()
        self.channel.transport = self.transport  # type: ignore[assignment]

    def ask(self, command: bytes) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.channel.ask(command))

    def reply(self, sent: bytes, text: bytes) -> None:
        cookie = sent.partition(b" ")[0]
        self.channel.datagramReceived(cookie + b" " + text, ("127.0.0.1", 2223))

    def test_answers_in_any_order(self) -> None:
        """Matched by cookie; the end of a line is no part of it."""
        one, two = self.ask(b"V"), self.ask(b"Q")
        first, second = self.transport.written
        self.reply(second, b"2\n")
        self.reply(first, b"1")
        self.assertEqual((self.successResultOf(one), self.successResultOf(two)), (b"1", b"2"))
        self.reply(first, b"1")
        self.clock.advance(10)
        self.assertEqual((len(self.transport.written), len(self.wheel)), (2, 0))

    def test_strangers(self) -> None:
        """Who knows a cookie but is not the server says nothing."""
        asked = self.ask(b"V")
        cookie = self.transport.written[0].partition(b" ")[0]
        self.channel.datagramReceived(cookie + b" evil", ("127.0.0.2", 2223))
        self.assertNoResult(asked)
        self.reply(self.transport.written[0], b"1")
        self.assertEqual(self.successResultOf(asked), b"1")

    def test_lost(self) -> None:
        """The same words with the same cookie."""
        asked = self.ask(b"V")
        self.clock.advance(0.6)
        first, again = self.transport.written
        self.assertEqual(first, again)
        self.reply(again, b"1")
        self.assertEqual(self.successResultOf(asked), b"1")
        self.assertEqual(self.channel.repeated, 1)

    def test_silence(self) -> None:
        """Given up after the last pause; the next answer says that it is back."""
        asked = self.ask(b"V")
        for pause in PAUSES:
            self.clock.advance(pause + 0.02)
        self.assertEqual(self.failureResultOf(asked, MediaFailed).value.status, 500)
        self.assertEqual(len(self.transport.written), len(PAUSES))
        self.assertTrue(self.channel.silent)
        back = self.ask(b"V")
        self.reply(self.transport.written[-1], b"1")
        self.successResultOf(back)
        self.assertFalse(self.channel.silent)

    def test_bound(self) -> None:
        """A dead server does not fill the memory."""
        waiting = [self.ask(b"V") for _ in range(MAX_WAITING)]
        self.failureResultOf(self.ask(b"V"), MediaFailed)
        self.assertNoResult(waiting[-1])
        self.successResultOf(Deferred.fromCoroutine(self.channel.close()))
        self.failureResultOf(waiting[0], MediaFailed)
        self.failureResultOf(self.ask(b"V"), MediaFailed)
        self.clock.advance(10)
        self.assertEqual(len(self.wheel), 0)
        for one in waiting[1:]:
            one.addErrback(lambda failure: None)
