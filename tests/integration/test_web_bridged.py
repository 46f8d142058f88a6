"""Chromium and phones that speak plain RTP: desk phones (baresip), and FreeSWITCH in between.

The PBX bridges DTLS-SRTP and RTP; what counts is what is heard on the other side.
"""

from __future__ import annotations

import math
import struct
import sys

from tests.integration.browser import WebCase, WebPhone, house
from tests.integration.harness import free_block, until
from tests.integration.test_calls_baresip import Baresip

ANNA, TOM, WORKSHOP = "2001", "2002", "2004"
DESK_HERTZ = 600


def share(sound: bytes, hertz: float, rate: int = 8000) -> float:
    """How much of the power of a sound (16 bits) is in this tone (Goertzel)."""
    samples = struct.unpack(f"<{len(sound) // 2}h", sound[: len(sound) // 2 * 2])
    power = float(sum(sample * sample for sample in samples))
    if power < 1000 * len(samples):
        return 0.0
    turn = 2 * math.cos(2 * math.pi * hertz / rate)
    one, two = 0.0, 0.0
    for sample in samples:
        one, two = sample + turn * one - two, one
    return 2 * (one * one + two * two - turn * one * two) / (len(samples) * power)


class DeskPhoneTests(WebCase):
    def setUp(self) -> None:
        super().setUp()
        self.server = house()
        self.server.sql("DELETE FROM pbx_cdr")
        self.anna = self.signed_in(self.server, ANNA, 1000)
        self.desk = Baresip(self, self.server, WORKSHOP, "udp", DESK_HERTZ)
        query = "SELECT 1 FROM location WHERE username = ?"
        until(lambda: self.server.sql(query, WORKSHOP), "the desk phone is registered")

    def talk(self) -> None:
        """Each hears the other's voice."""
        self.anna.hears_tone(DESK_HERTZ)
        self.anna.packets_flow()
        heard = lambda: share(self.desk.heard(), self.anna.hertz) > 0.5  # noqa: E731
        until(heard, "the desk phone hears the browser", 15)

    def keys(self) -> None:
        """Keys both ways, by RFC 4733."""
        self.anna.listen_for_keys()
        for key in "159":
            self.desk.do("sndcode", key)
            self.anna.page.wait_for_timeout(300)
        self.anna.heard_keys("159")
        self.anna.button("Keypad").click()
        for key in "26":
            self.anna.button(key).click()
            self.anna.page.wait_for_timeout(300)
            self.desk.says(f"event: '{key}'")
        self.anna.button("Keypad").click()

    def recorded(self, caller: str) -> tuple[object, ...]:
        """The call detail record of the one call of somebody."""
        query = "SELECT caller, callee, disposition, ended_by, sip_code FROM cdr WHERE caller = ?"
        until(lambda: self.server.sql(query, caller), "the cdr", 5)
        (row,) = self.server.sql(query, caller)
        return row

    def test_browser_calls_desk_phone(self) -> None:
        """Sound and keys both ways, hold and resume; the browser hangs up."""
        self.anna.dial(WORKSHOP)
        self.desk.says("Incoming call from")
        self.desk.do("accept")
        self.anna.is_talking()
        self.talk()
        self.keys()
        self.anna.button("Hold").click()
        self.anna.says("On hold")
        self.desk.hears_nothing()
        self.anna.button("Resume").click()
        self.talk()
        self.anna.hang_up()
        self.desk.says("session closed")
        self.assertEqual(self.recorded(ANNA), (ANNA, WORKSHOP, "answered", "caller", 200))

    def test_desk_phone_calls_browser(self) -> None:
        """The same the other way round; the desk phone hangs up."""
        self.desk.do("dial", f"sip:{ANNA}@pbx.test")
        self.anna.says("Incoming call")
        self.anna.answer()
        self.desk.says("Call established")
        self.talk()
        self.keys()
        self.desk.do("hangup")
        self.anna.says("hung up")
        self.anna.is_idle()
        self.assertEqual(self.recorded(WORKSHOP), (WORKSHOP, ANNA, "answered", "caller", 200))

    def test_desk_phone_busy(self) -> None:
        """What a phone answers is what the page says."""
        self.anna.dial(WORKSHOP)
        self.desk.says("Incoming call from")
        self.desk.do("hangup")
        self.anna.says("is busy.")


class FreeSWITCHTests(WebCase):
    def test_node_between_two_browsers(self) -> None:
        """Browser, FreeSWITCH, browser: two bridged legs; sound and keys both ways."""
        pbx = self.pbx(users=(ANNA, TOM))
        internal = free_block(2)
        node = self.run_program(
            [
                *(sys.executable, "-m", "tests.integration.b2bua", "127.0.0.1", str(internal)),
                *(str(internal + 1), str(pbx.ports["udp"]), "--media"),
            ],
            "node",
        )
        node.wait_for("ready")
        pbx.add_node(1, 1, internal)
        pbx.add_node(2, 3, internal + 1)
        until(lambda: len(pbx.mi("lb_list")["Destinations"]) == 2, "the node is known", 6)
        anna, tom = self.signed_in(pbx, ANNA, 440), self.signed_in(pbx, TOM, 1000)
        anna.dial(TOM)
        tom.answer()
        self.hear_each_other(anna, tom)
        for speaker, listener, keys in ((anna, tom, "159"), (tom, anna, "26")):
            listener.listen_for_keys()
            speaker.button("Keypad").click()
            for key in keys:
                speaker.button(key).click()
                speaker.page.wait_for_timeout(300)
            listener.heard_keys(keys)
        tom.hang_up()
        anna.says("hung up")
        anna.is_idle()
        node.wait_for("active=0")
        until(lambda: pbx.sql("SELECT 1 FROM cdr"), "the cdr", 5)
        rows = pbx.sql("SELECT caller, callee, disposition, ended_by, legs FROM cdr")
        self.assertEqual(rows, [(ANNA, TOM, "answered", "callee", 2)])

    def hear_each_other(self, anna: WebPhone, tom: WebPhone) -> None:
        """By the node, which carries RTP."""
        for phone, other in ((anna, tom), (tom, anna)):
            phone.is_talking()
            phone.hears(other)
            phone.packets_flow()
