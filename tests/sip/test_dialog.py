"""Dialogs (RFC 3261 section 12)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.dialog import (
    Dialog,
    cookie_number,
    cookie_of,
    new_cookie,
    replaced_dialog,
    route_set_of_request,
    route_set_of_response,
    target_of,
)
from pbx.sip.errors import MalformedMessage, SIPError
from pbx.sip.message import Response, response_to
from tests.fakes import request

ROUTES = """
    Record-Route: <sip:p2.test;lr>, <sip:p1.test;lr>
    Record-Route: <sip:p0.test;lr>
    Contact: "A" <sip:1001@192.0.2.50:5060;x=1>;q=0.5
"""


def ok(to_tag: str, contact: str, routes: str = "") -> Response:
    invite = request("INVITE sip:1002@pbx.test", ROUTES)
    response = response_to(invite, 200, headers=[("Contact", contact)], to_tag=to_tag)
    if routes:
        response.remove("record-route")
        response.append("record-route", routes)
    return response


class CookieTests(SynchronousTestCase):
    def test_a_cookie_is_two_hexadecimal_groups(self) -> None:
        """Spec 10, section 4."""
        bucket, entry = new_cookie().split(".")
        self.assertGreaterEqual(int(bucket, 16), 0)
        self.assertGreaterEqual(int(entry, 16), 0)

    def test_cookies_do_not_repeat(self) -> None:
        self.assertEqual(len({new_cookie() for _ in range(2000)}), 2000)

    def test_number_and_cookie_are_inverse(self) -> None:
        """dlg_id is bucket << 32 | id, digits least significant first as OpenSIPS writes them."""
        for number in (0, 1, 0xABC << 32 | 0x12, (1 << 63) - 1, 0x10 << 32):
            self.assertEqual(cookie_number(cookie_of(number)), number)
        self.assertEqual(cookie_of(0xABC << 32 | 0x12), "cba.21")

    def test_other_texts_have_no_number(self) -> None:
        """Leading zeros of the number would be lost; signs and blanks are no digits."""
        for text in ("", "x", "1", "1.", ".1", "1.g", "10.1", "1.20", "-1.1", " 1.1", "1.1.1"):
            self.assertIsNone(cookie_number(text), text)
        self.assertIsNone(cookie_number("fffffffff.1"))
        self.assertIsNone(cookie_number("0000000f.1"))


class RouteSetTests(SynchronousTestCase):
    def test_who_answers_keeps_the_order(self) -> None:
        """12.1.1."""
        invite = request("INVITE sip:1002@pbx.test", ROUTES)
        self.assertEqual(
            route_set_of_request(invite),
            ("<sip:p2.test;lr>", "<sip:p1.test;lr>", "<sip:p0.test;lr>"),
        )

    def test_who_asked_reverses_it(self) -> None:
        """12.1.2."""
        self.assertEqual(
            route_set_of_response(ok("b", "<sip:b@b.test>")),
            ("<sip:p0.test;lr>", "<sip:p1.test;lr>", "<sip:p2.test;lr>"),
        )

    def test_none_without_record_route(self) -> None:
        invite = request("INVITE sip:1002@pbx.test", "Contact: <sip:a@a.test>")
        self.assertEqual(route_set_of_request(invite), ())
        self.assertEqual(route_set_of_response(response_to(invite, 200)), ())


class TargetTests(SynchronousTestCase):
    def test_the_first_contact(self) -> None:
        for value, expected in (
            ("<sip:a@a.test;x=1>;q=1", "sip:a@a.test;x=1"),
            ("sip:a@a.test;q=1", "sip:a@a.test"),
            ('"A <b>, c" <sip:a@a.test>', "sip:a@a.test"),
            ("<sip:a@a.test>, <sip:b@b.test>", "sip:a@a.test"),
            ("<sip:a@a.test", ""),
            ('"open <sip:a@a.test>', ""),
        ):
            made = request("INVITE sip:1002@pbx.test", f"Contact: {value}")
            self.assertEqual(target_of(made), expected, value)
        self.assertEqual(target_of(request("INVITE sip:1002@pbx.test")), "")


class ReplacesTests(SynchronousTestCase):
    """RFC 3891 section 6.1."""

    def test_which_dialog(self) -> None:
        for value, expected in (
            ("a@b;to-tag=1;from-tag=2;early-only", ("a@b", "1", "2")),
            (" c ; from-tag=2 ; to-tag=1", ("c", "1", "2")),
            ("c;to-tag=1", None),
            (";to-tag=1;from-tag=2", None),
            ("c", None),
            ("", None),
        ):
            asked = request("INVITE sip:b@c.test", f"Replaces: {value}")
            self.assertEqual(replaced_dialog(asked), expected, value)
        self.assertIsNone(replaced_dialog(request("INVITE sip:b@c.test")))


class DialogTests(SynchronousTestCase):
    def uas(self, headers: str = ROUTES) -> Dialog:
        return Dialog.uas(request("INVITE sip:1002@pbx.test", headers, cseq=7), "b")

    def test_the_answering_side(self) -> None:
        """12.1.1: tags, sequence number, remote target."""
        dialog = self.uas()
        self.assertEqual(dialog.id, ("call-1", "b", "a"))
        self.assertEqual(dialog.local, "<sip:1002@pbx.test>;tag=b")
        self.assertEqual(dialog.remote, "<sip:1001@pbx.test>;tag=a")
        self.assertEqual((dialog.local_cseq, dialog.remote_cseq), (0, 7))
        self.assertEqual(dialog.target, "sip:1001@192.0.2.50:5060;x=1")

    def test_the_asking_side(self) -> None:
        """12.1.2."""
        invite = request("INVITE sip:1002@pbx.test", ROUTES, cseq=7)
        dialog = Dialog.uac(invite, ok("b", "<sip:b@b.test>"))
        self.assertEqual(dialog.id, ("call-1", "a", "b"))
        self.assertEqual((dialog.local_cseq, dialog.remote_cseq), (7, 0))
        self.assertEqual(dialog.target, "sip:b@b.test")

    def test_a_dialog_needs_a_contact(self) -> None:
        self.assertRaises(MalformedMessage, self.uas, "")

    def test_request_along_loose_routers(self) -> None:
        """12.2.1.1: Request-URI is the remote target, Route the route set."""
        bye = self.uas().request("BYE", [("Reason", "SIP;cause=200")])
        self.assertEqual(bye.start_line, "BYE sip:1001@192.0.2.50:5060;x=1 SIP/2.0")
        self.assertEqual(
            bye.lines,
            [
                "Route: <sip:p2.test;lr>",
                "Route: <sip:p1.test;lr>",
                "Route: <sip:p0.test;lr>",
                "From: <sip:1002@pbx.test>;tag=b",
                "To: <sip:1001@pbx.test>;tag=a",
                "Call-ID: call-1",
                "CSeq: 1 BYE",
                "Max-Forwards: 70",
                "Reason: SIP;cause=200",
                "Content-Length: 0",
            ],
        )

    def test_request_to_a_strict_router(self) -> None:
        """12.2.1.1: the router becomes the Request-URI, the remote target the last Route."""
        headers = """
            Record-Route: <sip:old.test;method=INVITE>, <sip:p0.test;lr>
            Contact: <sip:a@a.test>
        """
        dialog = self.uas(headers)
        bye = dialog.request("BYE")
        self.assertEqual(bye.uri_text, "sip:old.test")
        self.assertEqual(bye.get_all("route"), ["<sip:p0.test;lr>", "<sip:a@a.test>"])
        self.assertEqual(dialog.next_hop().host, "old.test")

    def test_the_next_hop(self) -> None:
        """8.1.2: the first route, else the remote target."""
        self.assertEqual(self.uas().next_hop().host, "p2.test")
        self.assertEqual(self.uas("Contact: <sip:a@a.test>").next_hop().host, "a.test")

    def test_each_request_counts_up(self) -> None:
        """12.2.1.1; ACK takes the number of its INVITE."""
        dialog = self.uas()
        numbers = [dialog.request(method).cseq.number for method in ("INFO", "INVITE", "BYE")]
        self.assertEqual(numbers, [1, 2, 3])
        self.assertEqual(str(dialog.request("ACK", cseq=2).cseq), "2 ACK")
        self.assertEqual(dialog.local_cseq, 3)

    def test_a_request_out_of_order_is_refused(self) -> None:
        """12.2.2: a lower number is a 500; a gap is none of our business."""
        dialog = self.uas()
        dialog.received(request("INFO sip:b", cseq=20))
        error = self.assertRaises(SIPError, dialog.received, request("INFO sip:b", cseq=19))
        self.assertEqual(error.status, 500)
        dialog.received(request("ACK sip:b", cseq=7))
        self.assertEqual(dialog.remote_cseq, 20)

    def test_only_target_refresh_requests_change_the_target(self) -> None:
        """12.2.1.2, RFC 3311."""
        dialog = self.uas()
        moved = ok("b", "<sip:new@a.test>")
        self.assertFalse(dialog.refresh("INFO", moved))
        self.assertEqual(dialog.target, "sip:1001@192.0.2.50:5060;x=1")
        self.assertTrue(dialog.refresh("UPDATE", moved))
        self.assertEqual(dialog.target, "sip:new@a.test")
        self.assertFalse(dialog.refresh("INVITE", moved))

    def test_a_request_matches_by_call_id_and_tags(self) -> None:
        """12.2.2."""
        dialog = self.uas()
        to = "<sip:1002@pbx.test>;tag=b"
        self.assertTrue(dialog.matches(request("BYE sip:b", to=to)))
        self.assertFalse(dialog.matches(request("BYE sip:b", to="<sip:1002@pbx.test>;tag=c")))
        self.assertFalse(dialog.matches(request("BYE sip:b", to="<sip:1002@pbx.test>")))
        self.assertFalse(dialog.matches(request("BYE sip:b", to=to, call_id="other")))
