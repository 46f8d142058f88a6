"""One datagram: syntax, limits and what is answered."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.errors import MalformedMessage
from pbx.sip.limits import Limits
from pbx.sip.message import Request, Response
from pbx.sip.parser import parse

LINES = (
    "OPTIONS sip:pbx.test SIP/2.0",
    "Via: SIP/2.0/UDP 192.0.2.50;branch=z9hG4bK1",
    "From: <sip:1001@pbx.test>;tag=a",
    "To: <sip:1002@pbx.test>",
    "Call-ID: call-1",
    "CSeq: 1 OPTIONS",
)


def datagram(*more: str, start: str = LINES[0], without: str = "", body: bytes = b"") -> bytes:
    """An OPTIONS with further lines."""
    lines = [start, *(line for line in LINES[1:] if not without or not line.startswith(without))]
    text = "\r\n".join([*lines, *more]) + "\r\n\r\n"
    return text.encode("utf-8", "surrogateescape") + body


def request(*more: str, body: bytes = b"") -> Request:
    message = parse(datagram(*more, body=body))
    assert isinstance(message, Request)
    return message


class SyntaxTests(SynchronousTestCase):
    """RFC 3261 section 7."""

    def test_empty_lines_before(self) -> None:
        """7.5."""
        self.assertEqual(bytes(parse(b"\r\n\r\n" + datagram())), datagram())

    def test_names_in_any_case_and_form(self) -> None:
        made = request("SUBJECT: one", "s : two", "k\t:x", "X-Own:y")
        self.assertEqual(made.get_all("subject"), ["one", "two"])
        self.assertEqual((made.get("supported"), made.get("x-own")), ("x", "y"))

    def test_folds(self) -> None:
        made = request("Subject: one\r\n  two\r\n\tthree", "Foo: y")
        self.assertEqual(made.get("subject"), "one two three")
        self.assertEqual(made.get("foo"), "y")

    def test_untouched_is_unchanged(self) -> None:
        data = datagram(
            "sUbJeCt  :  caf\xe9  ",
            "X-Raw: \udcff\udc80",
            "Subject: a\r\n\t b",
            "Empty:",
            body=b"\0\xff",
        )
        self.assertEqual(bytes(parse(data)), data)

    def test_utf8_reads_as_text(self) -> None:
        self.assertEqual(request("Subject: größer 大").get("subject"), "größer 大")

    def test_version_in_any_case(self) -> None:
        """7.1: received in any case, sent in upper case."""
        made = parse(datagram(start="OPTIONS sip:pbx.test sip/2.0"))
        self.assertEqual(bytes(made), datagram())
        made = parse(datagram(start="sip/2.0 200 OK"))
        assert isinstance(made, Response)
        self.assertEqual(made.status, 200)

    def test_lists_over_several_lines(self) -> None:
        """7.3.1."""
        made = request('Route: <sip:a;x="1,2">,<sip:b>', "Route: <sip:c>")
        self.assertEqual(made.get_list("route"), ['<sip:a;x="1,2">', "<sip:b>", "<sip:c>"])

    def test_nul_only_after_a_backslash(self) -> None:
        """25.1: quoted-pair."""
        self.assertEqual(request('Subject: "\\\0"').get("subject"), '"\\\0"')
        self.assertRaises(MalformedMessage, parse, datagram("Subject: \0"))


class BodyTests(SynchronousTestCase):
    """18.3, for datagrams."""

    def test_missing_length_takes_all(self) -> None:
        self.assertEqual(request(body=b"hello").body, b"hello")

    def test_longer_body_is_cut(self) -> None:
        self.assertEqual(request("Content-Length: 2", body=b"hello").body, b"he")

    def test_shorter_body(self) -> None:
        error = self.assertRaises(
            MalformedMessage, parse, datagram("Content-Length: 6", body=b"hello")
        )
        self.assertEqual((error.status, error.reason), (400, "Content-Length Exceeds Message"))


class RefusalTests(SynchronousTestCase):
    def assert_refused(
        self, data: bytes, status: int, reason: str = "", limits: Limits | None = None
    ) -> MalformedMessage:
        error: MalformedMessage = self.assertRaises(
            MalformedMessage, parse, data, limits or Limits()
        )
        self.assertEqual((error.status, error.reason), (status, reason))
        return error

    def test_table(self) -> None:
        """400 with a telling phrase, and the request to answer."""
        for more, reason in (
            ("No colon", "Header Without Colon"),
            ("Subjects", "Header Without Colon"),
            (": no name", "Bad Header Name"),
            ("two words: x", "Bad Header Name"),
            ("b(d: x", "Bad Header Name"),
            ("Subject: a\nb", "Bare CR or LF"),
            ("Subject: a\rb", "Bare CR or LF"),
            ("Subject: a\0b", "NUL Byte"),
            ("Content-Length: x", "Bad Content-Length"),
            ("Content-Length: 99999999999", "Content-Length Too Large"),
            ("Call-ID: 2", "Repeated Call-ID"),
            ("i: 2", "Repeated Call-ID"),
            ("f: <sip:a@b>", "Repeated From"),
            ("t: <sip:a@b>", "Repeated To"),
            ("CSeq: 2 OPTIONS", "Repeated CSeq"),
            ("Max-Forwards: 1\r\nMax-Forwards: 1", "Repeated Max-Forwards"),
            ("l: 0\r\nContent-Length: 0", "Repeated Content-Length"),
            ("X: " + "x" * 9000, "Header Line Too Long"),
            ("X: y\r\n" * 300 + "X: y", "Too Many Header Fields"),
        ):
            error = self.assert_refused(datagram(more), 400, reason)
            assert error.request is not None, more
            self.assertEqual(error.request.call_id, "call-1")

    def test_missing_headers(self) -> None:
        """8.1.1: without Via there is nobody to answer."""
        for name in ("From", "To", "Call-ID", "CSeq"):
            error = self.assert_refused(datagram(without=name), 400, f"Missing {name}")
            self.assertIsNotNone(error.request, name)
        error = self.assert_refused(datagram(without="Via"), 400, "Missing Via")
        self.assertIsNone(error.request)

    def test_unreadable_headers(self) -> None:
        for line, reason in (
            ("CSeq: x OPTIONS", "Bad CSeq"),
            ("CSeq: 1", "Bad CSeq"),
            ("CSeq: 2147483648 OPTIONS", "CSeq Too Large"),
            ("CSeq: 1 OP TIONS", "Bad CSeq"),
            ("From: <sip:a", "Missing >"),
            ('To: "a <sip:a@b>', "Unterminated Quoted-String"),
        ):
            name = line.partition(":")[0]
            self.assert_refused(datagram(line, without=name), 400, reason)

    def test_start_lines(self) -> None:
        for start, status, reason, answered in (
            ("OPTIONS sip:pbx.test SIP/3.0", 505, "", True),
            ("OPTIONS sip:pbx.test SIP/2.10", 505, "", True),
            ("OPTIONS sip:pbx.test HTTP/1.1", 400, "Bad Request-Line", True),
            ("OPTIONS sip:pbx.test", 400, "Bad Request-Line", True),
            ("OPTIONS  SIP/2.0", 400, "Bad Request-Line", True),
            ("OPTIONS sip:a b SIP/2.0", 400, "Bad Request-Line", True),
            ("OPTIONS sip:a\tb SIP/2.0", 400, "Bad Request-Line", True),
            ("OP(IONS sip:a SIP/2.0", 400, "Bad Start-Line", False),
            (" sip:a SIP/2.0", 400, "Bad Start-Line", False),
            ("", 400, "Bad Request-Line", False),
            ("SIP/2.0 20 OK", 400, "Bad Status-Line", False),
            ("SIP/2.0 700 OK", 400, "Bad Status-Line", False),
            ("SIP/2.0 099 OK", 400, "Bad Status-Line", False),
            ("SIP/2.0 2\u00b20 OK", 400, "Bad Status-Line", False),
            ("SIP/3.0 200 OK", 400, "Bad Start-Line", False),
        ):
            data = datagram(start=start) if start else b"x"
            error = self.assert_refused(data, status, reason)
            self.assertEqual(error.request is not None, answered, start)

    def test_responses_are_never_answered(self) -> None:
        error = self.assert_refused(
            datagram("CSeq: 2 OPTIONS", start="SIP/2.0 200 OK"), 400, "Repeated CSeq"
        )
        self.assertIsNone(error.request)

    def test_no_empty_line(self) -> None:
        self.assert_refused(datagram()[:-2], 400, "Missing Empty Line")

    def test_limits(self) -> None:
        uri = "sip:" + "a" * 1020 + "@pbx.test"
        self.assert_refused(datagram(start=f"OPTIONS {uri} SIP/2.0"), 414)
        self.assert_refused(datagram(body=b"x" * 101), 413, limits=Limits(body=100))
        self.assert_refused(datagram(body=b"x" * 101), 513, limits=Limits(message=250))

    def test_nothing(self) -> None:
        for data in (b"", b"\r\n", b"\r\n\r\n", b"\0\0\0\0", b"\xff" * 100):
            error = self.assertRaises(MalformedMessage, parse, data)
            self.assertIsNone(error.request)
