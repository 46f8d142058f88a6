"""Limits and bans, with a fake clock."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Iterable
from math import inf
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pbx.commands import CommandFailed
from pbx.config import ConfigError, settings
from pbx.events import AuthenticationFailed, Events
from pbx.gate import OpenGate
from pbx.interfaces import ICommands, IGuard, ISource, IStartable, IStatistics, ITrusted
from pbx.services.guard import Guard, GuardSettings, KnownHosts
from pbx.services.guard.bans import MAX_OFFENDERS
from pbx.services.guard.sources import name_of
from pbx.sip.address import Address
from pbx.storage.memory import memory_database
from tests.fakes import request

NOW = 1_790_000_000
ATTACKER, OFFICE, NODE = "198.51.100.7", "192.0.2.50", "203.0.113.5"

ResultT = TypeVar("ResultT")


@implementer(ITrusted)
class Nodes:
    def trusted_hosts(self) -> Iterable[str]:
        return (NODE, "2001:db8:9::5")


class GuardTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.database = memory_database(self.clock)
        self.done(self.database.start())
        self.use()

    def use(self, **options: Any) -> None:
        """A guard with these settings, as after a restart."""
        self.events = Events()
        found = settings(GuardSettings, options, "guard")
        self.guard = Guard(
            found, self.database, self.events, self.clock, lambda: [Nodes()], ["192.0.2.80"]
        )
        self.done(self.guard.start())

    def done(self, awaitable: Awaitable[ResultT]) -> ResultT:
        async def wait() -> ResultT:
            return await awaitable

        return self.successResultOf(Deferred.fromCoroutine(wait()))

    def fail(self, host: str = ATTACKER, times: int = 1) -> None:  # type: ignore[override]
        for _ in range(times):
            self.guard.failed(host, "1001", "wrong password", "udp")

    def send(self, host: str, messages: int = 1) -> int:
        """How many of so many messages are let in, as a UDP listener does it."""
        source = self.guard.source(host)
        self.held = source
        let_in = 0
        for _ in range(messages):
            source.tokens -= 1
            if source.tokens < 0 and source.wait():
                source.tokens += 1
            else:
                let_in += 1
        return let_in

    def mi(self, name: str, *arguments: object) -> Any:
        function = next(f for n, _, f in self.guard.commands() if n == name)
        return function(*arguments)


class InterfaceTests(GuardTestCase):
    def test_provides_what_it_promises(self) -> None:
        for interface in (IGuard, IStartable, ICommands, IStatistics):
            verifyObject(interface, self.guard)
        verifyObject(IGuard, OpenGate())
        for guard in (self.guard, OpenGate()):
            verifyObject(ISource, guard.source(OFFICE))

    def test_faults(self) -> None:
        for options in (
            {"allow": ["192.0.2.1/24"]},
            {"ban_time": 0.0},
            {"burst": 0},
            {"max_failures": -1},
        ):
            with self.assertRaises(ConfigError):
                settings(GuardSettings, options, "guard")


class NameTests(SynchronousTestCase):
    def test_names(self) -> None:
        """IPv4 by address, IPv6 by /64; mapped and link-local addresses are what they mean."""
        for host, name in (
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("fe80::1%eth0", "fe80::/64"),
            ("::1", "::1"),
            ("no:address", "no:address"),
        ):
            self.assertEqual(name_of(host), name)


class RateTests(GuardTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.use(rate=10.0, burst=100)

    def test_burst_then_rate(self) -> None:
        """A full bucket at once, then what drips in; a quiet source fills it again."""
        self.assertEqual(self.send(ATTACKER, 150), 100)
        self.clock.advance(1)
        self.assertEqual(self.send(ATTACKER, 50), 10)
        self.clock.advance(3600)
        self.assertEqual(self.send(ATTACKER, 150), 100)
        self.assertEqual(self.guard.statistics()["guard:dropped_rate"], 50 + 40 + 50)

    def test_small_steps(self) -> None:
        """A flood that never pauses gets its rate, not nothing."""
        self.send(ATTACKER, 100)
        let_in = 0
        for _ in range(1000):
            self.clock.advance(0.01)
            let_in += self.send(ATTACKER, 3)
        self.assertTrue(98 <= let_in <= 101, let_in)

    def test_one_does_not_hurt_another(self) -> None:
        """Each address has its own; a /64 of IPv6 has one."""
        self.send(ATTACKER, 200)
        self.assertEqual(self.send(OFFICE, 50), 50)
        first = self.guard.source("2001:db8::1")
        self.assertIs(self.guard.source("2001:db8::2"), first)
        self.assertIsNot(self.guard.source("2001:db8:0:1::2"), first)

    def test_ours(self) -> None:
        """Loopback, nodes of the tables and proxies before us are not limited."""
        for host in ("127.0.0.1", "::1", "192.0.2.80", NODE, "2001:db8:9::5"):
            self.assertEqual(self.send(host, 300), 300, host)

    def test_debt(self) -> None:
        """A connection that brought much at once waits as long as it takes to earn it."""
        source = self.guard.source(ATTACKER)
        source.tokens -= 150
        self.assertEqual(source.wait(), 5.0)
        self.clock.advance(5)
        self.assertEqual(source.wait(), 0.0)

    def test_forgotten(self) -> None:
        """A source lives as long as the flows that hold it."""
        self.send(ATTACKER)
        self.assertEqual(self.guard.statistics()["guard:sources"], 1)
        del self.held
        self.assertEqual(self.guard.statistics()["guard:sources"], 0)

    def test_off(self) -> None:
        for options in ({"enabled": False}, {"rate": 0.0}):
            self.use(burst=10, **options)
            self.assertEqual(self.send(ATTACKER, 10_000), 10_000)


class FailureTests(GuardTestCase):
    def test_ban(self) -> None:
        """The twentieth failure is one too many; what comes then is not looked at."""
        self.fail(times=19)
        self.assertEqual(self.send(ATTACKER, 5), 5)
        self.fail()
        self.assertEqual(self.guard.banned(ATTACKER), 600.0)
        self.assertEqual(self.send(ATTACKER, 5), 0)
        self.assertEqual(self.guard.source(ATTACKER).wait(), inf)
        self.assertEqual(self.send(OFFICE, 5), 5)
        self.clock.advance(600)
        self.assertEqual(self.send(ATTACKER, 5), 5)

    def test_new_flow_of_banned_source(self) -> None:
        """Another port does not help."""
        self.fail(times=20)
        self.assertEqual(self.send(ATTACKER, 5), 0)
        del self.held
        self.assertEqual(self.send(ATTACKER, 5), 0)

    def test_window(self) -> None:
        """Failures of long ago do not count."""
        for _ in range(40):
            self.fail()
            self.clock.advance(60)
        self.assertEqual(self.guard.banned(ATTACKER), 0.0)

    def test_bans_grow(self) -> None:
        """Ten minutes, then three times as long each time, a day at most."""
        lengths = []
        for _ in range(7):
            self.fail(times=20)
            lengths.append(self.guard.banned(ATTACKER))
            self.clock.advance(lengths[-1] + 1)
        self.assertEqual(lengths, [600, 1800, 5400, 16200, 48600, 86400, 86400])

    def test_forgiven_after_a_day(self) -> None:
        self.fail(times=20)
        self.clock.advance(600)
        for _ in range(3000):
            self.clock.advance(30)
        self.fail(times=20)
        self.assertEqual(self.guard.banned(ATTACKER), 600.0)

    def test_office(self) -> None:
        """One wrong phone does not silence an office whose other phones log in."""
        self.guard.proved(OFFICE)
        self.fail(OFFICE, 199)
        self.assertEqual(self.guard.banned(OFFICE), 0.0)
        self.fail(OFFICE)
        self.assertGreater(self.guard.banned(OFFICE), 0)

    def test_ours(self) -> None:
        """Nobody can make us ban our own nodes, by their address in a forged packet."""
        for host in ("127.0.0.1", NODE, "192.0.2.80"):
            self.fail(host, 500)
            self.assertEqual(self.guard.banned(host), 0.0, host)

    def test_by_event(self) -> None:
        """What the authenticator tells counts."""
        peer = Address("TLS", ATTACKER, 40000)
        for _ in range(20):
            self.events.publish(AuthenticationFailed(peer, "1001", "pbx.test", "unknown user"))
        self.assertGreater(self.guard.banned(ATTACKER), 0)

    def test_bounded(self) -> None:
        """A hundred thousand addresses that fail once do not fill the memory."""
        for at in range(MAX_OFFENDERS + 5000):
            self.fail(f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}")
        self.assertLessEqual(len(self.mi("ban_list")["Failing"]), MAX_OFFENDERS)

    def test_line(self) -> None:
        """One line each; text of the attacker's cannot forge the host or a second line."""
        events: list[Any] = []

        @implementer(ILogObserver)
        def observe(event: Any) -> None:
            events.append(event)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.guard.failed(ATTACKER, 'x"\nfailed login: host=192.0.2.9', "unknown user", "ws")
        [event] = [e for e in events if "failed login" in (e.get("log_format") or "")]
        line = event["log_format"].format(**event)
        self.assertEqual(
            line,
            f"failed login: host={ATTACKER} transport=ws"
            ' user="x\\"\\nfailed login: host=192.0.2.9" reason="unknown user"',
        )


class StrangerTests(GuardTestCase):
    def ask(self, line: str = "REGISTER sip:pbx.test", agent: str = "Phone/1", n: int = 1) -> int:
        """How many of so many requests are let in."""
        source = self.guard.source(ATTACKER)
        self.held = source
        made = request(line, f"User-Agent: {agent}" if agent else "")
        let_in = 0
        for _ in range(n):
            if source.tokens >= 0 and source.stranger and source.meets(made):
                let_in += 1
        return let_in

    def test_scanner(self) -> None:
        """Known tools are out at once, whatever they ask."""
        self.assertEqual(self.ask("OPTIONS sip:100@192.0.2.1", "Friendly-Scanner"), 0)
        self.assertGreater(self.guard.banned(ATTACKER), 0)
        self.assertIn("friendly-scanner", self.mi("ban_list")["Bans"][0]["reason"])

    def test_phones(self) -> None:
        """Names of phones that sound alike are not meant."""
        for agent in ("Zoiper rv2.10", "eyeBeam release 1102q", "Linphone", "SIPp", "baresip", ""):
            self.assertEqual(self.ask(agent=agent), 1, agent)

    def test_asks_and_never_logs_in(self) -> None:
        """A scan under a false name, one extension after the other, never answering."""
        for _ in range(4):
            self.assertEqual(self.ask(agent="Phone", n=50), 50)
            self.clock.advance(2)
        self.assertEqual(self.ask(agent="Phone", n=50), 0)
        self.assertGreater(self.guard.banned(ATTACKER), 0)

    def test_office_starts(self) -> None:
        """A thousand phones at one address, before the first of them has logged in."""
        self.assertEqual(self.ask(agent="Phone", n=1000), 1000)
        self.guard.proved(ATTACKER)
        self.clock.advance(10)
        self.assertEqual(self.guard.banned(ATTACKER), 0.0)
        self.assertFalse(self.held.stranger)

    def test_monitor(self) -> None:
        """OPTIONS are asked by monitors for ever."""
        self.assertEqual(self.ask("OPTIONS sip:pbx.test", n=5000), 5000)

    def test_user(self) -> None:
        """Who logs in is no stranger, also after a while without a flow."""
        self.ask(n=2)
        self.guard.proved(ATTACKER)
        self.assertFalse(self.held.stranger)
        del self.held
        self.assertFalse(self.guard.source(ATTACKER).stranger)

    def test_slow(self) -> None:
        """Few requests in a long time are nobody's scan."""
        for _ in range(20):
            self.assertEqual(self.ask(n=100), 100)
            self.clock.advance(601)


class ManagementTests(GuardTestCase):
    def test_ban_and_unban(self) -> None:
        self.assertEqual(self.mi("ban", ATTACKER), {"source": ATTACKER, "seconds": 600})
        self.assertEqual(
            self.mi("ban_list")["Bans"],
            [{"source": ATTACKER, "seconds": 600, "bans": 1, "reason": "by the operator"}],
        )
        self.assertEqual(self.mi("unban", ATTACKER), {"unbanned": 1})
        self.assertEqual(self.send(ATTACKER, 5), 5)
        self.assertEqual(self.mi("ban_list")["Bans"], [])

    def test_unban_lets_in_at_once(self) -> None:
        """Also on a flow that was refused before."""
        self.fail(times=20)
        self.assertEqual(self.send(ATTACKER, 5), 0)
        self.mi("unban", "all")
        self.assertEqual(self.send(ATTACKER, 5), 5)

    def test_six(self) -> None:
        self.assertEqual(self.mi("ban", "2001:db8::7", "60")["source"], "2001:db8::/64")
        self.assertEqual(self.guard.banned("2001:db8::1"), 60.0)
        self.assertEqual(self.mi("unban", "2001:db8::/64"), {"unbanned": 1})

    def test_mistakes(self) -> None:
        for command, arguments in (
            ("ban", ("pbx.test",)),
            ("ban", ("192.0.2.0/24",)),
            ("ban", ("192.0.2.1", "soon")),
            ("ban", ("192.0.2.1", "-1")),
            ("ban", ("192.0.2.1", "nan")),
            ("ban", ("127.0.0.1",)),
            ("ban", (NODE,)),
            ("unban", ("192.0.2.1",)),
            ("unban", ("",)),
        ):
            with self.assertRaises(CommandFailed):
                self.mi(command, *arguments)
        self.assertEqual(self.mi("ban_list"), {"Bans": [], "Failing": []})

    def test_failing(self) -> None:
        self.fail(times=3)
        self.assertEqual(self.mi("ban_list")["Failing"], [{"source": ATTACKER, "failures": 3}])


class RestartTests(GuardTestCase):
    def test_restart(self) -> None:
        """Bans go on, also after kill -9 a few seconds later, and still grow."""
        self.fail(times=20)
        self.clock.advance(2)
        self.use()
        self.assertEqual(self.guard.banned(ATTACKER), 598.0)
        self.assertEqual(self.send(ATTACKER), 0)
        self.clock.advance(600)
        self.fail(times=20)
        self.assertEqual(self.guard.banned(ATTACKER), 1800.0)

    def test_offices(self) -> None:
        """Where phones are registered it is as patient as before."""
        known = KnownHosts(self.guard, lambda: [OFFICE])
        self.done(known.start())
        self.fail(OFFICE, 100)
        self.assertEqual(self.guard.banned(OFFICE), 0.0)
        self.assertFalse(self.guard.source(OFFICE).stranger)

    def test_lifted_ban(self) -> None:
        self.fail(times=20)
        self.clock.advance(2)
        self.mi("unban", ATTACKER)
        self.done(self.guard.stop())
        self.use()
        self.assertEqual(self.guard.banned(ATTACKER), 0.0)

    def test_bad_row(self) -> None:
        """Nonsense in the database is no reason not to start."""
        for value in ("{", "[[1]]", '[["a", "b", 1, ""]]', "7", json.dumps([None])):
            self.done(
                self.database.execute(
                    "INSERT INTO pbx_state (name, value) VALUES ('guard.bans', ?)"
                    " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                    (value,),
                )
            )
            self.use()
            self.assertEqual(self.mi("ban_list")["Bans"], [])

    def test_new_node(self) -> None:
        """An address that becomes a node of ours is let in within a minute."""
        self.fail(times=20)
        nodes = Nodes()
        nodes.trusted_hosts = lambda: (ATTACKER,)  # type: ignore[method-assign]
        self.guard._trusted = lambda: [nodes]
        self.clock.advance(31)
        self.assertEqual(self.guard.banned(ATTACKER), 0.0)
        self.assertEqual(self.send(ATTACKER, 3), 3)
