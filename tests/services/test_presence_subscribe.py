from __future__ import annotations

from pbx.services.presence import PresenceSettings
from pbx.sip.address import Address
from pbx.sip.uri import URI
from pbx.verdicts import Reply
from tests.fakes import FakeFlow
from tests.services.presence_case import BROWSER, START, PresenceCase, pidf


class InitialTests(PresenceCase):
    """RFC 6665 section 4.2.1; 15-observed 13."""

    def test_answer(self) -> None:
        reply = self.watch("Event: presence\nExpires: 300")
        self.assertEqual(reply.status, 200)
        self.assertEqual(
            reply.headers, (("Expires", "300"), ("Contact", "<sip:presence@192.0.2.1>"))
        )
        self.assertTrue(reply.to_tag)

    def test_notify_follows_the_answer(self) -> None:
        reply = self.answer(self.asked("Event: presence;id=7\nExpires: 300"))
        self.assertEqual(self.notified(), [])
        self.clock.advance(0.01)
        [notify] = self.notified()
        self.assertEqual(notify.uri_text, "sip:1001@192.0.2.50:5070")
        self.assertEqual(notify.get("subscription-state"), "active;expires=300")
        self.assertEqual(notify.get("event"), "presence;id=7")
        self.assertEqual(notify.get("from"), f"<sip:1002@pbx.test>;tag={reply.to_tag}")
        self.assertEqual(notify.get("to"), "<sip:1001@pbx.test>;tag=w")
        self.assertEqual(notify.get("call-id"), "sub-1")
        self.assertEqual(notify.get("cseq"), "1 NOTIFY")
        self.assertEqual(notify.get("contact"), "<sip:presence@192.0.2.1>")

    def test_nothing_published_means_an_empty_notify(self) -> None:
        self.watch()
        [notify] = self.notified()
        self.assertEqual((notify.body, notify.get("content-type")), (b"", None))

    def test_state_comes_at_once(self) -> None:
        self.publish(pidf())
        self.watch()
        [notify] = self.notified()
        self.assertEqual(notify.body, pidf())
        self.assertEqual(notify.get("content-type"), "application/pidf+xml")

    def test_route_set(self) -> None:
        self.watch("Event: presence\nRecord-Route: <sip:p1.test;lr>, <sip:p2.test;lr>")
        [notify] = self.notified()
        self.assertEqual(notify.get_all("route"), ["<sip:p1.test;lr>", "<sip:p2.test;lr>"])
        self.assertEqual(self.agent.ways[0], (URI.parse("sip:p1.test;lr"), None))

    def test_alias_and_own_address_are_the_user(self) -> None:
        self.publish(pidf())
        self.watch(uri="sip:reception@192.0.2.1")
        self.assertEqual(self.notified()[0].body, pidf())

    def test_contact_names_port_and_transport(self) -> None:
        flow = FakeFlow(BROWSER, Address("WS", "192.0.2.1", 5062))
        reply = self.answer(self.asked(), self.arrival(BROWSER, flow))
        contact = dict(reply.headers)["Contact"]
        self.assertEqual(contact, "<sip:presence@192.0.2.1:5062;transport=ws>")


class ExpiresTests(PresenceCase):
    def expires(self, headers: str) -> str:
        return dict(self.watch(f"Event: presence\n{headers}").headers)["Expires"]

    def test_default_and_cap(self) -> None:
        self.assertEqual(self.expires(""), "3600")
        self.assertEqual(self.expires("Expires: 4294967295"), "3600")
        self.assertEqual(self.expires("Expires: 60"), "60")

    def test_too_short(self) -> None:
        """RFC 6665 section 4.2.1.1."""
        reply = self.watch("Event: presence\nExpires: 4")
        self.assertEqual(reply, Reply(423, headers=(("Min-Expires", "5"),)))
        self.assertEqual(self.notified(), [])

    def test_no_number(self) -> None:
        self.assertEqual(self.watch("Event: presence\nExpires: soon").status, 400)

    def test_fetch(self) -> None:
        """Expires 0: one NOTIFY and no subscription (RFC 6665 section 4.4.3)."""
        self.publish(pidf())
        reply = self.watch("Event: presence\nExpires: 0")
        self.assertEqual((reply.status, dict(reply.headers)["Expires"]), (200, "0"))
        [notify] = self.notified()
        self.assertEqual(notify.get("subscription-state"), "terminated;reason=timeout")
        self.assertEqual(notify.body, pidf())
        self.assertEqual(self.stat("subscriptions"), 0)

    def test_expiry_ends_it(self) -> None:
        reply = self.watch("Event: presence\nExpires: 60")
        self.notified()
        self.advance(59)
        self.assertEqual(self.notified(), [])
        self.advance(1)
        self.assertEqual(self.states(), ["terminated;reason=timeout"])
        self.assertEqual(self.again(reply).status, 481)
        self.assertEqual(self.stat("subscriptions"), 0)


class RefusalTests(PresenceCase):
    ALLOW = (("Allow-Events", "dialog, message-summary, presence, presence.winfo, reg"),)

    def test_unknown_package(self) -> None:
        """RFC 6665 section 4.2.1.1."""
        self.assertEqual(self.watch("Event: weather"), Reply(489, headers=self.ALLOW))
        self.assertEqual(self.watch("X: y"), Reply(489, headers=self.ALLOW))

    def test_bad_event(self) -> None:
        self.assertEqual(self.watch("Event: a b").status, 400)

    def test_without_contact(self) -> None:
        self.assertEqual(self.watch(contact="").status, 400)

    def test_without_user(self) -> None:
        self.assertEqual(self.watch(uri="sip:pbx.test").status, 404)

    def test_type_of_document_not_accepted(self) -> None:
        reply = self.watch("Event: presence\nAccept: text/plain")
        self.assertEqual(reply, Reply(406, headers=(("Accept", "application/pidf+xml"),)))

    def test_nothing_is_kept_of_it(self) -> None:
        for headers in ("Event: weather", "Event: presence\nAccept: text/plain"):
            self.watch(headers)
        self.assertEqual((self.stat("subscriptions"), self.notified()), (0, []))


class WithinTests(PresenceCase):
    """RFC 6665 section 4.2.1.3."""

    def test_refresh(self) -> None:
        reply = self.watch("Event: presence\nExpires: 60")
        self.notified()
        self.advance(50)
        again = self.again(reply, "Event: presence\nExpires: 100")
        self.assertEqual((again.status, dict(again.headers)["Expires"]), (200, "100"))
        self.assertEqual(again.to_tag, reply.to_tag)
        self.assertEqual(self.states(), ["active;expires=100"])
        self.advance(99)
        self.assertEqual(self.states(), [])
        self.advance(1)
        self.assertEqual(self.states(), ["terminated;reason=timeout"])

    def test_refresh_changes_the_target(self) -> None:
        reply = self.watch()
        self.notified()
        asked = self.asked(
            to_tag=reply.to_tag, call_id="sub-1", cseq=2, contact="Contact: <sip:x@192.0.2.51>"
        )
        self.answer(asked)
        self.clock.advance(0.01)
        self.assertEqual(self.notified()[0].uri_text, "sip:x@192.0.2.51")

    def test_unsubscribe(self) -> None:
        self.publish(pidf())
        reply = self.watch()
        self.notified()
        self.assertEqual(self.again(reply, "Event: presence\nExpires: 0").status, 200)
        [notify] = self.notified()
        self.assertEqual(notify.get("subscription-state"), "terminated;reason=timeout")
        self.assertEqual((notify.get("cseq"), notify.body), ("2 NOTIFY", pidf()))
        self.assertEqual(self.again(reply, cseq=3).status, 481)
        self.advance(4000)
        self.assertEqual(self.notified(), [])

    def test_unknown_dialog(self) -> None:
        reply = self.watch()
        gone = Reply(481, "Subscription does not exist")
        self.assertEqual(self.again(reply, call_id="other"), gone)
        self.assertEqual(self.again(Reply(200, to_tag="other")), gone)
        self.assertEqual(self.again(reply, "Event: dialog"), gone)

    def test_order(self) -> None:
        """RFC 3261 section 12.2.2."""
        reply = self.watch(cseq=5)
        self.assertEqual(self.again(reply, cseq=4).status, 500)
        self.assertEqual(self.again(reply, cseq=6).status, 200)


class ReachTests(PresenceCase):
    """Where NOTIFYs go: oddity O10 and RFC 5626."""

    def test_browser_over_its_connection(self) -> None:
        flow = FakeFlow(BROWSER)
        asked = self.asked(contact="Contact: <sip:abc@x1.invalid;transport=ws>")
        self.answer(asked, self.arrival(BROWSER, flow))
        self.clock.advance(0.01)
        [notify] = self.notified()
        self.assertEqual(notify.uri_text, "sip:abc@192.0.2.70:40000;transport=ws")
        self.assertEqual(self.agent.ways, [(None, flow)])
        self.assertEqual(flow.kept, 3600)

    def test_browser_that_left_is_told_when_it_is_back(self) -> None:
        flow = FakeFlow(BROWSER)
        reply = self.answer(self.asked(), self.arrival(BROWSER, flow))
        self.clock.advance(0.01)
        self.notified()
        flow.closed = True
        self.publish(pidf())
        self.advance(5)
        self.assertEqual(self.notified(), [])
        other = FakeFlow(BROWSER)
        asked = self.asked(to_tag=reply.to_tag, call_id="sub-1", cseq=2)
        self.assertEqual(self.answer(asked, self.arrival(BROWSER, other)).status, 200)
        self.clock.advance(0.01)
        self.assertEqual(self.notified()[0].body, pidf())
        self.assertEqual(self.agent.ways[-1], (None, other))

    def test_behind_nat(self) -> None:
        flow = FakeFlow()
        asked = self.asked(contact="Contact: <sip:1001@10.0.0.5:5060>")
        self.answer(asked, self.arrival(flow=flow, behind_nat=True))
        self.clock.advance(0.01)
        self.assertEqual(self.notified()[0].uri_text, "sip:1001@192.0.2.50:5060")
        self.assertEqual(self.agent.ways, [(None, flow)])

    def test_public_udp_by_contact(self) -> None:
        self.watch()
        self.assertEqual(self.agent.ways, [(URI.parse("sip:1001@192.0.2.50:5070"), None)])


class BoundTests(PresenceCase):
    settings = PresenceSettings(
        max_subscriptions=3,
        max_subscriptions_per_watcher=2,
        watcher_rate=0.5,
        watcher_burst=6,
    )

    def test_per_watcher_and_in_total(self) -> None:
        self.assertEqual([self.watch().status for _ in range(3)], [200, 200, 503])
        self.assertEqual([self.watch(user="1003").status for _ in range(2)], [200, 503])

    def test_full_house_leaves_refreshes_and_fetches_alone(self) -> None:
        replies = [self.watch(), self.watch()]
        self.assertEqual(self.again(replies[1]).status, 200)
        self.assertEqual(self.watch("Event: presence\nExpires: 0").status, 200)

    def test_runaway_is_slowed_and_harms_nobody(self) -> None:
        headers = "Event: presence\nExpires: 0"
        self.assertEqual([self.watch(headers).status for _ in range(6)], [200] * 6)
        refused = Reply(503, "Too Many Requests", (("Retry-After", "2"),))
        self.assertEqual(self.answer(self.asked(headers)), refused)
        self.assertEqual(self.watch(headers, user="1003").status, 200)
        self.advance(2)
        self.assertEqual(self.watch(headers).status, 200)
        self.assertEqual(self.stat("throttled_requests"), 1)

    def test_strangers_cannot_use_up_what_a_user_may(self) -> None:
        """Requests within a dialog carry no password."""
        reply = self.watch()
        unknown = Reply(200, to_tag="guess")
        statuses = [self.again(unknown).status for _ in range(7)]
        self.assertEqual(statuses, [481] * 6 + [503])
        self.assertEqual(self.again(reply).status, 200)


class PendingTests(PresenceCase):
    """Without force_active nobody sees the presence of others."""

    settings = PresenceSettings(force_active=False)

    def test_others_wait(self) -> None:
        self.publish(pidf())
        self.assertEqual(self.watch("Event: presence\nExpires: 60").status, 202)
        [notify] = self.notified()
        self.assertEqual(notify.get("subscription-state"), "pending;expires=60")
        self.assertEqual(notify.body, b"")

    def test_the_presentity_itself_is_active(self) -> None:
        self.publish(pidf())
        self.assertEqual(self.watch(user="1002").status, 200)
        self.assertEqual(self.notified()[0].body, pidf())


class RestartTests(PresenceCase):
    def test_row(self) -> None:
        """Spec 20, section 9."""
        reply = self.watch("Event: presence;id=9\nExpires: 600\nRecord-Route: <sip:p.test;lr>")
        [row] = self.rows(
            "SELECT presentity_uri, watcher_username, watcher_domain, to_user, to_domain, event,"
            " event_id, to_tag, from_tag, callid, remote_cseq, contact, record_route, expires,"
            " status, socket_info, local_contact FROM active_watchers"
        )
        self.assertEqual(
            row,
            (
                "sip:1002@pbx.test",
                "1001",
                "pbx.test",
                "1002",
                "pbx.test",
                "presence",
                "9",
                reply.to_tag,
                "w",
                "sub-1",
                1,
                "sip:1001@192.0.2.50:5070",
                "<sip:p.test;lr>",
                int(START) + 600,
                1,
                "udp:192.0.2.1:5060",
                "<sip:presence@192.0.2.1>",
            ),
        )

    def test_row_goes_with_the_subscription(self) -> None:
        reply = self.watch()
        self.assertEqual(len(self.rows("SELECT id FROM active_watchers")), 1)
        self.again(reply, "Event: presence\nExpires: 0")
        self.assertEqual(self.rows("SELECT id FROM active_watchers"), [])

    def test_survives(self) -> None:
        """The watcher notices nothing but a NOTIFY with a higher CSeq."""
        for kill in (False, True):
            reply = self.watch(
                "Event: presence\nExpires: 600", contact="Contact: <sip:w@192.0.2.9>"
            )
            self.rows("SELECT id FROM active_watchers")
            last = self.notified()[-1].cseq.number
            self.restart(kill)
            self.advance(1)
            notify = self.notified()[-1]
            self.assertGreater(notify.cseq.number, last)
            self.assertEqual(notify.uri_text, "sip:w@192.0.2.9")
            self.assertEqual(notify.from_.tag, reply.to_tag)
            self.assertEqual(self.again(reply).status, 200)

    def test_tags_of_another_program(self) -> None:
        """Alone we take every row, whatever cluster it belonged to."""
        self.watch()
        self.rows("SELECT id FROM active_watchers")
        self.wait(self.database.execute("UPDATE active_watchers SET sharing_tag = 'vip'"))
        self.restart(kill=True)
        self.assertEqual(self.stat("subscriptions"), 1)

    def test_expired_meanwhile(self) -> None:
        self.watch("Event: presence\nExpires: 60")
        self.rows("SELECT id FROM active_watchers")
        self.restart()
        self.assertEqual(self.stat("subscriptions"), 1)
        self.clock.advance(0)
        self.timers.stop()
        self.clock.rightNow += 100
        self.build()
        self.assertEqual(self.stat("subscriptions"), 0)
        self.assertEqual(self.rows("SELECT id FROM active_watchers"), [])

    def test_strange_rows_harm_nobody(self) -> None:
        self.watch()
        self.rows("SELECT id FROM active_watchers")
        columns = (
            "watcher_username, watcher_domain, to_user, to_domain, event_id, to_tag, from_tag,"
            " local_cseq, remote_cseq, contact, expires, status, socket_info, local_contact"
        )
        for number, event in enumerate(("presence", "dialog;sla")):
            self.wait(
                self.database.execute(
                    f"INSERT INTO active_watchers (presentity_uri, callid, event, {columns})"
                    " SELECT presentity_uri, ?, ?, watcher_username, watcher_domain, to_user,"
                    " to_domain, ?, to_tag, from_tag, local_cseq, remote_cseq, contact, expires,"
                    " status, socket_info, local_contact FROM active_watchers WHERE callid = ?",
                    (f"odd-{number}", event, 'a";b', "sub-1"),
                )
            )
        self.restart(kill=True)
        self.assertEqual(self.stat("subscriptions"), 1)
        self.assertEqual(len(self.flushLoggedErrors()), 0)
