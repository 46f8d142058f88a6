from __future__ import annotations

from defusedxml.ElementTree import fromstring

from pbx.events import MessagesWaiting, Registered, Unregistered
from pbx.services.presence import PresenceSettings
from pbx.verdicts import Reply
from tests.services.presence_case import START, PresenceCase, pidf

NS = "{urn:ietf:params:xml:ns:pidf}"
DM = "{urn:ietf:params:xml:ns:pidf:data-model}"
BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE p [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    b'<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:x@y">&b;</presence>'
)


class PublishTests(PresenceCase):
    """RFC 3903 sections 4 and 6."""

    def test_initial(self) -> None:
        reply = self.publish(pidf(), "Expires: 60")
        self.assertEqual((reply.status, dict(reply.headers)["Expires"]), (200, "60"))
        self.assertTrue(self.etag(reply).startswith("a.1700000000."))

    def test_watchers_hear_it(self) -> None:
        self.watch()
        self.notified()
        self.publish(pidf())
        [notify] = self.notified()
        self.assertEqual(notify.body, pidf())
        self.assertEqual(notify.get("subscription-state"), "active;expires=3600")

    def test_others_hear_nothing(self) -> None:
        self.watch(uri="sip:1003@pbx.test")
        self.watch("Event: message-summary")
        self.notified()
        self.publish(pidf())
        self.assertEqual(self.notified(), [])

    def test_refresh_gives_a_new_tag_and_no_notify(self) -> None:
        self.watch()
        first = self.etag(self.publish(pidf()))
        self.notified()
        reply = self.publish(headers=f"SIP-If-Match: {first}\nExpires: 60")
        self.assertEqual(dict(reply.headers)["Expires"], "60")
        self.assertNotEqual(self.etag(reply), first)
        self.assertEqual(self.notified(), [])
        self.assertEqual(self.publish(headers=f"SIP-If-Match: {first}"), Reply(412))

    def test_modify(self) -> None:
        self.watch()
        first = self.etag(self.publish(pidf()))
        self.notified()
        reply = self.publish(pidf("closed"), f"SIP-If-Match: {first}")
        self.assertNotEqual(self.etag(reply), first)
        self.advance(1)
        self.assertEqual([notify.body for notify in self.notified()], [pidf("closed")])
        self.assertEqual(self.stat("publications"), 1)

    def test_remove(self) -> None:
        """The watcher is told that the user is gone, as some phones ignore an empty body."""
        self.watch()
        first = self.etag(self.publish(pidf()))
        self.advance(2)
        self.notified()
        reply = self.publish(headers=f"SIP-If-Match: {first}\nExpires: 0")
        self.assertEqual(reply, Reply(200, headers=(("Expires", "0"),)))
        [notify] = self.notified()
        self.assertEqual(fromstring(notify.body).findtext(f".//{NS}basic"), "closed")
        self.assertEqual(self.publish(headers=f"SIP-If-Match: {first}").status, 412)

    def test_expiry(self) -> None:
        self.watch()
        first = self.etag(self.publish(pidf(), "Expires: 60"))
        self.advance(59)
        self.notified()
        self.advance(1)
        self.assertIn(b">closed<", self.notified()[0].body)
        self.assertEqual(self.publish(headers=f"SIP-If-Match: {first}").status, 412)

    def test_refresh_puts_the_expiry_off(self) -> None:
        self.watch()
        first = self.etag(self.publish(pidf(), "Expires: 60"))
        self.advance(50)
        self.publish(headers=f"SIP-If-Match: {first}\nExpires: 60")
        self.notified()
        self.advance(59)
        self.assertEqual(self.notified(), [])

    def test_expires(self) -> None:
        self.assertEqual(self.publish(pidf(), "Expires: 1").status, 423)
        reply = self.publish(pidf(), "Expires: 999999")
        self.assertEqual(dict(reply.headers)["Expires"], "3600")

    def test_initial_for_no_time(self) -> None:
        self.assertEqual(self.publish(pidf(), "Expires: 0").status, 200)
        self.assertEqual(self.stat("publications"), 0)


class RefusalTests(PresenceCase):
    def refused(self, status: int, body: bytes, content_type: str = "application/pidf+xml") -> None:
        reply = self.publish(body, content_type=content_type)
        self.assertEqual(reply.status, status, body[:80])
        self.assertEqual(self.stat("publications"), 0)

    def test_without_body(self) -> None:
        self.assertEqual(self.publish().status, 400)

    def test_bad_documents(self) -> None:
        self.refused(400, b"<presence")
        self.refused(400, b"\x00\xff")
        self.refused(400, b'<?xml version="1.0" encoding="klingon"?><a/>')
        self.refused(400, b"<presence/>")
        self.refused(400, BOMB)
        self.refused(400, pidf(more="<a>" * 5000 + "</a>" * 5000))

    def test_foreign_namespaces_are_welcome(self) -> None:
        self.assertEqual(self.publish(pidf(more='<x xmlns="urn:x" y="1"/>')).status, 200)

    def test_another_type(self) -> None:
        reply = self.publish(pidf(), content_type="text/plain")
        self.assertEqual(reply, Reply(415, headers=(("Accept", "application/pidf+xml"),)))

    def test_bad_document_leaves_the_old_one(self) -> None:
        first = self.etag(self.publish(pidf()))
        self.assertEqual(self.publish(b"<a", f"SIP-If-Match: {first}").status, 400)
        self.assertEqual(self.publish(headers=f"SIP-If-Match: {first}").status, 200)

    def test_packages_that_nobody_publishes(self) -> None:
        for event in ("dialog", "presence.winfo", "weather", ""):
            self.assertEqual(self.publish(pidf(), event=event).status, 489, event)

    def test_tag_of_another_state(self) -> None:
        first = self.etag(self.publish(pidf()))
        match = f"SIP-If-Match: {first}"
        reply = self.publish(headers=match, user="1003", uri="sip:1003@pbx.test")
        self.assertEqual(reply.status, 412)

    def test_several_tags(self) -> None:
        self.assertEqual(self.publish(headers="SIP-If-Match: a, b").status, 400)

    def test_state_of_somebody_else(self) -> None:
        self.assertEqual(self.publish(pidf(), user="1003").status, 403)

    def test_too_many_per_user(self) -> None:
        statuses = [self.publish(pidf()).status for _ in range(21)]
        self.assertEqual((statuses[19], statuses[20]), (200, 503))
        self.assertEqual(self.publish(pidf(), user="1003", uri="sip:1003@pbx.test").status, 200)


class SizeTests(PresenceCase):
    settings = PresenceSettings(max_body=100, max_publications=1, publish_by_others=True)

    def test_too_large(self) -> None:
        self.assertEqual(self.publish(pidf()).status, 413)

    def test_too_many(self) -> None:
        small = b'<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:a@b"/>'
        self.assertEqual([self.publish(small, user="1").status for _ in "ab"], [200, 503])


class CompositionTests(PresenceCase):
    """Several devices of one user: spec 30, section 10."""

    def composed(self, *bodies: bytes) -> list[tuple[str, str | None, str | None]]:
        """Tag, id and text of the elements."""
        for body in bodies:
            self.publish(body)
            self.advance(1)
        self.watch()
        document = fromstring(self.notified()[-1].body)
        self.assertEqual(document.get("entity"), "sip:1002@pbx.test")
        return [
            (element.tag, element.get("id"), "".join(element.itertext()).strip() or None)
            for element in document
        ]

    def test_tuples_of_all_newest_first(self) -> None:
        self.assertEqual(
            self.composed(pidf(id="old"), pidf("closed", id="new")),
            [(f"{NS}tuple", "new", "closed"), (f"{NS}tuple", "old", "open")],
        )

    def test_same_id_once(self) -> None:
        found = self.composed(pidf(id="x"), pidf("closed", id="x"))
        self.assertEqual(found, [(f"{NS}tuple", "x", "closed")])

    def test_newest_person_and_notes(self) -> None:
        person = (
            '<p:person xmlns:p="urn:ietf:params:xml:ns:pidf:data-model" id="{0}">{0}</p:person>'
        )
        note = "<note>{0}</note><note>{0}2</note>"
        bodies = [
            pidf(id=name, more=note.format(name) + person.format(name)) for name in ("one", "two")
        ]
        self.assertEqual(
            self.composed(*bodies),
            [
                (f"{NS}tuple", "two", "open"),
                (f"{NS}tuple", "one", "open"),
                (f"{NS}note", None, "two"),
                (f"{NS}note", None, "two2"),
                (f"{DM}person", "two", "two"),
            ],
        )

    def test_one_publisher_passes_untouched(self) -> None:
        body = pidf(more="<!-- as it came --><note>x</note>")
        self.publish(body)
        self.watch()
        self.assertEqual(self.notified()[0].body, body)

    def test_one_leaves(self) -> None:
        self.watch()
        first = self.etag(self.publish(pidf(id="x")))
        self.publish(pidf(id="y"))
        self.advance(2)
        self.notified()
        self.publish(headers=f"SIP-If-Match: {first}\nExpires: 0")
        self.assertEqual(self.notified()[0].body, pidf(id="y"))

    def test_text_that_no_document_can_hold(self) -> None:
        for name in "xy":
            self.publish(pidf(id=name), user="a%01%FF", uri="sip:a%01%FF@pbx.test")
        self.watch(uri="sip:a%01%FF@pbx.test")
        self.assertEqual(len(fromstring(self.notified()[0].body)), 2)


class OfflineBodyTests(PresenceCase):
    settings = PresenceSettings(notify_offline_body=True)

    def test_nothing_published(self) -> None:
        self.watch()
        [notify] = self.notified()
        self.assertIn(b">closed<", notify.body)
        self.assertEqual(notify.get("content-type"), "application/pidf+xml")


class RegisteredTests(PresenceCase):
    """Phones that do not publish are there while they are registered."""

    settings = PresenceSettings(show_registered=True)

    def register(self, registered: bool) -> None:
        self.registrar.known = [{"AOR": "1002@pbx.test"}] if registered else []
        if registered:
            self.events.publish(Registered("1002@pbx.test", "sip:x@y", 600, None, True))
        else:
            self.events.publish(Unregistered("1002@pbx.test", "sip:x@y", "expired"))
        self.advance(2)

    def basics(self) -> list[str | None]:
        return [next(fromstring(notify.body).iter(f"{NS}basic")).text for notify in self.notified()]

    def test_comes_and_goes(self) -> None:
        self.watch()
        self.register(True)
        self.register(False)
        self.assertEqual(self.basics(), ["closed", "open", "closed"])

    def test_refreshes_are_no_news(self) -> None:
        self.register(True)
        self.watch()
        self.events.publish(Registered("1002@pbx.test", "sip:x@y", 600, None, False))
        self.advance(2)
        self.assertEqual(self.basics(), ["open"])

    def test_publications_count_more(self) -> None:
        self.register(True)
        self.watch()
        tag = self.etag(self.publish(pidf("closed")))
        self.advance(2)
        self.register(False)
        self.register(True)
        self.publish(headers=f"SIP-If-Match: {tag}\nExpires: 0")
        self.advance(2)
        self.assertEqual(self.basics(), ["open", "closed", "open"])


class RestartTests(PresenceCase):
    def test_row(self) -> None:
        """Spec 20, section 9."""
        tag = self.etag(self.publish(pidf(), "Expires: 600"))
        rows = self.rows(
            "SELECT username, domain, event, etag, expires, received_time, body, sender"
            " FROM presentity"
        )
        now = int(START)
        self.assertEqual(
            rows,
            [("1002", "pbx.test", "presence", tag, now + 600, now, pidf(), "1002@pbx.test")],
        )

    def test_one_row_per_publication(self) -> None:
        tag = self.etag(self.publish(pidf()))
        tag = self.etag(self.publish(headers=f"SIP-If-Match: {tag}"))
        self.assertEqual(self.rows("SELECT etag FROM presentity"), [(tag,)])
        self.publish(headers=f"SIP-If-Match: {tag}\nExpires: 0")
        self.assertEqual(self.rows("SELECT etag FROM presentity"), [])

    def test_survives(self) -> None:
        tag = self.etag(self.publish(pidf(), "Expires: 60"))
        self.rows("SELECT etag FROM presentity")
        self.restart(kill=True)
        self.watch()
        self.assertEqual(self.notified()[0].body, pidf())
        self.assertEqual(self.publish(headers=f"SIP-If-Match: {tag}\nExpires: 60").status, 200)
        self.advance(60)
        self.assertEqual(self.stat("publications"), 0)

    def test_expired_meanwhile(self) -> None:
        self.publish(pidf(), "Expires: 60")
        self.rows("SELECT etag FROM presentity")
        self.timers.stop()
        self.clock.rightNow += 100
        self.build()
        self.assertEqual(self.stat("publications"), 0)
        self.assertEqual(self.rows("SELECT etag FROM presentity"), [])


class MessageSummaryTests(PresenceCase):
    """RFC 3842."""

    def summary(self) -> bytes:
        [notify] = self.notified()
        self.assertEqual(notify.get("content-type"), "application/simple-message-summary")
        return notify.body

    def test_no_messages(self) -> None:
        self.watch("Event: message-summary", user="1002")
        self.assertEqual(
            self.summary(),
            b"Messages-Waiting: no\r\nMessage-Account: sip:1002@pbx.test\r\n"
            b"Voice-Message: 0/0 (0/0)\r\n",
        )

    def test_counted(self) -> None:
        self.watch("Event: message-summary", user="1002")
        self.notified()
        self.server.messages.count("1002@pbx.test", 2, 8, 1)
        self.assertEqual(
            self.summary(),
            b"Messages-Waiting: yes\r\nMessage-Account: sip:1002@pbx.test\r\n"
            b"Voice-Message: 2/8 (1/0)\r\n",
        )
        self.server.messages.count("1002@pbx.test", 2, 8, 1)
        self.advance(2)
        self.assertEqual(self.notified(), [])
        self.server.messages.count("1002@pbx.test", 0, 0)
        self.assertIn(b"Messages-Waiting: no", self.summary())

    def test_published(self) -> None:
        self.watch("Event: message-summary", user="1002")
        self.notified()
        body = b"Messages-Waiting: yes\r\nVoice-Message: 1/0\r\n"
        kind = "application/simple-message-summary"
        reply = self.publish(body, event="message-summary", content_type=kind)
        self.assertEqual(reply.status, 200)
        self.assertEqual(self.summary(), body)
        bad = self.publish(b"hello", event="message-summary", content_type=kind)
        self.assertEqual(bad.status, 400)

    def test_text_messages(self) -> None:
        """What the silo keeps for a user counts; voice mail that is published is kept."""
        self.watch("Event: message-summary", user="1002")
        self.notified()
        self.events.publish(MessagesWaiting("1002@pbx.test", 2))
        self.assertEqual(
            self.summary(),
            b"Messages-Waiting: yes\r\nMessage-Account: sip:1002@pbx.test\r\n"
            b"Voice-Message: 0/0 (0/0)\r\nText-Message: 2/0\r\n",
        )
        kind = "application/simple-message-summary"
        body = b"Messages-Waiting: no\r\nVoice-Message: 0/3\r\n\r\nTo: <sip:1002@pbx.test>\r\n"
        self.publish(body, event="message-summary", content_type=kind)
        self.advance(2)
        self.assertEqual(
            self.summary(),
            b"Messages-Waiting: yes\r\nVoice-Message: 0/3\r\nText-Message: 2/0\r\n"
            b"\r\nTo: <sip:1002@pbx.test>\r\n",
        )
        self.events.publish(MessagesWaiting("1002@pbx.test", 0))
        self.advance(2)
        self.assertEqual(self.summary(), body)

    def test_summary_with_texts_of_its_own(self) -> None:
        body = b"Messages-Waiting: yes\r\nText-Message: 7/0\r\n"
        self.publish(
            body, event="message-summary", content_type="application/simple-message-summary"
        )
        self.events.publish(MessagesWaiting("1002@pbx.test", 2))
        self.watch("Event: message-summary", user="1002")
        self.assertEqual(self.summary(), body)


class NoTextsTests(PresenceCase):
    settings = PresenceSettings(count_stored_messages=False)

    def test_text_messages(self) -> None:
        self.watch("Event: message-summary", user="1002")
        self.events.publish(MessagesWaiting("1002@pbx.test", 2))
        self.advance(2)
        self.assertEqual(len(self.notified()), 1)
