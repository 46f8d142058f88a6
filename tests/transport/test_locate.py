"""RFC 3263 with a fake resolver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.names import dns
from twisted.names.error import DNSNameError, DNSServerError
from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.address import Address
from pbx.sip.errors import TransportFailed
from pbx.sip.uri import URI
from pbx.transport.locate import Locator, read_hosts, weighted
from pbx.transport.settings import DNSSettings


class FakeResolver:
    """Answers from a dictionary, at once, or not at all when ``silent``."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], list[Any]] = {}
        self.asked: list[tuple[str, int]] = []
        self.silent = False
        self.broken = False
        self.ttl = 60

    def add(self, name: str, *records: Any) -> None:
        for record in records:
            self.records.setdefault((name, record.TYPE), []).append(record)

    def _answer(self, name: str, kind: int) -> Deferred[Any]:
        self.asked.append((name, kind))
        if self.silent:
            return Deferred()
        if self.broken:
            return fail(DNSServerError())
        found = self.records.get((name, kind))
        if found is None:
            return fail(DNSNameError())
        headers = [dns.RRHeader(name.encode(), kind, ttl=self.ttl, payload=one) for one in found]
        return succeed((headers, [], []))

    def lookupNamingAuthorityPointer(self, name: str, timeout: Sequence[int]) -> Deferred[Any]:
        return self._answer(name, dns.NAPTR)

    def lookupService(self, name: str, timeout: Sequence[int]) -> Deferred[Any]:
        return self._answer(name, dns.SRV)

    def lookupAddress(self, name: str, timeout: Sequence[int]) -> Deferred[Any]:
        return self._answer(name, dns.A)

    def lookupIPV6Address(self, name: str, timeout: Sequence[int]) -> Deferred[Any]:
        return self._answer(name, dns.AAAA)


class LocateTestCase(SynchronousTestCase):
    listeners = (Address("UDP", "0.0.0.0", 5060), Address("TCP", "0.0.0.0", 5060))

    def setUp(self) -> None:
        self.clock = Clock()
        self.dns = FakeResolver()
        self.locator = Locator(
            DNSSettings(),
            cast("Any", self.dns),
            self.clock,
            {"localhost": ["127.0.0.1", "::1"]},
            lambda limit: 0,
        )
        self.locator.transports(self.listeners)

    def resolve(self, uri: str) -> list[str]:
        wait = Deferred.fromCoroutine(self.locator.resolve(URI.parse(uri)))
        return [str(address) for address in self.successResultOf(wait)]

    def fails(self, uri: str) -> None:
        wait = Deferred.fromCoroutine(self.locator.resolve(URI.parse(uri)))
        self.failureResultOf(wait, TransportFailed)


class AtOnceTests(LocateTestCase):
    def test_literals(self) -> None:
        """4.1, 4.2: a numeric host is used as it is, with the port or the default one."""
        for uri, expected in (
            ("sip:192.0.2.1", "udp:192.0.2.1:5060"),
            ("sip:192.0.2.1:5070", "udp:192.0.2.1:5070"),
            ("sip:192.0.2.1;transport=tcp", "tcp:192.0.2.1:5060"),
            ("sip:192.0.2.1;transport=TLS", "tls:192.0.2.1:5061"),
            ("sips:192.0.2.1", "tls:192.0.2.1:5061"),
            ("sips:192.0.2.1;transport=tcp", "tls:192.0.2.1:5061"),
            ("sips:192.0.2.1:9;transport=ws", "wss:192.0.2.1:9"),
            ("sip:192.0.2.1:40000;transport=ws", "ws:192.0.2.1:40000"),
            ("sip:[2001:DB8:0:0::1]:5070", "udp:[2001:db8::1]:5070"),
            ("sip:pbx.test;maddr=192.0.2.9", "udp:192.0.2.9:5060"),
        ):
            with self.subTest(uri):
                found = self.locator.locate(URI.parse(uri))
                assert found is not None
                self.assertEqual([str(address) for address in found], [expected])

    def test_no_way(self) -> None:
        for uri in ("tel:+4930", "sips:192.0.2.1;transport=udp", "sip:192.0.2.1;transport=pigeon"):
            with self.subTest(uri):
                self.assertEqual(self.locator.locate(URI.parse(uri)), ())
                self.fails(uri)

    def test_hosts_file(self) -> None:
        """Before DNS; only the families that we listen on."""
        self.assertEqual(self.resolve("sip:LOCALHOST"), ["udp:127.0.0.1:5060"])
        self.assertEqual(self.dns.asked, [])

    def test_unknown_name(self) -> None:
        self.assertIsNone(self.locator.locate(URI.parse("sip:pbx.test")))


class DNSTests(LocateTestCase):
    def test_naptr_decides_the_transport(self) -> None:
        """4.1: order, then preference; services that we do not speak are skipped."""
        self.dns.add(
            "pbx.test",
            dns.Record_NAPTR(30, 50, b"s", b"SIP+D2U", b"", b"_sip._udp.pbx.test"),
            dns.Record_NAPTR(20, 50, b"s", b"SIP+D2T", b"", b"_sip._tcp.pbx.test"),
            dns.Record_NAPTR(10, 50, b"s", b"SIP+D2S", b"", b"_sip._sctp.pbx.test"),
        )
        self.dns.add("_sip._udp.pbx.test", dns.Record_SRV(1, 0, 5080, b"a.pbx.test"))
        self.dns.add("_sip._tcp.pbx.test", dns.Record_SRV(1, 0, 5081, b"a.pbx.test"))
        self.dns.add("a.pbx.test", dns.Record_A("192.0.2.1"))
        self.assertEqual(self.resolve("sip:pbx.test"), ["tcp:192.0.2.1:5081", "udp:192.0.2.1:5080"])

    def test_sips_takes_tls_only(self) -> None:
        self.dns.add(
            "pbx.test",
            dns.Record_NAPTR(10, 50, b"s", b"SIP+D2U", b"", b"_sip._udp.pbx.test"),
            dns.Record_NAPTR(20, 50, b"s", b"SIPS+D2T", b"", b"_sips._tcp.pbx.test"),
        )
        self.dns.add("_sip._udp.pbx.test", dns.Record_SRV(1, 0, 5080, b"a.pbx.test"))
        self.dns.add("_sips._tcp.pbx.test", dns.Record_SRV(1, 0, 5081, b"a.pbx.test"))
        self.dns.add("a.pbx.test", dns.Record_A("192.0.2.1"))
        self.assertEqual(self.resolve("sips:pbx.test"), ["tls:192.0.2.1:5081"])
        # RFC 5922: the certificate shows the name that was asked for, not the one of SRV.
        self.assertEqual(self.locator.names_of(Address("TLS", "192.0.2.1", 5081)), ("pbx.test",))

    def test_srv_without_naptr(self) -> None:
        """4.1: every transport that we speak is asked for."""
        self.dns.add("_sip._tcp.pbx.test", dns.Record_SRV(1, 0, 5081, b"a.pbx.test"))
        self.dns.add("a.pbx.test", dns.Record_A("192.0.2.1"))
        self.assertEqual(self.resolve("sip:pbx.test"), ["tcp:192.0.2.1:5081"])

    def test_address_without_srv(self) -> None:
        self.dns.add("pbx.test", dns.Record_A("192.0.2.1"), dns.Record_A("192.0.2.2"))
        self.assertEqual(self.resolve("sip:pbx.test"), ["udp:192.0.2.1:5060", "udp:192.0.2.2:5060"])

    def test_port_forbids_srv(self) -> None:
        """4.2."""
        self.dns.add("_sip._udp.pbx.test", dns.Record_SRV(1, 0, 5080, b"a.pbx.test"))
        self.dns.add("pbx.test", dns.Record_A("192.0.2.1"))
        self.assertEqual(self.resolve("sip:pbx.test:5070"), ["udp:192.0.2.1:5070"])
        self.assertEqual(self.dns.asked, [("pbx.test", dns.A)])

    def test_transport_parameter_asks_for_its_srv_alone(self) -> None:
        self.dns.add("_sip._tcp.pbx.test", dns.Record_SRV(1, 0, 5081, b"a.pbx.test"))
        self.dns.add("a.pbx.test", dns.Record_A("192.0.2.1"))
        self.assertEqual(self.resolve("sip:pbx.test;transport=tcp"), ["tcp:192.0.2.1:5081"])
        self.assertNotIn(("pbx.test", dns.NAPTR), self.dns.asked)

    def test_ipv6_only_with_a_listener(self) -> None:
        self.dns.add("pbx.test", dns.Record_A("192.0.2.1"), dns.Record_AAAA("2001:db8::1"))
        self.assertEqual(self.resolve("sip:pbx.test:5060"), ["udp:192.0.2.1:5060"])
        self.locator.transports([*self.listeners, Address("UDP", "::", 5060)])
        self.assertEqual(
            self.resolve("sip:pbx.test:5060"), ["udp:192.0.2.1:5060", "udp:[2001:db8::1]:5060"]
        )

    def test_nothing(self) -> None:
        self.fails("sip:pbx.test")


class CacheTests(LocateTestCase):
    uri = URI.parse("sip:pbx.test:5060")

    def test_ttl(self) -> None:
        self.dns.add("pbx.test", dns.Record_A("192.0.2.1"))
        self.resolve(str(self.uri))
        self.clock.advance(59)
        self.assertIsNotNone(self.locator.locate(self.uri))
        self.assertEqual(len(self.dns.asked), 1)
        self.clock.advance(2)
        self.assertIsNone(self.locator.locate(self.uri))

    def test_absence_is_remembered(self) -> None:
        self.fails(str(self.uri))
        self.assertEqual(self.locator.locate(self.uri), ())
        self.clock.advance(29)
        self.fails(str(self.uri))
        self.assertEqual(len(self.dns.asked), 1)
        self.clock.advance(2)
        self.fails(str(self.uri))
        self.assertEqual(len(self.dns.asked), 2)

    def test_server_failure_is_remembered_shortly(self) -> None:
        self.dns.broken = True
        self.fails(str(self.uri))
        self.clock.advance(6)
        self.dns.broken = False
        self.dns.add("pbx.test", dns.Record_A("192.0.2.1"))
        self.assertEqual(self.resolve(str(self.uri)), ["udp:192.0.2.1:5060"])

    def test_silence_ends_after_the_time_limit(self) -> None:
        self.dns.silent = True
        wait = Deferred.fromCoroutine(self.locator.resolve(self.uri))
        again = Deferred.fromCoroutine(self.locator.resolve(self.uri))
        self.assertEqual(len(self.dns.asked), 1)
        self.clock.advance(4.9)
        self.assertNoResult(wait)
        self.clock.advance(0.2)
        self.failureResultOf(wait, TransportFailed)
        self.failureResultOf(again, TransportFailed)

    def test_bound(self) -> None:
        self.locator = Locator(
            DNSSettings(cache=10), cast("Any", self.dns), self.clock, {}, lambda limit: 0
        )
        for number in range(100):
            self.fails(f"sip:host{number}.test:5060")
        self.assertLessEqual(len(self.locator), 10)


class SRVTests(SynchronousTestCase):
    records = [
        dns.Record_SRV(20, 0, 5060, b"c"),
        dns.Record_SRV(10, 30, 5060, b"b"),
        dns.Record_SRV(10, 10, 5060, b"a"),
    ]

    def order(self, mark: int) -> list[bytes]:
        return [one.target.name for one in weighted(self.records, lambda limit: min(mark, limit))]

    def test_priority_then_weight(self) -> None:
        """RFC 2782: the running sum reaches the random number."""
        self.assertEqual(self.order(0), [b"b", b"a", b"c"])
        self.assertEqual(self.order(30), [b"b", b"a", b"c"])
        self.assertEqual(self.order(31), [b"a", b"b", b"c"])


class HostsTests(SynchronousTestCase):
    def test_file(self) -> None:
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("192.0.2.1 One one.test # comment\n#192.0.2.9 no\n2001:db8::1 one\nbad\n")
        from pathlib import Path

        found = read_hosts(Path(path))
        self.assertEqual(found["one"], ["192.0.2.1", "2001:db8::1"])
        self.assertEqual(found["one.test"], ["192.0.2.1"])
        self.assertEqual(found["localhost"], ["127.0.0.1", "::1"])
        self.assertNotIn("no", found)
