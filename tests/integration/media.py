"""Media of phones and browsers on real sockets, in a thread: 50 packets a second each."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.integration.phone import Dialog, Phone
from tests.integration.sound import share, tone
from tests.media.browser import Browser, packet

Sockaddr = tuple[Any, ...]
_STEP = 0.02


class Peer:
    """What the lab drives: sockets, what comes in, and a step every 20 ms."""

    def __init__(self, hertz: int) -> None:
        self.frames = tone(hertz)
        self.talking = True
        self.sent = 0
        self.sockets: dict[socket.socket, Callable[[bytes, Sockaddr], object]] = {}

    def step(self) -> None:
        """Another 20 ms."""

    def heard(self) -> list[bytes]:
        """RTP packets that came."""
        raise NotImplementedError


class RTPPhone(Peer):
    """A plain phone: RTP and RTCP ports in a pair; sends to what its description names."""

    def __init__(self, hertz: int = 1000, host: str = "127.0.0.1", payload: int = 0) -> None:
        super().__init__(hertz)
        self.host = host
        rtp, rtcp = pair(host)
        self.port = rtp.getsockname()[1]
        self.event = 101
        self.packets: list[bytes] = []
        self.reports: list[bytes] = []
        self.remote: Sockaddr | None = None
        self._rtp = rtp
        self._rtcp = rtcp
        self._payload = payload
        self._ssrc = os.urandom(4)
        self._number = 0
        self._timestamp = 0
        self.sockets = {rtp: self._received, rtcp: self._reported}

    def _received(self, data: bytes, source: Sockaddr) -> None:
        self.packets.append(data)

    def _reported(self, data: bytes, source: Sockaddr) -> None:
        self.reports.append(data)

    def description(self, direction: str = "sendrecv", codecs: str = "0 8") -> str:
        """Its offer and its answer."""
        family = 6 if ":" in self.host else 4
        where = f"IN IP{family} {self.host}"
        return (
            f"v=0\r\no=- 1 1 {where}\r\ns=-\r\nc={where}\r\nt=0 0\r\n"
            f"m=audio {self.port} RTP/AVP {codecs} {self.event}\r\na=rtpmap:0 PCMU/8000\r\n"
            f"a=rtpmap:{self.event} telephone-event/8000\r\na=fmtp:{self.event} 0-16\r\n"
            f"a=ptime:20\r\na={direction}\r\n"
        )

    def accept(self, sdp: bytes) -> None:
        """Where to send to."""
        host = re.search(rb"c=IN IP[46] (\S+)", sdp)
        port = re.search(rb"m=audio (\d+)", sdp)
        assert host is not None, sdp
        assert port is not None, sdp
        assert b"SAVP" not in sdp, sdp
        self.remote = (host[1].decode(), int(port[1]))

    def step(self) -> None:
        """A packet of sound, once a second a report."""
        if self.remote is None or not self.talking:
            return
        self._number += 1
        self._timestamp += 160
        self._send(self._payload, self.frames[self._number % len(self.frames)])
        self.sent += 1
        if self._number % 50 == 1:
            host, port = self.remote
            report = b"\x80\xc8\x00\x06" + self._ssrc + bytes(20)
            with contextlib.suppress(OSError):
                self._rtcp.sendto(report, (host, port + 1))

    def _send(self, payload: int, body: bytes) -> None:
        assert self.remote is not None
        data = packet(payload, self._number, self._timestamp, self._ssrc, body)
        with contextlib.suppress(OSError):
            self._rtp.sendto(data, self.remote)

    def press(self, digit: str, milliseconds: int = 100) -> None:
        """A key, by RFC 4733."""
        event = "0123456789*#ABCD".index(digit)
        self._timestamp += 160
        for end in (0, 0x80, 0x80, 0x80):
            self._number += 1
            self._send(self.event, bytes((event, end | 10)) + (milliseconds * 8).to_bytes(2, "big"))

    def heard(self) -> list[bytes]:
        """RTP packets that came."""
        return self.packets


class RTPBrowser(Peer):
    """A browser's peer connection on one real port."""

    def __init__(self, hertz: int = 400, host: str = "127.0.0.1") -> None:
        super().__init__(hertz)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((host, 0))
        self.peer = Browser(self._send)
        self.sockets = {self._socket: self.peer.received}
        self.ready = False
        self._steps = 0
        self._at = 0

    def _send(self, data: bytes, target: Sockaddr) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendto(data, target)

    def step(self) -> None:
        """Check, shake hands, then sound; checks go on for consent."""
        if not self.ready:
            return
        self._steps += 1
        if self._steps % 100 == 1 or (not self.peer.stun_answers and self._steps % 10 == 0):
            self.peer.check()
        if not self.peer.connected:
            if self.peer.stun_answers and self.peer.role == "active":
                if self.peer._connection is None:
                    self.peer.handshake()
                else:
                    self.peer.again()
            return
        if self.talking:
            self._at += 1
            self.peer.send_rtp(0, self.frames[self._at % len(self.frames)])
            self.sent += 1

    def heard(self) -> list[bytes]:
        """RTP packets that came, in the clear."""
        return self.peer.rtp


def pair(host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
    """An even port and the next."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(200):
        rtp = socket.socket(family, socket.SOCK_DGRAM)
        rtcp = socket.socket(family, socket.SOCK_DGRAM)
        for one in (rtp, rtcp):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        try:
            rtp.bind((host, 0))
            port = rtp.getsockname()[1]
            if port % 2 == 0:
                rtcp.bind((host, port + 1))
                return rtp, rtcp
        except OSError:
            pass
        rtp.close()
        rtcp.close()
    raise OSError("no pair of ports")


class Lab:
    """Drives peers until it is closed. Their state may be read from outside at any time; what
    changes them goes through `do`.
    """

    def __init__(self) -> None:
        self._peers: list[Peer] = []
        self._selector = selectors.DefaultSelector()
        self._jobs: list[Callable[[], object]] = []
        self._over = threading.Event()
        self.error: BaseException | None = None
        self.late = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, peer: Peer) -> None:
        """From now on."""

        def add() -> None:
            for one in peer.sockets:
                one.setblocking(False)
                self._selector.register(one, selectors.EVENT_READ, peer)
            self._peers.append(peer)

        self.do(add)

    def do(self, job: Callable[[], object]) -> None:
        """Run something in the thread, and wait for it."""
        done = threading.Event()

        def run() -> None:
            try:
                job()
            finally:
                done.set()

        self._jobs.append(run)
        assert done.wait(20), "the lab hangs"
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """No packet after this."""
        self._over.set()
        self._thread.join(20)
        for peer in self._peers:
            for one in peer.sockets:
                one.close()
        self._selector.close()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._over.is_set():
            try:
                self._turn(due)
            except Exception as error:
                self.error = error
                raise
            now = time.monotonic()
            if now >= due:
                # All 50 calls at once would be a burst that no office makes: a slice at a time.
                self.late = max(self.late, now - due)
                due += _STEP / _SLICES

    def _turn(self, due: float) -> None:
        while self._jobs:
            self._jobs.pop(0)()
        wait = max(due - time.monotonic(), 0)
        if self._selector.get_map():
            for key, _ in self._selector.select(wait):
                self._read(key)
        else:
            time.sleep(min(wait, 0.005))
        if time.monotonic() >= due:
            at = self._slice = (self._slice + 1) % _SLICES
            for peer in self._peers[at::_SLICES]:
                peer.step()

    _slice = 0

    def _read(self, key: selectors.SelectorKey) -> None:
        one, peer = key.fileobj, key.data
        assert isinstance(one, socket.socket)
        for _ in range(50):
            try:
                data, source = one.recvfrom(2048)
            except OSError:
                return
            if data:
                peer.sockets[one](data, source)


_SLICES = 10


def hears(peer: Peer, hertz: int, frames: int = 25) -> bool:
    """Whether the last half second that a peer got is this tone."""
    found = [one for one in peer.heard() if len(one) == 172][-frames:]
    return len(found) >= frames and share(b"".join(one[12:] for one in found), hertz) > 0.8


def connect(lab: Lab, alice: Phone, bob: Phone, browser: RTPBrowser, desk: RTPPhone) -> Dialog:
    """alice, with a browser, calls bob; her side of the call."""
    lab.add(browser)
    lab.add(desk)
    invite = alice.invite("bob", body=browser.peer.offer().decode())
    arrived = bob.request("INVITE")
    bob.answer(arrived, desk.description())
    answered = alice.response(200)
    dialog = alice.called(invite, answered)
    bob.request("ACK")

    def begin() -> None:
        desk.accept(arrived.body)
        browser.peer.accept(answered.body)
        browser.ready = True

    lab.do(begin)
    return dialog
