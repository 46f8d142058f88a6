"""How late the reactor comes back, and whose fault it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

import plugins
from pbx.config import ConfigError, settings
from pbx.interfaces import IPBXPlugin
from pbx.management.commands import Commands
from plugins.heartbeat import Heartbeat, HeartbeatSettings, Spread, Waiting

INTERVAL = 0.005


class Thread(Waiting):
    """What a kernel would say of us."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.used = self.waited = 0.0

    def __call__(self) -> float:
        return self.waited

    def turn(self, wall: float, cpu: float = 0.0, waited: float = 0.0) -> None:
        """A turn of the reactor that takes this long, and then whatever is due."""
        self.used += cpu
        self.waited += waited
        self.clock.advance(wall)


class HeartbeatTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.thread = Thread(self.clock)
        self.heart = Heartbeat(
            HeartbeatSettings(),
            self.clock,
            self.clock.seconds,
            lambda: self.thread.used,
            self.thread,
        )
        self.successResultOf(Deferred.fromCoroutine(self.heart.start()))

    def report(self, **named: object) -> Any:
        return self.heart.report(**named)

    def longest(self) -> tuple[float, float, float]:
        found = self.report()
        return found["Late"]["longest"], found["CPU"]["longest"], found["Waited"]["longest"]

    def test_in_time(self) -> None:
        """However much it works: it is there when its time comes."""
        for _ in range(10):
            self.thread.turn(INTERVAL, cpu=0.004)
        self.assertEqual(self.report()["Beats"], 10)
        self.assertEqual(self.longest(), (0.0, 0.0, 0.0))

    def test_long_turn(self) -> None:
        """25 ms of work are 20 ms late, and all of it is ours."""
        self.thread.turn(0.025, cpu=0.025)
        self.assertEqual(self.longest(), (20.0, 20.0, 0.0))

    def test_others_had_the_core(self) -> None:
        """Of the CPU that was used no more counts than could have been in the way."""
        self.thread.turn(0.025, cpu=0.003, waited=0.018)
        self.assertEqual(self.longest(), (20.0, 3.0, 18.0))

    def test_hypervisor(self) -> None:
        """Late for no reason that the kernel knows."""
        self.thread.turn(0.045)
        self.assertEqual(self.longest(), (40.0, 0.0, 0.0))

    def test_percentiles(self) -> None:
        for at in range(1000):
            self.thread.turn(INTERVAL + (0.0302 if at == 500 else 0.00125 if at % 50 == 0 else 0))
        late = self.report()["Late"]
        self.assertEqual((late["99%"], late["99.9%"], late["longest"]), (1.3, 1.3, 30.2))
        self.assertLessEqual(late["50%"], 0.1)

    def test_reset(self) -> None:
        """The answer is that of before."""
        self.thread.turn(0.025)
        self.assertEqual(self.report(reset="1")["Beats"], 1)
        self.assertEqual(self.report()["Beats"], 0)
        self.thread.turn(INTERVAL)
        self.report(reset=0)
        self.assertEqual(self.report()["Beats"], 1)

    def test_stop(self) -> None:
        """Nothing is left on the reactor."""
        self.successResultOf(Deferred.fromCoroutine(self.heart.stop()))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.successResultOf(Deferred.fromCoroutine(self.heart.stop()))

    def test_command(self) -> None:
        commands = Commands()
        commands.add(self.heart)
        request = b'{"jsonrpc": "2.0", "id": 1, "method": "heartbeat", "params": {"reset": 1}}'
        answer = self.successResultOf(Deferred.fromCoroutine(_whole(commands, request)))
        self.assertIn(b'"Beats":0', answer)


async def _whole(commands: Commands, request: bytes) -> bytes:
    answer = await commands.handle(request)
    assert answer is not None
    return answer


class SpreadTests(SynchronousTestCase):
    def test_nothing(self) -> None:
        self.assertEqual(Spread().milliseconds()["longest"], 0.0)
        self.assertEqual(Spread().within(99), 0.0)

    def test_beyond_its_memory(self) -> None:
        """A second is longer than all buckets."""
        spread = Spread()
        spread.add(1.0)
        spread.add(-1.0)
        self.assertEqual(spread.within(100), 1.0)
        self.assertEqual(spread.milliseconds()["longest"], 1000.0)


class WaitingTests(SynchronousTestCase):
    def test_of_the_kernel(self) -> None:
        path = Path(self.mktemp())
        path.write_text("123456789 2500000000 17\n")
        waiting = Waiting(str(path))
        self.assertEqual((waiting(), waiting()), (2.5, 2.5))
        waiting.close()
        waiting.close()

    def test_no_such_kernel(self) -> None:
        """Another system, or another format: nothing is said, nothing fails."""
        self.assertEqual(Waiting("/nonexistent/schedstat")(), 0.0)
        path = Path(self.mktemp())
        for text in ("", "1", "a b c"):
            path.write_text(text)
            waiting = Waiting(str(path))
            self.assertEqual(waiting(), 0.0)
            waiting.close()


class SettingsTests(SynchronousTestCase):
    def test_interval(self) -> None:
        for bad in (0, 0.0005, 2, "5 ms"):
            with self.assertRaises(ConfigError) as caught:
                settings(HeartbeatSettings, {"interval": bad}, "heartbeat")
            self.assertIn("interval", str(caught.exception))
        self.assertEqual(settings(HeartbeatSettings, {}, "heartbeat").interval, INTERVAL)

    def test_found(self) -> None:
        """As a plugin, off until it is named."""
        self.assertIn("heartbeat", [plugin.name for plugin in getPlugins(IPBXPlugin, plugins)])
