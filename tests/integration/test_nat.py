"""Phones and browsers in homes behind NAT routers: bindings that are kept open, sound by the relay."""

from __future__ import annotations

import time

from tests.integration.harness import PBX, PBXTestCase, until
from tests.integration.media import Lab, Peer, RTPBrowser, RTPPhone, hears
from tests.integration.namespaces import MAPPING_SECONDS, PUBLIC, Internet, PublicPBX
from tests.integration.phone import Datagrams, Dialog, Phone, Stream, WebSocket

INSIDE = "192.168.77.20"


class NatTests(PBXTestCase):
    """alice and bob each in a home of their own, carol outside."""

    def setUp(self) -> None:
        super().setUp()
        self.internet = Internet()
        self.addCleanup(self.internet.close)
        self.home, self.other = self.internet.home(11), self.internet.home(12)
        self.lab = Lab()
        self.addCleanup(self.lab.close)

    def serve(self, interval: float = 1.0) -> PBX:
        """A PBX that keeps mappings open this often."""
        tables = {"nat_ping": {"interval": interval}, "proxy": {"fr_timeout": 5.0}}
        server = PublicPBX(self.folder, self.internet, tables)
        self._started.append(server)
        server.start()
        users = ("alice", "bob", "carol")
        for user in users:
            server.add_user(user)
        until(lambda: server.mi("auth_knows", "carol@pbx.test"), "the users are known", 10)
        return server

    def at(self, place: str, server: PBX, user: str, kind: str, own: str = INSIDE) -> Phone:
        """A registered phone in a namespace."""
        port = server.ports[kind]

        def make() -> Datagrams | Stream | WebSocket:
            if kind == "udp":
                return Datagrams(server.host, port, own=own)
            return (Stream if kind == "tcp" else WebSocket)(server.host, port)

        phone = Phone(user, self.internet.within(place, make))
        self.addCleanup(phone.close)
        phone.register()
        return phone

    def media(self, place: str, hertz: int, own: str = INSIDE) -> RTPPhone:
        peer = self.internet.within(place, lambda: RTPPhone(hertz, own))
        self.lab.add(peer)
        return peer

    def call(
        self, caller: Phone, sound: RTPPhone, callee: Phone, other: RTPPhone
    ) -> tuple[Dialog, Dialog]:
        """Through the relay; the dialogs of both."""
        invite = caller.invite(callee.user, body=sound.description())
        arrived = callee.request("INVITE", 10)
        called = callee.answer(arrived, other.description())
        answered = caller.response(200)
        for sdp in (arrived.body, answered.body):
            self.assertIn(f"c=IN IP4 {PUBLIC}.1".encode(), sdp)
        calling = caller.called(invite, answered)
        callee.request("ACK")

        def begin() -> None:
            sound.accept(answered.body)
            other.accept(arrived.body)

        self.lab.do(begin)
        return calling, called

    def until_they_hear(self, one: Peer, low: int, other: Peer, high: int) -> None:
        until(lambda: hears(one, high), "the one hears", 15)
        until(lambda: hears(other, low), "the other hears", 15)

    def test_keep_alives_hold_the_binding(self) -> None:
        """Long after a mapping without traffic would be gone, a call still reaches the phone."""
        server = self.serve()
        alice = self.at(self.home, server, "alice", "udp")
        carol = self.at(self.internet.server, server, "carol", "udp", f"{PUBLIC}.2")
        time.sleep(3 * MAPPING_SECONDS)
        sound, other = (
            self.media(self.home, 400),
            self.media(self.internet.server, 1000, f"{PUBLIC}.2"),
        )
        _, called = self.call(carol, other, alice, sound)
        self.until_they_hear(sound, 400, other, 1000)
        alice.send(alice.within(called, "BYE"))
        carol.respond(carol.request("BYE"), 200)
        alice.response(200)
        until(lambda: server.sql("SELECT 1 FROM cdr WHERE packets > 40"), "the cdr", 10)
        self.assertEqual(server.statistic("media:sessions"), 0)

    def test_without_keep_alives_it_is_lost(self) -> None:
        """What the test above shows would not be so by itself."""
        server = self.serve(interval=600.0)
        self.at(self.home, server, "alice", "udp")
        carol = self.at(self.internet.server, server, "carol", "udp", f"{PUBLIC}.2")
        time.sleep(2.5 * MAPPING_SECONDS)
        sound = self.media(self.internet.server, 1000, f"{PUBLIC}.2")
        carol.invite("alice", body=sound.description())
        carol.response(408, 20)

    def test_two_homes(self) -> None:
        """UDP in the one, TCP in the other, each behind a router that gives every stream a port of
        its own: the relay learns both.
        """
        server = self.serve()
        alice = self.at(self.home, server, "alice", "udp")
        bob = self.at(self.other, server, "bob", "tcp")
        sound, other = self.media(self.home, 400), self.media(self.other, 1000)
        calling, _ = self.call(alice, sound, bob, other)
        self.until_they_hear(sound, 400, other, 1000)
        alice.send(alice.within(calling, "INVITE", body=sound.description("sendonly")))
        again = bob.request("INVITE")
        bob.respond(again, 200, body=other.description("recvonly"))
        alice.response(200)
        alice.send(alice.within(calling, "ACK"))
        bob.request("ACK")
        alice.send(alice.within(calling, "BYE"))
        bob.respond(bob.request("BYE"), 200)
        alice.response(200)
        # The other way round, over the connection that bob opened.
        time.sleep(2 * MAPPING_SECONDS)
        back, forth = self.media(self.home, 500), self.media(self.other, 800)
        self.call(alice, back, bob, forth)
        self.until_they_hear(back, 500, forth, 800)

    def test_a_browser_at_home(self) -> None:
        """Without STUN or TURN: where its checks come from is learnt."""
        server = self.serve()
        alice = self.at(self.home, server, "alice", "ws")
        carol = self.at(self.internet.server, server, "carol", "udp", f"{PUBLIC}.2")
        browser = self.internet.within(self.home, lambda: RTPBrowser(400, INSIDE))
        self.lab.add(browser)
        desk = self.media(self.internet.server, 1000, f"{PUBLIC}.2")
        invite = carol.invite("alice", body=desk.description())
        arrived = alice.request("INVITE")

        def accept() -> None:
            browser.peer.accept(arrived.body, "active")
            browser.ready = True

        self.lab.do(accept)
        alice.answer(arrived, browser.peer.answer().decode())
        answered = carol.response(200)
        carol.called(invite, answered)
        alice.request("ACK")
        self.lab.do(lambda: desk.accept(answered.body))
        self.until_they_hear(browser, 400, desk, 1000)
