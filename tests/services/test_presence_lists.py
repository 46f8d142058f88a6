"""One subscription to a whole contact list (RFC 4662), kept by XCAP (RFC 4826)."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import HTTP
from typing import Any

from defusedxml.ElementTree import fromstring

from pbx.events import CallRinging, CallStarted
from pbx.services.dialogs import Call
from pbx.services.presence import PresenceSettings
from pbx.sip.address import Address
from pbx.sip.message import Request
from pbx.verdicts import Reply
from tests.services.presence_case import PresenceCase, pidf
from tests.services.test_presence_rules import ONE, rule, rules

RLMI = "{urn:ietf:params:xml:ns:rlmi}"
SERVICES = (
    '<rls-services xmlns="urn:ietf:params:xml:ns:rls-services"'
    ' xmlns:rl="urn:ietf:params:xml:ns:resource-lists"><service uri="sip:team@pbx.test">{}'
    "</service></rls-services>"
)
ENTRY = '<rl:entry uri="{}"/>'
SUPPORTED = (
    "Event: presence\nSupported: eventlist\n"
    "Accept: application/pidf+xml, application/rlmi+xml, multipart/related"
)
TEAM = "sip:team@pbx.test"


def services(*uris: str, more: str = "") -> str:
    """A document with one list of these."""
    return SERVICES.format(f"<list>{''.join(map(ENTRY.format, uris))}</list>{more}")


class ListCase(PresenceCase):
    def lists(self, *uris: str, more: str = "") -> None:
        """1001 has a list of these."""
        self.write("rls-services", services(*uris, more=more), "1001@pbx.test")

    def team(self, headers: str = SUPPORTED, **about: Any) -> Reply:
        """1001 watches it."""
        return self.watch(headers, uri=TEAM, **about)

    def read(self, notify: Request) -> tuple[str, dict[str, str], dict[str, bytes]]:
        """fullState, the state of each resource and its document."""
        head = f"Content-Type: {notify.get('content-type')}\r\n\r\n".encode()
        parts = message_from_bytes(head + notify.body, policy=HTTP)
        found = {part["content-id"]: part for part in parts.iter_parts()}
        root = fromstring(found[parts.get_param("start")].get_content())
        self.assertEqual((root.tag, root.get("uri")), (f"{RLMI}list", TEAM))
        states: dict[str, str] = {}
        bodies: dict[str, bytes] = {}
        for resource in root.iterfind(f"{RLMI}resource"):
            uri = resource.get("uri") or ""
            states[uri] = ""
            for instance in resource.iterfind(f"{RLMI}instance"):
                reason = instance.get("reason")
                states[uri] = f"{instance.get('state')}{f' {reason}' if reason else ''}"
                if cid := instance.get("cid"):
                    bodies[uri] = bytes(found.pop(f"<{cid}>").get_content())
        # Nothing comes that no resource names.
        self.assertEqual(len(found), 1)
        return root.get("fullState") or "", states, bodies


class ListTests(ListCase):
    def test_answer(self) -> None:
        self.lists("sip:1002@pbx.test")
        reply = self.team()
        self.assertEqual((reply.status, dict(reply.headers)["Require"]), (200, "eventlist"))
        [notify] = self.notified()
        self.assertEqual(notify.get("require"), "eventlist")
        self.assertEqual(notify.get("event"), "presence")
        kind = notify.get("content-type") or ""
        self.assertTrue(kind.startswith('multipart/related;type="application/rlmi+xml";start="<'))

    def test_first_everybody(self) -> None:
        self.publish(pidf())
        self.lists("sip:1002@pbx.test", "sip:1003@pbx.test", "sip:x@elsewhere.test")
        self.team()
        [notify] = self.notified()
        self.assertEqual(
            self.read(notify),
            (
                "true",
                {
                    "sip:1002@pbx.test": "active",
                    "sip:1003@pbx.test": "active",
                    "sip:x@elsewhere.test": "",
                },
                {"sip:1002@pbx.test": pidf()},
            ),
        )

    def test_then_who_changes(self) -> None:
        self.lists("sip:1002@pbx.test", "sip:1003@pbx.test")
        self.team()
        self.publish(pidf())
        self.advance(2)
        first, second = self.notified()
        self.assertEqual(
            self.read(second),
            ("false", {"sip:1002@pbx.test": "active"}, {"sip:1002@pbx.test": pidf()}),
        )
        versions = [fromstring(self.meta(notify)).get("version") for notify in (first, second)]
        self.assertEqual(versions, ["0", "1"])

    def meta(self, notify: Request) -> bytes:
        return notify.body.partition(b"\r\n\r\n")[2].partition(b"\r\n--")[0]

    def test_changes_go_together(self) -> None:
        self.lists("sip:1002@pbx.test", "sip:1003@pbx.test")
        self.team()
        self.publish(pidf())
        self.publish(pidf(), user="1003", uri="sip:1003@pbx.test")
        self.publish(pidf("closed", "b"))
        self.advance(2)
        both = {"sip:1002@pbx.test": "active", "sip:1003@pbx.test": "active"}
        told = [self.read(notify)[1] for notify in self.notified()][1:]
        self.assertEqual({uri: state for states in told for uri, state in states.items()}, both)
        self.assertLessEqual(len(told), 2)

    def test_refresh_and_lost_notify_tell_everybody(self) -> None:
        self.lists("sip:1002@pbx.test", "sip:1003@pbx.test")
        reply = self.team()
        self.again(reply, SUPPORTED)
        self.assertEqual([self.read(notify)[0] for notify in self.notified()], ["true", "true"])
        self.agent.status = 500
        self.publish(pidf())
        self.advance(2)
        self.agent.status = 200
        self.publish(pidf("closed"), user="1003", uri="sip:1003@pbx.test")
        self.advance(2)
        self.assertEqual([self.read(notify)[0] for notify in self.notified()], ["false", "true"])

    def test_end(self) -> None:
        self.lists("sip:1002@pbx.test")
        reply = self.team()
        self.notified()
        self.again(reply, f"{SUPPORTED}\nExpires: 0")
        [notify] = self.notified()
        self.assertEqual(notify.get("subscription-state"), "terminated;reason=timeout")
        self.assertEqual(self.read(notify)[0], "true")
        self.publish(pidf())
        self.advance(2)
        self.assertEqual((self.notified(), self.stat("subscriptions")), ([], 0))

    def test_fetch(self) -> None:
        self.lists("sip:1002@pbx.test")
        self.team(f"{SUPPORTED}\nExpires: 0")
        self.assertEqual(self.read(self.notified()[0])[1], {"sip:1002@pbx.test": "active"})

    def test_members_come_and_go(self) -> None:
        self.publish(pidf())
        self.lists("sip:1002@pbx.test")
        self.team()
        self.notified()
        self.lists("sip:1002@pbx.test", "sip:1003@pbx.test")
        [notify] = self.notified()
        full, states, bodies = self.read(notify)
        self.assertEqual((full, len(states), len(bodies)), ("true", 2, 1))
        self.lists("sip:1003@pbx.test")
        self.notified()
        self.advance(2)
        self.publish(pidf("closed"))
        self.advance(2)
        self.assertEqual(self.notified(), [])

    def test_list_is_gone(self) -> None:
        self.lists("sip:1002@pbx.test")
        self.team()
        self.notified()
        self.write("rls-services", "", "1001@pbx.test")
        self.assertEqual(self.states(), ["terminated;reason=noresource"])
        self.assertEqual(self.stat("subscriptions"), 0)

    def test_named_lists(self) -> None:
        """Kept in resource-lists, followed by reference, once each, within the owner's tree."""
        base = "resource-lists/users/sip:1001@pbx.test/index/~~/resource-lists"
        self.write(
            "resource-lists",
            '<resource-lists xmlns="urn:ietf:params:xml:ns:resource-lists"><list name="all">'
            '<entry uri="sip:1002@pbx.test"><display-name>Bob</display-name></entry>'
            f'<entry-ref ref="{base}/list%5b@name=%22more%22%5d/entry%5b1%5d"/>'
            f'<external anchor="http://pbx.test:8888/xcap-root/{base}/list%5b@name=%22all%22%5d"/>'
            f'<external anchor="{base.replace("1001", "1009")}/list"/><list name="inner">'
            '<entry uri="sip:1004@pbx.test"/></list></list><list name="more">'
            '<entry uri="sip:1003@pbx.test"/></list></resource-lists>',
            "1001@pbx.test",
        )
        where = f"http://pbx.test:8888/xcap-root/{base}/list%5b@name=%22all%22%5d"
        document = SERVICES.format(f"<resource-list>{where}</resource-list>")
        self.write("rls-services", document, "1001@pbx.test")
        self.team()
        [notify] = self.notified()
        self.assertEqual(
            list(self.read(notify)[1]), [f"sip:100{number}@pbx.test" for number in (2, 3, 4)]
        )
        self.assertIn(b"<name>Bob</name>", notify.body)
        self.write("resource-lists", "", "1001@pbx.test")
        self.assertEqual(self.read(self.notified()[0])[1], {})

    def test_survives(self) -> None:
        self.lists("sip:1002@pbx.test")
        reply = self.team()
        self.rows("SELECT id FROM active_watchers")
        self.notified()
        self.restart(kill=True)
        self.advance(1)
        [notify] = self.notified()
        self.assertEqual(self.read(notify)[0], "true")
        self.publish(pidf())
        self.advance(2)
        self.assertEqual(self.read(self.notified()[0])[2], {"sip:1002@pbx.test": pidf()})
        self.assertEqual(self.again(reply, SUPPORTED, cseq=9).status, 200)

    def test_aliases_and_spellings_once(self) -> None:
        self.lists("sip:1002@pbx.test", "sip:reception@192.0.2.1", "sips:1002@pbx.test")
        self.team()
        self.assertEqual(list(self.read(self.notified()[0])[1]), ["sip:1002@pbx.test"])


class BusyLampListTests(ListCase):
    """Desk phones watch a whole row of lamps so."""

    DIALOG = (
        "Event: dialog\nSupported: eventlist\n"
        "Accept: application/dialog-info+xml, application/rlmi+xml, multipart/related"
    )

    def test_call(self) -> None:
        self.lists("sip:1002@pbx.test", "sip:1003@pbx.test")
        self.team(self.DIALOG)
        call = Call("d", "c", "a", Address("UDP", "192.0.2.60", 5060))
        call.from_uri, call.request_uri = "sip:1004@pbx.test", "sip:1003@pbx.test"
        self.events.publish(CallStarted(call))
        self.events.publish(CallRinging(call))
        self.advance(2)
        first, second = self.notified()
        self.assertEqual(len(self.read(first)[2]), 2)
        _, states, bodies = self.read(second)
        self.assertEqual(list(states), ["sip:1003@pbx.test"])
        self.assertIn(b"early", bodies["sip:1003@pbx.test"])


class RefusalTests(ListCase):
    def setUp(self) -> None:
        super().setUp()
        self.lists("sip:1002@pbx.test", more="<packages><package>presence</package></packages>")

    def test_who_does_not_know_lists(self) -> None:
        """421 names what is needed (RFC 4662 section 4.2)."""
        self.assertEqual(
            self.team("Event: presence"), Reply(421, headers=(("Require", "eventlist"),))
        )

    def test_somebody_elses_list(self) -> None:
        self.assertEqual(self.team(user="1003").status, 403)

    def test_types(self) -> None:
        for accept in ("application/pidf+xml", "multipart/related, application/rlmi+xml"):
            reply = self.team(f"Event: presence\nSupported: eventlist\nAccept: {accept}")
            self.assertEqual(reply.status, 406, accept)
            self.assertIn("multipart/related", dict(reply.headers)["Accept"])
        self.assertEqual(self.team("Event: presence\nSupported: eventlist").status, 200)

    def test_packages(self) -> None:
        for event in ("dialog", "reg"):
            reply = self.team(f"Event: {event}\nSupported: eventlist")
            self.assertEqual(reply, Reply(489, headers=(("Allow-Events", "presence"),)))


class LimitTests(ListCase):
    settings = PresenceSettings(max_list_members=3, max_subscriptions_per_watcher=4)

    def test_too_long(self) -> None:
        self.lists(*(f"sip:200{number}@pbx.test" for number in range(4)))
        self.assertEqual(self.team(), Reply(403, "List Too Long"))

    def test_grows_too_long(self) -> None:
        self.lists("sip:2000@pbx.test")
        self.team()
        self.notified()
        self.lists(*(f"sip:200{number}@pbx.test" for number in range(4)))
        self.assertEqual(self.states(), ["terminated;reason=noresource"])

    def test_members_count(self) -> None:
        self.lists(*(f"sip:200{number}@pbx.test" for number in range(3)))
        self.assertEqual(self.team().status, 200)
        self.assertEqual(self.team().status, 503)
        self.assertEqual(self.watch().status, 200)
        self.assertEqual(self.watch().status, 503)


class RulesTests(ListCase):
    """Each member decides about the watcher of the list."""

    settings = PresenceSettings(force_active=False)

    def test_everybody_decides(self) -> None:
        self.publish(pidf())
        self.lists(*(f"sip:100{number}@pbx.test" for number in (2, 3, 4)))
        me = ONE.format("sip:1001@pbx.test")
        self.write("pres-rules", rules(rule("allow", me)))
        self.write("pres-rules", rules(rule("block", me)), "1003@pbx.test")
        self.team()
        _, states, bodies = self.read(self.notified()[0])
        self.assertEqual(list(states.values()), ["active", "terminated rejected", "pending"])
        self.assertEqual(list(bodies), ["sip:1002@pbx.test"])
        self.write("pres-rules", rules(rule("polite-block", me)))
        [notify] = self.notified()
        full, states, bodies = self.read(notify)
        self.assertEqual((full, states), ("false", {"sip:1002@pbx.test": "active"}))
        self.assertIn(b"closed", bodies["sip:1002@pbx.test"])

    def test_watcher_info(self) -> None:
        self.lists("sip:1002@pbx.test")
        self.team()
        self.notified()
        self.watch("Event: presence.winfo", user="1002")
        self.assertIn(b'status="pending"', self.notified()[0].body)
