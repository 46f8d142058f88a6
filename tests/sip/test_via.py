"""Via: what is stamped on it, where responses go, and loops."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.address import Address
from pbx.sip.errors import MalformedMessage
from pbx.sip.fields import Via
from pbx.sip.message import Request
from pbx.sip.via import find_loop, loop_token, mark_received, new_branch, response_destination
from tests.fakes import request

PEER = Address("UDP", "198.51.100.9", 40000)


def vias(*values: str) -> Request:
    """A request with these Via lines."""
    made = request("OPTIONS sip:pbx.test")
    made.replace_all("via", list(values))
    return made


class MarkReceivedTests(SynchronousTestCase):
    """Rule R1: force_rport for everybody (RFC 3581 section 4)."""

    def assert_marked(self, before: str, after: str, peer: Address = PEER) -> None:
        made = vias(before)
        mark_received(made, peer)
        self.assertEqual(made.get_all("via"), [after])

    def test_empty_rport_is_filled(self) -> None:
        self.assert_marked(
            "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1;rport;x=1",
            "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1;rport=40000;x=1;received=198.51.100.9",
        )

    def test_rport_comes_unasked(self) -> None:
        self.assert_marked(
            "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1",
            "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1;received=198.51.100.9;rport=40000",
        )

    def test_forged_values_are_replaced(self) -> None:
        """Nobody may direct our responses at somebody else."""
        self.assert_marked(
            "SIP/2.0/UDP 10.0.0.1;Received=203.0.113.1;RPORT=1;rport=2;branch=z9hG4bK1",
            "SIP/2.0/UDP 10.0.0.1;rport=40000;branch=z9hG4bK1;received=198.51.100.9",
        )

    def test_received_even_when_it_is_the_same(self) -> None:
        """Spec 15, item 5."""
        self.assert_marked(
            "SIP/2.0/UDP 198.51.100.9:40000;branch=z9hG4bK1",
            "SIP/2.0/UDP 198.51.100.9:40000;branch=z9hG4bK1;received=198.51.100.9;rport=40000",
        )

    def test_only_the_top_value_changes(self) -> None:
        made = vias(
            'SIP/2.0/UDP a.test;branch=z9hG4bK2;q="1,2", SIP / 2.0 / TCP  b.test;branch=z9hG4bK1',
            "SIP/2.0/UDP c.test",
        )
        mark_received(made, PEER)
        self.assertEqual(
            made.lines[:2],
            [
                'Via: SIP/2.0/UDP a.test;branch=z9hG4bK2;q="1,2";received=198.51.100.9;rport=40000'
                ", SIP / 2.0 / TCP  b.test;branch=z9hG4bK1",
                "Via: SIP/2.0/UDP c.test",
            ],
        )

    def test_spelling_of_the_rest_stays(self) -> None:
        self.assert_marked(
            "SIP / 2.0 / Udp  Host.Test : 5080 ;Branch=z9hG4bK1",
            "SIP / 2.0 / Udp  Host.Test : 5080;Branch=z9hG4bK1;received=198.51.100.9;rport=40000",
        )

    def test_ipv6(self) -> None:
        """RFC 5118 section 4.5: written without brackets."""
        self.assert_marked(
            "SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bK1",
            "SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bK1;received=2001:db8::9:255;rport=7",
            Address("UDP", "2001:db8::9:255", 7),
        )

    def test_the_typed_value_knows(self) -> None:
        made = vias("SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1")
        self.assertIsNone(made.via.params.get("received"))
        mark_received(made, PEER)
        self.assertEqual(made.via.params.get("received"), "198.51.100.9")
        self.assertEqual(made.via.branch, "z9hG4bK1")

    def test_no_good_via(self) -> None:
        for value in ("", "SIP/2.0/UDP", "SIP/2.0 a.test", "rubbish"):
            self.assertRaises(MalformedMessage, mark_received, vias(value), PEER)


class ResponseDestinationTests(SynchronousTestCase):
    """RFC 3261 section 18.2.2 and RFC 3581 section 4."""

    def test_table(self) -> None:
        for via, transport, expected in (
            ("a.test", "UDP", ("a.test", 5060)),
            ("a.test:5080", "UDP", ("a.test", 5080)),
            ("a.test", "TLS", ("a.test", 5061)),
            ("a.test;received=192.0.2.1", "UDP", ("192.0.2.1", 5060)),
            ("a.test:5080;received=192.0.2.1", "UDP", ("192.0.2.1", 5080)),
            ("a.test:5080;received=192.0.2.1;rport=9", "UDP", ("192.0.2.1", 9)),
            ("a.test:5080;received=192.0.2.1;rport", "UDP", ("192.0.2.1", 5080)),
            ("a.test:5080;received=192.0.2.1;rport=99999", "UDP", ("192.0.2.1", 5080)),
            ("a.test:5080;rport=9", "UDP", ("a.test", 5080)),
            ("a.test;maddr=224.2.0.1;received=192.0.2.1;rport=9", "UDP", ("224.2.0.1", 5060)),
            ("[2001:db8::1]:5080;received=[2001:db8::2]", "UDP", ("2001:db8::2", 5080)),
            ("[2001:db8::1]", "TCP", ("2001:db8::1", 5060)),
        ):
            value = Via.parse(f"SIP/2.0/{transport} {via}")
            self.assertEqual(response_destination(value, transport), expected, via)


class LoopTests(SynchronousTestCase):
    """RFC 3261 section 16.3 step 4, RFC 5393 section 4.2."""

    def forwarded(self, made: Request) -> Request:
        """What we send on comes back through another proxy."""
        copy = made.copy()
        copy.prepend("via", f"SIP/2.0/UDP us.test;branch={new_branch(loop_token(made))}")
        copy.prepend("via", "SIP/2.0/UDP them.test;branch=z9hG4bK-x.y")
        return copy

    def is_ours(self, host: str) -> bool:
        return host == "us.test"

    def test_unchanged_is_a_loop(self) -> None:
        back = self.forwarded(request("MESSAGE sip:1002@pbx.test"))
        self.assertTrue(find_loop(back, self.is_ours))

    def test_one_line_of_vias(self) -> None:
        back = self.forwarded(request("MESSAGE sip:1002@pbx.test"))
        back.replace_all("via", [", ".join(back.get_all("via"))])
        self.assertTrue(find_loop(back, self.is_ours))

    def test_another_target_is_a_spiral(self) -> None:
        back = self.forwarded(request("MESSAGE sip:1002@pbx.test"))
        back.uri_text = "sip:1003@pbx.test"
        self.assertFalse(find_loop(back, self.is_ours))

    def test_another_route_is_a_spiral(self) -> None:
        back = self.forwarded(request("MESSAGE sip:1002@pbx.test"))
        back.append("route", "<sip:them.test;lr>")
        self.assertFalse(find_loop(back, self.is_ours))

    def test_via_of_others_does_not_count(self) -> None:
        back = self.forwarded(request("MESSAGE sip:1002@pbx.test"))
        self.assertFalse(find_loop(back, lambda host: False))

    def test_one_via_is_no_loop(self) -> None:
        asked: list[str] = []

        def own(host: str) -> bool:
            asked.append(host)
            return True

        self.assertFalse(find_loop(request("MESSAGE sip:1002@pbx.test"), own))
        self.assertEqual(asked, [])

    def test_ack_and_cancel_are_like_their_invite(self) -> None:
        invite = request("INVITE sip:1002@pbx.test")
        cancel = request("CANCEL sip:1002@pbx.test")
        self.assertEqual(loop_token(invite), loop_token(cancel))
        self.assertNotEqual(loop_token(invite), loop_token(request("INVITE sip:2@pbx.test")))
        self.assertNotEqual(loop_token(invite), loop_token(invite, "trusted"))

    def test_branches_differ(self) -> None:
        branches = {new_branch() for _ in range(1000)}
        self.assertEqual(len(branches), 1000)
        self.assertTrue(all(branch.startswith("z9hG4bK") for branch in branches))
