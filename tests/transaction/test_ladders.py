"""Every ladder ``tests/ladders/tx_*.txt`` against the bare transaction layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.ladder import Ladder
from tests.transaction.system import LayerSystem

LADDERS = Path(__file__).parent.parent / "ladders"


class LadderTests(SynchronousTestCase):
    """One test per file."""


def _test_of(path: Path) -> Callable[[LadderTests], None]:
    def test(self: LadderTests) -> None:
        ladder = Ladder.read(path)
        ladder.play(LayerSystem({name: actor.address for name, actor in ladder.actors.items()}))

    return test


for _path in sorted(LADDERS.glob("tx_*.txt")):
    setattr(LadderTests, f"test_{_path.stem}", _test_of(_path))
