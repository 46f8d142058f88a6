"""The web phone in Firefox ESR: with Chromium, and through the media engine with a desk phone."""

from __future__ import annotations

from tests.integration.browser import WebCase, house, web_url
from tests.integration.firefox import Firefox
from tests.integration.harness import until
from tests.integration.test_calls_baresip import Baresip
from tests.integration.test_web_bridged import share

ANNA, TOM, WORKSHOP = "2001", "2002", "2004"


class FirefoxTests(WebCase):
    def test_calls(self) -> None:
        """To Chromium and from it, to a desk phone; sound and keys both ways, hold, hang-up."""
        pbx = house()
        fox = Firefox(self, web_url(pbx), 440)
        fox.sign_in(ANNA)
        tom = self.signed_in(pbx, TOM, 1000)
        fox.dial(TOM)
        tom.answer()
        fox.is_talking()
        fox.hears_tone(1000)
        tom.hears_tone(440)
        tom.listen_for_keys()
        fox.press("Keypad")
        for key in "159":
            fox.press(key)
            tom.page.wait_for_timeout(300)
        tom.heard_keys("159")
        fox.press("Hold")
        tom.says("You are on hold")
        tom.hears_nothing()
        fox.press("Resume")
        tom.hears_tone(440)
        tom.hang_up()
        fox.says("hung up")
        fox.is_idle()
        tom.is_idle()
        tom.dial(ANNA)
        fox.press("Answer")
        tom.is_talking()
        tom.hears_tone(440)
        fox.hears_tone(1000)
        fox.press("Hang up")
        tom.is_idle()
        fox.is_idle()
        desk = Baresip(self, pbx, WORKSHOP, "udp", 600)
        query = "SELECT 1 FROM location WHERE username = ?"
        until(lambda: pbx.sql(query, WORKSHOP), "the desk phone is registered")
        fox.dial(WORKSHOP)
        desk.says("Incoming call from")
        desk.do("accept")
        fox.is_talking()
        fox.hears_tone(600)
        until(lambda: share(desk.heard(), 440) > 0.5, "the desk phone hears Firefox", 15)
        desk.do("hangup")
        fox.says("hung up")
