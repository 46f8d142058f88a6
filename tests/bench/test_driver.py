"""The operations that are counted and timed, on a whole PBX."""

from __future__ import annotations

import gc

from twisted.trial.unittest import SynchronousTestCase

from bench.driver import driver


class OperationTests(SynchronousTestCase):
    def test_nothing_for_the_collector(self) -> None:
        """None leaves a cycle behind: reference counts give all memory back at once."""
        with driver(4) as made:
            for name, operation in made.operations().items():
                for _ in range(8):
                    # Whatever is made once has been made.
                    operation()
                gc.collect()
                gc.disable()
                try:
                    for _ in range(8):
                        operation()
                    self.assertEqual((name, gc.collect()), (name, 0))
                finally:
                    gc.enable()
