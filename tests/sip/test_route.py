"""Route and Record-Route."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.address import Address
from pbx.sip.errors import MalformedMessage
from pbx.sip.message import Request
from pbx.sip.params import EMPTY, Params
from pbx.sip.route import next_hop, record_route, strip_own
from pbx.sip.uri import URI
from tests.fakes import request

UDP = Address("UDP", "192.0.2.1", 5060)
WS = Address("WS", "192.0.2.1", 5062)
TLS = Address("TLS", "192.0.2.1", 5061)


def is_own(uri: URI) -> bool:
    return uri.host == "us.test" and uri.port in (None, 5060, 5062)


def along(uri: str, *routes: str) -> Request:
    """A request within a dialog with these Route lines."""
    made = request(f"BYE {uri}", to="<sip:b@b.test>;tag=b")
    if routes:
        made.replace_all("route", list(routes))
    return made


class StripOwnTests(SynchronousTestCase):
    """RFC 3261 section 16.4."""

    def test_no_route(self) -> None:
        made = along("sip:b@b.test")
        stripped, own = strip_own(made, is_own)
        self.assertIs(stripped, made)
        self.assertIsNone(own)

    def test_foreign_route_stays(self) -> None:
        made = along("sip:b@b.test", "<sip:other.test;lr>")
        stripped, own = strip_own(made, is_own)
        self.assertIs(stripped, made)
        self.assertIsNone(own)

    def test_own_route_goes_and_is_told(self) -> None:
        made = along("sip:b@b.test", "<sip:us.test;lr;nat=yes;did=a.b>, <sip:next.test;lr>")
        stripped, own = strip_own(made, is_own)
        assert own is not None
        self.assertEqual(stripped.get_all("route"), ["<sip:next.test;lr>"])
        self.assertEqual((own.get("did"), own.get("nat"), own.get("x")), ("a.b", "yes", None))
        self.assertIsNone(own.second)
        self.assertEqual(len(made.get_list("route")), 2, "the original is not touched")

    def test_two_own_routes(self) -> None:
        """Double Record-Route: the second says which side to send from (spec 10, section 3)."""
        made = along(
            "sip:b@b.test",
            "<sip:us.test;r2=on;lr;did=1>",
            "<sip:us.test:5062;transport=ws;r2=on;lr;did=1>",
            "<sip:next.test;lr>",
        )
        stripped, own = strip_own(made, is_own)
        assert own is not None
        self.assertEqual(stripped.get_all("route"), ["<sip:next.test;lr>"])
        self.assertEqual(str(own.second), "sip:us.test:5062;transport=ws;r2=on;lr;did=1")

    def test_last_own_route_leaves_none(self) -> None:
        stripped, _ = strip_own(along("sip:b@b.test", "<sip:us.test;lr>"), is_own)
        self.assertFalse(stripped.has("route"))

    def test_own_route_behind_a_foreign_one_stays(self) -> None:
        made = along("sip:b@b.test", "<sip:other.test;lr>,<sip:us.test;lr>")
        self.assertIs(strip_own(made, is_own)[0], made)

    def test_strict_router_put_us_into_the_request_uri(self) -> None:
        made = along("sip:us.test;lr;did=7", "<sip:next.test;lr>", "<sip:b@b.test>")
        stripped, own = strip_own(made, is_own)
        assert own is not None
        self.assertEqual(stripped.uri_text, "sip:b@b.test")
        self.assertEqual(stripped.get_all("route"), ["<sip:next.test;lr>"])
        self.assertEqual(own.get("did"), "7")
        self.assertEqual(made.uri_text, "sip:us.test;lr;did=7")

    def test_strict_router_before_a_double_record_route(self) -> None:
        made = along(
            "sip:us.test;r2=on;lr", "<sip:us.test:5062;transport=ws;r2=on;lr>, <sip:b@b.test>"
        )
        stripped, own = strip_own(made, is_own)
        assert own is not None
        self.assertEqual(stripped.uri_text, "sip:b@b.test")
        self.assertFalse(stripped.has("route"))
        self.assertEqual(str(own.second), "sip:us.test:5062;transport=ws;r2=on;lr")

    def test_gruu_is_no_strict_router(self) -> None:
        made = along("sip:1001@us.test;gr=x;lr", "<sip:other.test;lr>")
        self.assertIs(strip_own(made, is_own)[0], made)

    def test_request_to_ourselves_along_our_route(self) -> None:
        """A SUBSCRIBE within a dialog with our presence server."""
        stripped, own = strip_own(along("sip:us.test", "<sip:us.test;lr;did=1>"), is_own)
        self.assertEqual(stripped.uri_text, "sip:us.test")
        self.assertIsNotNone(own)

    def test_own_maddr_is_stripped(self) -> None:
        made = along("sip:b@b.test:5062;maddr=us.test;transport=ws;x=1")
        stripped, own = strip_own(made, is_own)
        self.assertEqual(stripped.uri_text, "sip:b@b.test;x=1")
        self.assertIsNone(own)

    def test_foreign_maddr_stays(self) -> None:
        made = along("sip:b@b.test;maddr=other.test")
        self.assertIs(strip_own(made, is_own)[0], made)

    def test_flow_token(self) -> None:
        """RFC 5626 section 5.3."""
        _, own = strip_own(along("sip:b@b.test", "<sip:tok%20en@us.test;lr>"), is_own)
        assert own is not None
        self.assertEqual(own.flow_tokens, ("tok en", ""))
        _, own = strip_own(along("sip:b@b.test", "<sip:us.test;lr>,<sip:t@us.test;lr>"), is_own)
        assert own is not None
        self.assertEqual(own.flow_tokens, ("", "t"))

    def test_bad_route(self) -> None:
        self.assertRaises(MalformedMessage, strip_own, along("sip:b@b.test", "<sip:x"), is_own)

    def test_other_schemes(self) -> None:
        made = along("sip:b@b.test", "<tel:+4912345>")
        self.assertIs(strip_own(made, is_own)[0], made)


class NextHopTests(SynchronousTestCase):
    """RFC 3261 section 16.6, steps 6 and 7, and the examples of 16.12.1."""

    def test_request_uri(self) -> None:
        self.assertEqual(str(next_hop(along("sip:b@b.test"))), "sip:b@b.test")

    def test_loose_route(self) -> None:
        made = along("sip:b@b.test", "<sip:p1.test;lr>,<sip:p2.test;lr>")
        self.assertEqual(str(next_hop(made)), "sip:p1.test;lr")
        self.assertEqual(made.uri_text, "sip:b@b.test")

    def test_strict_route(self) -> None:
        """16.12.1.2: the target goes to the end of Route."""
        made = along("sip:callee@u2.test", "<sip:p2.test>,<sip:p1.test;lr>")
        self.assertEqual(str(next_hop(made)), "sip:p2.test")
        self.assertEqual(made.uri_text, "sip:p2.test")
        self.assertEqual(made.get_list("route"), ["<sip:p1.test;lr>", "<sip:callee@u2.test>"])

    def test_strict_route_alone(self) -> None:
        made = along("sip:callee@u2.test", "<sip:p2.test?a=b>")
        self.assertEqual(str(next_hop(made)), "sip:p2.test")
        self.assertEqual(made.get_list("route"), ["<sip:callee@u2.test>"])


class RecordRouteTests(SynchronousTestCase):
    """RFC 3261 section 16.6 step 4; spec 10, section 4."""

    def test_one_side(self) -> None:
        self.assertEqual(
            record_route(UDP, UDP, Params.parse(";nat=yes;did=1.2")),
            ["<sip:192.0.2.1;lr;nat=yes;did=1.2>"],
        )

    def test_two_sides(self) -> None:
        self.assertEqual(
            record_route(WS, UDP, Params([("did", "1")])),
            [
                "<sip:192.0.2.1;r2=on;lr;did=1>",
                "<sip:192.0.2.1:5062;transport=ws;r2=on;lr;did=1>",
            ],
        )

    def test_addresses(self) -> None:
        for address, expected in (
            (Address("TCP", "pbx.test", 5060), "<sip:pbx.test;transport=tcp;lr>"),
            (Address("UDP", "pbx.test", 5070), "<sip:pbx.test:5070;lr>"),
            (TLS, "<sip:192.0.2.1:5061;transport=tls;lr>"),
            (Address("UDP", "2001:db8::1", 5060), "<sip:[2001:db8::1];lr>"),
        ):
            self.assertEqual(record_route(address, address), [expected])

    def test_flow_token(self) -> None:
        self.assertEqual(
            record_route(WS, WS, EMPTY, "in", "out"),
            [
                "<sip:out@192.0.2.1:5062;transport=ws;r2=on;lr>",
                "<sip:in@192.0.2.1:5062;transport=ws;r2=on;lr>",
            ],
        )
