"""NAT tests and the repair of Contact."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.address import Address
from pbx.sip.message import Request, response_to
from pbx.sip.nat import (
    NatTest,
    behind_nat,
    is_private,
    nat_test,
    needs_repair_reply,
    repair_contact,
    same_host,
)
from pbx.sip.via import mark_received
from tests.fakes import request

PUBLIC = Address("UDP", "198.51.100.9", 5060)


def from_(via: str, contact: str = "", body: bytes = b"") -> Request:
    return request(
        "INVITE sip:1002@pbx.test",
        f"Contact: {contact}" if contact else "",
        via=f"SIP/2.0/UDP {via};branch=z9hG4bK1",
        body=body,
    )


class PrivateTests(SynchronousTestCase):
    def test_table(self) -> None:
        for host, private in (
            ("10.0.0.1", True),
            ("172.16.0.1", True),
            ("172.31.255.255", True),
            ("172.32.0.1", False),
            ("172.15.0.1", False),
            ("192.168.1.1", True),
            ("192.169.1.1", False),
            ("100.64.0.1", True),
            ("100.127.0.1", True),
            ("100.128.0.1", False),
            ("127.0.0.1", True),
            ("8.8.8.8", False),
            ("10.0.0", False),
            ("10.0.0.256", False),
            ("10.0.0.x", False),
            ("10.example.net", False),
            ("192.0.0.1", False),
        ):
            self.assertEqual(is_private(host), private, host)

    def test_carrier(self) -> None:
        """RFC 7335: 192.0.0.0/29, bit 128."""
        self.assertTrue(is_private("192.0.0.7", carrier=True))
        self.assertFalse(is_private("192.0.0.8", carrier=True))


class BehindNatTests(SynchronousTestCase):
    """Rule R2: test 23."""

    def test_table(self) -> None:
        for via, contact, expected in (
            ("198.51.100.9", "<sip:a@198.51.100.9>", False),
            ("198.51.100.9:5060", "", False),
            ("198.51.100.9", "<sip:a@10.0.0.1>", True),
            ("198.51.100.9", "<sip:a@198.51.100.9>, <sip:a@192.168.0.1>", True),
            ("198.51.100.10", "", True),
            ("phone.test", "", True),
            ("198.51.100.9:5080", "", True),
            ("198.51.100.9;maddr=198.51.100.10", "", True),
            ("198.51.100.9", "*", False),
            ("198.51.100.9", "<sip:a@10.0.0.1:x>", False),
            ("198.51.100.9", "<tel:+49123>", False),
        ):
            made = from_(via, contact)
            self.assertEqual(behind_nat(made, PUBLIC), expected, (via, contact))
            self.assertEqual(nat_test(made, PUBLIC, 23), expected, (via, contact))

    def test_private_source_counts(self) -> None:
        """On a private LAN everybody is "NATed" (R2, last line)."""
        peer = Address("UDP", "192.168.1.20", 5060)
        self.assertTrue(behind_nat(from_("192.168.1.20"), peer))

    def test_our_own_received_does_not_count(self) -> None:
        made = from_("198.51.100.9")
        mark_received(made, PUBLIC)
        self.assertFalse(behind_nat(made, PUBLIC))

    def test_ipv6_spelling_does_not_count(self) -> None:
        peer = Address("UDP", "2001:db8::1", 5060)
        self.assertFalse(behind_nat(from_("[2001:DB8:0::1]"), peer))
        self.assertTrue(behind_nat(from_("[2001:db8::2]"), peer))
        self.assertFalse(same_host("2001:db8::zz", "2001:db8::1"))

    def test_single_bits(self) -> None:
        for bit, made, expected in (
            (NatTest.CONTACT_PRIVATE, from_("10.0.0.1:9", "<sip:a@1.2.3.4>"), False),
            (NatTest.VIA_ADDRESS, from_("10.0.0.1"), True),
            (NatTest.VIA_PRIVATE, from_("1.2.3.4:9", "<sip:a@10.0.0.1>"), False),
            (NatTest.VIA_PRIVATE, from_("10.0.0.1"), True),
            (NatTest.VIA_PORT, from_("10.0.0.1"), False),
            (NatTest.VIA_PORT, from_("10.0.0.1:9"), True),
            (NatTest.CONTACT_ADDRESS, from_("1.2.3.4", "<sip:a@198.51.100.9:9>"), False),
            (NatTest.CONTACT_ADDRESS, from_("1.2.3.4", "<sip:a@1.2.3.4>"), True),
            (NatTest.CONTACT_PORT, from_("1.2.3.4", "<sip:a@1.2.3.4>"), False),
            (NatTest.CONTACT_PORT, from_("1.2.3.4", "<sip:a@1.2.3.4:9>"), True),
            (NatTest.CONTACT_PRIVATE, from_("1.2.3.4", "<sip:a@192.0.0.1>"), False),
            (
                NatTest.CONTACT_PRIVATE | NatTest.CARRIER,
                from_("1.2.3.4", "<sip:a@192.0.0.1>"),
                True,
            ),
        ):
            self.assertEqual(nat_test(made, PUBLIC, bit), expected, (bit, made.lines))

    def test_sdp(self) -> None:
        private = b"v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\nc=IN IP4 10.0.0.1/127\r\n"
        public = b"v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\nc=\r\n"
        self.assertTrue(nat_test(from_("1.2.3.4", body=private), PUBLIC, NatTest.SDP_PRIVATE))
        self.assertFalse(nat_test(from_("1.2.3.4", body=public), PUBLIC, NatTest.SDP_PRIVATE))


class RepairTests(SynchronousTestCase):
    def assert_repaired(self, contact: str, peer: Address, expected: str) -> None:
        made = from_("10.0.0.1", contact).copy()
        repair_contact(made, peer)
        self.assertEqual(made.get("contact"), expected)

    def test_udp(self) -> None:
        self.assert_repaired(
            '"A, B" <sip:a%20b@10.0.0.1:5070;ob;maddr=10.0.0.1?x=y>;expires=60',
            PUBLIC,
            '"A, B" <sip:a%20b@198.51.100.9:5060;ob?x=y>;expires=60',
        )

    def test_every_contact(self) -> None:
        self.assert_repaired(
            "<sip:a@10.0.0.1>;q=1, sip:b@10.0.0.2;q=0.5",
            PUBLIC,
            "<sip:a@198.51.100.9:5060>;q=1, <sip:b@198.51.100.9:5060>;q=0.5",
        )

    def test_browser(self) -> None:
        """Oddity O10."""
        self.assert_repaired(
            "<sip:x@y.invalid;transport=ws;ob>",
            Address("WS", "198.51.100.9", 50123),
            "<sip:x@198.51.100.9:50123;transport=ws;ob>",
        )
        self.assert_repaired(
            "<sip:x@y.invalid;transport=ws>",
            Address("WSS", "198.51.100.9", 50123),
            "<sip:x@198.51.100.9:50123;transport=wss>",
        )

    def test_transport_of_the_flow(self) -> None:
        self.assert_repaired("<sip:x@10.0.0.1;Transport=tcp>", PUBLIC, "<sip:x@198.51.100.9:5060>")
        self.assert_repaired(
            "<sip:x@10.0.0.1>",
            Address("TCP", "2001:db8::1", 4000),
            "<sip:x@[2001:db8::1]:4000;transport=tcp>",
        )

    def test_what_stays(self) -> None:
        for contact in ("*", "<tel:+49123>", "<sip:a@b:x>", "<sip:A@198.51.100.9:5060;X>"):
            self.assert_repaired(contact, PUBLIC, contact)

    def test_replies(self) -> None:
        invite = from_("10.0.0.1")
        browser = Address("WS", "198.51.100.9", 50123)
        for contact, peer, expected in (
            ("<sip:a@10.0.0.1>", PUBLIC, True),
            ("<sip:a@1.2.3.4>", PUBLIC, False),
            ("<sip:a@y.invalid>", browser, True),
            ("<sip:a@y.invalid>", PUBLIC, False),
        ):
            answer = response_to(invite, 200, headers=[("Contact", contact)])
            self.assertEqual(needs_repair_reply(answer, peer), expected, contact)
        self.assertFalse(needs_repair_reply(response_to(invite, 486), browser))
