"""Who may see what (RFC 5025): rules of the presentity, as XCAP clients write them."""

from __future__ import annotations

from defusedxml.ElementTree import fromstring
from twisted.trial.unittest import SynchronousTestCase

from pbx.services.presence import PresenceSettings
from pbx.services.presence.rules import Handling, Ruleset
from pbx.sip.errors import SIPError
from tests.services.presence_case import START, PresenceCase, pidf

HEAD = (
    '<cp:ruleset xmlns="urn:ietf:params:xml:ns:pres-rules"'
    ' xmlns:cp="urn:ietf:params:xml:ns:common-policy">'
)
ONE = '<cp:identity><cp:one id="{}"/></cp:identity>'
PROVIDE_ALL = (
    "<provide-services><all-services/></provide-services>"
    "<provide-persons><all-persons/></provide-persons>"
    "<provide-devices><all-devices/></provide-devices>"
)


def rule(handling: str, conditions: str = "", transformations: str = "", id: str = "a") -> str:
    """One <rule>."""
    return (
        f'<cp:rule id="{id}"><cp:conditions>{conditions}</cp:conditions><cp:actions>'
        f"<sub-handling>{handling}</sub-handling></cp:actions>"
        + (f"<cp:transformations>{transformations}</cp:transformations>" if transformations else "")
        + "</cp:rule>"
    )


def rules(*parts: str) -> str:
    """A whole document."""
    return HEAD + "".join(parts) + "</cp:ruleset>"


class RulesetTests(SynchronousTestCase):
    def handling(self, text: str, watcher: str = "1001@pbx.test", now: float = START) -> Handling:
        ruleset = Ruleset.read(text.encode())
        return ruleset.permission(watcher, now, Handling.CONFIRM).handling

    def test_identity(self) -> None:
        """RFC 4745 section 7.1."""
        for condition, watcher, fits in (
            (ONE.format("sip:1001@pbx.test"), "1001@pbx.test", True),
            (ONE.format("sips:1001@PBX.test"), "1001@pbx.test", True),
            (ONE.format("pres:1001@pbx.test"), "1001@pbx.test", True),
            (ONE.format("sip:1001@pbx.test"), "1003@pbx.test", False),
            (ONE.format(""), "1001@pbx.test", False),
            ("<cp:identity><cp:many/></cp:identity>", "1001@pbx.test", True),
            ('<cp:identity><cp:many domain="pbx.test"/></cp:identity>', "1001@pbx.test", True),
            ('<cp:identity><cp:many domain="other.test"/></cp:identity>', "1001@pbx.test", False),
            (
                '<cp:identity><cp:many><cp:except id="sip:1001@pbx.test"/></cp:many></cp:identity>',
                "1001@pbx.test",
                False,
            ),
            (
                '<cp:identity><cp:many><cp:except domain="pbx.test"/></cp:many></cp:identity>',
                "1001@pbx.test",
                False,
            ),
            ("<cp:identity/>", "1001@pbx.test", False),
            ("", "1001@pbx.test", True),
        ):
            expected = Handling.ALLOW if fits else Handling.CONFIRM
            found = self.handling(rules(rule("allow", condition)), watcher)
            self.assertEqual(found, expected, condition)

    def test_the_most_that_any_rule_gives(self) -> None:
        """RFC 5025 section 3.2.1: block < confirm < polite-block < allow."""
        for handlings, expected in (
            (("block",), Handling.BLOCK),
            (("block", "confirm"), Handling.CONFIRM),
            (("polite-block", "confirm"), Handling.POLITE_BLOCK),
            (("block", "allow", "polite-block"), Handling.ALLOW),
            ((), Handling.CONFIRM),
            (("nonsense",), Handling.CONFIRM),
        ):
            text = rules(*(rule(one, id=one) for one in handlings))
            self.assertEqual(self.handling(text), expected, handlings)

    def test_validity(self) -> None:
        """RFC 4745 section 7.3; START is 22:13:20 of that day."""
        span = (
            "<cp:from>2023-11-14T22:{}:00+00:00</cp:from><cp:until>2023-11-14T22:{}:00Z</cp:until>"
        )
        for minutes, fits in (((0, 10), False), ((10, 20), True), ((20, 30), False)):
            text = rules(rule("allow", f"<cp:validity>{span.format(*minutes)}</cp:validity>"))
            self.assertEqual(self.handling(text) is Handling.ALLOW, fits, minutes)
        for bad in ("", "<cp:from>yesterday</cp:from><cp:until>2999-01-01T00:00:00Z</cp:until>"):
            text = rules(rule("allow", f"<cp:validity>{bad}</cp:validity>"))
            self.assertIs(self.handling(text), Handling.CONFIRM, bad)

    def test_conditions_that_cannot_be_judged_do_not_hold(self) -> None:
        for condition in ('<cp:sphere value="work"/>', '<x xmlns="urn:other"/>'):
            text = rules(rule("allow", condition))
            self.assertIs(self.handling(text), Handling.CONFIRM)

    def test_no_ruleset(self) -> None:
        for text in ("", "<ruleset/>", "<!DOCTYPE a><a/>"):
            self.assertRaises(SIPError, Ruleset.read, text.encode())


class WatcherTests(PresenceCase):
    settings = PresenceSettings(force_active=False)

    def decided(self, *handlings: str, before: str = "") -> list[tuple[str, bytes]]:
        """The states that 1001 is told while the rules of 1002 become these."""
        self.write("pres-rules", rules(rule(before)) if before else "")
        self.publish(pidf())
        self.watch()
        for handling in handlings:
            self.write("pres-rules", rules(rule(handling, ONE.format("sip:1001@pbx.test"))))
            self.clock.advance(0.01)
        return [
            ((notify.get("subscription-state") or "").partition(";expires")[0], notify.body)
            for notify in self.notified()
        ]

    def test_allow(self) -> None:
        self.assertEqual(self.decided("allow"), [("pending", b""), ("active", pidf())])

    def test_confirm(self) -> None:
        """Nothing more is told, and the answer was 202."""
        self.write("pres-rules", rules(rule("confirm")))
        self.assertEqual(self.watch().status, 202)
        self.assertEqual(self.states(), ["pending;expires=3600"])

    def test_block(self) -> None:
        self.write("pres-rules", rules(rule("block")))
        self.assertEqual(self.watch().status, 403)
        self.assertEqual((self.notified(), self.stat("subscriptions")), ([], 0))

    def test_polite_block(self) -> None:
        """Looks like somebody who is away, whatever is published."""
        self.write("pres-rules", rules(rule("polite-block")))
        self.publish(pidf())
        self.assertEqual(self.watch().status, 200)
        self.publish(pidf("open", "b"))
        self.advance(1)
        for notify in self.notified():
            self.assertTrue((notify.get("subscription-state") or "").startswith("active"))
            self.assertEqual(
                [
                    one.text
                    for one in fromstring(notify.body).iter("{urn:ietf:params:xml:ns:pidf}basic")
                ],
                ["closed"],
            )

    def test_changes_are_told_at_once(self) -> None:
        """Faster than the rate limit for presence itself."""
        told = self.decided("polite-block", "allow", "block", before="allow")
        self.assertEqual(
            [state for state, _ in told],
            ["active", "active", "active", "terminated;reason=rejected"],
        )
        self.assertEqual(told[0][1], pidf())
        self.assertIn(b"closed", told[1][1])
        self.assertEqual(told[2][1], pidf())
        self.assertEqual(told[3][1], b"")
        self.assertEqual(self.stat("subscriptions"), 0)

    def test_withdrawn(self) -> None:
        told = self.decided("confirm", before="allow")
        self.assertEqual(told, [("active", pidf()), ("pending", b"")])

    def test_what_changes_nothing_is_not_told(self) -> None:
        self.assertEqual(self.decided("allow", "allow", before="allow"), [("active", pidf())])

    def test_others_hear_nothing(self) -> None:
        self.write("pres-rules", rules(rule("allow")))
        self.watch(uri="sip:1003@pbx.test")
        self.notified()
        self.write("pres-rules", rules(rule("block")))
        self.advance(2)
        self.assertEqual(self.notified(), [])

    def test_the_presentity_itself(self) -> None:
        self.write("pres-rules", rules(rule("block")))
        self.assertEqual(self.watch(user="1002").status, 200)

    def test_only_presence(self) -> None:
        """Busy lamps and mail boxes have rules of their own."""
        self.write("pres-rules", rules(rule("block")))
        self.assertEqual(self.watch("Event: dialog").status, 200)

    def test_watcher_info(self) -> None:
        """The presentity sees who waits, and that it let somebody in (RFC 3857)."""
        self.watch("Event: presence.winfo", user="1002")
        self.watch()
        self.write("pres-rules", rules(rule("allow")))
        self.advance(2)
        bodies = [notify.body for notify in self.notified() if b"watcherinfo" in notify.body]
        self.assertIn(b'status="pending"', bodies[1])
        self.assertIn(b'status="active"', bodies[-1])

    def test_a_crowd_is_told_bit_by_bit(self) -> None:
        for number in range(120):
            self.watch(user=f"2{number:03}")
        self.notified()
        # A whole second: sums of floats fall between the slots of the wheel.
        self.clock.rightNow = START + 10
        self.write("pres-rules", rules(rule("allow")))
        told = [len(self.notified())]
        for _ in range(5):
            self.clock.advance(0.01)
            told.append(len(self.notified()))
        self.assertEqual([count for count in told if count], [50, 50, 20])

    def test_some_of_a_crowd_leave_meanwhile(self) -> None:
        replies = [self.watch(user=f"2{number:03}") for number in range(60)]
        self.notified()
        self.clock.rightNow = START + 10
        self.write("pres-rules", rules(rule("allow")))
        self.assertEqual(len(self.notified()), 50)
        self.dialogs = 60
        self.again(replies[-1], "Event: presence\nExpires: 0")
        self.advance(1)
        states = [state.partition(";")[0] for state in self.states()]
        self.assertEqual((states.count("active"), states.count("terminated")), (9, 1))

    def test_rule_for_a_time(self) -> None:
        """The clock changes what is allowed, without any document."""
        span = "<cp:from>2023-11-14T22:13:30Z</cp:from><cp:until>2023-11-14T22:13:40Z</cp:until>"
        self.write("pres-rules", rules(rule("allow", f"<cp:validity>{span}</cp:validity>")))
        self.publish(pidf())
        self.watch()
        self.advance(12)
        self.advance(10)
        self.assertEqual(
            [state.partition(";")[0] for state in self.states()], ["pending", "active", "pending"]
        )

    def test_rules_changed_meanwhile(self) -> None:
        """While we were away: they count when we are back."""
        self.watch()
        self.rows("SELECT id FROM active_watchers")
        self.notified()
        self.wait(
            self.database.execute(
                "INSERT INTO xcap (username, domain, doc, doc_type, etag, source, doc_uri, port)"
                " VALUES ('1002', 'pbx.test', ?, 2, 'x', 0, 'index', 0)",
                (rules(rule("block")).encode(),),
            )
        )
        self.restart(kill=True)
        self.advance(1)
        self.assertEqual(self.states(), ["terminated;reason=rejected"])
        self.assertEqual(self.rows("SELECT id FROM active_watchers"), [])

    def test_rules_that_cannot_be_read(self) -> None:
        """As if there were none."""
        self.write("pres-rules", "<nonsense>")
        self.assertEqual(self.watch().status, 202)


class WaitingTests(PresenceCase):
    """Who asked while nobody was there to decide (RFC 3857 section 4.7.1)."""

    settings = PresenceSettings(force_active=False)

    def waited(self) -> None:
        """1001 asked, and its subscription ended undecided."""
        self.watch("Event: presence\nExpires: 60")
        self.advance(61)
        self.notified()

    def listed(self) -> list[tuple[str | None, str | None, str | None]]:
        """What 1002 sees: watcher, status and event of each."""
        self.notified()
        self.watch("Event: presence.winfo\nExpires: 0", user="1002")
        root = fromstring(self.notified()[-1].body)
        return [
            (one.text, one.get("status"), one.get("event"))
            for one in root.iter("{urn:ietf:params:xml:ns:watcherinfo}watcher")
        ]

    def test_ended_undecided(self) -> None:
        self.watch("Event: presence\nExpires: 60")
        self.assertEqual(self.listed(), [("sip:1001@pbx.test", "pending", "subscribe")])
        self.advance(61)
        self.assertEqual(self.listed(), [("sip:1001@pbx.test", "waiting", "timeout")])

    def test_presentity_is_told(self) -> None:
        self.watch("Event: presence.winfo", user="1002")
        self.waited()
        self.watch()
        self.advance(2)
        bodies = b"".join(notify.body for notify in self.notified())
        self.assertIn(b'status="pending"', bodies)

    def test_asks_again(self) -> None:
        self.waited()
        self.watch()
        self.assertEqual([status for _, status, _ in self.listed()], ["pending"])

    def test_decided(self) -> None:
        for handling in ("allow", "block", "polite-block"):
            self.waited()
            self.assertEqual(len(self.listed()), 1)
            self.write("pres-rules", rules(rule(handling)))
            self.assertEqual(self.listed(), [], handling)
            self.write("pres-rules", "")
        self.assertEqual(self.stat("waiting"), 0)

    def test_approved(self) -> None:
        self.watch()
        self.write("pres-rules", rules(rule("allow")))
        self.assertEqual(self.listed(), [("sip:1001@pbx.test", "active", "approved")])

    def test_restart(self) -> None:
        self.waited()
        sql = "SELECT presentity_uri, watcher_username, status, inserted_time FROM watchers"
        [row] = self.rows(sql)
        self.assertEqual(tuple(row)[:3], ("sip:1002@pbx.test", "1001", 4))
        self.restart(kill=True)
        self.assertEqual(self.listed(), [("sip:1001@pbx.test", "waiting", "timeout")])
        self.write("pres-rules", rules(rule("block")))
        self.assertEqual(self.rows(sql), [])

    def test_days(self) -> None:
        self.waited()
        self.clock.advance(3 * 86400 - 100)
        self.assertEqual(len(self.listed()), 1)
        self.clock.advance(200)
        self.assertEqual(self.listed(), [])

    def test_days_while_we_were_away(self) -> None:
        self.waited()
        self.rows("SELECT id FROM watchers")
        self.clock.rightNow += 3 * 86400
        self.restart(kill=True)
        self.assertEqual(self.listed(), [])
        self.assertEqual(self.rows("SELECT id FROM watchers"), [])

    def test_strange_rows(self) -> None:
        """Rows of other programs, good and bad, harm nobody."""
        self.waited()
        self.rows("SELECT id FROM watchers")
        for uri, user, status, since in (
            ("nonsense:", "1005", 4, int(START)),
            ("sip:1002@pbx.test", "", 4, int(START)),
            ("sip:1002@pbx.test", "1006", "x", int(START)),
            ("sip:1002@pbx.test", "1007", 4, "yesterday"),
            ("sip:1002@pbx.test", "1008", 1, int(START)),
        ):
            self.wait(
                self.database.execute(
                    "INSERT INTO watchers (presentity_uri, watcher_username, watcher_domain, status,"
                    " inserted_time) VALUES (?, ?, 'pbx.test', ?, ?)",
                    (uri, user, status, since),
                )
            )
        self.restart(kill=True)
        self.assertEqual([watcher for watcher, _, _ in self.listed()], ["sip:1001@pbx.test"])

    def test_allowed_ones_do_not_wait(self) -> None:
        self.write("pres-rules", rules(rule("allow")))
        self.waited()
        self.assertEqual(self.listed(), [])

    def test_bound(self) -> None:
        for number in range(105):
            self.watch("Event: presence\nExpires: 60", user=f"2{number:03}")
        self.advance(70)
        self.assertEqual(self.stat("waiting"), 100)


class ForceActiveTests(PresenceCase):
    """The switch: rules are kept and do not count."""

    def test_block(self) -> None:
        self.write("pres-rules", rules(rule("block")))
        self.assertEqual(self.watch().status, 200)
        self.write("pres-rules", rules(rule("polite-block")))
        self.assertEqual(self.states(), ["active;expires=3600"])


class DefaultTests(PresenceCase):
    settings = PresenceSettings(force_active=False, default_handling="block")

    def test_nobody_without_a_rule(self) -> None:
        self.assertEqual(self.watch().status, 403)
        self.write("pres-rules", rules(rule("allow", ONE.format("sip:1001@pbx.test"))))
        self.assertEqual(self.watch().status, 200)
        self.assertEqual(self.watch(user="1003").status, 403)


class TransformationTests(PresenceCase):
    """RFC 5025 section 3.3."""

    settings = PresenceSettings(force_active=False)
    RICH = (
        b'<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model"'
        b' xmlns:r="urn:ietf:params:xml:ns:pidf:rpid" entity="sip:1002@pbx.test">'
        b'<tuple id="desk"><status><basic>open</basic></status><r:class>work</r:class>'
        b"<contact>sip:1002@pbx.test</contact><note>desk</note></tuple>"
        b'<tuple id="home"><status><basic>open</basic></status><r:class>home</r:class>'
        b"<contact>tel:+49301</contact></tuple><note>gone fishing</note>"
        b'<dm:person id="p"><r:activities><r:meeting/></r:activities><r:mood><r:happy/></r:mood>'
        b"</dm:person></presence>"
    )

    def seen(self, transformations: str) -> tuple[list[str], str]:
        """Tuples by id, and everything else that there is by name."""
        self.write("pres-rules", rules(rule("allow", "", transformations)))
        self.publish(self.RICH)
        self.watch()
        root = fromstring(self.notified()[-1].body)
        names = [element.tag.rpartition("}")[2] for element in root.iter()]
        ids = [one.get("id") or "" for one in root if one.tag.endswith("}tuple")]
        rest = {"person", "activities", "mood", "class", "note"}
        return ids, " ".join(sorted(rest.intersection(names)))

    def test_without_transformations_everything(self) -> None:
        self.assertEqual(self.seen(""), (["desk", "home"], "activities class mood note person"))

    def test_nothing_that_is_not_provided(self) -> None:
        self.assertEqual(self.seen("<provide-mood>true</provide-mood>"), ([], ""))

    def test_components(self) -> None:
        self.assertEqual(self.seen(PROVIDE_ALL), (["desk", "home"], "person"))

    def test_some_services(self) -> None:
        for value, expected in (
            ("<class>work</class>", ["desk"]),
            ("<occurrence-id>home</occurrence-id>", ["home"]),
            ("<service-uri>sip:1002@pbx.test</service-uri>", ["desk"]),
            ("<service-uri-scheme>tel</service-uri-scheme>", ["home"]),
            ("<class>none</class>", []),
        ):
            text = f"<provide-services>{value}</provide-services>"
            self.assertEqual(self.seen(text)[0], expected, value)

    def test_attributes(self) -> None:
        more = "<provide-activities>true</provide-activities><provide-note>false</provide-note>"
        self.assertEqual(self.seen(PROVIDE_ALL + more)[1], "activities person")
        more = "<provide-all-attributes/>"
        self.assertEqual(self.seen(PROVIDE_ALL + more)[1], "activities class mood note person")

    def test_unknown_attribute(self) -> None:
        more = '<provide-unknown-attribute ns="urn:x" name="y">true</provide-unknown-attribute>'
        self.RICH = self.RICH.replace(b"<note>desk</note>", b'<y xmlns="urn:x"/><z xmlns="urn:x"/>')
        self.seen(PROVIDE_ALL + more)
        self.watch()
        body = self.notified()[-1].body
        self.assertIn(b"urn:x", body)
        self.assertNotIn(b":z", body)

    def test_watchers_see_different_things(self) -> None:
        own = rule("allow", ONE.format("sip:1003@pbx.test"), PROVIDE_ALL, "b")
        self.write("pres-rules", rules(rule("allow", ONE.format("sip:1001@pbx.test")), own))
        self.publish(self.RICH)
        self.watch()
        self.watch(user="1003")
        first, second = self.notified()
        self.assertEqual(first.body, self.RICH)
        self.assertNotIn(b"fishing", second.body)


class HardStateTests(PresenceCase):
    """What a user wrote by XCAP counts while no device says anything (RFC 4827)."""

    def test_alone_and_beneath(self) -> None:
        away = pidf("closed", "a", "<note>on holiday</note>").decode()
        self.watch()
        self.write("pidf-manipulation", away)
        self.advance(1)
        self.assertEqual(self.notified()[-1].body.decode(), away)
        self.publish(pidf("open", "a"))
        self.advance(1)
        body = self.notified()[-1].body
        self.assertIn(b"open", body)
        self.assertIn(b"on holiday", body)
        self.assertNotIn(b"<basic>closed", body)
        self.write("pidf-manipulation", "")
        self.advance(1)
        self.assertEqual(self.notified()[-1].body, pidf("open", "a"))
