"""Two and three web phones in Chromium: calls through a real PBX, and what is heard in them."""

from __future__ import annotations

import re
import time

from tests.integration.browser import PEOPLE, WebCase, WebPhone, house
from tests.integration.harness import PBX, until

ANNA, TOM, PRIYA = "2001", "2002", "2003"
ANNA_NAME, TOM_NAME, PRIYA_NAME = (PEOPLE[user] for user in (ANNA, TOM, PRIYA))
#: Their voices, far enough from each other and from the tones of keys.
VOICES = {ANNA: 300, TOM: 2300, PRIYA: 3000}


class WebCallTests(WebCase):
    def setUp(self) -> None:
        super().setUp()
        self.server: PBX = house()
        # A record of the test before may still be on its way to the table.
        self.began = time.time()

    def person(self, user: str) -> WebPhone:
        """A web phone with the voice of its user."""
        return self.signed_in(self.server, user, VOICES[user])

    def talking(self, caller: WebPhone, callee: WebPhone, number: str) -> None:
        """A call that is answered and heard by both."""
        caller.dial(number)
        callee.answer()
        caller.is_talking()
        callee.is_talking()
        caller.hears(callee)
        callee.hears(caller)

    def rows(self) -> list[tuple[object, ...]]:
        """What the call detail records say, in order."""
        return self.server.sql(
            "SELECT caller, callee, disposition, ended_by, sip_code FROM cdr"
            " WHERE started >= ? ORDER BY started",
            self.began,
        )

    def recorded(self, count: int) -> list[tuple[object, ...]]:
        """The records, when there are so many."""
        until(lambda: len(self.rows()) == count, f"{count} records: {self.rows()}", 10)
        return self.rows()

    def test_call_mute_hold_keys(self) -> None:
        """Both hear each other; mute and hold silence what they should; keys are heard."""
        anna, tom = self.person(ANNA), self.person(TOM)
        self.talking(anna, tom, TOM)
        for phone in (anna, tom):
            phone.packets_flow()
        anna.button("Mute").click()
        tom.hears_nothing()
        anna.hears(tom)
        anna.button("Unmute").click()
        tom.hears(anna)
        tom.button("Hold").click()
        anna.says("You are on hold")
        tom.says("On hold")
        anna.hears_nothing()
        tom.hears_nothing()
        tom.button("Resume").click()
        anna.hears(tom)
        tom.hears(anna)
        for speaker, listener, keys in ((anna, tom, "1590"), (tom, anna, "2*8#")):
            listener.listen_for_keys()
            speaker.button("Keypad").click()
            for count, key in enumerate(keys, 1):
                speaker.button({"*": "star", "#": "hash"}.get(key, key)).click()
                listener.heard_keys(keys[:count])
        anna.hang_up()
        tom.says("hung up")
        tom.is_idle()
        anna.is_idle()
        self.assertEqual(self.recorded(1), [(ANNA, TOM, "answered", "caller", 200)])
        ((duration,),) = self.server.sql("SELECT duration FROM cdr WHERE started >= ?", self.began)
        self.assertTrue(2 < duration < 120, duration)

    def test_not_answered(self) -> None:
        """Cancelled, declined, do not disturb, no call waiting: each says what it was."""
        anna, tom = self.person(ANNA), self.person(TOM)
        anna.dial(TOM)
        tom.button("Answer").wait_for()
        anna.says("Ringing")
        anna.hang_up()
        tom.says("Missed call.")
        anna.is_idle()
        tom.is_idle()
        anna.dial(TOM)
        tom.button("Decline").click()
        anna.says(f"{TOM_NAME} declined the call.")
        anna.is_idle()
        tom.page.get_by_label("My status").select_option("Do not disturb")
        anna.dial(TOM)
        anna.says(f"{TOM_NAME} is busy.")
        anna.is_idle()
        anna.dial("2999")
        anna.says("There is nobody with the number 2999.")
        anna.is_idle()
        anna.dial(PRIYA)
        anna.says(f"{PRIYA_NAME} is not reachable: no phone is signed in.")
        anna.is_idle()
        kinds = [row[2:] for row in self.recorded(4)]
        self.assertEqual(
            kinds,
            [
                ("cancelled", "caller", 487),
                ("busy", "callee", 603),
                ("busy", "callee", 486),
                ("missed", "callee", 480),
            ],
        )

    def test_second_caller(self) -> None:
        """Call waiting: answering holds the first call; without it the caller hears "busy"."""
        anna, tom, priya = self.person(ANNA), self.person(TOM), self.person(PRIYA)
        self.talking(anna, tom, TOM)
        priya.dial(ANNA)
        anna.button(f"Answer {PRIYA_NAME}").click()
        anna.hears(priya)
        tom.says("You are on hold")
        tom.hears_nothing()
        anna.button(f"Talk to {TOM_NAME}").click()
        anna.hears(tom)
        tom.hears(anna)
        priya.says("You are on hold")
        priya.hang_up()
        priya.is_idle()
        tom.tab("Settings")
        tom.page.get_by_role("switch", name=re.compile("Call waiting")).uncheck()
        priya.dial(TOM)
        priya.says(f"{TOM_NAME} is busy.")
        anna.hears(tom)

    def test_blind_transfer(self) -> None:
        """Anna hands Tom over to Priya; a transfer that fails leaves the call where it was."""
        anna, tom, priya = self.person(ANNA), self.person(TOM), self.person(PRIYA)
        self.talking(anna, tom, TOM)
        anna.button("Transfer").click()
        anna.page.get_by_label("Name or number to hand over to").fill("2999")
        anna.button("Transfer now").click()
        anna.says("Not handed over to 2999")
        anna.button("Resume").click()
        anna.hears(tom)
        anna.button("Transfer").click()
        anna.page.get_by_label("Name or number to hand over to").fill(PRIYA)
        anna.button("Transfer now").click()
        priya.answer()
        priya.hears(tom)
        tom.hears(priya)
        anna.says(f"{TOM_NAME} was handed over to {PRIYA_NAME}.")
        anna.is_idle()
        tom.hang_up()
        priya.is_idle()
        rows = self.recorded(2)
        self.assertEqual(
            [row[:3] for row in rows], [(ANNA, TOM, "answered"), (TOM, PRIYA, "answered")]
        )

    def test_attended_transfer(self) -> None:
        """Anna asks Priya first, then connects the two; nobody has to answer again."""
        anna, tom, priya = self.person(ANNA), self.person(TOM), self.person(PRIYA)
        self.talking(tom, anna, ANNA)
        anna.button("Transfer").click()
        anna.page.get_by_label("Name or number to hand over to").fill(PRIYA)
        anna.button("Talk first").click()
        priya.answer()
        anna.hears(priya)
        priya.hears(anna)
        tom.says("You are on hold")
        anna.button(f"Connect {TOM_NAME} with {PRIYA_NAME}").click()
        tom.hears(priya)
        priya.hears(tom)
        anna.is_idle()
        priya.hang_up()
        tom.is_idle()

    def test_closed_and_crashed_tabs(self) -> None:
        """Whoever is left is hung up within 5 s, though a crash says no BYE."""
        anna, tom = self.person(ANNA), self.person(TOM)
        self.talking(anna, tom, TOM)
        began = time.monotonic()
        tom.page.close()
        anna.says("hung up")
        self.assertLess(time.monotonic() - began, 5)
        anna.is_idle()
        priya = self.person(PRIYA)
        self.talking(priya, anna, ANNA)
        began = time.monotonic()
        priya.crash()
        anna.says("hung up")
        self.assertLess(time.monotonic() - began, 5.5)
        anna.is_idle()
        ended = [row[:4] for row in self.recorded(2)]
        self.assertEqual(
            ended, [(ANNA, TOM, "answered", "callee"), (PRIYA, ANNA, "answered", "caller")]
        )
