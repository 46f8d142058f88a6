"""The web phone in headless Chromium, used as its users do: by the names of buttons and fields.

One browser for all tests of a process; every phone is a context of its own, as different people
have different computers. A phone's microphone is a tone of its own, so that a test can tell whose
voice is heard: what arrives is analysed, not only counted.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Locator, Page, sync_playwright
from playwright.sync_api import Error as BrowserError
from twisted.trial.unittest import SkipTest

from tests.integration.harness import PBX, PBXTestCase, program, until

STATIC = Path(__file__).parent.parent.parent / "pbx" / "http" / "static"
#: Fake devices, no prompts, candidates on loopback.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
)
#: Milliseconds that an action waits for what it acts on.
PATIENCE = 20_000
#: Runs before the page: remembers its connections, and speaks with a tone.
EAR = Path(__file__).with_name("ear.js").read_text()
SILENCE = -75.0
#: Who lives in the `house`.
PEOPLE = {"2001": "Anna Berger", "2002": "Tom Lindqvist", "2003": "Priya Nair", "2004": "Workshop"}


@cache
def chromium() -> Browser:
    """The one browser; closed when the process ends."""
    path = program("chromium")
    playwright = sync_playwright().start()
    browser = playwright.chromium.launch(executable_path=path, args=FLAGS)

    def close() -> None:
        browser.close()
        playwright.stop()

    atexit.register(close)
    return browser


class WebPhone:
    """One person with the page of the PBX open."""

    def __init__(self, url: str, hertz: int = 0, **options: Any) -> None:
        options.setdefault("viewport", {"width": 1280, "height": 800})
        options.setdefault("locale", "en-GB")
        self.url = url
        self.hertz = hertz
        self.context: BrowserContext = chromium().new_context(**options)
        self.context.set_default_timeout(PATIENCE)
        self.context.add_init_script(EAR.replace("HERTZ", str(hertz)))
        #: What the page complained about; a test fails when that is not empty.
        self.complaints: list[str] = []
        self.page = self.open()

    def open(self) -> Page:
        """Another tab."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._heed)
        # Leaving in a call is what a test wants when it does so.
        page.on("dialog", lambda dialog: dialog.accept())
        return page

    def _heed(self, message: Any) -> None:
        if "Content Security Policy" in message.text:
            self.complaints.append(message.text)

    def close(self) -> None:
        """Its windows, as a user closes them, and all it remembered."""
        for page in self.context.pages:
            page.close()
        self.context.close()

    def crash(self) -> None:
        """The tab dies, without a word to anybody."""
        try:
            self.page.goto("chrome://crash", timeout=5000)
        except BrowserError:
            return

    # The page

    def visit(self, fragment: str = "") -> None:
        """Load the page."""
        self.page.goto(self.url + fragment)

    def sign_in(self, user: str, password: str = "secret") -> None:
        """From the log-in to the phone; not further when that is refused."""
        self.page.get_by_label("Extension").fill(user)
        self.page.get_by_label("Password", exact=True).fill(password)
        self.page.get_by_role("button", name="Sign in").click()

    def is_ready(self) -> None:
        """Wait until it can call and be called."""
        status = self.page.get_by_role("status", name="Connection")
        status.get_by_text("Connected").wait_for(state="attached")

    def button(self, name: str | re.Pattern[str]) -> Locator:
        """A button by what it says."""
        return self.page.get_by_role("button", name=name, exact=isinstance(name, str))

    def tab(self, name: str) -> None:
        """One of the views."""
        self.page.get_by_role("navigation").get_by_role("button", name=re.compile(name)).click()

    def says(self, text: str) -> None:
        """Wait for a text."""
        self.page.get_by_text(text).first.wait_for()

    def lamp(self, user: str) -> str:
        """What the list of people says that somebody does."""
        row = self.page.locator(f'[data-user="{user}"] .lamp-text')
        return row.inner_text().replace(user, "").strip()

    # Calls

    def dial(self, who: str) -> None:
        """Write a number or a name and call."""
        field = self.page.get_by_label("Name or number to call")
        field.fill(who)
        field.press("Enter")

    def dial_from_keypad(self, number: str) -> None:
        """The same by the keys of the dial pad, as on a small screen."""
        self.tab("Keypad")
        for digit in number:
            self.button(digit).click()
        self.button("Call").click()

    def answer(self) -> None:
        """Wait until it rings, and answer."""
        self.button("Answer").click()

    def is_talking(self) -> None:
        """Wait until a call is answered."""
        self.button("Mute").wait_for()

    def hang_up(self) -> None:
        """End the call that is shown."""
        self.button("Hang up").click()

    def is_idle(self, seconds: float = 10.0) -> None:
        """Wait until no call is left."""
        self.button("Call").wait_for(timeout=seconds * 1000)

    # Sound

    def packets(self) -> tuple[int, int]:
        """RTP packets received and sent in the newest call."""
        received, sent = self.page.evaluate("ear.packets()")
        return int(received), int(sent)

    def packets_flow(self) -> None:
        """Wait until a second's worth of RTP has come and gone."""
        before = self.packets()
        wanted = (before[0] + 50, before[1] + 50)
        until(lambda: all(map(int.__ge__, self.packets(), wanted)), "RTP both ways", 10)

    def hears(self, other: WebPhone, seconds: float = 15.0) -> None:
        """Wait until the voice of somebody arrives."""
        self.hears_tone(other.hertz, seconds)

    def hears_tone(self, hertz: float, seconds: float = 15.0) -> None:
        """Wait until a tone is the loudest of what arrives."""

        def is_loudest() -> bool:
            loudest, level = self.page.evaluate("ear.loudest()")
            return bool(abs(loudest - hertz) < 25 and level > -50)

        try:
            until(is_loudest, f"{hertz} Hz are heard", seconds)
        except AssertionError:
            raise AssertionError(
                f"{hertz} Hz are not heard; loudest, packets: "
                f"{self.page.evaluate('ear.loudest()')} {self.packets()}"
            ) from None

    def hears_nothing(self, seconds: float = 10.0) -> None:
        """Wait until it is silent."""
        until(lambda: self.page.evaluate("ear.loudest()")[1] < SILENCE, "silence", seconds)

    def listen_for_keys(self) -> None:
        """From now on keep which keys (RFC 4733, played by the browser) are heard."""
        self.page.evaluate("ear.listenForKeys()")

    def heard_keys(self, keys: str) -> None:
        """Wait until these were, and no others."""
        heard: list[str] = []

        def are_heard() -> bool:
            heard[:] = [self.page.evaluate("ear.keys()")]
            return heard == [keys]

        try:
            until(are_heard, f"the keys {keys}", 15)
        except AssertionError:
            raise AssertionError(f"not {keys}: {heard}") from None

    def has_no_barriers(self) -> None:
        """Nothing that axe-core finds: names, roles, contrast, order of headings."""
        self.page.evaluate(axe())
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        barriers = [
            f"{one['id']}: {node['html'][:200]}"
            for one in found["violations"]
            for node in one["nodes"]
        ]
        assert not barriers, "\n".join(barriers)

    def picture(self, name: str) -> Path:
        """A screenshot, kept when the environment says where (SCREENSHOTS)."""
        path = pictures() / f"{name}.png"
        self.page.screenshot(path=path, animations="disabled")
        return path


@cache
def axe() -> str:
    """The checker of accessibility, which `make web` brings."""
    path = STATIC.parent.parent.parent / "web" / "node_modules" / "axe-core" / "axe.min.js"
    return path.read_text("utf-8")


@cache
def pictures() -> Path:
    """The folder of screenshots; a temporary one that goes unless SCREENSHOTS names another."""
    if chosen := os.environ.get("SCREENSHOTS"):
        Path(chosen).mkdir(parents=True, exist_ok=True)
        return Path(chosen)
    folder = tempfile.mkdtemp(prefix="pbx-screenshots-")
    atexit.register(shutil.rmtree, folder, True)
    return Path(folder)


@cache
def house() -> PBX:
    """One PBX for all tests of this process that need nothing special of it."""
    folder = Path(tempfile.mkdtemp(prefix="pbx-test-"))
    pbx = PBX(folder)

    def close() -> None:
        pbx.stop()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(close)
    pbx.start()
    # Without those of the first start.
    pbx.sql("DELETE FROM subscriber")
    for user, name in PEOPLE.items():
        pbx.add_user(user)
        pbx.sql(
            "INSERT INTO usr_preferences (username, domain, attribute, type, value)"
            " VALUES (?, 'pbx.test', 'display_name', 2, ?)",
            user,
            name,
        )
    until(lambda: pbx.mi("auth_knows", f"{user}@pbx.test"), "the users are known", 6)
    return pbx


class WebCase(PBXTestCase):
    """Web phones at a PBX."""

    def setUp(self) -> None:
        super().setUp()
        if not (STATIC / "index.html").exists():
            raise SkipTest("the web phone is not built: make web")
        self.phones: list[WebPhone] = []

    def tearDown(self) -> None:
        complaints = [text for phone in self.phones for text in phone.complaints]
        for phone in self.phones:
            try:
                phone.close()
            except BrowserError:
                continue  # The test closed it.
        super().tearDown()
        self.assertEqual(complaints, [])

    def opened(self, pbx: PBX, hertz: int = 0, **options: Any) -> WebPhone:
        """The page, at the log-in."""
        phone = WebPhone(web_url(pbx), hertz, **options)
        self.phones.append(phone)
        phone.visit()
        return phone

    def signed_in(self, pbx: PBX, user: str, hertz: int = 0, **options: Any) -> WebPhone:
        """A web phone that can be called."""
        phone = self.opened(pbx, hertz, **options)
        phone.sign_in(user)
        phone.is_ready()
        return phone


def web_url(pbx: PBX) -> str:
    """Where the page is."""
    return str(pbx.mi("status")["web"])
