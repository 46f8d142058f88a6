from __future__ import annotations

from typing import Any

from defusedxml.ElementTree import fromstring

from pbx.events import BalancerCounted, CallRestored
from pbx.services.dialogs import Call, Dialogs, DialogSettings
from pbx.services.presence import PresenceSettings
from pbx.sip.address import Address
from pbx.sip.message import Request, response_to
from pbx.verdicts import Arrival
from tests.fakes import FakeFlow, request
from tests.services.presence_case import WATCHER, PresenceCase

NS = "{urn:ietf:params:xml:ns:dialog-info}"
DESK = Address("UDP", "192.0.2.60", 5060)
NODE = Address("UDP", "192.0.2.112", 5080)


class LampCase(PresenceCase):
    """Calls of the real dialogs service, and lamps that watch."""

    def build(self, settings: PresenceSettings | None = None) -> None:
        super().build(settings)
        self.service = Dialogs(
            DialogSettings(db_mode=0), None, None, None, None, self.events, self.clock, self.timers
        )
        self.invites = 0

    def call(
        self,
        to: str = "sip:1002@pbx.test",
        from_: str = '"Alice" <sip:1001@pbx.test>;tag=a',
        headers: str = "",
        peer: Address = WATCHER,
        call: str = "",
    ) -> Call:
        """An INVITE is relayed."""
        self.invites += 1
        asked = request(f"INVITE {to}", headers, from_=from_, call_id=f"c{self.invites}")
        did = self.service.begin(asked, Arrival(flow=FakeFlow(peer), peer=peer, call=call), False)
        found = self.service.find(did)
        assert found is not None
        return found

    def progress(self, call: Call, status: int, tag: str = "b") -> None:
        """A response goes back to the caller."""
        response = response_to(request("INVITE sip:x", call_id=call.call_id), status, to_tag=tag)
        if status < 200:
            self.service.provisional(call.did, response)
        else:
            self.service.answered(call.did, response, FakeFlow(call.caller), FakeFlow(DESK))

    def lamp(self, user: str = "1002") -> None:
        self.watch("Event: dialog", uri=f"sip:{user}@pbx.test", user="1003")
        self.notified()

    def document(self, notify: Request) -> list[dict[str, Any]]:
        """The dialogs of a document, flat."""
        root = fromstring(notify.body)
        self.assertEqual((root.tag, root.get("state")), (f"{NS}dialog-info", "full"))
        found = []
        for dialog in root:
            about: dict[str, Any] = dict(dialog.attrib)
            del about["id"]
            about["state"] = dialog.findtext(f"{NS}state")
            for state in dialog.iter(f"{NS}state"):
                about.update(state.attrib)
            for side in ("local", "remote"):
                for identity in dialog.iterfind(f"{NS}{side}/{NS}identity"):
                    about[side] = (identity.text, identity.get("display"))
                for target in dialog.iterfind(f"{NS}{side}/{NS}target"):
                    about[f"{side}-target"] = target.get("uri")
            found.append(about)
        return found

    def shown(self) -> list[list[tuple[str, str]]]:
        """Direction and state of the dialogs in every NOTIFY since the last time."""
        return [
            [(about["direction"], about["state"]) for about in self.document(notify)]
            for notify in self.notified()
        ]


class LampTests(LampCase):
    """RFC 4235; spec 60, busy lamps."""

    def test_idle(self) -> None:
        self.watch("Event: dialog", user="1003")
        [notify] = self.notified()
        self.assertEqual(notify.get("content-type"), "application/dialog-info+xml")
        root = fromstring(notify.body)
        self.assertEqual(
            root.attrib, {"version": "0", "state": "full", "entity": "sip:1002@pbx.test"}
        )
        self.assertEqual(list(root), [])

    def test_a_whole_call(self) -> None:
        self.lamp()
        call = self.call()
        self.advance(0.1)
        self.progress(call, 180)
        self.assertEqual(self.shown(), [[("recipient", "early")]])
        self.advance(3)
        self.progress(call, 200)
        self.assertEqual(self.shown(), [[("recipient", "confirmed")]])
        self.advance(3)
        self.service._end(call, "caller")
        [[ended]] = [self.document(notify) for notify in self.notified()]
        self.assertEqual((ended["state"], ended["event"]), ("terminated", "remote-bye"))
        self.advance(6)
        self.assertEqual(self.notified(), [])
        self.watch("Event: dialog", user="1004")
        self.assertEqual(self.shown(), [[]])

    def test_the_caller_has_a_lamp_too(self) -> None:
        self.lamp("1001")
        call = self.call()
        self.advance(1)
        self.assertEqual(self.shown(), [[("initiator", "trying")]])
        self.advance(1)
        self.progress(call, 180)
        self.advance(1)
        self.progress(call, 200)
        self.advance(1)
        self.assertEqual(self.shown(), [[("initiator", "early")], [("initiator", "confirmed")]])
        self.service._end(call, "caller")
        self.advance(1)
        [[ended]] = [self.document(notify) for notify in self.notified()]
        self.assertEqual(ended["event"], "local-bye")

    def test_what_a_pick_up_needs(self) -> None:
        """Replaces names the dialog, an INVITE to the remote target reaches it (RFC 3891)."""
        self.lamp()
        self.progress(self.call(), 180, tag="bob")
        [[about]] = [self.document(notify) for notify in self.notified()]
        self.assertEqual(
            about,
            {
                "call-id": "c1",
                "local-tag": "bob",
                "remote-tag": "a",
                "direction": "recipient",
                "state": "early",
                "local": ("sip:1002@pbx.test", None),
                "local-target": "sip:1002@pbx.test",
                "remote": ("sip:1001@pbx.test", "Alice"),
                "remote-target": "sip:1001@pbx.test",
            },
        )

    def test_strangers_keep_their_address(self) -> None:
        self.lamp()
        self.progress(self.call(from_="<sip:+49301@gw.test;user=phone>;tag=g"), 180)
        [[about]] = [self.document(notify) for notify in self.notified()]
        self.assertEqual(about["remote"], ("sip:+49301@gw.test;user=phone", None))

    def test_refused_and_cancelled(self) -> None:
        for status, cancelled, event, code in (
            (486, False, "rejected", "486"),
            (487, True, "cancelled", None),
            (408, False, "timeout", "408"),
        ):
            self.lamp()
            call = self.call()
            self.advance(2)
            self.notified()
            self.service.failed(call.did, status, "", cancelled)
            about = self.document(self.notified()[-1])[-1]
            self.assertEqual(
                (about["state"], about["event"], about.get("code")), ("terminated", event, code)
            )
            self.advance(10)

    def test_versions_grow_by_one(self) -> None:
        """RFC 4235 section 4.1.1: of each subscription by itself."""
        self.lamp()
        for _ in range(3):
            call = self.call()
            self.advance(2)
            self.service.failed(call.did, 486, "", False)
            self.advance(10)
        versions = [fromstring(notify.body).get("version") for notify in self.notified()]
        self.assertEqual(versions, [str(number) for number in range(1, 7)])

    def test_calls_of_all_devices_together(self) -> None:
        self.lamp()
        first = self.call()
        self.progress(first, 180)
        self.progress(first, 200)
        self.advance(2)
        self.notified()
        self.progress(self.call("sip:1005@pbx.test", from_="<sip:1002@192.0.2.1>;tag=z"), 180)
        self.assertEqual(self.shown(), [[("recipient", "confirmed"), ("initiator", "early")]])

    def test_alias_lights_the_users_lamp(self) -> None:
        self.lamp()
        self.progress(self.call("sip:reception@pbx.test"), 180)
        self.assertEqual(self.shown(), [[("recipient", "early")]])

    def test_calls_between_strangers_light_nothing(self) -> None:
        self.lamp()
        self.progress(self.call("sip:1002@other.test", "<sip:1002@gw.test>;tag=q"), 180)
        self.advance(2)
        self.assertEqual(self.notified(), [])

    def test_through_a_node(self) -> None:
        """The caller is in the call to the node, the callee in the one that the node makes."""
        self.lamp("1001")
        self.lamp("1002")
        self.events.publish(BalancerCounted("d1.1", 1, ("pstn",), 7))
        main = self.call(call="d1.1")
        leg = self.call(
            from_="<sip:1001@pbx.test>;tag=fs", headers=f"X-PBX-Call: {main.did}", peer=NODE
        )
        self.assertEqual(leg.correlation, main.did)
        self.advance(2.5)
        self.assertEqual(self.shown(), [[("initiator", "trying")], [("recipient", "trying")]])
        self.progress(leg, 180, tag="bob")
        [[about]] = [self.document(notify) for notify in self.notified()]
        self.assertEqual((about["call-id"], about["remote-tag"]), ("c2", "fs"))

    def test_survives_a_restart(self) -> None:
        self.lamp()
        call = self.call()
        self.progress(call, 180)
        self.progress(call, 200)
        self.rows("SELECT id FROM active_watchers")
        self.notified()
        self.restart(kill=True)
        self.events.publish(CallRestored(call))
        self.advance(1)
        [notify] = self.notified()
        self.assertEqual(self.document(notify)[0]["state"], "confirmed")
        self.assertGreater(int(fromstring(notify.body).get("version", "")), 2)

    def test_answer_after_all(self) -> None:
        """A 2xx that crossed the CANCEL (RFC 3261 section 9.1)."""
        self.lamp()
        call = self.call()
        self.progress(call, 180)
        self.service.failed(call.did, 487, "", True)
        self.progress(call, 200)
        self.advance(1)
        self.assertEqual(self.shown()[-1], [("recipient", "confirmed")])
        self.advance(10)
        self.watch("Event: dialog", user="1004")
        self.assertEqual(self.shown(), [[("recipient", "confirmed")]])

    def test_text_that_no_document_can_hold(self) -> None:
        self.lamp()
        self.progress(self.call(from_='"\x01\udcff<&" <sip:1001@pbx.test>;tag=a'), 180)
        [[about]] = [self.document(notify) for notify in self.notified()]
        self.assertEqual(about["remote"][1], "\ufffd\ufffd<&")


class SingleDialogTests(LampCase):
    settings = PresenceSettings(force_single_dialog=True)

    def test_most_important_call(self) -> None:
        self.lamp()
        first = self.call()
        self.progress(self.call("sip:1005@pbx.test", from_="<sip:1002@pbx.test>;tag=z"), 180)
        self.assertEqual(self.shown(), [[("initiator", "early")]])
        self.advance(2)
        self.progress(first, 180)
        self.progress(first, 200)
        self.advance(2)
        self.assertEqual(self.shown()[-1], [("recipient", "confirmed")])
