from __future__ import annotations

from typing import Any

from defusedxml.ElementTree import fromstring

from pbx.commands import CommandFailed
from pbx.services.presence import PresenceSettings
from pbx.services.presence.throttle import Throttle
from pbx.services.presence.words import in_words
from tests.services.presence_case import START, PresenceCase, pidf

NS = "{urn:ietf:params:xml:ns:watcherinfo}"


class RateTests(PresenceCase):
    """One NOTIFY under way, at most one per second, and none with old state."""

    def bodies(self) -> list[bytes]:
        return [notify.body for notify in self.notified()]

    def test_first_change_goes_at_once(self) -> None:
        self.watch()
        self.notified()
        self.publish(pidf(id="1"))
        self.assertEqual(self.bodies(), [pidf(id="1")])

    def test_changes_within_a_second_go_together(self) -> None:
        self.watch()
        tag = self.etag(self.publish(pidf(id="1")))
        self.notified()
        for number in range(2, 6):
            self.advance(0.1)
            tag = self.etag(self.publish(pidf(id=f"{number}"), f"SIP-If-Match: {tag}"))
        self.assertEqual(self.bodies(), [])
        self.advance(0.7)
        self.assertEqual(self.bodies(), [pidf(id="5")])
        self.advance(5)
        self.assertEqual(self.bodies(), [])

    def test_a_crowd_is_told_bit_by_bit(self) -> None:
        for _ in range(120):
            self.watch()
        self.notified()
        # A whole second: sums of floats fall between the slots of the wheel.
        self.clock.rightNow = START + 10
        self.publish(pidf())
        told = [len(self.notified())]
        for _ in range(5):
            self.clock.advance(0.01)
            told.append(len(self.notified()))
        self.assertEqual([count for count in told if count], [50, 50, 20])

    def test_one_under_way(self) -> None:
        self.agent.holding = True
        self.watch()
        tag = self.etag(self.publish(pidf(id="1")))
        self.advance(3)
        self.publish(pidf(id="2"), f"SIP-If-Match: {tag}")
        self.advance(3)
        self.assertEqual(self.bodies(), [b""])
        self.agent.release()
        self.assertEqual(self.bodies(), [pidf(id="2")])
        self.agent.release()
        self.advance(3)
        self.assertEqual(self.bodies(), [])

    def test_refresh_is_answered_without_delay(self) -> None:
        """RFC 6665 section 4.2.1.2."""
        reply = self.watch()
        self.publish(pidf())
        self.notified()
        self.again(reply)
        self.assertEqual(len(self.notified()), 1)

    def test_end_waits_for_the_answer_only(self) -> None:
        self.agent.holding = True
        reply = self.watch()
        self.again(reply, "Event: presence\nExpires: 0")
        self.assertEqual(self.states(), ["active;expires=3600"])
        self.agent.release()
        self.assertEqual(self.states(), ["terminated;reason=timeout"])
        self.agent.release()
        self.assertEqual(self.states(), [])

    def test_cseq_counts_up(self) -> None:
        self.watch()
        tag = self.etag(self.publish(pidf()))
        self.advance(1)
        self.publish(pidf("closed"), f"SIP-If-Match: {tag}")
        self.assertEqual(
            [n.get("cseq") for n in self.notified()], [f"{n} NOTIFY" for n in (1, 2, 3)]
        )


class AnswerTests(PresenceCase):
    """RFC 6665 section 4.2.2, RFC 5057 section 5.1."""

    def after(self, *statuses: int, headers: tuple[tuple[str, str], ...] = ()) -> int:
        """How many subscriptions there are after NOTIFYs were answered so."""
        self.watch()
        tag = ""
        for status in statuses:
            self.agent.status, self.agent.headers = status, headers
            tag = self.etag(self.publish(pidf(), f"SIP-If-Match: {tag}" if tag else ""))
            self.advance(1)
        self.agent.status, self.agent.headers = 200, ()
        self.notified()
        return self.stat("subscriptions")

    def test_watcher_is_gone(self) -> None:
        for status in (481, 404, 408, 489, 604):
            self.assertEqual(self.after(status), 0, status)
            self.advance(4000)
            self.assertEqual(self.notified(), [])

    def test_row_goes_too(self) -> None:
        self.after(481)
        self.assertEqual(self.rows("SELECT id FROM active_watchers"), [])

    def test_passing_trouble(self) -> None:
        self.assertEqual(self.after(500, 500, 200, 500, 500), 1)

    def test_lasting_trouble(self) -> None:
        self.assertEqual(self.after(500, 500, 500), 0)

    def test_connection_is_gone(self) -> None:
        self.assertEqual(self.after(430), 1)

    def test_retry_after(self) -> None:
        self.assertEqual(self.after(503, headers=(("Retry-After", "20 (busy)"),)), 1)
        self.advance(18)
        self.assertEqual(self.notified(), [])
        self.advance(2)
        self.assertEqual(self.notified()[0].body, pidf())

    def test_ended_meanwhile(self) -> None:
        """No last NOTIFY to a watcher that is gone."""
        self.agent.holding = True
        reply = self.watch()
        self.again(reply, "Event: presence\nExpires: 0")
        self.agent.release(481)
        self.assertEqual(self.states(), ["active;expires=3600"])


class PatientTests(PresenceCase):
    settings = PresenceSettings(end_sub_on_timeout=False)

    def test_silence_alone_ends_nothing(self) -> None:
        self.agent.status = 408
        self.watch()
        self.assertEqual(self.stat("subscriptions"), 1)


class WatcherInfoTests(PresenceCase):
    """RFC 3857, RFC 3858."""

    def watchers(self) -> list[tuple[str | None, str | None]]:
        told = [n for n in self.notified() if n.get("event") == "presence.winfo"]
        root = fromstring(told[-1].body)
        self.assertEqual(root.get("state"), "full")
        [watchers] = root
        self.assertEqual(watchers.attrib, {"resource": "sip:1002@pbx.test", "package": "presence"})
        return [(child.text, child.get("status")) for child in watchers]

    def test_who_watches_me(self) -> None:
        self.watch("Event: presence.winfo", user="1002")
        self.assertEqual(self.watchers(), [])
        reply = self.watch()
        self.assertEqual(self.watchers(), [("sip:1001@pbx.test", "active")])
        self.advance(1)
        self.notified()
        self.again(reply, "Event: presence\nExpires: 0")
        self.advance(1)
        self.assertEqual(self.watchers(), [])

    def test_nobody_elses_business(self) -> None:
        self.assertEqual(self.watch("Event: presence.winfo").status, 403)


class CommandTests(PresenceCase):
    """Spec 40, presence."""

    def test_published(self) -> None:
        self.publish(pidf())
        tag = self.etag(self.publish(pidf()))
        self.assertEqual(
            self.command("pres_phtable_list")(),
            [{"pres_uri": "sip:1002@pbx.test", "event": 1, "etag_count": 2, "etag": tag}],
        )

    def test_subscriptions(self) -> None:
        reply = self.watch("Event: presence;id=3\nExpires: 60")
        [found] = self.command("subs_phtable_list")()
        self.assertEqual(
            found,
            {
                "pres_uri": "sip:1002@pbx.test",
                "event": "presence;id=3",
                "expires": int(START) + 60,
                "db_flag": 1,
                "version": 0,
                "to_user": "1002",
                "to_domain": "pbx.test",
                "to_tag": reply.to_tag,
                "from_user": "1001",
                "from_domain": "pbx.test",
                "from_tag": "w",
                "contact": "sip:1001@192.0.2.50:5070",
                "callid": "sub-1",
                "local_cseq": 1,
                "remote_cseq": 1,
            },
        )

    def test_subscriptions_of_somebody(self) -> None:
        self.watch()
        self.watch(user="1003")
        listed = self.command("subs_phtable_list")
        for limits, count in (
            ({"from": "sip:1003@pbx.test", "to": "sip:1002@pbx.test"}, 1),
            ({"from": "1003@pbx.test", "to": "1009@pbx.test"}, 0),
        ):
            self.assertEqual(len(listed(**limits)), count, limits)

    def test_subscriptions_for_people(self) -> None:
        self.watch("Event: presence;id=3\nExpires: 60")
        self.advance(10)
        self.assertEqual(
            self.command("presence_subscriptions")(),
            {
                "Subscriptions": [
                    {
                        "watcher": "1001@pbx.test",
                        "presentity": "1002@pbx.test",
                        "event": "presence;id=3",
                        "state": "active",
                        "members": 0,
                        "expires": 50,
                        "contact": "sip:1001@192.0.2.50:5070",
                        "failures": 0,
                        "callid": "sub-1",
                    }
                ]
            },
        )

    def test_presentities_for_people(self) -> None:
        self.publish(pidf(more="<note>in a\n meeting</note>"), "Expires: 100")
        self.publish(pidf(), "Expires: 60")
        self.watch()
        kind = "application/simple-message-summary"
        self.publish(b"Messages-Waiting: no\r\n", event="message-summary", content_type=kind)
        [first, second] = self.command("presence_presentities")()["Presentities"]
        self.assertEqual(
            first,
            {
                "presentity": "1002@pbx.test",
                "event": "presence",
                "state": "open",
                "publications": 2,
                "watchers": 1,
                "expires": 100,
            },
        )
        self.assertEqual(second["state"], "Messages-Waiting: no")

    def test_words(self) -> None:
        rpid = 'xmlns:r="urn:ietf:params:xml:ns:pidf:rpid"'
        for body, words in (
            (pidf("closed"), "closed"),
            (pidf(more="<note>in a\n  meeting</note>"), "open: in a meeting"),
            (pidf(more=f"<r:activities {rpid}><r:meeting/></r:activities>"), "open: meeting"),
            (b"\xff\x00\nx", "\ufffd\x00"),
        ):
            self.assertEqual(in_words(body), words)

    def test_refresh(self) -> None:
        self.watch()
        self.notified()
        refresh = self.command("refresh_watchers")
        about = {"presentity_uri": "sip:1002@pbx.test", "refresh_type": "0"}
        self.assertEqual(refresh(event="presence", **about), "OK")
        self.assertEqual(len(self.notified()), 1)
        with self.assertRaises(CommandFailed):
            refresh(event="weather", **about)
        with self.assertRaises(CommandFailed):
            refresh(event="presence", presentity_uri="x", refresh_type=0)

    def test_cleanup(self) -> None:
        self.watch("Event: presence\nExpires: 60")
        self.publish(pidf(), "Expires: 60")
        self.notified()
        self.timers.stop()
        self.clock.rightNow += 60
        self.assertEqual(self.command("cleanup")(), "OK")
        self.assertEqual((self.stat("subscriptions"), self.stat("publications")), (0, 0))
        self.assertEqual(self.states()[0], "terminated;reason=timeout")

    def test_statistics(self) -> None:
        self.watch()
        self.publish(pidf())
        expected: dict[str, Any] = {
            "presence:subscriptions": 1,
            "presence:waiting": 0,
            "presence:publications": 1,
            "presence:notifies_sent": 2,
            "presence:notifies_unanswered": 0,
            "presence:notifies_refused": 0,
            "presence:throttled_requests": 0,
        }
        self.assertEqual(self.server.statistics(), expected)


class ThrottleTests(PresenceCase):
    def test_tokens_come_back_up_to_the_burst(self) -> None:
        throttle = Throttle(2.0, 3)
        self.assertEqual([throttle.take("a", 0.0) for _ in range(4)], [0, 0, 0, 1])
        self.assertEqual([throttle.take("a", 0.5) for _ in range(2)], [0, 1])
        self.assertEqual([throttle.take("a", 99.0) for _ in range(4)], [0, 0, 0, 1])

    def test_bounded(self) -> None:
        throttle = Throttle(1.0, 1)
        for number in range(50_100):
            throttle.take(str(number), 0.0)
        self.assertEqual(len(throttle), 50_000)
