"""Phones that watch, for the tests of presence and busy lamps."""

from __future__ import annotations

from defusedxml.ElementTree import fromstring

from pbx.sip.message import Request, Response
from tests.integration.harness import PBXTestCase
from tests.integration.phone import Dialog, Phone

NS = "{urn:ietf:params:xml:ns:dialog-info}"


def next_notify(phone: Phone, seconds: float) -> Request:
    """The next NOTIFY, answered; one that came before is answered again (17.2.2)."""
    while True:
        notify = phone.request("NOTIFY", seconds)
        phone.respond(notify, 200)
        if not _is_repeated(phone, notify):
            return notify


def _is_repeated(phone: Phone, request: Request) -> bool:
    for message in phone.seen:
        if message is request:
            return False
        if isinstance(message, Request) and message.get("via") == request.get("via"):
            return True
    return False


class WatchingTestCase(PBXTestCase):
    """Watchers and publishers."""

    def watch(
        self, phone: Phone, package: str, expires: int = 600, user: str = "2002"
    ) -> tuple[Dialog, Request]:
        """Subscribe to a user; the dialog and the first NOTIFY, answered."""
        headers = [("Event", package), ("Expires", str(expires))]
        uri = f"sip:{user}@pbx.test"
        asked = phone.authenticated(phone.make("SUBSCRIBE", uri, headers=headers))
        response = phone.response(200)
        dialog = Dialog(
            asked.call_id,
            response.get("from") or "",
            response.get("to") or "",
            response.contacts[0].uri_text,
            (),
        )
        dialog.cseq = asked.cseq.number
        return dialog, self.notified(phone)

    def notified(self, phone: Phone, seconds: float = 5.0) -> Request:
        """The next NOTIFY, answered."""
        return next_notify(phone, seconds)

    def lamp(self, phone: Phone) -> list[str | None]:
        """What the next NOTIFY says."""
        root = fromstring(self.notified(phone).body)
        return [state.text for state in root.iter(f"{NS}state")]

    def lamps(self, phone: Phone, *live: str, seconds: float = 15.0) -> Request:
        """The NOTIFY that shows calls in these states; none: only calls that have ended.

        Others may come before it, and calls that ended are told of for some seconds.
        """
        seen: list[list[str]] = []
        while True:
            try:
                notify = self.notified(phone, seconds)
            except AssertionError:
                raise AssertionError(f"wanted {live}, saw {seen}") from None
            states = [state.text or "" for state in fromstring(notify.body).iter(f"{NS}state")]
            seen.append(states)
            if sorted(set(states) - {"terminated"}) == sorted(set(live)) and len(live) == sum(
                state != "terminated" for state in states
            ):
                return notify

    def publish(self, phone: Phone, body: str, *headers: tuple[str, str]) -> Response:
        asked = phone.make("PUBLISH", phone.aor, headers=[("Event", "presence"), *headers])
        if body:
            asked.set_body(body.encode(), "application/pidf+xml")
        phone.authenticated(asked)
        return phone.response(200)
