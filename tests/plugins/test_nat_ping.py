from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

import plugins
from pbx.commands import CommandFailed
from pbx.config import ConfigError
from pbx.events import Events, Unregistered
from pbx.interfaces import (
    ICommands,
    IDomains,
    IEvents,
    IFlow,
    IFlows,
    IPBXPlugin,
    IRegistrar,
    IStartable,
    IStatistics,
    IUserAgent,
)
from pbx.registry import Registry
from pbx.sip.address import Address
from pbx.sip.message import Request, Response, response_to
from pbx.sip.uri import URI
from pbx.verdicts import Arrival, Reply, Target
from plugins.nat_ping import INatPing, NatPinger, NatPingPlugin
from tests.fakes import LOCAL, FakeFlow, FakeFlows


@implementer(IRegistrar)
class FakeRegistrar:
    """Lists what a test puts there."""

    def __init__(self) -> None:
        self.targets: list[tuple[str, Target]] = []
        self.removed: list[tuple[str, str]] = []
        self.nated_only = True

    async def save(self, request: Request, arrival: Arrival) -> Reply:
        return Reply(200)

    def lookup(self, uri: URI, method: str = "") -> Sequence[Target]:
        return ()

    def is_registered(self, uri: URI) -> bool:
        return False

    def bindings(self, aor: str = "") -> Sequence[Mapping[str, Any]]:
        return ()

    def remove(self, aor: str, contact: str = "") -> int:
        self.removed.append((aor, contact))
        return 1

    def pingable(self, nated_only: bool = True) -> Iterable[tuple[str, Target]]:
        self.nated_only = nated_only
        return iter(list(self.targets))


@implementer(IUserAgent)
class FakeUserAgent:
    """Answers with ``status``; 0 is silence."""

    def __init__(self) -> None:
        self.status = 200
        self.requests: list[tuple[Request, IFlow | None, float | None]] = []

    async def send(
        self,
        request: Request,
        uri: URI | None = None,
        flow: IFlow | None = None,
        timeout: float | None = None,
    ) -> Response:
        self.requests.append((request, flow, timeout))
        response = response_to(request, self.status or 408)
        response.local = not self.status
        return response


@implementer(IDomains)
class FakeDomains:
    def is_local(self, host: str) -> bool:
        return host == "pbx.test"

    def canonical(self, host: str) -> str:
        return host

    def names(self) -> Sequence[str]:
        return ("pbx.test",)


class NatPingTests(SynchronousTestCase):
    """Spec 30 section 12 and oddity O8."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.flows = FakeFlows()
        self.registrar = FakeRegistrar()
        self.user_agent = FakeUserAgent()
        self.events = Events()

    def use(self, **table: object) -> None:
        registry = Registry()
        with registry.building():
            registry.provide(IEvents, self.events)
            registry.provide(IDomains, FakeDomains())
            registry.provide(IRegistrar, self.registrar)
            registry.provide(IFlows, self.flows)
            registry.provide(IUserAgent, self.user_agent)
            NatPingPlugin().provide(registry, self.clock, table)
            found = INatPing(registry)
        assert isinstance(found, NatPinger)
        self.pinger = found
        self.done(self.pinger.start())

    def done(self, awaitable: Awaitable[None]) -> None:
        async def wait() -> None:
            await awaitable

        self.successResultOf(Deferred.fromCoroutine(wait()))

    def phone(self, number: int, transport: str = "UDP") -> Address:
        """One more phone behind a NAT; gives its public address."""
        address = Address(transport, f"203.0.113.{number}", 30000 + number)
        target = Target(
            URI.parse(f"sip:{number}@10.0.0.{number}"),
            next_hop=URI.parse(address.uri),
            behind_nat=True,
            socket=LOCAL,
        )
        self.registrar.targets.append((f"{number}@pbx.test", target))
        return address

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.1] * round(seconds * 10))

    def sent(self, address: Address) -> list[bytes]:
        flow = self.flows.flows.get(address)
        return [] if flow is None else flow.sent

    def test_found_by_its_name(self) -> None:
        found = {plugin.name for plugin in getPlugins(IPBXPlugin, plugins)}
        self.assertIn("nat_ping", found)

    def test_provides_what_it_promises(self) -> None:
        self.use()
        for interface in (IStartable, ICommands, IStatistics, INatPing):
            verifyObject(interface, self.pinger)

    def test_four_zero_bytes_once_per_interval(self) -> None:
        address = self.phone(1)
        self.use()
        self.pass_time(30)
        self.assertEqual(self.sent(address), [b"\0\0\0\0"] * 3)
        self.assertTrue(self.registrar.nated_only)
        self.assertEqual(self.pinger.statistics()["nat_ping:sent"], 3)

    def test_spread_over_the_interval(self) -> None:
        addresses = [self.phone(number) for number in range(1, 201)]
        self.use()
        self.pass_time(10)
        before = self.pinger.sent
        self.assertEqual(before, 200)
        seconds = []
        for _ in range(10):
            self.pass_time(1)
            seconds.append(self.pinger.sent - before)
            before = self.pinger.sent
        self.assertEqual(sum(seconds), 200)
        self.assertLessEqual(max(seconds), 25)
        self.assertEqual({len(self.sent(address)) for address in addresses}, {2})

    def test_many_at_once_in_handfuls(self) -> None:
        self.phone(1)
        self.registrar.targets *= 1200
        self.use()
        self.pass_time(0.1)
        self.assertEqual(self.pinger.sent, 500)
        self.pass_time(0.2)
        self.assertEqual(self.pinger.sent, 1200)

    def test_other_interval(self) -> None:
        address = self.phone(1)
        self.use(interval=30)
        self.pass_time(60)
        self.assertEqual(len(self.sent(address)), 2)

    def test_streams_only_when_told_and_open(self) -> None:
        address, closed = self.phone(1, "TCP"), self.phone(2, "TCP")
        flow = self.flows.flow(address)
        self.use()
        self.pass_time(10)
        self.assertEqual(flow.sent, [])
        self.use(ping_streams=True)
        self.pass_time(10)
        self.assertEqual(flow.sent, [b"\r\n\r\n"])
        self.assertNotIn(closed, self.flows.flows)

    def test_connection_of_the_binding(self) -> None:
        flow = FakeFlow(Address("TCP", "203.0.113.9", 4), Address("TCP", "192.0.2.1", 5060), "t")
        self.registrar.targets.append(("a@b", Target(URI.parse("sip:a@10.0.0.1"), flow=flow)))
        self.use(ping_streams=True)
        self.pass_time(10)
        self.assertEqual(flow.sent, [b"\r\n\r\n"])
        flow.close()
        self.pass_time(10)
        self.assertEqual(len(flow.sent), 1)

    def test_unknown_way_is_left_out(self) -> None:
        self.registrar.targets.append(("a@b", Target(URI.parse("sip:a@name.test"))))
        bad = Target(URI.parse("sip:a@10.0.0.1"), path=("<sip:edge.test",))
        self.registrar.targets.append(("a@b", bad))
        self.use()
        self.pass_time(20)
        self.assertEqual(self.pinger.sent, 0)

    def test_everybody(self) -> None:
        self.use(ping_nated_only=False)
        self.pass_time(1)
        self.assertFalse(self.registrar.nated_only)

    def test_options(self) -> None:
        """To the stored place, with the Contact as Request-URI and To."""
        address = self.phone(1)
        self.use(method="OPTIONS")
        self.pass_time(1)
        [(request, flow, timeout)] = self.user_agent.requests
        self.assertEqual(request.start_line, "OPTIONS sip:1@10.0.0.1 SIP/2.0")
        self.assertEqual(request.get("to"), "<sip:1@10.0.0.1>")
        self.assertEqual(request.get("from"), "<sip:pinger@pbx.test>")
        self.assertIs(flow, self.flows.flow(address))
        self.assertEqual(timeout, 3.0)
        self.assertEqual(self.sent(address), [])

    def test_silent_phone_is_removed(self) -> None:
        self.phone(1)
        self.use(method="OPTIONS", remove_on_timeout=True)
        self.user_agent.status = 0
        self.pass_time(20)
        self.assertEqual(self.registrar.removed, [])
        self.pass_time(10)
        self.assertEqual(self.registrar.removed, [("1@pbx.test", "sip:1@10.0.0.1")])
        self.assertEqual(self.pinger.statistics()["nat_ping:unanswered"], 3)

    def test_any_answer_counts(self) -> None:
        self.phone(1)
        self.use(method="OPTIONS", remove_on_timeout=True)
        for status in (0, 0, 486, 0, 0):
            self.user_agent.status = status
            self.pass_time(10)
        self.assertEqual(self.registrar.removed, [])

    def test_silent_phone_may_stay(self) -> None:
        self.phone(1)
        self.use(method="OPTIONS")
        self.user_agent.status = 0
        self.pass_time(60)
        self.assertEqual(self.registrar.removed, [])

    def test_what_was_lost_is_forgotten_with_the_contact(self) -> None:
        self.phone(1)
        self.use(method="OPTIONS", remove_on_timeout=True)
        self.user_agent.status = 0
        self.pass_time(20)
        self.events.publish(Unregistered("1@pbx.test", "sip:1@10.0.0.1", "expired"))
        self.pass_time(20)
        self.assertEqual(self.registrar.removed, [])

    def test_switched_off_and_on(self) -> None:
        """``nh_enable_ping`` (spec 40)."""
        address = self.phone(1)
        self.use()
        [(name, recipes, enable)] = self.pinger.commands()
        self.assertEqual(
            (name, [list(recipe) for recipe in recipes]), ("nh_enable_ping", [[], ["status"]])
        )
        self.assertEqual(enable(), {"Status": 1})
        self.assertEqual(enable(status="0"), "OK")
        self.pass_time(20)
        self.assertEqual(self.sent(address), [])
        self.assertEqual(enable(), {"Status": 0})
        self.assertEqual(enable(status=1), "OK")
        self.pass_time(10)
        self.assertEqual(len(self.sent(address)), 1)
        self.assertRaises(CommandFailed, enable, status="maybe")

    def test_stops(self) -> None:
        self.use()
        self.done(self.pinger.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bad_settings(self) -> None:
        self.assertRaises(ConfigError, self.use, interval=0)
        self.assertRaises(ConfigError, self.use, method="PING")
        self.assertRaises(ConfigError, self.use, max_pings_lost=0)
