"""Named lists of destinations."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pbx.commands import CommandFailed
from pbx.services.blacklists import MAX_LISTS, Blacklists, parse_rule
from pbx.sip.address import Address


class BlacklistTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.lists = Blacklists(self.clock)

    def test_rule_matches(self) -> None:
        """Protocol, network, port and pattern, each of which may be left open."""
        for rule, expected in (
            ("(udp, 192.0.2.0/24, 5060)", [True, False, False, False]),
            ("(any, 192.0.2.0/24, 0)", [True, True, True, False]),
            ("( tcp , 192.0.2.7 )", [False, True, False, False]),
            ('(any, 0.0.0.0/0, 0, "*premium*")', [False, False, False, False]),
            ("!(any, 192.0.2.0/24, 0)", [False, False, False, True]),
        ):
            self.lists.add_blacklist_rule("x", rule)
            places = (
                Address("UDP", "192.0.2.7", 5060),
                Address("TCP", "192.0.2.7", 5060),
                Address("UDP", "192.0.2.7", 9),
                Address("UDP", "198.51.100.1", 5060),
            )
            self.assertEqual([self.lists.blocks("x", at) for at in places], expected, rule)
            self.lists.del_blacklist_rule("x", rule)
        self.lists.add_blacklist_rule("x", '(any, ::/0, 0, "*premium*")')
        there = Address("UDP", "2001:db8::1", 5060)
        self.assertTrue(self.lists.blocks("x", there, "sip:premium@x"))
        self.assertFalse(self.lists.blocks("x", there, "sip:bob@x"))
        self.assertFalse(self.lists.blocks("y", there))

    def test_expiry(self) -> None:
        self.lists.add_blacklist_rule("x", "(any, 192.0.2.7)", "60")
        self.clock.advance(59)
        self.assertTrue(self.lists.blocks("x", Address("UDP", "192.0.2.7", 1)))
        self.clock.advance(1)
        self.assertFalse(self.lists.blocks("x", Address("UDP", "192.0.2.7", 1)))

    def test_bad_rules(self) -> None:
        for bad in ("", "()", "(any)", "(sctp, 1.2.3.4)", "(any, x)", "(any, 1.2.3.4, 70000)"):
            with self.assertRaises(CommandFailed, msg=bad):
                parse_rule(bad)
        self.assertEqual(self.lists.list_blacklists(), [])

    def test_bounds(self) -> None:
        for number in range(MAX_LISTS):
            self.lists.add_blacklist_rule(str(number), "(any, 192.0.2.7)")
        with self.assertRaises(CommandFailed):
            self.lists.add_blacklist_rule("more", "(any, 192.0.2.7)")
        self.lists.add_blacklist_rule("0", "(any, 192.0.2.8)")
