"""Calls of browsers whose WebSocket closes (RFC 5626 section 4.2.2, RFC 7118)."""

from __future__ import annotations

from pbx.events import FlowClosed, Registered
from pbx.services.dialogs import Call, DialogSettings
from pbx.sip.address import Address
from tests.fakes import FakeFlow
from tests.services.dialog_case import CALLEE, DialogCase

BROWSER = Address("WS", "192.0.2.70", 40000)
AGAIN = Address("WS", "192.0.2.70", 40001)
CONTACT = "Contact: <sip:x7k@a1b2.invalid;transport=ws>"
INSTANCE = "<urn:uuid:F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6>"
GRUU = "Contact: <sip:1001@pbx.test;gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>"


class ConnectionsTests(DialogCase):
    def talking(self, contact: str = CONTACT, callee: Address = CALLEE) -> Call:
        call = self.begin(self.invite(contact), BROWSER)
        self.ok(call, peer=callee)
        self.within(call, "ACK", cseq=2)
        return call

    def close(self, address: Address = BROWSER) -> FakeFlow:
        flow: FakeFlow = self.flows.flow(address)
        flow.close()
        self.events.publish(FlowClosed(flow))
        return flow

    def register(self, address: Address, contact: str, instance: str = "") -> FakeFlow:
        flow: FakeFlow = self.flows.flow(address)
        self.events.publish(Registered("1001@pbx.test", contact, 600, flow, False, instance))
        return flow

    def test_the_other_side_is_hung_up(self) -> None:
        """Within a few seconds; to the lost side there is no way."""
        call = self.talking()
        self.close()
        self.advance(2.5)
        self.assertEqual((self.stat("active"), self.agent.sent), (1, []))
        self.advance(1)
        self.assertEqual((call.ended_by, call.end_reason), ("caller", "Connection lost"))
        ((bye, _, flow),) = self.agent.sent
        self.assertEqual((bye.method, bye.uri_text), ("BYE", "sip:1002@192.0.2.60:5060"))
        self.assertIs(flow, self.flows.flow(CALLEE))

    def test_the_called_browser_is_lost(self) -> None:
        call = self.begin()
        self.ok(call, contact="<sip:x7k@192.0.2.70:40000;transport=ws>", peer=BROWSER)
        self.close()
        self.advance(4)
        self.assertEqual(call.ended_by, "callee")
        ((bye, _, _),) = self.agent.sent
        self.assertEqual(bye.uri_text, "sip:1001@192.0.2.50:5060")

    def test_both_are_lost(self) -> None:
        """As when the network in front of us fails."""
        call = self.begin(self.invite(CONTACT), BROWSER)
        self.ok(call, contact="<sip:z9@192.0.2.70:40001;transport=ws>", peer=AGAIN)
        self.close(BROWSER)
        self.close(AGAIN)
        self.advance(4)
        self.assertEqual((call.ended_by, self.stat("active")), ("caller", 0))

    def test_an_unanswered_call_is_given_up(self) -> None:
        call = self.begin(self.invite(CONTACT), BROWSER)
        cancelled: list[str] = []
        self.dialogs.cancel_with(call.did, cancelled.append)
        self.close()
        self.advance(4)
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(call.ended_by, "caller")

    def test_coming_back_keeps_the_call(self) -> None:
        """By the Contact that the browser made up; requests go by the new connection."""
        call = self.talking()
        self.close()
        self.advance(2)
        new = self.register(AGAIN, "sip:x7k@a1b2.invalid;transport=ws")
        self.advance(10)
        self.assertEqual(self.stat("active"), 1)
        self.assertIs(self.dialogs.flow_towards(call.did, "b", "a"), new)
        self.close(AGAIN)
        self.advance(4)
        self.assertEqual(self.stat("active"), 0)

    def test_coming_back_with_a_gruu(self) -> None:
        """By the instance id; URNs compare without case."""
        call = self.talking(GRUU)
        self.close()
        new = self.register(AGAIN, "sip:other@c3.invalid;transport=ws", INSTANCE)
        self.advance(10)
        self.assertIs(self.dialogs.flow_towards(call.did, "b", "a"), new)

    def test_another_network(self) -> None:
        """The phone is back before the old connection is known to be dead."""
        call = self.talking(GRUU)
        self.register(BROWSER, "sip:x7k@a1.invalid;transport=ws", INSTANCE)
        new = self.register(AGAIN, "sip:x7k@a1.invalid;transport=ws", INSTANCE)
        self.assertIs(self.dialogs.flow_towards(call.did, "b", "a"), new)
        self.close(BROWSER)
        self.advance(10)
        self.assertEqual(self.stat("active"), 1)

    def test_another_browser_of_the_user_is_no_return(self) -> None:
        self.talking(GRUU)
        self.close()
        self.register(AGAIN, "sip:q1@d4.invalid;transport=ws", "<urn:uuid:other>")
        self.advance(4)
        self.assertEqual(self.stat("active"), 0)

    def test_other_transports_are_not_bound_to_a_connection(self) -> None:
        """A phone on TCP opens another connection when it has to (RFC 3261 section 18)."""
        peer = Address("TCP", "192.0.2.50", 40000)
        self.begin(self.invite(), peer)
        self.close(peer)
        self.advance(60)
        self.assertEqual(self.stat("early"), 1)

    def test_off(self) -> None:
        self.build(DialogSettings(lost_after=0))
        self.talking()
        self.close()
        self.advance(60)
        self.assertEqual(self.stat("active"), 1)

    def test_after_a_restart(self) -> None:
        """The browser has a minute to come back to its call, then it is over."""
        for back in (True, False):
            self.talking()
            self.advance(2)
            self.kill()
            self.assertEqual(self.stat("active"), 1)
            self.advance(10)
            if back:
                self.register(AGAIN, "sip:x7k@a1b2.invalid;transport=ws")
            self.advance(55)
            self.assertEqual(self.stat("active"), int(back))
            self.dialogs.end(next(iter(self.dialogs.all())).did) if back else None
            self.advance(2)

    def test_ended_calls_are_forgotten(self) -> None:
        """A connection that lives for days does not collect them."""
        for _ in range(200):
            call = self.talking()
            self.within(call, "BYE", cseq=3)
        (known,) = self.dialogs._connections._legs.values()
        self.assertLess(len(known), 100)
        self.close()
        self.assertEqual(self.dialogs.statistics()["pbx:followed_connections"], 0)
        self.assertEqual(self.dialogs.statistics()["pbx:missing_phones"], 0)
