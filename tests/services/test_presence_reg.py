from __future__ import annotations

from defusedxml.ElementTree import fromstring

from pbx.events import Registered, Unregistered
from tests.services.presence_case import PresenceCase

NS = "{urn:ietf:params:xml:ns:reginfo}"
AOR = "1002@pbx.test"


class RegistrationTests(PresenceCase):
    """RFC 3680."""

    def register(self, contact: str, new: bool = True, expires: object = 600) -> None:
        if new:
            about = {"AOR": AOR, "Contact": contact, "ContactID": str(len(self.registrar.known))}
            more = {"Expires": expires, "Q": "0.5", "Callid": "r1", "Cseq": 7}
            self.registrar.known.append({**about, **more})
        self.events.publish(Registered(AOR, contact, 600, None, new))

    def told(self) -> tuple[str | None, list[str | None]]:
        """State of the registration and its contacts."""
        [notify] = self.notified()
        self.assertEqual(notify.get("content-type"), "application/reginfo+xml")
        root = fromstring(notify.body)
        self.assertEqual((root.tag, root.get("state")), (f"{NS}reginfo", "full"))
        [registration] = root
        self.assertEqual(registration.get("aor"), "sip:1002@pbx.test")
        return registration.get("state"), [uri.text for uri in root.iter(f"{NS}uri")]

    def test_devices_come_and_go(self) -> None:
        self.watch("Event: reg", user="1002")
        self.assertEqual(self.told(), ("init", []))
        self.register("sip:a@192.0.2.50")
        self.assertEqual(self.told(), ("active", ["sip:a@192.0.2.50"]))
        self.advance(1)
        self.registrar.known.clear()
        self.events.publish(Unregistered(AOR, "sip:a@192.0.2.50", "expired"))
        self.assertEqual(self.told(), ("terminated", ["sip:a@192.0.2.50"]))
        self.advance(6)
        self.watch("Event: reg", user="1002")
        self.assertEqual(self.told(), ("init", []))

    def test_how_bindings_end(self) -> None:
        """Section 5.3.3: what the phone did, what time did, what we did."""
        self.watch("Event: reg", user="1002")
        for number, reason in enumerate(("removed", "expired", "admin", "flow", "replaced")):
            self.events.publish(Unregistered(AOR, f"sip:{number}@192.0.2.50", reason))
        self.advance(1)
        contacts = list(fromstring(self.notified()[-1].body).iter(f"{NS}contact"))
        self.assertEqual(
            [(contact.get("state"), contact.get("event")) for contact in contacts],
            [
                ("terminated", event)
                for event in (
                    "unregistered",
                    "expired",
                    "deactivated",
                    "deactivated",
                    "deactivated",
                )
            ],
        )

    def test_back_again(self) -> None:
        """A contact is told of once, under the same id."""
        self.watch("Event: reg", user="1002")
        self.register("sip:a@192.0.2.50")
        self.advance(1)
        self.registrar.known.clear()
        self.events.publish(Unregistered(AOR, "sip:a@192.0.2.50", "expired"))
        self.advance(1)
        self.register("sip:a@192.0.2.50")
        self.advance(1)
        ids = [
            [contact.get("id") for contact in fromstring(notify.body).iter(f"{NS}contact")]
            for notify in self.notified()[1:]
        ]
        self.assertEqual(ids, [ids[0]] * 3)
        self.assertEqual(len(ids[0]), 1)

    def test_what_is_told_of_a_contact(self) -> None:
        self.register("sip:a@192.0.2.50")
        self.register("sip:b@192.0.2.51", expires="permanent")
        self.watch("Event: reg", user="1002")
        contacts = list(fromstring(self.notified()[0].body).iter(f"{NS}contact"))
        same = {"state": "active", "event": "registered", "q": "0.5", "callid": "r1", "cseq": "7"}
        self.assertEqual(
            [contact.attrib for contact in contacts],
            [
                {"id": contacts[0].get("id"), "expires": "600", **same},
                {"id": contacts[1].get("id"), **same},
            ],
        )

    def test_refreshes_are_no_news(self) -> None:
        self.watch("Event: reg", user="1002")
        self.notified()
        self.register("sip:a@192.0.2.50", new=False)
        self.advance(2)
        self.assertEqual(self.notified(), [])

    def test_nobody_elses_business(self) -> None:
        self.assertEqual(self.watch("Event: reg").status, 403)
