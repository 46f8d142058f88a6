"""What delivery tells of the messages on the wire."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pbx.interfaces import IFlow, IWireTap
from pbx.sip.errors import MalformedMessage, MalformedURI
from pbx.transport.delivery import Delivery
from tests.fakes import FakeFlow
from tests.transport.parts import OPTIONS, Tap


@implementer(IWireTap)
class BrokenTap:
    def message_seen(self, sent: bool, flow: IFlow, data: bytes) -> None:
        raise ValueError("no disk")


class WireTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.delivery = Delivery()
        self.flow = FakeFlow()

    def show(self) -> None:
        assert self.delivery.watch is not None
        self.delivery.watch(False, self.flow, OPTIONS)

    def test_nobody_taps(self) -> None:
        """The transports test one flag."""
        self.assertIsNone(self.delivery.watch)

    def test_every_tap_sees_it(self) -> None:
        one, other = Tap(), Tap()
        self.delivery.tap(one)
        self.delivery.tap(other)
        self.show()
        self.delivery.untap(one)
        self.show()
        self.assertEqual((len(one.seen), len(other.seen)), (1, 2))
        self.assertEqual(other.seen[0], (False, self.flow.peer, OPTIONS))

    def test_the_last_one_switches_off(self) -> None:
        tap = Tap()
        self.delivery.tap(tap)
        self.delivery.untap(tap)
        self.delivery.untap(tap)
        self.assertIsNone(self.delivery.watch)

    def test_a_tap_that_fails_harms_nobody(self) -> None:
        tap = Tap()
        self.delivery.tap(BrokenTap())
        self.delivery.tap(tap)
        self.show()
        self.assertEqual(len(tap.seen), 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class CountersTests(SynchronousTestCase):
    def test_what_could_not_be_read(self) -> None:
        """Bad URIs, and what is no answerable request, under the names of the reference."""
        delivery, flow = Delivery(), FakeFlow()
        delivery.malformed_received(MalformedURI("no host"), flow)
        delivery.malformed_received(MalformedMessage("Bad Status-Line"), flow)
        found = delivery.statistics()
        names = ("core:bad_msg_hdr", "core:bad_URIs_rcvd", "core:err_replies")
        self.assertEqual([found[name] for name in names], [2, 1, 1])
