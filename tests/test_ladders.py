"""Every ladder ``tests/ladders/pbx_*.txt`` against the whole PBX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.ladder import Ladder
from tests.whole import WholeSystem

LADDERS = Path(__file__).parent / "ladders"
#: What may not be left when no timer is.
HELD = ("tm:inuse_transactions", "tm:finished_transactions", "pbx:pending_invites")


class LadderTests(SynchronousTestCase):
    """One test per file."""


def _test_of(path: Path) -> Callable[[LadderTests], None]:
    def test(self: LadderTests) -> None:
        ladder = Ladder.read(path)
        system = WholeSystem({name: actor.address for name, actor in ladder.actors.items()})
        self.addCleanup(system.close)
        ladder.play(system)
        if system.timers_left() == 0:
            left = {name: system.statistics()[name] for name in HELD}
            self.assertEqual(left, dict.fromkeys(HELD, 0))

    return test


for _path in sorted(LADDERS.glob("pbx_*.txt")):
    setattr(LadderTests, f"test_{_path.stem}", _test_of(_path))
