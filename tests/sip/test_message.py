"""Messages as values: what a copy and an excerpt have in common with their original."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.fakes import request


class ExcerptTests(SynchronousTestCase):
    def test_only_what_is_wanted(self) -> None:
        """All lines of it, in order and as they came, and nothing else."""
        original = request(
            "INVITE sip:1002@pbx.test",
            "Record-Route: <sip:192.0.2.8;lr>\n"
            "m: <sip:1001@192.0.2.50>\n"
            "Record-Route: <sip:192.0.2.9;lr>",
        )
        original.set_body(b"v=0\r\n")
        kept = original.excerpt(frozenset(("contact", "record-route")))
        self.assertEqual((kept.method, kept.uri_text), ("INVITE", "sip:1002@pbx.test"))
        self.assertEqual(kept.names, ["record-route", "contact", "record-route"])
        self.assertEqual(kept.lines[1], "m: <sip:1001@192.0.2.50>")
        self.assertEqual((kept.body, kept.has("via")), (b"", False))
        kept.set("contact", "<sip:other@192.0.2.50>")
        self.assertEqual(original.get("contact"), "<sip:1001@192.0.2.50>")
