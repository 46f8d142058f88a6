from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.errors import MalformedMessage
from pbx.sip.events import Event, accepts, subscription_state
from tests.fakes import request


class EventTests(SynchronousTestCase):
    """RFC 6665 section 8.2.1."""

    def test_package_and_id(self) -> None:
        event = Event.parse("Presence ; id=77;x=y")
        self.assertEqual((event.package, event.id), ("presence", "77"))
        self.assertEqual(str(event), "presence;id=77")

    def test_template_belongs_to_the_package(self) -> None:
        self.assertEqual(Event.parse("presence.winfo").package, "presence.winfo")

    def test_identity_is_package_and_id(self) -> None:
        self.assertEqual(Event.parse("dialog;sla"), Event.parse("Dialog"))
        self.assertNotEqual(Event.parse("dialog;id=1"), Event.parse("dialog"))
        self.assertEqual(hash(Event.parse("dialog;id=1")), hash(Event.parse("dialog;ID=1")))

    def test_bad_values(self) -> None:
        for text in ("", ";id=1", "pres ence", 'presence;id="1', "a/b", "\udcff"):
            with self.assertRaises(MalformedMessage, msg=text):
                Event.parse(text)


class SubscriptionStateTests(SynchronousTestCase):
    """RFC 6665 section 4.1.3."""

    def test_active_tells_how_long(self) -> None:
        self.assertEqual(subscription_state("active", expires=300), "active;expires=300")
        self.assertEqual(subscription_state("pending", expires=0), "pending;expires=0")

    def test_terminated_tells_why(self) -> None:
        self.assertEqual(
            subscription_state("terminated", expires=9, reason="timeout"),
            "terminated;reason=timeout",
        )
        self.assertEqual(subscription_state("terminated"), "terminated")


class AcceptTests(SynchronousTestCase):
    def chosen(self, headers: str, *types: str) -> str:
        return accepts(request("SUBSCRIBE sip:1002@pbx.test", headers), types)

    def test_default_without_accept(self) -> None:
        self.assertEqual(self.chosen("Event: a", "application/a", "application/b"), "application/a")

    def test_first_of_ours_that_is_accepted(self) -> None:
        header = "Accept: text/plain, Application/B;q=0.5\nAccept: application/c"
        self.assertEqual(self.chosen(header, "application/a", "application/b"), "application/b")

    def test_ranges(self) -> None:
        self.assertEqual(self.chosen("Accept: application/*", "application/a"), "application/a")
        self.assertEqual(self.chosen("Accept: */*", "application/a"), "application/a")

    def test_none(self) -> None:
        self.assertEqual(self.chosen("Accept: text/*", "application/a"), "")
        self.assertEqual(self.chosen("Accept:", "application/a"), "")
