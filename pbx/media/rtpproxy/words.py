"""RTPProxy's control protocol: commands as text, replies as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from pbx.errors import MediaFailed

#: Fixed numbers of the modules that take sub-commands.
DTMF, DTLS, ICE = "M3:1", "M4:1", "M5:1"
#: A command may have so many sub-commands: more candidates of a browser are of no use anyway.
MAX_CANDIDATES = 10


def word(text: str) -> str:
    """A call id or tag as one word without spaces."""
    return quote(text, safe="") or "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ice:
    """What a browser says of ICE: credentials, and the text after ``a=candidate:`` of each one."""

    ufrag: str
    password: str
    candidates: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """``U`` or ``L``: the session description of one party passes.

    ``host`` and ``port`` are where it wants its media, ``payload_types`` what it may send.
    ``fingerprint`` ("SHA-256 AB:...") with ``active`` (it opens DTLS, or leaves that to us) and
    ``ice`` are those of a browser; ``towards_browser`` asks for ours. ``digits`` reports keys
    pressed by this party: a tag and the payload type. ``notify`` is a socket and a tag, ``local``
    the address to bind towards the other party, "" for the usual one.
    """

    call: str
    host: str
    port: int
    from_tag: str
    to_tag: str = ""
    payload_types: Sequence[int] = ()
    symmetric: bool = True
    ipv6: bool = False
    fingerprint: str = ""
    active: bool = True
    ice: Ice | None = None
    towards_browser: bool = False
    digits: tuple[str, int] | None = None
    notify: tuple[str, str] | None = None
    local: str = ""

    def text(self, letter: str) -> str:
        """The command line without its end."""
        modifiers = letter
        if not self.symmetric:
            modifiers += "a"
        if self.ipv6:
            modifiers += "6"
        if self.payload_types:
            modifiers += "c" + ",".join(map(str, self.payload_types))
        if self.local:
            # The last one: an IPv6 address would swallow letters that follow.
            modifiers += f"l{self.local}"
        words = [modifiers, word(self.call), self.host, str(self.port), word(self.from_tag)]
        if self.to_tag:
            words.append(word(self.to_tag))
        if self.notify is not None and letter == "U":
            words += [self.notify[0], quote(self.notify[1], safe="")]
        return " && ".join([" ".join(words), *self._modules()])

    def _modules(self) -> list[str]:
        found: list[str] = []
        if self.digits is not None:
            found.append(f"{DTMF} {quote(self.digits[0], safe='')} {self.digits[1]}")
        if self.fingerprint:
            found.append(f"{DTLS} {'A' if self.active else 'P'} {self.fingerprint}")
        if self.ice is not None:
            found.append(f"{ICE} A {self.ice.ufrag} {self.ice.password}")
            found += [f"{ICE} C {text}" for text in self.ice.candidates[:MAX_CANDIDATES]]
        if self.towards_browser:
            found += [f"{DTLS} S", f"{ICE} S"]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Updated:
    """The reply to `Update`: where the other party has to send to, and what a browser needs."""

    host: str
    port: int
    setup: str = ""
    fingerprint: str = ""
    ufrag: str = ""
    password: str = ""
    candidates: Sequence[str] = field(default=())


def updated(reply: str, command: Update) -> Updated:
    """Reads the reply. Raises MediaFailed for an error, also of a sub-command."""
    first, *others = [part.strip() for part in reply.split(" && ")]
    words = first.split()
    if first[:1] == "E" or len(words) < 2 or not words[0].isdigit():
        raise MediaFailed(f"rtpproxy refused with {first[:40]!r}", status=500)
    if "-1" in others:
        raise MediaFailed("rtpproxy cannot do what a browser needs", status=500)
    host, port = words[1], int(words[0])
    if not command.towards_browser:
        return Updated(host=host, port=port)
    if len(others) < 2:
        raise MediaFailed("rtpproxy has no DTLS or ICE", status=500)
    dtls, ice = others[-2].split(" "), others[-1].split(" ")
    if len(dtls) != 3 or len(ice) < 3:
        raise MediaFailed(f"rtpproxy answered {reply[:80]!r}", status=500)
    return Updated(
        host=host,
        port=port,
        setup=dtls[0],
        fingerprint=f"{dtls[1].lower()} {dtls[2]}",
        ufrag=ice[0],
        password=ice[1],
        candidates=[unquote(one[2:]) for one in ice[2:] if one.startswith("c:")],
    )


@dataclass(frozen=True, slots=True)
class Digit:
    """A line of the notification channel about a key; ``milliseconds`` at 8 kHz."""

    tag: str
    digit: str
    milliseconds: int


def notification(line: str) -> Digit | str:
    """A key that was pressed, or else the tag of a session that fell silent."""
    words = line.split(" ")
    if len(words) == 5 and words[3].isdigit():
        return Digit(words[0], words[1], int(words[3]) // 8)
    return line
