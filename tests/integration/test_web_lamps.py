"""The web phone shows what desk phones do: forked and transferred calls."""

from __future__ import annotations

from tests.integration.browser import WebCase, WebPhone
from tests.integration.harness import until
from tests.integration.phone import Dialog, Phone

USERS = ("2001", "2002", "2003", "2005")


class DeskLampTests(WebCase):
    """2005 watches in Chromium; the others have desk phones."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.pbx(users=USERS)
        self.alice = self.registered(self.server, "2001")

    def shows(self, page: WebPhone, user: str, words: str) -> None:
        until(lambda: page.lamp(user) == words, f"{user}: {words}, not {page.lamp(user)}", 15)

    def hang_up(self, one: Phone, dialog: Dialog, other: Phone) -> None:
        one.send(one.within(dialog, "BYE"))
        other.respond(other.request("BYE"), 200)
        one.response(200)

    def test_forked_call(self) -> None:
        """Two phones of a user ring, one answers: the lamp rings, is busy, goes out."""
        desk, soft = (self.registered(self.server, "2002", kind) for kind in ("udp", "tcp"))
        page = self.signed_in(self.server, "2005")
        self.shows(page, "2002", "Available")
        called = self.alice.invite("2002")
        invites = [phone.request("INVITE") for phone in (desk, soft)]
        for phone, invite in zip((desk, soft), invites, strict=True):
            phone.ring(invite)
            self.alice.response(180)
        self.shows(page, "2002", "Ringing")
        soft.answer(invites[1])
        calling = self.alice.called(called, self.alice.response(200))
        desk.respond(desk.request("CANCEL"), 200)
        desk.respond(invites[0], 487)
        desk.request("ACK")
        soft.request("ACK")
        self.shows(page, "2002", "On a call")
        self.hang_up(self.alice, calling, soft)
        self.shows(page, "2002", "Available")

    def test_transferred_call(self) -> None:
        """The lamp of who transfers goes out, that of who gets the call lights up."""
        desk, third = self.registered(self.server, "2002"), self.registered(self.server, "2003")
        page = self.signed_in(self.server, "2005")
        called = self.alice.invite("2002")
        invite = desk.request("INVITE")
        desk.ring(invite)
        self.alice.response(180)
        answered = desk.answer(invite)
        self.alice.called(called, self.alice.response(200))
        desk.request("ACK")
        self.shows(page, "2002", "On a call")
        desk.send(desk.within(answered, "REFER", [("Refer-To", "<sip:2003@pbx.test>")]))
        self.alice.respond(self.alice.request("REFER"), 202)
        desk.response(202)
        called = self.alice.invite("2003")
        invite = third.request("INVITE")
        third.ring(invite)
        self.alice.response(180)
        self.shows(page, "2003", "Ringing")
        third.answer(invite)
        calling = self.alice.called(called, self.alice.response(200))
        third.request("ACK")
        self.hang_up(desk, answered, self.alice)
        self.shows(page, "2003", "On a call")
        self.shows(page, "2002", "Available")
        self.hang_up(self.alice, calling, third)
        self.shows(page, "2003", "Available")
