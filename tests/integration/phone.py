"""A SIP phone that a test plays by hand: it sends what the test says and waits for what it expects.

Blocking sockets, one phone after the other. It knows digest, dialogs and retransmissions of
nothing; three ways to the PBX: UDP, TCP and WebSocket (RFC 6455 and RFC 7118).
"""

from __future__ import annotations

import base64
import os
import re
import socket
import ssl
import time
from collections.abc import Sequence

from pbx.sip.digest import digest, ha1
from pbx.sip.message import Message, Request, Response, response_to
from pbx.sip.parser import parse
from pbx.sip.stream import StreamParser

SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 40000 RTP/AVP 0\r\n"
)
#: What a browser says; nobody listens at its port.
BROWSER_SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=rtcp-mux\r\n"
    "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef01234567\r\na=setup:{setup}\r\n"
    f"a=fingerprint:sha-256 {':'.join(['AB'] * 32)}\r\na=rtpmap:0 PCMU/8000\r\n"
)
Header = tuple[str, str]


class Datagrams:
    """The UDP socket of a phone."""

    transport = "UDP"
    host = "127.0.0.1"

    def __init__(self, host: str, port: int, local_port: int = 0, own: str = "") -> None:
        self.peer = (host, port)
        self.host = own or self.host
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self.host, local_port))
        self.place = f"{self.host}:{self._socket.getsockname()[1]}"

    def send(self, data: bytes) -> None:
        """One datagram."""
        self._socket.sendto(data, self.peer)

    def receive(self, seconds: float) -> list[Message]:
        """The next message, if one comes in time."""
        self._socket.settimeout(max(seconds, 0.001))
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return []
        return [parse(data)] if len(data) > 4 else []

    def close(self) -> None:
        """No further message."""
        self._socket.close()


class Stream:
    """The TCP connection of a phone."""

    transport = "TCP"

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._parser = StreamParser()
        host, port = self._socket.getsockname()
        self.place = f"{host}:{port}"

    def send(self, data: bytes) -> None:
        """One message."""
        self._socket.sendall(data)

    def receive(self, seconds: float) -> list[Message]:
        """What comes in time."""
        self._socket.settimeout(max(seconds, 0.001))
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return []
        return [item for item in self._parser.feed(data) if isinstance(item, Message)]

    def close(self) -> None:
        """Hang up the line."""
        self._socket.close()


class WebSocket:
    """The connection of a browser (RFC 7118): masked text frames, sub-protocol sip.

    With ``context`` it speaks TLS; ``origin`` is the page that it belongs to. Raises
    ConnectionRefusedError with the status line of a PBX that does not want it.
    """

    transport = "WS"

    def __init__(
        self,
        host: str,
        port: int,
        path: str = "/",
        context: ssl.SSLContext | None = None,
        origin: str = "",
    ) -> None:
        self._socket = socket.create_connection((host, port), timeout=10)
        if context is not None:
            self.transport = "WSS"
            self._socket = context.wrap_socket(self._socket, server_hostname=host)
        self.place = f"{os.urandom(6).hex()}.invalid"
        self._buffer = b""
        shown = f"[{host}]" if ":" in host else host
        self._handshake(f"{shown}:{port}", path, f"Origin: {origin}\r\n" if origin else "")

    def _handshake(self, host: str, path: str, more: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            (
                f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n{more}"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
            ).encode()
        )
        while b"\r\n\r\n" not in self._buffer:
            self._read(10)
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            self._socket.close()
            raise ConnectionRefusedError(head.split(b"\r\n")[0].decode())
        assert b"sec-websocket-protocol: sip" in head.lower(), head

    def _read(self, seconds: float) -> None:
        self._socket.settimeout(max(seconds, 0.001))
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the PBX closed the connection")
        self._buffer += data

    def send(self, data: bytes, opcode: int = 1) -> None:
        """One message in one frame."""
        mask = os.urandom(4)
        head = bytes([0x80 | opcode])
        if len(data) < 126:
            head += bytes([0x80 | len(data)])
        else:
            head += bytes([0x80 | 126]) + len(data).to_bytes(2, "big")
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        self._socket.sendall(head + mask + masked)

    def receive(self, seconds: float) -> list[Message]:
        """What comes in time; pings are answered."""
        found = self._frames()
        if not found:
            try:
                self._read(seconds)
            except TimeoutError:
                return []
            found = self._frames()
        return found

    def _frames(self) -> list[Message]:
        found: list[Message] = []
        while len(self._buffer) >= 2:
            size, start = self._buffer[1] & 0x7F, 2
            if size == 126:
                size, start = int.from_bytes(self._buffer[2:4], "big"), 4
            if len(self._buffer) < start + size:
                break
            opcode = self._buffer[0] & 0x0F
            data = self._buffer[start : start + size]
            self._buffer = self._buffer[start + size :]
            if opcode in (1, 2) and data.strip():
                found.append(parse(data))
            elif opcode == 9:
                self.send(data, 10)
            elif opcode == 8:
                raise ConnectionError("the PBX closed the WebSocket")
        return found

    def close(self) -> None:
        """As a browser that is closed."""
        self._socket.close()


class Dialog:
    """What a phone remembers of a call."""

    def __init__(self, call_id: str, local: str, remote: str, target: str, routes: Sequence[str]):
        self.call_id = call_id
        self.local = local
        self.remote = remote
        self.target = target
        self.routes = routes
        self.cseq = 1


class Phone:
    """A user's phone; ``seen`` holds every message that came."""

    def __init__(
        self, user: str, way: Datagrams | Stream | WebSocket, password: str = "secret"
    ) -> None:
        self.user = user
        self.way = way
        self.password = password
        self.domain = "pbx.test"
        self.seen: list[Message] = []
        self._queue: list[Message] = []
        self._nonce_count = 0
        self._credentials: Header | None = None

    @property
    def aor(self) -> str:
        """Whom one calls to reach it."""
        return f"sip:{self.user}@{self.domain}"

    @property
    def contact(self) -> str:
        """Where it is reached."""
        # RFC 7118 section 5.2.3: one word in URIs for both kinds of WebSocket.
        way = self.way.transport.replace("WSS", "WS")
        transport = "" if way == "UDP" else f";transport={way}"
        return f"sip:{self.user}@{self.way.place}{transport.lower()}"

    def description(self, setup: str = "active") -> str:
        """Its answer to every offer, or with ``actpass`` its own."""
        if self.way.transport in ("WS", "WSS"):
            return BROWSER_SDP.format(setup=setup)
        return SDP

    # Bytes

    def send(self, message: Message) -> None:
        """Exactly this."""
        self.way.send(bytes(message))

    def receive(self, seconds: float = 5.0) -> Message:
        """The next message. Raises AssertionError when none comes."""
        deadline = time.monotonic() + seconds
        while not self._queue:
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"nothing came to {self.user}; so far:\n{self.history()}")
            found = self.way.receive(left)
            self._queue += found
            self.seen += found
        return self._queue.pop(0)

    def silent(self, seconds: float = 0.5) -> bool:
        """Whether nothing comes for some time."""
        try:
            self.receive(seconds)
        except AssertionError:
            return True
        return False

    def history(self) -> str:
        """What came, a line each."""
        return "\n".join(f"{message.start_line} {message.get('cseq')}" for message in self.seen)

    def request(self, method: str, seconds: float = 5.0) -> Request:
        """The next message, which must be this request."""
        message = self.receive(seconds)
        if not isinstance(message, Request) or message.method != method:
            raise AssertionError(f"{self.user} wanted {method}:\n{self.history()}")
        return message

    def response(self, status: int, seconds: float = 5.0) -> Response:
        """The next response that is no 100, which must have this status."""
        while True:
            message = self.receive(seconds)
            if isinstance(message, Response) and message.status == 100 != status:
                continue
            if not isinstance(message, Response) or message.status != status:
                raise AssertionError(f"{self.user} wanted {status}:\n{self.history()}\n{message!r}")
            return message

    # Requests

    def make(
        self,
        method: str,
        uri: str = "",
        *,
        to: str = "",
        cseq: int = 1,
        headers: Sequence[Header] = (),
        body: str = "",
        call_id: str = "",
    ) -> Request:
        """A request outside of a dialog."""
        made = [
            ("Via", self.via()),
            ("Max-Forwards", "70"),
            ("From", f"<{self.aor}>;tag={os.urandom(4).hex()}"),
            ("To", f"<{to or uri}>"),
            ("Call-ID", call_id or os.urandom(8).hex()),
            ("CSeq", f"{cseq} {method}"),
        ]
        if all(name != "Contact" for name, _ in headers):
            made.append(("Contact", f"<{self.contact}>"))
        request = Request.make(method, uri, [*made, *headers])
        if body:
            request.set_body(body.encode(), "application/sdp")
        return request

    def via(self) -> str:
        """A new one."""
        return f"SIP/2.0/{self.way.transport} {self.way.place};branch=z9hG4bK{os.urandom(8).hex()}"

    def again(self, request: Request, challenged: Response) -> Request:
        """The same request with credentials."""
        refused = challenged.status == 401
        name = "www-authenticate" if refused else "proxy-authenticate"
        copy = request.copy()
        copy.set("via", self.via())
        copy.set("cseq", f"{request.cseq.number + 1} {request.method}")
        header = "authorization" if refused else "proxy-authorization"
        copy.remove(header)
        copy.append(header, self.credentials(challenged.get(name) or "", request))
        return copy

    def credentials(self, challenge: str, request: Request, count: int = 1) -> str:
        """The answer to a challenge with MD5."""
        found = dict(re.findall(r'(\w+)="?([^",]+)', challenge))
        realm, nonce, cnonce = found["realm"], found["nonce"], os.urandom(4).hex()
        secret = ha1("MD5", self.user, realm, self.password)
        a2 = digest("MD5", f"{request.method}:{request.uri_text}")
        proof = digest("MD5", f"{secret}:{nonce}:{count:08x}:{cnonce}:auth:{a2}")
        return (
            f'Digest username="{self.user}", realm="{realm}", nonce="{nonce}", '
            f'uri="{request.uri_text}", response="{proof}", algorithm=MD5, cnonce="{cnonce}", '
            f"qop=auth, nc={count:08x}"
        )

    def acknowledge(self, invite: Request, response: Response) -> None:
        """ACK for a refusal (17.1.1.3)."""
        ack = invite.copy()
        ack = Request.make(
            "ACK",
            invite.uri_text,
            [
                ("Via", invite.get("via") or ""),
                ("Max-Forwards", "70"),
                ("From", invite.get("from") or ""),
                ("To", response.get("to") or ""),
                ("Call-ID", invite.call_id),
                ("CSeq", f"{invite.cseq.number} ACK"),
            ],
        )
        self.send(ack)

    def authenticated(self, request: Request) -> Request:
        """Send it, answer the challenge; the request that was sent in the end."""
        self.send(request)
        challenged = self.response(401 if request.method == "REGISTER" else 407)
        if request.method == "INVITE":
            self.acknowledge(request, challenged)
        second = self.again(request, challenged)
        self.send(second)
        return second

    def register(
        self, expires: int = 600, headers: Sequence[Header] = (), parameters: str = ""
    ) -> Response:
        """A binding for this phone; the 200."""
        contact = ("Contact", f"<{self.contact}>{parameters}")
        uri = f"sip:{self.domain}"
        more = [contact, ("Expires", str(expires)), *headers]
        self.authenticated(self.make("REGISTER", uri, to=self.aor, headers=more))
        return self.response(200)

    def invite(
        self, callee: str, headers: Sequence[Header] = (), body: str | None = None
    ) -> Request:
        """Call somebody of the domain; the INVITE that was sent."""
        uri = f"sip:{callee}@{self.domain}"
        body = self.description("actpass") if body is None else body
        return self.authenticated(self.make("INVITE", uri, headers=headers, body=body))

    # Calls

    def ring(self, invite: Request) -> Response:
        """180."""
        return self.respond(invite, 180)

    def respond(
        self, request: Request, status: int, headers: Sequence[Header] = (), body: str = ""
    ) -> Response:
        """A response with a Contact."""
        more = [("Contact", f"<{self.contact}>"), *headers]
        if body:
            more.append(("Content-Type", "application/sdp"))
        tag = f"t{self.user}{abs(hash(self.way.place)) % 10000}"
        response = response_to(request, status, headers=more, body=body.encode(), to_tag=tag)
        self.send(response)
        return response

    def answer(self, invite: Request, body: str | None = None) -> Dialog:
        """200; the callee's side of the call."""
        body = self.description() if body is None else body
        response = self.respond(invite, 200, body=body)
        return Dialog(
            invite.call_id,
            response.get("to") or "",
            response.get("from") or "",
            invite.contacts[0].uri_text,
            invite.get_list("record-route"),
        )

    def called(self, invite: Request, response: Response, body: str = "") -> Dialog:
        """ACK a 200; the caller's side of the call."""
        dialog = Dialog(
            invite.call_id,
            response.get("from") or "",
            response.get("to") or "",
            response.contacts[0].uri_text,
            list(reversed(response.get_list("record-route"))),
        )
        dialog.cseq = invite.cseq.number
        self.send(self.within(dialog, "ACK", body=body))
        return dialog

    def within(
        self, dialog: Dialog, method: str, headers: Sequence[Header] = (), body: str = ""
    ) -> Request:
        """A request in a dialog, not sent yet."""
        if method not in ("ACK", "CANCEL"):
            dialog.cseq += 1
        request = Request.make(
            method,
            dialog.target,
            [
                ("Via", self.via()),
                *(("Route", route) for route in dialog.routes),
                ("Max-Forwards", "70"),
                ("From", dialog.local),
                ("To", dialog.remote),
                ("Call-ID", dialog.call_id),
                ("CSeq", f"{dialog.cseq} {method}"),
                ("Contact", f"<{self.contact}>"),
                *headers,
            ],
        )
        if body:
            request.set_body(body.encode(), "application/sdp")
        return request

    def cancel(self, invite: Request) -> Request:
        """CANCEL of an INVITE (9.1)."""
        request = Request.make(
            "CANCEL",
            invite.uri_text,
            [
                ("Via", invite.get("via") or ""),
                ("Max-Forwards", "70"),
                ("From", invite.get("from") or ""),
                ("To", invite.get("to") or ""),
                ("Call-ID", invite.call_id),
                ("CSeq", f"{invite.cseq.number} CANCEL"),
            ],
        )
        self.send(request)
        return request

    def close(self) -> None:
        """Switch it off."""
        self.way.close()


def exchange(
    one: Phone, dialog: Dialog, other: Phone, method: str, headers: Sequence[Header] = ()
) -> Request:
    """A request in a dialog that passes, is answered 200 and whose answer passes."""
    offers = method in ("INVITE", "UPDATE")
    body = one.description("actpass") if offers else ""
    one.send(one.within(dialog, method, headers, body))
    request = other.request(method)
    other.respond(request, 200, body=other.description() if offers else "")
    response = one.response(200)
    if method == "INVITE":
        cseq = dialog.cseq
        one.send(one.within(dialog, "ACK"))
        assert other.request("ACK").cseq.number == cseq
    assert response.cseq.method == method
    return request
