"""A stand-in for one FreeSWITCH node with the reference dial plan, as a process of its own.

It answers calls on the internal port, then bridges to the To user from the external port, as
``bridge sofia/external/${sip_to_uri}`` does: new Call-ID, foreign From host, ``X-PBX-Call`` copied.
When leg B fails it ends leg A. Probes (INFO, OPTIONS) are answered 200.

    python -m tests.integration.b2bua HOST INTERNAL_PORT EXTERNAL_PORT PBX_PORT [--no-bridge] [--media]

With ``--media`` it has an RTP port per leg and carries sound from one to the other, as FreeSWITCH
does; otherwise its session description is for show.

It prints ``ready`` when it listens and one line of counters per second that changed something:
``calls=N active=N``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import sys
from collections.abc import Callable
from typing import cast

from twisted.internet import reactor as installed_reactor
from twisted.internet.interfaces import IReactorTime, IReactorUDP
from twisted.internet.protocol import DatagramProtocol

from pbx.sip.errors import SIPError
from pbx.sip.message import Message, Request, Response, response_to
from pbx.sip.parser import parse

SDP = (
    "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n"
)
_ids = itertools.count()


class Media(DatagramProtocol):
    """The RTP port of a leg: what comes in goes out at the other one, to where that hears from."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.other: Media | None = None
        self.peer: tuple[str, int] | None = None
        self.event = 101

    def datagramReceived(self, data: bytes, addr: tuple[str, int]) -> None:
        self.peer = addr
        other = self.other
        if other is not None and other.peer is not None and other.transport is not None:
            other.transport.write(data, other.peer)

    def accept(self, sdp: bytes) -> None:
        """Where to send to, and the payload number of keys, from an offer or an answer."""
        host, port = re.search(rb"c=IN IP4 (\S+)", sdp), re.search(rb"m=audio (\d+)", sdp)
        if host is not None and port is not None:
            self.peer = (host[1].decode(), int(port[1]))
        event = re.search(rb"a=rtpmap:(\d+) telephone-event/8000", sdp)
        if event is not None:
            self.event = int(event[1])

    def description(self) -> bytes:
        """Our offer or answer: PCMU and keys."""
        assert self.transport is not None
        port = self.transport.getHost().port
        return (
            f"v=0\r\no=- 1 1 IN IP4 {self.host}\r\ns=-\r\nc=IN IP4 {self.host}\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP 0 {self.event}\r\na=rtpmap:0 PCMU/8000\r\n"
            f"a=rtpmap:{self.event} telephone-event/8000\r\na=fmtp:{self.event} 0-16\r\n"
        ).encode()


class Reactor(IReactorTime, IReactorUDP):
    """What is used of the reactor."""


class Leg:
    """One dialog of the node."""

    def __init__(
        self, profile: Profile, peer: tuple[str, int], call_id: str, local_tag: str
    ) -> None:
        self.profile = profile
        self.peer = peer
        self.call_id = call_id
        self.local_tag = local_tag
        self.local = self.remote = self.target = ""
        self.routes: list[str] = []
        self.cseq = 1
        self.correlation = ""
        self.invite: Request | None = None
        self.other: Leg | None = None
        self.established = False
        self.ended = False
        self.media: Media | None = None

    def request(self, method: str, cseq: int) -> Request:
        host, port = self.profile.host, self.profile.port
        headers = [
            ("Via", f"SIP/2.0/UDP {host}:{port};branch=z9hG4bK{os.urandom(8).hex()};rport"),
            *(("Route", route) for route in self.routes),
            ("Max-Forwards", "67"),
            ("From", self.local),
            ("To", self.remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{cseq} {method}"),
            ("Contact", f"<sip:mod_sofia@{host}:{port}>"),
        ]
        return Request.make(method, self.target, headers)


def description(leg: Leg) -> bytes:
    """What the node says about its media."""
    if leg.media is not None:
        return leg.media.description()
    return SDP.format(host=leg.profile.host).encode()


class Profile(DatagramProtocol):
    """A listening port of the node."""

    def __init__(self, node: Node, host: str, port: int) -> None:
        self.node = node
        self.host = host
        self.port = port

    def datagramReceived(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            message = parse(data)
            if isinstance(message, Request):
                self.node.request_received(self, message, addr)
            else:
                assert isinstance(message, Response)
                self.node.response_received(message)
        except SIPError as error:
            print(f"bad message: {error!r}", file=sys.stderr)

    def send(self, message: Message, peer: tuple[str, int]) -> None:
        if self.transport is not None:
            self.transport.write(bytes(message), peer)


class Node:
    """The dial plan."""

    def __init__(self, reactor: Reactor, arguments: argparse.Namespace) -> None:
        self._reactor = reactor
        self._pbx = (arguments.host, arguments.pbx_port)
        if arguments.pbx_host:
            self._pbx = (arguments.pbx_host, arguments.pbx_port)
        self._bridge = not arguments.no_bridge
        self._media = arguments.media
        self.internal = Profile(self, arguments.host, arguments.internal_port)
        self.external = Profile(self, arguments.host, arguments.external_port)
        self.legs: dict[tuple[str, str], Leg] = {}
        self.waiting: dict[str, Callable[[Response], None]] = {}
        self.answers: dict[str, Response] = {}
        self.calls = 0
        self._shown = ""

    def listen(self) -> None:
        for profile in (self.internal, self.external):
            self._reactor.listenUDP(profile.port, profile, profile.host, maxPacketSize=65536)
        print("ready", flush=True)
        self._show()

    def _show(self) -> None:
        line = f"calls={self.calls} active={len(self.legs)}"
        if line != self._shown:
            self._shown = line
            print(line, flush=True)
        self._reactor.callLater(1, self._show)

    # Requests

    def request_received(self, profile: Profile, request: Request, peer: tuple[str, int]) -> None:
        branch = f"{request.via.branch}{request.method}"
        if request.method != "ACK" and branch in self.answers:
            profile.send(self.answers[branch], peer)
            return
        match request.method:
            case "ACK":
                self._acked(request)
            case "INVITE" if request.to.tag is None:
                self._invited(profile, request, peer, branch)
            case "BYE":
                self._answer(profile, request, peer, self._bye(request))
            case "CANCEL":
                self._answer(profile, request, peer, 481)
            case _:
                self._answer(profile, request, peer, 200)

    def _answer(
        self, profile: Profile, request: Request, peer: tuple[str, int], status: int
    ) -> None:
        response = response_to(request, status, to_tag="node")
        self.answers[f"{request.via.branch}{request.method}"] = response
        self._reactor.callLater(32, self.answers.pop, f"{request.via.branch}{request.method}", None)
        profile.send(response, peer)

    def _invited(
        self, profile: Profile, request: Request, peer: tuple[str, int], branch: str
    ) -> None:
        self.calls += 1
        profile.send(response_to(request, 100), peer)
        leg = Leg(profile, peer, request.call_id, os.urandom(4).hex())
        leg.remote = str(request.from_)
        leg.target = request.contacts[0].uri_text
        leg.routes = request.get_list("record-route")
        contact = f"<sip:{request.uri.user}@{profile.host}:{profile.port};transport=udp>"
        if self._media:
            leg.media = self._port(profile.host)
            leg.media.accept(request.body)
        response = response_to(
            request,
            200,
            headers=(("Contact", contact), ("Content-Type", "application/sdp")),
            body=description(leg),
            to_tag=leg.local_tag,
        )
        leg.local = response.get("to") or ""
        self.legs[leg.call_id, leg.local_tag] = leg
        self.answers[branch] = response
        self._reactor.callLater(32, self.answers.pop, branch, None)
        self._repeat_answer(leg, profile, response, peer, 0.5)
        leg.other = self._leg_b(request) if self._bridge else None
        if leg.other is not None:
            leg.other.other = leg
            if leg.media is not None:
                port = leg.other.media = self._port(self.external.host)
                port.event = leg.media.event
                port.other, leg.media.other = leg.media, port

    def _port(self, host: str) -> Media:
        media = Media(host)
        self._reactor.listenUDP(0, media, host, maxPacketSize=65536)
        return media

    def _repeat_answer(
        self, leg: Leg, profile: Profile, response: Response, peer: tuple[str, int], wait: float
    ) -> None:
        if leg.established or leg.ended or wait > 16:
            return
        profile.send(response, peer)
        self._reactor.callLater(
            wait, self._repeat_answer, leg, profile, response, peer, min(wait * 2, 4)
        )

    def _acked(self, ack: Request) -> None:
        leg = self.legs.get((ack.call_id, ack.to.tag or ""))
        if leg is not None and not leg.established:
            leg.established = True
            if leg.other is not None:
                self._call(leg.other)

    def _bye(self, bye: Request) -> int:
        leg = self.legs.pop((bye.call_id, bye.to.tag or ""), None)
        if leg is None:
            return 481
        leg.ended = True
        if leg.other is not None:
            self._hang_up(leg.other)
        return 200

    # Leg B

    def _leg_b(self, request: Request) -> Leg:
        leg = Leg(self.external, self._pbx, f"b-{os.urandom(8).hex()}", os.urandom(4).hex())
        user = request.from_.uri.user
        leg.local = f'"{user}" <sip:{user}@{self.external.host}>;tag={leg.local_tag}'
        to = request.to.uri
        leg.target = f"sip:{to.user}@{to.host}" + (f":{to.port}" if to.port else "")
        leg.remote = f"<{leg.target}>"
        leg.correlation = request.get("x-pbx-call") or ""
        return leg

    def _call(self, leg: Leg) -> None:
        invite = leg.request("INVITE", leg.cseq)
        if leg.correlation:
            invite.append("x-pbx-call", leg.correlation)
        leg.invite = invite
        invite.set_body(description(leg), "application/sdp")

        def answered(response: Response) -> None:
            self._leg_b_response(leg, invite, response)

        self._send(leg, invite, answered)

    def _leg_b_response(self, leg: Leg, invite: Request, response: Response) -> None:
        if response.status < 200:
            return
        if response.status >= 300:
            ack = leg.request("ACK", leg.cseq)
            ack.set("via", str(invite.via))
            ack.set("to", response.get("to") or "")
            leg.profile.send(ack, leg.peer)
            leg.ended = True
            if leg.other is not None and not leg.other.ended:
                self._hang_up(leg.other)
            return
        if not leg.established:
            leg.established = True
            leg.remote = response.get("to") or ""
            leg.target = response.contacts[0].uri_text
            leg.routes = list(reversed(response.get_list("record-route")))
            if leg.media is not None:
                leg.media.accept(response.body)
            self.legs[leg.call_id, leg.local_tag] = leg
        leg.profile.send(leg.request("ACK", leg.cseq), leg.peer)
        if leg.ended:
            self._hang_up(leg)

    def _hang_up(self, leg: Leg) -> None:
        if leg.established and (leg.call_id, leg.local_tag) in self.legs:
            del self.legs[leg.call_id, leg.local_tag]
            leg.ended = True
            leg.cseq += 1
            self._send(leg, leg.request("BYE", leg.cseq), _ignore)
        elif leg.invite is not None and not leg.ended:
            cancel = leg.request("CANCEL", leg.cseq)
            cancel.set("via", str(leg.invite.via))
            self._send(leg, cancel, _ignore)
        leg.ended = True

    def _send(self, leg: Leg, request: Request, answered: Callable[[Response], None]) -> None:
        branch = request.via.branch
        seen: list[int] = []

        def received(response: Response) -> None:
            seen.append(response.status)
            answered(response)

        def repeat(wait: float) -> None:
            if not seen and wait < 16:
                leg.profile.send(request, leg.peer)
                self._reactor.callLater(wait, repeat, wait * 2)

        key = branch + request.method
        self.waiting[key] = received
        self._reactor.callLater(64, self.waiting.pop, key, None)
        repeat(0.5)

    def response_received(self, response: Response) -> None:
        waiting = self.waiting.get(response.via.branch + response.cseq.method)
        if waiting is not None:
            waiting(response)


def _ignore(response: Response) -> None:
    """Whatever it says, the leg is gone."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("internal_port", type=int)
    parser.add_argument("external_port", type=int)
    parser.add_argument("pbx_port", type=int)
    parser.add_argument("--pbx-host", default="")
    parser.add_argument("--no-bridge", action="store_true")
    parser.add_argument("--media", action="store_true")
    node = Node(cast(Reactor, installed_reactor), parser.parse_args())
    node.listen()
    installed_reactor.run()


if __name__ == "__main__":
    main()
