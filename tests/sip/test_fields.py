"""Typed header values, parameters and quoting."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.errors import MalformedMessage
from pbx.sip.fields import CSeq, NameAddr, Via, parse_name_addrs, parse_number
from pbx.sip.headers import canonical, pretty
from pbx.sip.params import Params, quote, split_outside, unquote
from pbx.sip.uri import URI


class NameAddrTests(SynchronousTestCase):
    """RFC 3261 sections 20.10 and 25.1."""

    def test_table(self) -> None:
        for text, display, uri, params in (
            ("<sip:a@b>", "", "sip:a@b", ""),
            ("<sip:a@b;x=y>;tag=1", "", "sip:a@b;x=y", ";tag=1"),
            ("sip:a@b;tag=1", "", "sip:a@b", ";tag=1"),
            ("Alice <sip:a@b>", "Alice", "sip:a@b", ""),
            ("Alice B. C<sip:a@b> ; tag = 1", "Alice B. C", "sip:a@b", ";tag = 1"),
            ('"Alice \\"<A>\\", B" <sip:a@b>;tag=1', 'Alice "<A>", B', "sip:a@b", ";tag=1"),
            ('"\\\\" <sip:a@b>', "\\", "sip:a@b", ""),
            ('""<sip:a@b>', "", "sip:a@b", ""),
            ("Größe <sip:a@b>", "Größe", "sip:a@b", ""),
            ("< sip:a@b >", "", "sip:a@b", ""),
            ("*", "", "*", ""),
            ("tel:+49123;x=y", "", "tel:+49123", ";x=y"),
            ("<tel:+49123;x=y>", "", "tel:+49123;x=y", ""),
        ):
            value = NameAddr.parse(text)
            self.assertEqual(
                (value.display, value.uri_text, str(value.params)), (display, uri, params), text
            )
            self.assertEqual(str(value), text)

    def test_bad_ones(self) -> None:
        for text in (
            "<sip:a@b",
            '"Alice <sip:a@b>',
            '"Alice" x <sip:a@b>',
            'x "Alice" <sip:a@b>',
            "Bell, Alexander <sip:a@b>",
            "<sip:a@b> x",
            "sip:a@b?x=y",
            "sip:a,b@c",
            '"open',
            '<sip:a@b>;x="y',
            "<sip:a@b>;x=<y",
        ):
            self.assertRaises(MalformedMessage, NameAddr.parse, text)

    def test_tags(self) -> None:
        for text, tag in (
            ("<sip:a@b>", None),
            ("<sip:a@b>;tag=x", "x"),
            ("<sip:a@b>;Tag=x", "x"),
            ("<sip:a@b>;y=z;TAG=x", "x"),
            ('<sip:a@b>;y=";tag=no";tag=x', "x"),
            ("<sip:a@b>;tag", ""),
            ("<sip:a@b;tag=no>", None),
            ('<sip:a@b>;+sip.instance="<urn:x>;tag=no";tag=x', "x"),
            ("sip:a@b;tag=x", "x"),
        ):
            self.assertEqual(NameAddr.parse(text).tag, tag, text)

    def test_lists(self) -> None:
        values = parse_name_addrs('"A, B" <sip:a,b@c>;q=1 , <sip:d@e>,sip:f@g;x="1,2"')
        self.assertEqual([str(value.uri) for value in values], ["sip:a,b@c", "sip:d@e", "sip:f@g"])

    def test_made_ones(self) -> None:
        uri = URI.parse("sip:a@b")
        self.assertEqual(str(NameAddr(uri)), "<sip:a@b>")
        self.assertEqual(str(NameAddr(uri, "A B", Params([("q", "1")]))), "A B <sip:a@b>;q=1")
        self.assertEqual(str(NameAddr(uri, 'A "B"')), '"A \\"B\\"" <sip:a@b>')
        copy = NameAddr.parse("sip:x@y;q=1").with_uri(uri)
        self.assertEqual(str(copy), "<sip:a@b>;q=1")


class ViaTests(SynchronousTestCase):
    """20.42."""

    def test_table(self) -> None:
        for text, transport, host, port in (
            ("SIP/2.0/UDP a.test;branch=z9hG4bK1", "UDP", "a.test", None),
            ("SIP/2.0/tls A.test:5061;branch=z9hG4bK1", "TLS", "a.test", 5061),
            ("SIP / 2.0 / UDP   a.test : 5060 ; branch = z9hG4bK1", "UDP", "a.test", 5060),
            ("SIP\t/2.0/\tUDP\ta.test;branch=z9hG4bK1", "UDP", "a.test", None),
            ("SIP/2.0/WSS x.invalid;branch=z9hG4bK1;rport", "WSS", "x.invalid", None),
            ("SIP/2.0/X-Own [2001:DB8::1]:1;branch=z9hG4bK1", "X-OWN", "2001:db8::1", 1),
        ):
            via = Via.parse(text)
            self.assertEqual((via.transport, via.host, via.port), (transport, host, port), text)
            self.assertEqual(via.branch, "z9hG4bK1")
            self.assertEqual(str(via), text)

    def test_bad_ones(self) -> None:
        for text in (
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0 a.test",
            "SIP/2.0/UDP a.test b.test",
            "SIP/2.0/UDP a.test:x",
            "SIP/2.0/UDP 2001:db8::1",
            "SIP//UDP a.test",
            'SIP/2.0/UDP a.test;branch="x',
            "SIP/2.0/UDP a.test;branch=<x;",
            "/2.0/UDP a.test",
        ):
            self.assertRaises(MalformedMessage, Via.parse, text)


class SmallTests(SynchronousTestCase):
    def test_cseq(self) -> None:
        for text, number, method in (
            ("1 INVITE", 1, "INVITE"),
            ("0009 \t INVITE", 9, "INVITE"),
            ("2147483647 X-Own", 2147483647, "X-Own"),
        ):
            cseq = CSeq.parse(text)
            self.assertEqual((cseq.number, cseq.method), (number, method))
        for text in ("", "1", "INVITE", "-1 INVITE", "\u0661 INVITE", "1\x0bINVITE", "1 A B"):
            self.assertRaises(MalformedMessage, CSeq.parse, text)

    def test_numbers(self) -> None:
        self.assertEqual(parse_number(" 0000000000000000060\t", "Expires"), 60)
        self.assertEqual(parse_number("4294967295", "Expires"), 4294967295)
        for text in ("", "x", "1.5", "\u0661", "4294967296", "1" * 5000):
            self.assertRaises(MalformedMessage, parse_number, text, "Expires")

    def test_params(self) -> None:
        params = Params.parse(';A=1 ; b; c = "x;\\"y" ;;d=')
        self.assertEqual(params.get("a"), "1")
        self.assertEqual(params.get("b"), "")
        self.assertEqual(params.get("c"), 'x;"y')
        self.assertEqual(params.get("d"), "")
        self.assertIsNone(params.get("e"))
        self.assertIn("a", params)
        self.assertNotIn("e", params)
        self.assertEqual(len(params), 4)
        self.assertEqual(str(params), ';A=1 ; b; c = "x;\\"y" ;;d=')

    def test_edited_params(self) -> None:
        params = Params.parse(";A=1;b;a=2")
        self.assertEqual(str(params.with_value("a", "3")), ";a=3;b")
        self.assertEqual(str(params.with_value("c", None)), ";A=1;b;a=2;c")
        self.assertEqual(str(params.without("a", "x")), ";b")
        self.assertIs(params.without("x"), params)

    def test_quoting(self) -> None:
        for text in ("", "a", 'a"b', "a\\b", '\\"', "ä\0"):
            self.assertEqual(unquote(quote(text)), text)
        self.assertEqual(unquote("plain"), "plain")

    def test_split_outside(self) -> None:
        self.assertEqual(
            split_outside('a,"b,\\",c",<d,e>,, f ', ","), ["a", '"b,\\",c"', "<d,e>", "f"]
        )
        self.assertEqual(split_outside('a,"b,c', ","), ["a", '"b,c'])

    def test_header_names(self) -> None:
        """7.3.3."""
        for spelling, name in (
            ("v", "via"),
            ("V", "via"),
            ("VIA ", "via"),
            ("m", "contact"),
            ("x", "session-expires"),
            ("o", "event"),
            ("X-Own", "x-own"),
        ):
            self.assertEqual(canonical(spelling), name)
        for name, spelling in (
            ("www-authenticate", "WWW-Authenticate"),
            ("call-id", "Call-ID"),
            ("cseq", "CSeq"),
            ("x-own", "X-Own"),
        ):
            self.assertEqual(pretty(name), spelling)
