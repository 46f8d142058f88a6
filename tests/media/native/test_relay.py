"""Phone to phone through the relay, and who is not let in."""

from __future__ import annotations

from pbx.legs import LegKind, MediaLeg, Side
from pbx.sip.address import Address
from tests.media.native.engine_case import (
    INSIDE,
    PHONE,
    PHONE_AT,
    SESSION,
    EngineTestCase,
    Phone,
    media_port,
    phone_sdp,
)


class RelayTests(EngineTestCase):
    """Phone to phone, for one that is behind a NAT."""

    def call(self) -> tuple[int, int, Phone]:
        """The ports of both sides, and the phone outside."""
        phone = Phone(self.network)
        seen = self.offer(phone_sdp(host="10.0.0.5", port=4000), INSIDE, PHONE)
        self.got = self.answer(phone_sdp(), PHONE, INSIDE)
        return media_port(self.got), media_port(seen), phone

    def test_learns_where_the_nat_is(self) -> None:
        """Nothing goes to the private address; the first packet from the right host settles it."""
        towards_inside, towards_phone, phone = self.call()
        phone.send(towards_phone)
        self.assertEqual(self.network.lost, [])
        nat = Phone(self.network, ("203.0.113.4", 62000))
        nat.send(towards_inside)
        self.assertEqual(len(phone.rtp), 1)
        phone.send(towards_phone)
        self.assertEqual(len(nat.rtp), 1)

    def test_nobody_else_gets_the_sound(self) -> None:
        """Neither before nor after: strangers are not heard, and hear nothing."""
        towards_inside, towards_phone, phone = self.call()
        thief = Phone(self.network, ("198.51.100.66", 5000))
        thief.send(towards_inside)
        thief.send(towards_phone)
        phone.send(towards_phone)
        self.assertEqual((thief.rtp, phone.rtp), ([], []))
        nat = Phone(self.network, ("203.0.113.4", 62000))
        nat.send(towards_inside)
        other = Phone(self.network, ("203.0.113.4", 62002))
        other.send(towards_inside)
        thief.send(towards_inside)
        phone.send(towards_phone)
        self.assertEqual((thief.rtp, other.rtp), ([], []))
        self.assertEqual(len(phone.rtp), 1)
        self.assertEqual(len(nat.rtp), 1)

    def test_another_address_is_learnt_with_another_description(self) -> None:
        """Once per offer and answer: a new one may come from elsewhere."""
        towards_inside, towards_phone, phone = self.call()
        Phone(self.network, ("203.0.113.4", 62000)).send(towards_inside)
        moved = Phone(self.network, ("203.0.113.4", 63000))
        moved.send(towards_inside)
        phone.send(towards_phone)
        self.assertEqual(moved.rtp, [])
        self.offer(phone_sdp(host="10.0.0.5", port=4002), INSIDE, PHONE)
        self.answer(phone_sdp(), PHONE, INSIDE)
        moved.send(towards_inside)
        phone.send(towards_phone)
        self.assertEqual(len(moved.rtp), 1)

    def test_a_description_is_no_weapon(self) -> None:
        """An address that only the description vouches for gets a second of sound and no more,
        until a packet comes from there.
        """
        caller = MediaLeg(
            side=Side.CALLER, kind=LegKind.RTP, peer=Address("UDP", "203.0.113.4", 5060)
        )
        phone, victim = Phone(self.network), Phone(self.network, ("198.51.100.80", 7000))
        seen = self.offer(phone_sdp(host="198.51.100.80", port=7000), caller, PHONE)
        got = self.answer(phone_sdp(), PHONE, caller)
        for _ in range(200):
            phone.send(media_port(seen))
        self.assertEqual(len(victim.rtp), 50)
        victim.send(media_port(got))
        phone.send(media_port(seen))
        self.assertEqual(len(victim.rtp), 51)

    def test_this_machine_is_no_target(self) -> None:
        """A phone outside that names loopback, multicast or a name gets what its NAT gets."""
        for host in ("127.0.0.1", "239.1.1.1", "255.255.255.255", "victim.example"):
            caller = MediaLeg(
                side=Side.CALLER, kind=LegKind.RTP, peer=Address("UDP", "203.0.113.4", 5060)
            )
            phone = Phone(self.network)
            seen = self.offer(phone_sdp(host=host, port=5038), caller, PHONE)
            self.answer(phone_sdp(), PHONE, caller)
            phone.send(media_port(seen))
            self.assertEqual(self.network.lost, [], host)
            self.delete()

    def test_the_named_address_wins(self) -> None:
        """Who was quicker on another port of the phone's host loses the stream to the phone; what
        nobody agreed on settles nothing.
        """
        _, towards_phone, phone = self.call()
        quick = Phone(self.network, (PHONE_AT[0], 5555))
        quick.send(towards_phone, 77)
        self.assertFalse(self.user.told)
        quick.send(towards_phone)
        self.assertEqual(self.user.told, [("connected", Side.CALLEE)])
        nat = Phone(self.network, ("203.0.113.4", 62000))
        nat.send(media_port(self.got))
        self.assertEqual((len(quick.rtp), len(phone.rtp)), (1, 0))
        phone.send(towards_phone)
        quick.send(towards_phone)
        nat.send(media_port(self.got))
        self.assertEqual((len(quick.rtp), len(phone.rtp)), (1, 1))
        self.assertEqual(len(nat.rtp), 1)

    def test_everything_but_the_address_stays(self) -> None:
        """Codecs that the PBX has never heard of pass between phones."""
        strange = phone_sdp("98 18 101").replace(
            b"a=ptime:20", b"a=rtpmap:98 EVS/16000\r\na=fmtp:98 br=5.9-24.4\r\na=ptime:20"
        )
        seen = self.offer(strange, INSIDE, PHONE)
        self.assertIn(b"RTP/AVP 98 18 101\r\n", seen)
        self.assertIn(b"a=fmtp:98 br=5.9-24.4\r\n", seen)
        self.assertNotIn(b"198.51.100.20", seen)

    def test_circles_end(self) -> None:
        """Two calls wound up in each other do not run away with the machine."""
        towards_inside, towards_phone, phone = self.call()
        nat = Phone(self.network, ("203.0.113.4", 62000))
        nat.send(towards_inside)
        self.clock.advance(1.0)
        for _ in range(5000):
            phone.send(towards_phone)
        self.clock.advance(1.0)
        self.assertIn(("timeout", None), self.user.told)

    def test_no_port_left(self) -> None:
        """503, and nothing half open."""
        self.network.full = True
        error = self.refusal(self.engine.offer(SESSION, phone_sdp(), INSIDE, PHONE))
        self.assertEqual(error.status, 503)
        self.assertNothingLeft()

    def test_ip_versions(self) -> None:
        """A phone that answers with the other version would not be heard: 301."""
        self.offer(phone_sdp(), INSIDE, PHONE)
        six = phone_sdp().replace(b"c=IN IP4 198.51.100.20", b"c=IN IP6 2001:db8::1")
        error = self.refusal(self.engine.answer(SESSION, six, PHONE, INSIDE))
        self.assertEqual(error.warning, 301)
