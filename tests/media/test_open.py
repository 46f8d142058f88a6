"""Which engine a setting names."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pbx.config import ConfigError, settings
from pbx.media.open import EngineParts, open_engine
from pbx.media.settings import MediaSettings
from pbx.timing import TimerWheel


def parts(engine: str) -> EngineParts:
    clock = Clock()
    return EngineParts(
        settings=MediaSettings(engine=engine),
        advertise="",
        reactor=clock,
        timers=TimerWheel(clock),
        source_towards=lambda host: "192.0.2.1",
        local_addresses=lambda: frozenset(("192.0.2.1",)),
        folder=Path("/nowhere"),
    )


class EngineTests(SynchronousTestCase):
    def test_none(self) -> None:
        """No engine is a choice."""
        self.assertIsNone(open_engine(parts("none")))

    def test_unknown_name(self) -> None:
        """Whoever mistypes it reads what there is."""
        error = self.assertRaises(ValueError, open_engine, parts("nativ"))
        self.assertIn("'nativ': not a media engine; known: none", str(error))

    def test_native(self) -> None:
        """The one in this process takes no address."""
        engine = open_engine(parts("native"))
        assert engine is not None
        self.assertEqual((engine.name, engine.outlives_us), ("native", False))
        self.assertRaises(ValueError, open_engine, parts("native:udp:192.0.2.1:1"))

    def test_none_takes_no_address(self) -> None:
        """What follows a name is never ignored."""
        self.assertRaises(ValueError, open_engine, parts("none:udp:192.0.2.1:22222"))

    def test_relays(self) -> None:
        """Their addresses are checked before anything is started."""
        for good in (
            "rtpproxy:embedded",
            "rtpproxy:udp:127.0.0.1:22222",
            "rtpengine:udp:[::1]:2223",
        ):
            engine = open_engine(parts(good))
            assert engine is not None
            self.assertEqual(engine.name, good.partition(":")[0])
        for bad in (
            "rtpproxy",
            "rtpproxy:udp:localhost:22222",
            "rtpengine:tcp:127.0.0.1:2223",
            "rtpengine:udp:127.0.0.1",
            "rtpengine:udp:127.0.0.1:0",
            "rtpengine:udp:127.0.0.1:x",
        ):
            self.assertRaises(ValueError, open_engine, parts(bad))


class SettingsTests(SynchronousTestCase):
    def test_ports(self) -> None:
        """A range that holds no port is a fault of the file."""
        self.assertRaises(ConfigError, settings, MediaSettings, {"port_min": 30000}, "media")
        self.assertRaises(ConfigError, settings, MediaSettings, {"port_max": 65536}, "media")

    def test_address(self) -> None:
        """Browsers and phones need an address, not a name."""
        error = self.assertRaises(
            ConfigError, settings, MediaSettings, {"address": "pbx.example"}, "media"
        )
        self.assertEqual(str(error), "[media] address: 'pbx.example' is no IP address")
