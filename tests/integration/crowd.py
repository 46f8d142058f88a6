"""Thousands of phones on one socket, which register, call and send messages all at once, and remember
what was done, to be compared with what the PBX wrote down.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import DatagramProtocol

from pbx.sip.digest import digest, ha1
from pbx.sip.errors import SIPError
from pbx.sip.message import Message, Request, Response, response_to
from pbx.sip.parser import parse
from tests.integration.phone import SDP

#: Retransmissions of a request without an answer (17.1.1.2), and when it is given up.
FIRST, LAST, END = 0.5, 4.0, 40.0
DOMAIN = "pbx.test"


class Asked:
    """A request that waits for its final response."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.final: Deferred[Response | None] = Deferred()
        self.timer: IDelayedCall | None = None
        self.ack = b""


class Crowd(DatagramProtocol):
    """``done`` counts (Call-ID, method, status) of everything that the PBX must account for."""

    def __init__(self, clock: IReactorTime, pbx: tuple[str, int], password: str = "secret") -> None:
        self.done: Counter[tuple[str, str, str]] = Counter()
        self.missed: Counter[tuple[str, str]] = Counter()
        self.registered = self.messages = self.calls = 0
        self.failures: list[str] = []
        self.slowest = 0.0
        self._clock = clock
        self._pbx = pbx
        self._password = password
        self._asked: dict[tuple[str, str], Asked] = {}
        self._answers: dict[tuple[str, str], bytes] = {}
        self._again: dict[str, IDelayedCall] = {}
        self._talking: dict[str, Deferred[None]] = {}
        self._hung_up: dict[str, Deferred[None]] = {}
        self._ids = itertools.count()
        self._run = os.urandom(3).hex()

    @property
    def place(self) -> str:
        assert self.transport is not None
        where = self.transport.getHost()
        return f"{where.host}:{where.port}"

    # What users do

    async def register(self, user: str) -> None:
        """A binding for an hour."""
        contact = [("Contact", f"<sip:{user}@{self.place}>"), ("Expires", "3600")]
        made = self._made("REGISTER", f"sip:{DOMAIN}", user, user, contact)
        response = await self._authenticated(made, user)
        self._check(response, 200, f"REGISTER of {user}")
        self.registered += 1

    async def message(self, user: str, friend: str) -> None:
        """A MESSAGE that arrives."""
        made = self._made("MESSAGE", f"sip:{friend}@{DOMAIN}", user, friend)
        made.set_body(b"hello", "text/plain")
        response = await self._authenticated(made, user)
        self._check(response, 200, f"MESSAGE of {user}")
        self.messages += 1

    async def call(self, user: str, friend: str, seconds: float) -> None:
        """A call through a node: hung up by the caller, or refused by the callee."""
        talking: Deferred[None] = Deferred()
        self._talking[friend] = talking
        contact = [("Contact", f"<sip:{user}@{self.place}>")]
        made = self._made("INVITE", f"sip:{friend}@{DOMAIN}", user, friend, contact)
        made.set_body(SDP.encode(), "application/sdp")
        over: Deferred[None] = Deferred()
        self._hung_up[made.call_id] = over
        response = await self._authenticated(made, user)
        self._check(response, 200, f"INVITE of {user}")
        if response is None or response.status != 200:
            return
        self.done[made.call_id, "INVITE", "200"] += 1
        routes = list(reversed(response.get_list("record-route")))
        target = response.contacts[0].uri_text
        number = response.cseq.number
        ack = self._within("ACK", made, response, routes, target, number)
        self._send(ack)
        self._again_ack(made, ack)
        await talking
        if busy(friend):
            await over
        else:
            await self._pause(seconds)
            bye = self._within("BYE", made, response, routes, target, number + 1)
            answer = await self._ask(bye)
            self._check(answer, 200, f"BYE of {user}")
            if answer is not None:
                self.done[made.call_id, "BYE", str(answer.status)] += 1
            del self._hung_up[made.call_id]
        self.calls += 1

    def _pause(self, seconds: float) -> Deferred[None]:
        over: Deferred[None] = Deferred()
        self._clock.callLater(seconds, over.callback, None)
        return over

    def _check(self, response: Response | None, status: int, what: str) -> None:
        found = 0 if response is None else response.status
        if found != status:
            self.failures.append(f"{what}: {found}")

    # Requests

    def _via(self) -> str:
        branch = f"z9hG4bK{self._run}{next(self._ids)}"
        return f"SIP/2.0/UDP {self.place};branch={branch};rport"

    def _made(
        self,
        method: str,
        uri: str,
        user: str,
        to: str,
        headers: Sequence[tuple[str, str]] = (),
    ) -> Request:
        number = next(self._ids)
        lines = [
            ("Via", self._via()),
            ("Max-Forwards", "70"),
            ("From", f"<sip:{user}@{DOMAIN}>;tag=f{number}"),
            ("To", f"<sip:{to}@{DOMAIN}>"),
            ("Call-ID", f"{self._run}-{number}"),
            ("CSeq", f"1 {method}"),
            *headers,
        ]
        return Request.make(method, uri, lines)

    def _within(
        self,
        method: str,
        invite: Request,
        response: Response,
        routes: Sequence[str],
        target: str,
        number: int,
    ) -> Request:
        return Request.make(
            method,
            target,
            [
                ("Via", self._via()),
                *(("Route", route) for route in routes),
                ("Max-Forwards", "70"),
                ("From", invite.get("from") or ""),
                ("To", response.get("to") or ""),
                ("Call-ID", invite.call_id),
                ("CSeq", f"{number} {method}"),
            ],
        )

    async def _authenticated(self, request: Request, user: str) -> Response | None:
        began = self._clock.seconds()
        response = await self._ask(request)
        if response is not None and response.status in (401, 407):
            own = response.status == 401
            challenge = response.get("www-authenticate" if own else "proxy-authenticate") or ""
            request.set("via", self._via())
            request.set("cseq", f"2 {request.method}")
            name = "authorization" if own else "proxy-authorization"
            request.append(name, self._credentials(challenge, request, user))
            response = await self._ask(request)
        self.slowest = max(self.slowest, self._clock.seconds() - began)
        return response

    def _credentials(self, challenge: str, request: Request, user: str) -> str:
        found = dict(re.findall(r'(\w+)="?([^",]+)', challenge))
        secret = ha1("MD5", user, found["realm"], self._password)
        a2 = digest("MD5", f"{request.method}:{request.uri_text}")
        proof = digest("MD5", f"{secret}:{found['nonce']}:00000001:c:auth:{a2}")
        return (
            f'Digest username="{user}", realm="{found["realm"]}", nonce="{found["nonce"]}", '
            f'uri="{request.uri_text}", response="{proof}", algorithm=MD5, cnonce="c", qop=auth, '
            "nc=00000001"
        )

    def _ask(self, request: Request) -> Deferred[Response | None]:
        """The final response; None when none came in time."""
        asked = Asked(bytes(request))
        key = (request.via.branch, request.method)
        self._asked[key] = asked
        if request.method == "INVITE":
            ack = Request.make(
                "ACK",
                request.uri_text,
                [
                    ("Via", request.get("via") or ""),
                    ("Max-Forwards", "70"),
                    ("From", request.get("from") or ""),
                    ("To", "?"),
                    ("Call-ID", request.call_id),
                    ("CSeq", f"{request.cseq.number} ACK"),
                ],
            )
            asked.ack = bytes(ack)
        self._repeat(key, asked, FIRST, self._clock.seconds() + END)
        return asked.final

    def _repeat(self, key: tuple[str, str], asked: Asked, wait: float, end: float) -> None:
        if self._clock.seconds() > end:
            asked.timer = None
            if not asked.final.called:
                asked.final.callback(None)
            return
        self._write(asked.data)
        asked.timer = self._clock.callLater(
            wait, self._repeat, key, asked, min(wait * 2, LAST), end
        )

    def _again_ack(self, invite: Request, ack: Request) -> None:
        """Repeated 2xx are acknowledged again."""
        self._asked[invite.via.branch, "INVITE"].ack = bytes(ack)

    # What comes

    def datagramReceived(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) < 10:
            return
        try:
            message = parse(data)
        except SIPError as error:
            self.failures.append(f"bad message: {error!r}")
            return
        if isinstance(message, Response):
            self._response(message)
        else:
            assert isinstance(message, Request)
            self._request(message)

    def _response(self, response: Response) -> None:
        asked = self._asked.get((response.via.branch, response.cseq.method))
        if asked is None:
            return
        invite = response.cseq.method == "INVITE"
        timer = asked.timer
        if timer is not None and timer.active() and (response.status >= 200 or invite):
            timer.cancel()
        if response.status < 200:
            return
        if invite and (response.status >= 300 or asked.final.called):
            to = (response.get("to") or "").encode()
            self._write(asked.ack.replace(b"To: ?", b"To: " + to))
        if not asked.final.called:
            asked.final.callback(response)

    def _request(self, request: Request) -> None:
        key = (request.via.branch, request.method)
        if key in self._answers:
            self._write(self._answers[key])
            return
        user = request.uri.user
        match request.method:
            case "ACK":
                self._stop_repeating(request.call_id)
                talking = self._talking.pop(user, None)
                if talking is not None:
                    talking.callback(None)
            case "INVITE":
                status = 486 if busy(user) else 200
                self._answer(request, status, SDP if status == 200 else "")
                if status == 200:
                    self.done[request.call_id, "INVITE", "200"] += 1
                else:
                    self.missed[request.call_id, "486"] += 1
                self._repeat_answer(request.call_id, self._answers[key], FIRST)
            case "BYE":
                self._answer(request, 200)
                self.done[request.call_id, "BYE", "200"] += 1
                over = self._hung_up.pop(request.call_id, None)
                if over is not None:
                    over.callback(None)
            case _:
                self._answer(request, 200)

    def _answer(self, request: Request, status: int, body: str = "") -> None:
        headers = [("Contact", f"<sip:{request.uri.user}@{self.place}>")]
        if body:
            headers.append(("Content-Type", "application/sdp"))
        response = response_to(
            request, status, headers=headers, body=body.encode(), to_tag=f"t{request.uri.user}"
        )
        data = bytes(response)
        if request.method != "OPTIONS":
            self._answers[request.via.branch, request.method] = data
        self._write(data)

    def _repeat_answer(self, call_id: str, data: bytes, wait: float) -> None:
        def repeat() -> None:
            self._write(data)
            self._repeat_answer(call_id, data, min(wait * 2, LAST))

        self._again[call_id] = self._clock.callLater(wait, repeat)

    def _stop_repeating(self, call_id: str) -> None:
        timer = self._again.pop(call_id, None)
        if timer is not None and timer.active():
            timer.cancel()

    def end(self) -> None:
        """Nothing is repeated any more."""
        timers = [asked.timer for asked in self._asked.values()] + list(self._again.values())
        for timer in timers:
            if timer is not None and timer.active():
                timer.cancel()

    def _send(self, message: Message) -> None:
        self._write(bytes(message))

    def _write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data, self._pbx)


def busy(user: str) -> bool:
    """Every tenth callee refuses."""
    return user.endswith("7")
