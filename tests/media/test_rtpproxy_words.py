"""RTPProxy's commands and replies."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pbx.errors import MediaFailed
from pbx.media.rtpproxy.words import Digit, Ice, Update, notification, updated

PLAIN = Update(call="c", host="192.0.2.50", port=4000, from_tag="caller")
BROWSER = Update(call="c", host="192.0.2.50", port=4000, from_tag="caller", towards_browser=True)


class CommandTests(SynchronousTestCase):
    def test_offer_of_a_phone(self) -> None:
        """What a browser needs is asked for; words hold no space."""
        update = Update(
            call="a b",
            host="192.0.2.50",
            port=4000,
            from_tag="caller",
            payload_types=(0, 8, 101),
            towards_browser=True,
            notify=("fd:6", "quiet:a b"),
            local="192.0.2.1",
        )
        self.assertEqual(
            update.text("U"),
            "Uc0,8,101l192.0.2.1 a%20b 192.0.2.50 4000 caller fd:6 quiet%3Aa%20b && M4:1 S && M5:1 S",
        )

    def test_answer_of_a_browser(self) -> None:
        """Fingerprint, credentials and candidates; no notification words in an answer."""
        update = Update(
            call="c",
            host="192.0.2.50",
            port=4000,
            from_tag="caller",
            to_tag="callee",
            symmetric=False,
            ipv6=True,
            fingerprint="SHA-256 AB:CD",
            active=False,
            ice=Ice(
                ufrag="u", password="p", candidates=["1 1 udp 9 192.0.2.50 4000 typ host"] * 12
            ),
            digits=("d:c", 101),
            notify=("fd:6", "x"),
        )
        first, *others = update.text("L").split(" && ")
        self.assertEqual(first, "La6 c 192.0.2.50 4000 caller callee")
        self.assertEqual(
            others[:4],
            [
                "M3:1 d%3Ac 101",
                "M4:1 P SHA-256 AB:CD",
                "M5:1 A u p",
                "M5:1 C 1 1 udp 9 192.0.2.50 4000 typ host",
            ],
        )
        self.assertEqual(len(others), 13)


class ReplyTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """Port first."""
        found = updated("60166 192.0.2.1", PLAIN)
        self.assertEqual((found.host, found.port), ("192.0.2.1", 60166))
        self.assertEqual(updated("60166 2001:db8::1 6", PLAIN).host, "2001:db8::1")

    def test_browser(self) -> None:
        """Modules answer in order."""
        found = updated(
            "60166 192.0.2.1 && passive SHA-256 55:E9 && BzOZ FhmL c:1%201%20UDP%209%20192.0.2.1"
            "%2060166%20typ%20host",
            BROWSER,
        )
        self.assertEqual((found.setup, found.fingerprint), ("passive", "sha-256 55:E9"))
        self.assertEqual((found.ufrag, found.password), ("BzOZ", "FhmL"))
        self.assertEqual(found.candidates, ["1 1 UDP 9 192.0.2.1 60166 typ host"])

    def test_refusals(self) -> None:
        """Every error, also of a module only, is a failed command."""
        for reply in ("E35", "E50", "0", "", "x y", "60166 192.0.2.1 && 0 && -1"):
            self.assertRaises(MediaFailed, updated, reply, PLAIN)
        for reply in ("60166 192.0.2.1", "60166 192.0.2.1 && a b && c", "1 a && a b c && u p"):
            self.assertRaises(MediaFailed, updated, reply, BROWSER)


class NotificationTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """A key with its length, or a session that is gone."""
        self.assertEqual(notification("d:c 5 10 960 0"), Digit("d:c", "5", 120))
        self.assertEqual(notification("quiet:c"), "quiet:c")
