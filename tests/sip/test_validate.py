"""What is asked of a request before it is routed."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.errors import SIPError
from pbx.sip.validate import validate
from tests.fakes import request


class ValidateTests(SynchronousTestCase):
    """RFC 3261 section 16.3."""

    def status(self, line: str, headers: str = "", **more: str) -> tuple[int, str]:
        try:
            validate(request(line, headers, **more))  # type: ignore[arg-type]
        except SIPError as error:
            return error.status, error.reason
        return 0, ""

    def test_good(self) -> None:
        for line in (
            "INVITE sip:1002@pbx.test",
            "NEWMETHOD sips:1002@pbx.test",
            "INVITE tel:+4912345",
            "OPTIONS sip:pbx.test;x=y",
        ):
            self.assertEqual(self.status(line), (0, ""), line)
        self.assertEqual(self.status("INVITE sip:a@b", from_="<http://x.test>;tag=a"), (0, ""))
        self.assertEqual(self.status("REGISTER sip:b", "Contact: *"), (0, ""))

    def test_request_uri(self) -> None:
        for uri, expected in (
            ("mailto:a@b", (416, "")),
            ("http://pbx.test/", (416, "")),
            ("sip:", (400, "Empty Host")),
            ("1002", (400, "Bad URI")),
            ("<sip:a@b>", (400, "Bad URI Scheme")),
            ("sip:a@b:x", (400, "Bad Port")),
            ("sip:a@b?x=y", (400, "Headers In Request-URI")),
            ("sip:a@[::g]", (400, "Bad IPv6 Reference")),
        ):
            self.assertEqual(self.status(f"OPTIONS {uri}", to="<sip:a@b>"), expected, uri)

    def test_hops(self) -> None:
        for value, expected in (
            ("0", (483, "")),
            ("1", (0, "")),
            ("255", (0, "")),
            ("x", (400, "Bad Max-Forwards")),
            ("-1", (400, "Bad Max-Forwards")),
        ):
            self.assertEqual(
                self.status("OPTIONS sip:b", f"Max-Forwards: {value}"), expected, value
            )

    def test_other_headers(self) -> None:
        self.assertEqual(self.status("INVITE sip:a@b", from_="<sip:@>;tag=a")[0], 400)
        self.assertEqual(self.status("INVITE sip:a@b", to="<sip:a@b:0x>")[0], 400)
        self.assertEqual(self.status("INVITE sip:a@b", "Contact: <sip:a@b:>")[0], 400)
        self.assertEqual(self.status("INVITE sip:a@b", "Contact: *"), (400, "Bad Contact"))

    def test_method_of_cseq(self) -> None:
        made = request("INVITE sip:a@b")
        made.method = "MESSAGE"
        self.assertRaises(SIPError, validate, made)

    def test_proxy_require(self) -> None:
        made = request("INVITE sip:a@b", "Proxy-Require: One, two\nProxy-Require: three")
        error = self.assertRaises(SIPError, validate, made, ("one",))
        self.assertEqual((error.status, error.headers), (420, (("Unsupported", "two, three"),)))
        validate(made, ("one", "two", "three"))

    def test_ack_and_cancel_are_not_refused(self) -> None:
        """8.2.2.3."""
        for method in ("ACK", "CANCEL"):
            self.assertEqual(self.status(f"{method} sip:a@b", "Proxy-Require: x"), (0, ""))
