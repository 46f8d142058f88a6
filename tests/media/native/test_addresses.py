"""Which address of ours a peer is told."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pbx.errors import MediaFailed
from pbx.legs import LegKind
from pbx.media.native.addresses import Addresses, Place
from pbx.media.networks import (
    INSIDE,
    OUTSIDE,
    connection_host,
    is_behind_nat,
    is_inside,
    zone,
)

SOURCES = {"10.0.0.5": "10.0.0.1", "198.51.100.7": "10.0.0.1", "2001:db8::7": "2001:db8::1"}
LOCAL = frozenset(("127.0.0.1", "::1", "10.0.0.1", "172.17.0.1", "2001:db8::1"))


def addresses(public: str = "") -> Addresses:
    return Addresses(public, lambda peer: SOURCES.get(peer, ""), lambda: LOCAL)


class PlaceTests(SynchronousTestCase):
    def test_as_it_is(self) -> None:
        """The address that the peer sees anyway."""
        for kind in LegKind:
            self.assertEqual(addresses().place("10.0.0.5", kind), Place("10.0.0.1", "10.0.0.1"))

    def test_public(self) -> None:
        """Behind a 1:1 NAT peers outside are told the public address, browsers the real one too."""
        place = addresses("203.0.113.9").place("198.51.100.7", LegKind.WEBRTC)
        self.assertEqual(place, Place("10.0.0.1", "203.0.113.9", ("10.0.0.1",)))

    def test_neighbours(self) -> None:
        """They are told the real one, as the router may not turn round."""
        place = addresses("203.0.113.9").place("10.0.0.5", LegKind.RTP)
        self.assertEqual(place, Place("10.0.0.1", "10.0.0.1"))

    def test_ip_versions_do_not_mix(self) -> None:
        """A public IPv4 address is of no use to an IPv6 peer."""
        place = addresses("203.0.113.9").place("2001:db8::7", LegKind.RTP)
        self.assertEqual(place.told, "2001:db8::1")

    def test_names_are_no_addresses(self) -> None:
        """[sip] advertise may be a name: browsers and phones need an address."""
        place = addresses("pbx.example").place("198.51.100.7", LegKind.RTP)
        self.assertEqual(place.told, "10.0.0.1")

    def test_browser_on_this_machine(self) -> None:
        """It may use any interface, also when it came by localhost in IPv6 or by a proxy."""
        for peer in ("127.0.0.1", "::1"):
            place = addresses("203.0.113.9").place(peer, LegKind.WEBRTC)
            self.assertEqual(place.bind, "0.0.0.0")
            self.assertEqual(place.told, "127.0.0.1")
            self.assertEqual(place.others, ("203.0.113.9", "10.0.0.1", "172.17.0.1"))

    def test_no_route(self) -> None:
        """503."""
        error = self.assertRaises(MediaFailed, addresses().place, "192.0.2.9", LegKind.RTP)
        self.assertEqual(error.status, 503)


class NetworkTests(SynchronousTestCase):
    def test_inside(self) -> None:
        """RFC 1918, 6598, 4193, link-local and loopback; the world and names are not."""
        for host in ("10.1.2.3", "192.168.0.1", "100.64.0.1", "169.254.1.1", "127.0.0.1"):
            self.assertTrue(is_inside(host), host)
        for host in ("fd00::1", "fe80::1%eth0", "::1"):
            self.assertTrue(is_inside(host), host)
        for host in ("192.0.2.1", "198.51.100.1", "2001:db8::1", "pbx.example", ""):
            self.assertFalse(is_inside(host), host)

    def test_behind_a_nat(self) -> None:
        """A private address that packets do not come from; a media server beside its PBX is none."""
        self.assertTrue(is_behind_nat("10.0.0.5", "198.51.100.7", False))
        self.assertTrue(is_behind_nat("10.0.0.5", "192.168.1.1", True))
        self.assertFalse(is_behind_nat("10.0.0.5", "10.0.0.6", False))
        self.assertFalse(is_behind_nat("10.0.0.5", "10.0.0.5", True))
        self.assertFalse(is_behind_nat("203.0.113.5", "198.51.100.7", True))
        self.assertFalse(is_behind_nat("2001:0db8::7", "2001:db8:0::7", True))

    def test_zones(self) -> None:
        """Who can send to whom."""
        self.assertEqual(zone("10.0.0.5", "10.0.0.5", False), INSIDE)
        self.assertEqual(zone("", "198.51.100.7", False), OUTSIDE)
        self.assertEqual(zone("10.0.0.5", "198.51.100.7", True), "198.51.100.7")

    def test_connection(self) -> None:
        """The first c= line, whatever follows."""
        self.assertEqual(connection_host(b"v=0\r\nc=IN IP4 10.0.0.5\r\nt=0 0\r\n"), "10.0.0.5")
        self.assertEqual(connection_host(b"v=0\nc=IN IP6 fd00::5/64"), "fd00::5")
        for bad in (b"", b"c=IN IP4 1.2.3.4", b"v=0\nc=IN IP4", b"v=0\nc=IN IP4 \n", b"\xff" * 9):
            self.assertEqual(connection_host(bad), "")
        self.assertEqual(connection_host(b"\nc=IN IP4 \xff\xfe"), "\ufffd\ufffd")
