"""URIs: grammar, escapes and equivalence (RFC 3261 section 19.1, RFC 3966, RFC 5118)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.errors import MalformedURI
from pbx.sip.params import Params
from pbx.sip.uri import (
    URI,
    escape_user,
    join_host_port,
    shortest_ipv6,
    split_host_port,
    unescape,
)


class ParseTests(SynchronousTestCase):
    def test_examples(self) -> None:
        """19.1.3."""
        for text, scheme, user, password, host, port, params, headers in (
            ("sip:alice@atlanta.com", "sip", "alice", None, "atlanta.com", None, "", ""),
            (
                "sip:alice:secretword@atlanta.com;transport=tcp",
                "sip",
                "alice",
                "secretword",
                "atlanta.com",
                None,
                ";transport=tcp",
                "",
            ),
            (
                "sips:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sips",
                "alice",
                None,
                "atlanta.com",
                None,
                "",
                "subject=project%20x&priority=urgent",
            ),
            (
                "sip:+1-212-555-1212:1234@gateway.com;user=phone",
                "sip",
                "+1-212-555-1212",
                "1234",
                "gateway.com",
                None,
                ";user=phone",
                "",
            ),
            ("sips:1212@gateway.com", "sips", "1212", None, "gateway.com", None, "", ""),
            ("sip:alice@192.0.2.4", "sip", "alice", None, "192.0.2.4", None, "", ""),
            (
                "sip:atlanta.com;method=REGISTER?to=alice%40atlanta.com",
                "sip",
                "",
                None,
                "atlanta.com",
                None,
                ";method=REGISTER",
                "to=alice%40atlanta.com",
            ),
            (
                "sip:alice;day=tuesday@atlanta.com",
                "sip",
                "alice;day=tuesday",
                None,
                "atlanta.com",
                None,
                "",
                "",
            ),
            ("SIP:A@ATLANTA.com:5080", "sip", "A", None, "atlanta.com", 5080, "", ""),
            ("sip:a@[2001:DB8::1]:5080", "sip", "a", None, "2001:db8::1", 5080, "", ""),
        ):
            uri = URI.parse(text)
            self.assertEqual(
                (uri.scheme, uri.user, uri.password, uri.host, uri.port),
                (scheme, user, password, host, port),
                text,
            )
            self.assertEqual((str(uri.params), uri.headers), (params, headers), text)
            self.assertEqual(str(uri), text)

    def test_bad_ones(self) -> None:
        for text in (
            "",
            "sip",
            "sip:",
            ":a@b",
            "1sip:a@b",
            "s<p:a@b",
            "sip:@b",
            "sip:a@",
            "sip:a@b@c",
            "sip:a b@c",
            "sip:a@b c",
            'sip:"a"@b',
            "<sip:a@b>",
            "sip:a@b:",
            "sip:a@b:99999",
            "sip:a@b:+1",
            "sip:a@b:\u0663",
            "sip:a@b:50:60",
            "sip:a@b_!",
            "sip:a@b\u00e4",
            "sip:a@[::1",
            "sip:a@[::g]",
            "sip:a@[1.2.3.4]",
            "sip:a@[fe80::1%eth0]",
            "sip:a@[::1]x",
            "sip:a@[::1]:",
            "sip:a@2001:db8::1",
            "tel:",
            "tel:;x",
            "mailto:",
            "mailto:a b",
        ):
            self.assertRaises(MalformedURI, URI.parse, text)

    def test_other_schemes(self) -> None:
        uri = URI.parse("tel:+1-201-555-0123;phone-context=example.com")
        self.assertEqual((uri.user, uri.host, uri.is_sip), ("+1-201-555-0123", "", False))
        self.assertEqual(uri.params.get("phone-context"), "example.com")
        uri = URI.parse("urn:service:sos.fire")
        self.assertEqual((uri.scheme, uri.opaque), ("urn", "service:sos.fire"))
        self.assertEqual(str(uri), "urn:service:sos.fire")

    def test_transport(self) -> None:
        for text, expected in (
            ("sip:a", ""),
            ("sip:a;Transport=wS", "WS"),
            ("sip:a;transport=tcp", "TCP"),
            ("sips:a;transport=tcp", "TLS"),
        ):
            self.assertEqual(URI.parse(text).transport, expected, text)

    def test_hosts(self) -> None:
        for text, expected in (
            ("A-b_c.D.", ("a-b_c.d.", None)),
            ("a:0", ("a", 0)),
            ("[2001:0db8:0:0::0001]:05060", ("2001:db8::1", 5060)),
            ("[::FFFF:192.0.2.1]", ("::ffff:192.0.2.1", None)),
        ):
            self.assertEqual(split_host_port(text), expected, text)
        self.assertEqual(join_host_port("2001:db8::1", 1), "[2001:db8::1]:1")
        self.assertEqual(join_host_port("a", None), "a")

    def test_three_colons(self) -> None:
        """RFC 5118 section 4.10."""
        self.assertEqual(shortest_ipv6("2001:db8:::192.0.2.1"), "2001:db8::c000:201")
        self.assertEqual(shortest_ipv6("2001:db8::::192.0.2.1"), "")


class WriteTests(SynchronousTestCase):
    def test_made_ones(self) -> None:
        self.assertEqual(
            str(URI("sip", "a b@c", "PBX.test", 5080, Params([("lr", None), ("x", "y")]))),
            "sip:a%20b%40c@pbx.test:5080;lr;x=y",
        )
        self.assertEqual(str(URI("sip", "", "2001:db8::1")), "sip:[2001:db8::1]")

    def test_replace_keeps_the_rest_as_written(self) -> None:
        uri = URI.parse("sip:%61lice:pw@a.test:5080;X=Y;lr?h=v")
        self.assertEqual(str(uri.replace(host="b.test")), "sip:%61lice:pw@b.test:5080;X=Y;lr?h=v")
        self.assertEqual(
            str(uri.replace(user="bob", port=None, headers="")), "sip:bob:pw@a.test;X=Y;lr"
        )
        self.assertEqual(str(URI.parse("urn:x").replace(host="h")), "urn:x")

    def test_escapes(self) -> None:
        self.assertEqual(unescape("%41%zz%4"), "A%zz%4")
        self.assertEqual(unescape("%C3%A4"), "ä")
        self.assertEqual(escape_user("ä;b #"), "%C3%A4;b%20%23")
        self.assertEqual(unescape(escape_user("\udcff")), "\udcff")


class EquivalenceTests(SynchronousTestCase):
    """19.1.4, with all the examples of the RFC."""

    def equal(self, one: str, two: str) -> bool:
        first, second = URI.parse(one), URI.parse(two)
        self.assertEqual(first == second, second == first)
        if first == second:
            self.assertEqual(hash(first), hash(second), (one, two))
        return first == second

    def test_equal(self) -> None:
        for one, two in (
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
            ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
            ("sip:a@[2001:db8::1]", "sip:a@[2001:DB8:0::1]"),
            ("tel:+1-201-555-0123", "tel:+12015550123"),
            ("urn:x", "urn:x"),
        ):
            self.assertTrue(self.equal(one, two), (one, two))

    def test_not_equal(self) -> None:
        for one, two in (
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:a@b", "sips:a@b"),
            ("sip:a@b", "sip:b"),
            ("sip:a:x@b", "sip:a:y@b"),
            ("sip:a@b;maddr=c", "sip:a@b"),
            ("sip:a@b;ttl=1", "sip:a@b"),
            ("sip:a@b;user=phone", "sip:a@b"),
            ("sip:a%3Bb@c", "sip:a;b@c"),
            ("tel:+12015550123;x=1", "tel:+12015550123"),
            ("urn:x", "urn:X"),
        ):
            self.assertFalse(self.equal(one, two), (one, two))

    def test_nothing_else_is_a_uri(self) -> None:
        self.assertNotEqual(URI.parse("sip:a@b"), "sip:a@b")
