"""The web phone beyond its calls: log-in, messages, history, lamps, restarts, and how it looks."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.browser import PEOPLE, WebCase, WebPhone, house
from tests.integration.harness import PBX, free_port, until

ANNA, TOM, PRIYA, WORKSHOP = PEOPLE
ANNA_NAME, TOM_NAME, PRIYA_NAME, _ = PEOPLE.values()
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True}
CTL = Path(sys.executable).parent / "pbxctl"
#: Instead of the microphone: what the browser says when there is none.
NO_MICROPHONE = """
void (navigator.mediaDevices.getUserMedia = async () => {
  throw new DOMException("refused by the test", NAME);
});
"""
#: Where sound is sent to, in order.
LISTEN_TO_SINKS = """
window.sinks = [];
const choose = HTMLMediaElement.prototype.setSinkId;
HTMLMediaElement.prototype.setSinkId = function (id) {
  sinks.push(id);
  return choose.call(this, id);
};
void 0;
"""
#: How many oscillators were made, and what notifications are shown, as if the page was behind.
LISTEN_TO_TONES = """
window.tones = 0;
const Native = window.OscillatorNode;
window.OscillatorNode = class extends Native {
  constructor(...values) {
    super(...values);
    tones += 1;
  }
};
window.shown = [];
document.hasFocus = () => false;
window.Notification = class {
  static permission = "granted";
  constructor(title) {
    this.title = title;
    shown.push(title);
  }
  close() {
    shown = shown.filter((one) => one !== this.title);
  }
};
void 0;
"""


def link(pbx: PBX, user: str) -> str:
    """The fragment of a link that logs a user in."""
    done = subprocess.run(
        [CTL, "--json", "-c", pbx.config, "user", "link", user],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return "#" + str(found["links"][0]).partition("#")[2]


def size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG."""
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    return width, height


class LogInTests(WebCase):
    def test_passwords_and_reload(self) -> None:
        """A wrong one is refused in words, a right one outlives the page, signing out ends it."""
        anna = self.opened(house())
        anna.sign_in(ANNA, "wrong")
        anna.says("The extension or the password is wrong.")
        anna.sign_in("nobody", "wrong")
        anna.says("The extension or the password is wrong.")
        anna.sign_in(ANNA)
        anna.is_ready()
        self.assertIn(ANNA_NAME, anna.page.get_by_role("banner").inner_text())
        anna.page.reload()
        anna.is_ready()
        anna.tab("Settings")
        anna.button("Sign out").click()
        anna.page.get_by_label("Extension").wait_for()
        anna.page.reload()
        anna.page.get_by_label("Extension").wait_for()
        until(lambda: not house().sql("SELECT 1 FROM location WHERE username = ?", ANNA), "gone", 5)

    def test_link(self) -> None:
        """It works once, and leaves the address bar at once."""
        fragment = link(house(), TOM)
        tom = self.opened(house())
        tom.page.goto("about:blank")
        tom.visit(fragment)
        tom.is_ready()
        self.assertNotIn("login", tom.page.url)
        other = self.opened(house())
        other.page.goto("about:blank")
        other.visit(fragment)
        other.says("This link was used already or has expired.")
        tom.visit(fragment)
        tom.says("This link was used already or has expired.")
        tom.is_ready()
        tom.visit(link(house(), PRIYA))
        tom.says(PRIYA_NAME)


class MicrophoneTests(WebCase):
    def test_no_microphone(self) -> None:
        """Every reason has its words, and no call begins; the callee's phone goes on ringing."""
        anna = self.signed_in(house(), ANNA)
        tom = self.signed_in(house(), TOM, 1000)
        for name, words in (
            ("NotAllowedError", "does not let this page use the microphone"),
            ("NotFoundError", "No microphone was found"),
            ("NotReadableError", "another program may have it"),
        ):
            anna.page.evaluate(NO_MICROPHONE.replace("NAME", json.dumps(name)))
            anna.dial(TOM)
            anna.says(words)
            self.assertFalse(tom.button("Answer").is_visible())
        tom.dial(ANNA)
        anna.answer()
        anna.page.get_by_text("another program may have it").last.wait_for()
        anna.button("Answer").wait_for()
        tom.says("Ringing")


class DeviceTests(WebCase):
    def test_choice(self) -> None:
        """Microphone and loudspeaker are what was chosen, also when that is changed in a call."""
        anna, tom = self.signed_in(house(), ANNA), self.signed_in(house(), TOM, 1000)
        anna.page.evaluate(LISTEN_TO_SINKS)
        anna.tab("Settings")
        anna.button("Test").click()
        meter = anna.page.get_by_role("meter")
        until(lambda: meter.evaluate("one => one.value") > 0.01, "the fake device beeps", 10)
        anna.button("Stop").click()
        microphone = anna.page.get_by_label("Microphone", exact=True)
        speaker = anna.page.get_by_label("Loudspeaker", exact=True)
        microphone.select_option("Fake Audio Input 1")
        speaker.select_option("Fake Audio Output 1")
        anna.dial(TOM)
        tom.answer()
        anna.hears(tom)
        self.assertIn("Fake Audio Input 1", anna.page.evaluate("ear.microphone()"))
        first = speaker.input_value()
        until(lambda: anna.page.evaluate("sinks.at(-1)") == first, "the loudspeaker", 5)
        microphone.select_option("Fake Audio Input 2")
        speaker.select_option("Fake Audio Output 2")
        until(lambda: "Input 2" in anna.page.evaluate("ear.microphone()"), "the microphone", 10)
        second = speaker.input_value()
        self.assertNotEqual(first, second)
        until(lambda: anna.page.evaluate("sinks.at(-1)") == second, "the loudspeaker", 5)
        anna.packets_flow()
        anna.button("Mute").click()
        tom.hears_nothing()
        anna.page.reload()
        anna.is_ready()
        anna.tab("Settings")
        self.assertEqual(speaker.input_value(), second)

    def test_ring_and_notification(self) -> None:
        """A call is heard, and shown when the page is not in front; taken back when it ends."""
        anna, tom = self.signed_in(house(), ANNA), self.signed_in(house(), TOM)
        tom.page.mouse.click(640, 780)
        tom.page.evaluate(LISTEN_TO_TONES)
        anna.dial(TOM)
        tom.button("Answer").wait_for()
        until(lambda: tom.page.evaluate("tones") > 2, "the ring tone", 5)
        self.assertEqual(tom.page.evaluate("shown"), [f"{ANNA_NAME} is calling"])
        self.assertEqual(tom.page.title(), f"{ANNA_NAME} is calling")
        anna.hang_up()
        until(lambda: not tom.page.evaluate("shown"), "the notification is gone", 5)


class MessageTests(WebCase):
    def setUp(self) -> None:
        super().setUp()
        house().sql("DELETE FROM silo")

    def write(self, phone: WebPhone, who: str, text: str) -> None:
        phone.tab("Messages")
        field = phone.page.get_by_label("Name or number to write to")
        field.fill(who)
        field.press("Enter")
        box = phone.page.get_by_role("textbox", name=re.compile("^Message to"))
        box.fill(text)
        box.press("Enter")

    def test_online(self) -> None:
        """Delivered at once, markup and all as it was written; the answer comes back."""
        anna, tom = self.signed_in(house(), ANNA), self.signed_in(house(), TOM)
        text = "Grüße <img src=x onerror=\"document.title='hacked'\"> & 'so' 😀\nzwei Zeilen"
        self.write(anna, "tom", text)
        anna.says("Delivered")
        tom.says("Grüße <img")
        tom.button("Open").click()
        bubble = tom.page.locator(".bubble p")
        self.assertEqual(bubble.inner_text(), text)
        self.assertNotIn("hacked", tom.page.title())
        self.write(tom, ANNA, "Danke!")
        anna.page.get_by_text("Danke!").first.wait_for()
        tom.page.reload()
        tom.is_ready()
        tom.tab("Messages")
        tom.button(re.compile("Danke!")).click()
        self.assertEqual(tom.page.locator(".bubble").count(), 2)

    def test_offline(self) -> None:
        """Kept by the PBX until the other one signs in, with the time of writing; once."""
        anna = self.signed_in(house(), ANNA)
        self.write(anna, PRIYA, "Please call back")
        anna.says("Waits until they sign in")
        until(lambda: house().sql("SELECT 1 FROM silo"), "it is stored", 5)
        house().sql("UPDATE silo SET inc_time = inc_time - 7200")
        priya = self.signed_in(house(), PRIYA)
        priya.tab("Messages")
        priya.button(re.compile("Please call back")).click()
        priya.says("Sent while you were away")
        until(lambda: not house().sql("SELECT 1 FROM silo"), "it is gone from there", 5)
        priya.page.reload()
        priya.is_ready()
        priya.tab("Messages")
        priya.button(re.compile("Please call back")).click()
        self.assertEqual(priya.page.locator(".bubble").count(), 1)

    def test_nobody(self) -> None:
        anna = self.signed_in(house(), ANNA)
        self.write(anna, "2999", "Hello?")
        anna.says("There is nobody with the number 2999.")
        anna.button("Send again").wait_for()


class LampTests(WebCase):
    def test_lamp_and_history(self) -> None:
        """Priya sees Tom idle, ringing, talking and gone; the call is in both histories."""
        pbx = house()
        pbx.sql("DELETE FROM pbx_cdr")
        priya = self.signed_in(pbx, PRIYA)
        anna, tom = self.signed_in(pbx, ANNA, 440), self.signed_in(pbx, TOM, 1000)
        self.lit(priya, TOM, "Available")
        anna.dial("tom lind")
        tom.button("Answer").wait_for()
        self.lit(priya, TOM, "Ringing")
        self.lit(priya, ANNA, "On a call")
        tom.answer()
        anna.is_talking()
        self.lit(priya, TOM, "On a call")
        tom.hang_up()
        self.lit(priya, TOM, "Available")
        tom.page.get_by_label("My status").select_option("Away")
        self.lit(priya, TOM, "Away")
        anna.is_idle()
        anna.dial(PRIYA)
        priya.button("Answer").wait_for()
        anna.hang_up()
        priya.says("Missed call.")
        priya.page.get_by_role("button", name=re.compile("Recents 1 new|1 new Recents")).click()
        missed = priya.page.get_by_role("listitem").filter(has_text="Missed")
        self.assertIn(ANNA_NAME, missed.first.inner_text())
        anna.tab("Recents")
        first = anna.page.locator("li.row").first
        until(lambda: PRIYA_NAME in first.inner_text(), "the newest call comes first", 10)
        self.assertIn("Cancelled", first.inner_text())
        talked = anna.page.locator("li.row").nth(1).inner_text()
        self.assertRegex(talked, rf"{TOM_NAME}\s+Outgoing\s*{TOM}\s*0:\d\d")
        anna.page.locator("li.row").first.get_by_role("button", name=f"Call {PRIYA_NAME}").click()
        priya.button("Decline").click()
        tom.page.close()
        priya.tab("People")
        self.lit(priya, TOM, "Offline", 30)

    def lit(self, phone: WebPhone, user: str, words: str, seconds: float = 10) -> None:
        until(
            lambda: phone.lamp(user) == words, f"{user}: {words}, not {phone.lamp(user)}", seconds
        )


class RestartTests(WebCase):
    def restartable(self, *users: str) -> PBX:
        """A PBX on ports that stay the same."""
        tables = {
            "sip": {"listen": [f"udp:127.0.0.1:{free_port()}"]},
            "http": {"listen": [f"tcp:127.0.0.1:{free_port()}"]},
        }
        return self.pbx(tables, users=users)

    def test_password_changed_meanwhile(self) -> None:
        """The phone is refused when it registers again, and its user hears why."""
        pbx = self.restartable(ANNA)
        anna = self.signed_in(pbx, ANNA)
        pbx.kill()
        anna.says("The server is away.")
        pbx.sql("UPDATE subscriber SET password = 'other' WHERE username = ?", ANNA)
        pbx.start()
        anna.says("The server does not accept this log-in any more")
        anna.sign_in(ANNA, "other")
        anna.is_ready()

    def test_server_restarted(self) -> None:
        """Both phones come back by themselves, say so, and the call between them goes on."""
        pbx = self.restartable(ANNA, TOM)
        anna, tom = self.signed_in(pbx, ANNA, 440), self.signed_in(pbx, TOM, 1000)
        anna.dial(TOM)
        tom.answer()
        anna.hears(tom)
        until(lambda: pbx.sql("SELECT 1 FROM dialog"), "the call is written", 5)
        pbx.kill()
        for phone in (anna, tom):
            phone.says("The server is away. Connecting again")
        anna.hears(tom)
        tom.hears(anna)
        pbx.start()
        for phone in (anna, tom):
            phone.says("Connected again.")
            phone.is_ready()
        anna.hears(tom)
        tom.button("Hold").click()
        anna.says("You are on hold")
        tom.button("Resume").click()
        anna.hears(tom)
        anna.hang_up()
        tom.says("hung up")
        tom.is_idle()
        anna.is_idle()
        until(lambda: not pbx.mi("dlg_list")["Dialogs"], "no call is left", 10)
        tom.page.reload()
        tom.is_ready()
        anna.dial(TOM)
        tom.answer()
        tom.hears(anna)


class KeyboardTests(WebCase):
    def test_without_a_mouse(self) -> None:
        """Log in, call by name, answer and hang up with keys; everything has a name."""
        anna = self.opened(house(), 440)
        keys = anna.page.keyboard
        anna.page.get_by_label("Extension").focus()
        keys.type(ANNA)
        keys.press("Tab")
        keys.type("secret")
        keys.press("Enter")
        anna.is_ready()
        tom = self.signed_in(house(), TOM, 1000)
        anna.page.get_by_label("Name or number to call").focus()
        keys.type("lindq")
        anna.page.get_by_role("option", name=re.compile(TOM_NAME)).wait_for()
        keys.press("ArrowDown")
        keys.press("Enter")
        tom.page.get_by_role("alert").get_by_text(f"Incoming call from {ANNA_NAME}").wait_for(
            state="attached"
        )
        tom.page.keyboard.press("Alt+a")
        anna.is_talking()
        tom.page.keyboard.press("Alt+m")
        tom.button("Unmute").wait_for()
        tom.page.keyboard.press("Alt+e")
        anna.is_idle()
        nameless = anna.page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, textarea")]
                 .filter((one) => !one.innerText?.trim() && !one.ariaLabel && !one.labels?.length)
                 .map((one) => one.outerHTML)"""
        )
        self.assertEqual(nameless, [])


class AppearanceTests(WebCase):
    """Makes the screenshots; that they are good, somebody has to look (SCREENSHOTS=folder)."""

    def test_pictures(self) -> None:
        """Every view, wide and dark and on a small screen, where nothing sticks out; and nothing
        that keeps people out who do not see or use a mouse.
        """
        pbx = house()
        anna = self.opened(pbx, 440)
        shown = [anna.picture("login")]
        anna.has_no_barriers()
        anna.sign_in(ANNA)
        anna.is_ready()
        tom = self.signed_in(pbx, TOM, 1000, color_scheme="dark")
        small = self.signed_in(pbx, PRIYA, 1800, **PHONE)
        for phone in (anna, tom, small):
            phone.button("Not now").click()
        until(lambda: anna.lamp(TOM) == "Available" == anna.lamp(PRIYA), "the lamps", 30)
        shown.append(anna.picture("idle"))
        anna.has_no_barriers()
        anna.dial("tom lindqvist")
        tom.button("Answer").wait_for()
        shown.append(tom.picture("ringing-dark"))
        tom.has_no_barriers()
        shown.append(anna.picture("calling"))
        tom.answer()
        anna.hears(tom)
        anna.page.mouse.move(640, 640)
        anna.page.wait_for_timeout(1500)
        shown += [anna.picture("call"), tom.picture("call-dark")]
        anna.button("Keypad").click()
        shown.append(anna.picture("call-keypad"))
        anna.has_no_barriers()
        anna.button("Keypad").click()
        anna.button("Transfer").click()
        shown.append(anna.picture("transfer"))
        anna.button("Do not transfer").click()
        small.dial_from_keypad(ANNA)
        anna.button(f"Answer {PRIYA_NAME}").wait_for()
        shown.append(anna.picture("second-call"))
        anna.button(f"Answer {PRIYA_NAME}").click()
        small.hears(anna)
        shown += [small.picture("small-call"), anna.picture("two-calls")]
        anna.hang_up()
        anna.button("Resume").click()
        anna.hang_up()
        for text in ("The new floor plan is here.", "Can we look at it together at three?"):
            MessageTests.write(self, tom, ANNA, text)  # type: ignore[arg-type]
            tom.says("Delivered")
        MessageTests.write(self, anna, TOM, "Yes, I will come over.")  # type: ignore[arg-type]
        MessageTests.write(self, anna, WORKSHOP, "Please call me back")  # type: ignore[arg-type]
        anna.says("Waits until")
        anna.button(re.compile(TOM_NAME)).first.click()
        anna.is_idle()
        shown.append(anna.picture("messages"))
        anna.has_no_barriers()
        for view in ("Recents", "Settings"):
            anna.tab(view)
            shown.append(anna.picture(view.lower()))
        tom.tab("Recents")
        shown.append(tom.picture("recents-dark"))
        for view in ("People", "Recents", "Messages", "Settings", "Keypad"):
            small.tab(view)
            shown.append(small.picture(f"small-{view.lower()}"))
            wide = small.page.evaluate("document.documentElement.scrollWidth")
            self.assertLessEqual(wide, 360, view)
            small.has_no_barriers()
        for path in shown:
            self.assertIn(size(path), ((1280, 800), (720, 1480)), path.name)
