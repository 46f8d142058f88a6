r"""Plays call flows written as text: the ladder is the specification and the test.

    # A busy callee over UDP; the first ACK is lost (RFC 3261 17.2.1).
    alice = udp 192.0.2.50:5060
    pbx = udp 192.0.2.1:5060

    alice -> pbx  INVITE sip:busy@pbx.test
        Supported: timer
    pbx -> alice  100 Trying
    pbx -> alice  486 Busy Here
    after 0.5
    pbx -> alice  486 Busy Here            # timer G
        To: *;tag=*
    alice -> pbx  ACK    lost
    alice -> pbx  ACK
    after 5
    timers left: 0

Lines, comments from ``#`` on:

``alice = udp host:port``   An actor; udp, tcp, tls, ws or wss. The system under test is ``pbx``.
``alice -> pbx  ...``       Something that the player sends. ``lost`` at the end: it never arrives.
``pbx -> alice  ...``       What must be sent, all of it and in this order, before the player's
                            next line. ``lost``: alice does not see it. ``*`` stands for any text.
``after 0.5``               Seconds pass, in steps of 10 ms.
``do ...``                  The system is told to do something (`System.do`).
``told ...``                What the system reports besides packets must be this, in order.
``timers left: 0``          How many timers may be pending.

What an actor can send:

``METHOD uri``              A new request with its own Call-ID; it becomes the actor's dialog.
``METHOD``                  ACK and CANCEL of the last INVITE that the actor sent (ACK for 2xx and
                            for 3xx-6xx as the RFC composes them); any other within the dialog.
``486 Busy Here``           A response to the last request without final response, else to the last
                            one. ``200 OK (CANCEL)``: to the last request of that method.
``INVITE again``            The last INVITE byte for byte. ``486 again``: the last 486.

Indented lines below a line that is sent replace or add headers, ``!Name`` removes one, ``| text``
is a line of the body. Below an expected line they must be among the headers (``*`` as above), and
``!Name`` must not. ``200 OK (BYE)`` in an expected line also compares the method of CSeq.

Tags, Via, Contact, Route from Record-Route and CSeq follow from what the actor received.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from pbx.sip.address import Address
from pbx.sip.headers import canonical
from pbx.sip.message import Message, Request, Response, response_to
from pbx.sip.parser import parse
from pbx.sip.uri import join_host_port

STEP = 0.01
_ACTOR = re.compile(r"(\w+) = (udp|tcp|tls|ws|wss) \[?([^\]]+?)\]?:(\d+)$")
_ARROW = re.compile(r"(\w+) -> (\w+) +(.*?)( +lost)?$")
_METHOD = re.compile(r"(.*) \(([A-Z]+)\)$")


class System(Protocol):
    """What a ladder is played against."""

    def deliver(self, source: Address, data: bytes) -> None:
        """A packet from a peer."""

    def sent(self) -> Sequence[tuple[Address, bytes] | str]:
        """Packets with their destinations, and reports, since the last call."""

    def advance(self, seconds: float) -> None:
        """Time passes."""

    def timers_left(self) -> int:
        """Timers that are pending."""

    def do(self, words: str) -> None:
        """A ``do`` line."""


class Line:
    """One line of a ladder with its indented lines."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.details: list[str] = []
        arrow = _ARROW.match(text)
        self.source = arrow[1] if arrow else ""
        self.target = arrow[2] if arrow else ""
        self.what = arrow[3] if arrow else text
        self.lost = bool(arrow and arrow[4])

    @property
    def expected(self) -> bool:
        """Whether the system has to produce it."""
        return self.source == "pbx" or self.text.startswith("told ")

    def shown(self) -> list[str]:
        """As the ladder has it, in one spelling."""
        return [self.text, *(f"    {detail}" for detail in self.details)]

    def compared(self, text: str, message: Message | None) -> list[str]:
        """What really happened, spelled like this line as far as it agrees with it."""
        lost = "  lost" if self.lost else ""
        wanted = self.text.removesuffix("lost").rstrip() if self.lost else self.text
        if (method := _METHOD.match(wanted)) and isinstance(message, Response):
            text = f"{text} ({message.cseq.method})"
            wanted = f"{method[1]} ({method[2]})"
        if not _matches(" ".join(text.split()), " ".join(wanted.split())):
            return [text + lost]
        details = self.details if message else ()
        return [self.text, *(f"    {_compared_detail(detail, message)}" for detail in details)]


def _matches(text: str, pattern: str) -> bool:
    return fnmatchcase(text, pattern.replace("[", "[[]"))


def _compared_detail(detail: str, message: Message | None) -> str:
    assert message is not None
    if detail.startswith("!"):
        found = message.get_all(canonical(detail[1:]))
        return f"{detail[1:]}: {', '.join(found)}" if found else detail
    if detail.startswith("| "):
        body = message.body.decode("utf-8", "replace")
        return detail if detail[2:] in body.split("\r\n") else f"| {body!r}"
    name, _, wanted = detail.partition(":")
    values = message.get_all(canonical(name))
    if any(_matches(value, wanted.strip()) for value in values):
        return detail
    return f"{name}: {', '.join(values)}" if values else f"!{name}"


@dataclass
class Dialog:
    """One side of a dialog (RFC 3261 section 12)."""

    call_id: str
    local: str
    remote: str
    target: str
    cseq: int
    routes: list[str] = field(default_factory=list)


class Actor:
    """A peer: composes what it sends from what it received, like a user agent."""

    def __init__(self, name: str, address: Address) -> None:
        self.name = name
        self.address = address
        self._count = 0
        self._sent: dict[str, Message] = {}
        self._received: list[Request] = []
        self._answered: set[int] = set()
        self._responses: dict[str, Response] = {}
        self._dialog: Dialog | None = None

    @property
    def _contact(self) -> str:
        address = self.address
        transport = "" if address.transport == "UDP" else f";transport={address.transport.lower()}"
        return f"<sip:{self.name}@{join_host_port(address.host, address.port)}{transport}>"

    def received(self, message: Message) -> None:
        """Remember what came."""
        if isinstance(message, Request):
            if all(bytes(message) != bytes(known) for known in self._received):
                self._received.append(message)
            return
        assert isinstance(message, Response)
        self._responses[message.cseq.method] = message
        dialog = self._dialog
        if dialog and message.call_id == dialog.call_id and 100 < message.status < 300:
            dialog.remote = message.get("to") or dialog.remote
            if message.has("record-route"):
                dialog.routes = message.get_list("record-route")[::-1]
            if message.contacts:
                dialog.target = message.contacts[0].uri_text

    def compose(self, line: Line) -> Message:
        """The message that a line stands for."""
        what, _, again = line.what.rpartition(" ")
        if again == "again":
            return self._sent[what]
        if line.what[:3].isdigit():
            message: Message = self._response(line.what)
        else:
            message = self._request(line.what)
        body = [detail[2:] for detail in line.details if detail.startswith("| ")]
        for detail in line.details:
            if detail.startswith("!"):
                message.remove(canonical(detail[1:]))
            elif not detail.startswith("| "):
                name, _, value = detail.partition(":")
                message.set(canonical(name), value.strip())
        if body:
            message.set_body("\r\n".join([*body, ""]).encode())
        message = parse(bytes(message))
        key = message.method if isinstance(message, Request) else line.what[:3]
        self._sent[key] = message
        if isinstance(message, Request) and self._dialog and message.method != "ACK":
            # Overridden headers count for what follows.
            self._dialog.call_id = message.call_id
            self._dialog.local = message.get("from") or ""
            self._dialog.cseq = message.cseq.number
        return message

    def _request(self, what: str) -> Request:
        method, _, uri = what.partition(" ")
        if method in ("ACK", "CANCEL") and not uri:
            return self._follow_up(method)
        self._count += 1
        dialog = self._dialog
        if uri:
            local = f"<sip:{self.name}@pbx.test>;tag={self.name}-{self._count}"
            dialog = Dialog(f"{self.name}-call-{self._count}", local, f"<{uri}>", uri, 0)
            self._dialog = dialog
        assert dialog is not None, f"{self.name} has no dialog for {method}"
        dialog.cseq += 1
        return self._make(method, dialog.target, dialog)

    def _make(self, method: str, uri: str, dialog: Dialog, via: str = "") -> Request:
        headers = [("Via", via or self._via())]
        headers.extend(("Route", route) for route in dialog.routes)
        headers.extend(
            (
                ("Max-Forwards", "70"),
                ("From", dialog.local),
                ("To", dialog.remote),
                ("Call-ID", dialog.call_id),
                ("CSeq", f"{dialog.cseq} {method}"),
            )
        )
        if method in ("INVITE", "SUBSCRIBE", "UPDATE", "REFER"):
            headers.append(("Contact", self._contact))
        return Request.make(method, uri, headers)

    def _via(self) -> str:
        transport, host, port = self.address
        self._count += 1
        branch = f"z9hG4bK-{self.name}-{self._count}"
        return f"SIP/2.0/{transport} {join_host_port(host, port)};branch={branch};rport"

    def _follow_up(self, method: str) -> Request:
        invite = self._sent["INVITE"]
        assert isinstance(invite, Request)
        answer = self._responses.get("INVITE")
        if method == "ACK" and answer is not None and 200 <= answer.status < 300:
            dialog = self._dialog
            assert dialog is not None
            ack = self._make(method, dialog.target, dialog)
            ack.set("cseq", f"{invite.cseq.number} ACK")
            return ack
        remote = (answer or invite) if method == "ACK" else invite
        uri, local, to = invite.uri_text, invite.get("from") or "", remote.get("to") or ""
        dialog = Dialog(invite.call_id, local, to, uri, invite.cseq.number)
        dialog.routes = invite.get_all("route")
        return self._make(method, uri, dialog, str(invite.via))

    def _response(self, what: str) -> Response:
        method = _METHOD.match(what)
        what = method[1] if method else what
        status, _, reason = what.partition(" ")
        request = self._asked(method[2] if method else "")
        made = response_to(request, int(status), reason, to_tag=f"{self.name}-tag")
        if made.status >= 200:
            self._answered.add(id(request))
        if 100 < made.status < 300 and request.method in ("INVITE", "SUBSCRIBE", "UPDATE"):
            made.append("contact", self._contact)
            if request.method != "UPDATE" and request.contacts:
                dialog = self._dialog
                if dialog is None or dialog.call_id != request.call_id:
                    dialog = Dialog(request.call_id, "", "", "", 100)
                    self._dialog = dialog
                    dialog.routes = request.get_list("record-route")
                dialog.local = made.get("to") or ""
                dialog.remote = request.get("from") or ""
                dialog.target = request.contacts[0].uri_text
        return made

    def _asked(self, method: str) -> Request:
        asked = [request for request in self._received if request.method != "ACK"]
        if method:
            asked = [request for request in asked if request.method == method]
        assert asked, f"{self.name} received no {method or 'request'} to answer"
        waiting = [request for request in asked if id(request) not in self._answered]
        return (waiting or asked)[-1]


class Ladder:
    """A call flow; `play` it."""

    def __init__(self, text: str, name: str = "ladder") -> None:
        self.name = name
        self.actors: dict[str, Actor] = {}
        self._lines: list[Line] = []
        self._steps = 0
        self._now = 0.0
        for raw in text.split("\n"):
            stripped = re.sub(r"(^|\s+)#.*", "", raw).rstrip()
            if not stripped:
                continue
            if stripped[0] in " \t":
                self._lines[-1].details.append(stripped.strip())
            elif actor := _ACTOR.match(" ".join(stripped.split())):
                address = Address(actor[2].upper(), actor[3], int(actor[4]))
                self.actors[actor[1]] = Actor(actor[1], address)
            else:
                self._lines.append(Line(stripped))

    @classmethod
    def read(cls, path: Path) -> Ladder:
        return cls(path.read_text(), path.name)

    def play(self, system: System) -> None:
        """Raises AssertionError with a diff when the system does otherwise."""
        names = {actor.address: name for name, actor in self.actors.items()}
        happened: list[str] = []
        waiting: list[Line] = []
        # Sums of floats shall never stay below a timer that is due at the same time.
        system.advance(1e-6)
        try:
            for line, waiting in self._turns():
                if line is not None:
                    happened.extend(line.shown())
                    happened[-len(line.shown())] = self._act(line, system)
                self._collect(line, system, waiting, names, happened)
        except AssertionError as error:
            happened.append(f"({error})")
        wanted = [text for line in self._lines for text in line.shown()]
        if happened != wanted:
            diff = difflib.unified_diff(wanted, happened, self.name, "what happened", "", "", 99)
            raise AssertionError("\n" + "\n".join(text.rstrip("\n") for text in diff))

    def _turns(self) -> Iterator[tuple[Line | None, list[Line]]]:
        # Each line of the player with the expected lines that follow it.
        line: Line | None = None
        waiting: list[Line] = []
        for following in self._lines:
            if following.expected:
                waiting.append(following)
            else:
                if line is not None or waiting:
                    yield line, waiting
                line, waiting = following, []
        yield line, waiting

    def _act(self, line: Line, system: System) -> str:
        text = line.text
        if line.source:
            actor = self.actors[line.source]
            message = actor.compose(line)
            if not line.lost:
                system.deliver(actor.address, bytes(message))
        elif text.startswith("do "):
            system.do(text[3:])
        elif text.startswith("timers left:"):
            return f"timers left: {system.timers_left()}"
        elif not text.startswith("after "):
            raise AssertionError(f"not understood: {text}")
        return text

    def _collect(
        self,
        line: Line | None,
        system: System,
        waiting: list[Line],
        names: dict[Address, str],
        happened: list[str],
    ) -> None:
        after = line is not None and line.text.startswith("after ")
        steps = round(float(line.text[6:]) / STEP) if line and after else 0
        before = self._steps
        pending = list(waiting)
        for step in range(steps + 1):
            if step:
                self._steps = before + step
                system.advance(self._steps * STEP - self._now)
                self._now += self._steps * STEP - self._now
            for fact in system.sent():
                expected = pending.pop(0) if pending else Line("")
                if isinstance(fact, str):
                    happened.extend(expected.compared(f"told {fact}", None))
                    continue
                address, data = fact
                message = parse(data)
                name = names.get(address, str(address))
                happened.extend(expected.compared(f"pbx -> {name}  {_shown(message)}", message))
                if name in self.actors and not expected.lost:
                    self.actors[name].received(message)


def _shown(message: Message) -> str:
    if isinstance(message, Request):
        return f"{message.method} {message.uri_text}"
    return message.start_line.removeprefix("SIP/2.0 ")
