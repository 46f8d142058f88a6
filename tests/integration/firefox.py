"""The web phone in headless Firefox, by WebDriver BiDi: Firefox speaks it itself, without a driver.

Only what the tests need of it: buttons by their names, fields by their labels, what is heard.
"""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.integration.harness import PBXTestCase, free_port, program, until

#: Fake microphone, no prompts, candidates on loopback, nothing fetched from anywhere.
PREFERENCES = {
    "app.update.disabledForTesting": True,
    "browser.aboutConfig.showWarning": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.policy.dataSubmissionEnabled": False,
    "media.autoplay.blocking_policy": 0,
    "media.autoplay.default": 0,
    "media.navigator.permission.disabled": True,
    "media.navigator.streams.fake": True,
    "media.peerconnection.ice.loopback": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disableIPv6": True,
    "toolkit.telemetry.enabled": False,
}
#: Finds what a user would: by name and by label.
FINGERS = """
const connections = [];
const Native = window.RTCPeerConnection;
window.RTCPeerConnection = class extends Native {
  constructor(...values) {
    super(...values);
    connections.push(this);
  }
};
// Without a sound card Firefox runs no AudioContext: what arrives is recorded and looked at later.
window.share = async (hertz) => {
  const track = connections
    .filter((one) => one.connectionState === "connected")
    .at(-1)?.getReceivers()[0]?.track;
  if (!track) return -1;
  const recorder = new MediaRecorder(new MediaStream([track]));
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const stopped = new Promise((resolve) => (recorder.onstop = resolve));
  recorder.start();
  await new Promise((resolve) => setTimeout(resolve, 700));
  recorder.stop();
  await stopped;
  const bytes = await new Blob(parts).arrayBuffer();
  const rate = 16000;
  const sound = await new OfflineAudioContext(1, rate, rate).decodeAudioData(bytes);
  const samples = sound.getChannelData(0).subarray(-rate / 4);
  const power = samples.reduce((sum, one) => sum + one * one, 0);
  if (power / samples.length < 1e-6) return 0;
  const turn = 2 * Math.cos((2 * Math.PI * hertz) / rate);
  let one = 0;
  let two = 0;
  for (const sample of samples) [one, two] = [sample + turn * one - two, one];
  return (2 * (one * one + two * two - turn * one * two)) / (samples.length * power);
};
window.fingers = {
  name(one) {
    const copy = one.cloneNode(true);
    copy.querySelectorAll("[aria-hidden=true]").forEach((part) => part.remove());
    return (one.getAttribute("aria-label") ?? copy.textContent ?? "").trim();
  },
  visible(one) {
    return one.getClientRects().length > 0 && !one.disabled;
  },
  button(name) {
    return [...document.querySelectorAll("button")]
      .find((one) => this.name(one) === name && this.visible(one));
  },
  press(name) {
    const found = this.button(name);
    found?.click();
    return found !== undefined;
  },
  fill(label, value) {
    const field = [...document.querySelectorAll("input")]
      .find((one) => [...one.labels].some((text) => text.innerText.trim() === label));
    if (field === undefined) return false;
    const write = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
    field.focus();
    write.call(field, value);
    field.dispatchEvent(new Event("input", { bubbles: true }));
    return true;
  },
  enter() {
    const event = new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true });
    document.activeElement.dispatchEvent(event);
  },
};
"""


class Firefox:
    """One Firefox with one page."""

    def __init__(self, case: PBXTestCase, url: str, hertz: int) -> None:
        path = program("firefox-esr")
        profile = case.folder / "firefox"
        profile.mkdir()
        preferences = {**PREFERENCES, "media.navigator.audio.fake_frequency": hertz}
        lines = [
            f"user_pref({json.dumps(name)}, {json.dumps(value)});"
            for name, value in preferences.items()
        ]
        (profile / "user.js").write_text("\n".join(lines))
        port = free_port()
        self.hertz = hertz
        self._numbers = itertools.count(1)
        self.process = case.run_program(
            [
                *(path, "--headless", "--no-remote", "--profile", str(profile)),
                *(f"--remote-debugging-port={port}", "about:blank"),
            ],
            "firefox",
        )
        self.process.wait_for("WebDriver BiDi listening", 60)
        self._socket: ClientConnection = connect(
            f"ws://127.0.0.1:{port}/session", max_size=None, proxy=None
        )
        case.addCleanup(self._socket.close)
        self._ask("session.new", capabilities={})
        self._ask("script.addPreloadScript", functionDeclaration=f"() => {{ {FINGERS} }}")
        self.context = self._ask("browsingContext.create", type="tab")["context"]
        self._ask("browsingContext.navigate", context=self.context, url=url, wait="complete")

    def _ask(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == number:
                break
        if answer["type"] == "error":
            raise AssertionError(f"{method}: {answer['error']}: {answer['message']}")
        return answer["result"]

    def evaluate(self, expression: str) -> Any:
        """What an expression of the page comes to."""
        result = self._ask(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({expression})) ?? 'null')()",
            target={"context": self.context},
            awaitPromise=True,
        )
        if result["type"] != "success":
            raise AssertionError(f"{expression}: {result['exceptionDetails']['text']}")
        return json.loads(result["result"]["value"])

    # As its user

    def press(self, name: str, seconds: float = 20) -> None:
        """A button, as soon as it is there."""
        wanted = f"fingers.press({json.dumps(name)})"
        until(lambda: self.evaluate(wanted), f"the button {name}: {self.text()}", seconds)

    def fill(self, label: str, value: str) -> None:
        """A field, as soon as it is there."""
        wanted = f"fingers.fill({json.dumps(label)}, {json.dumps(value)})"
        until(lambda: self.evaluate(wanted), f"the field {label}")

    def text(self) -> str:
        """All that can be read."""
        return str(self.evaluate("document.body.innerText"))

    def says(self, text: str, seconds: float = 20) -> None:
        """Wait for a text."""
        until(lambda: text in self.text(), f"{text}: {self.text()}", seconds)

    def sign_in(self, user: str, password: str = "secret") -> None:
        """Until it can call and be called."""
        self.fill("Extension", user)
        self.fill("Password", password)
        self.press("Sign in")
        self.says("Connected")

    def dial(self, who: str) -> None:
        """Write a number and call."""
        self.fill("Name or number to call", who)
        self.evaluate("fingers.enter()")

    def is_talking(self) -> None:
        """Wait until a call is answered."""
        until(lambda: self.evaluate("fingers.button('Mute') !== undefined"), "a call", 20)

    def is_idle(self) -> None:
        """Wait until no call is left."""
        until(lambda: self.evaluate("fingers.button('Hang up') === undefined"), "no call", 20)

    def hears_tone(self, hertz: float, seconds: float = 30) -> None:
        """Wait until most of what arrives is a tone."""
        until(lambda: self.evaluate(f"share({hertz})") > 0.5, f"{hertz} Hz are heard", seconds)

    def picture(self, path: Path) -> None:
        """A screenshot."""
        found = self._ask("browsingContext.captureScreenshot", context=self.context)
        path.write_bytes(base64.b64decode(found["data"]))
