"""Start and stop of the whole PBX."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pbx.config import ConfigError
from pbx.interfaces import IStartable
from pbx.lifecycle import Lifecycle
from pbx.storage.open import open_database
from pbx.transport.listeners import ListenFailed


@implementer(IStartable)
class Part:
    """Writes down what happens to it; starts when ``ready`` has fired."""

    def __init__(self, name: str, story: list[str]) -> None:
        self.name = name
        self.story = story
        self.ready: Deferred[None] = Deferred()

    async def start(self) -> None:
        await self.ready
        self.story.append(f"{self.name} started")

    async def stop(self) -> None:
        self.story.append(f"{self.name} stopped")


class LifecycleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.story: list[str] = []
        self.one, self.two = Part("one", self.story), Part("two", self.story)

        async def welcome() -> None:
            self.story.append("welcome")

        database = open_database("memory:", Clock())
        self.lifecycle = Lifecycle(database, [self.one, self.two], welcome)

    def test_order(self) -> None:
        """Architecture section 5: stopped in the reverse order of the start."""
        self.one.ready.callback(None)
        self.two.ready.callback(None)
        self.successResultOf(self.lifecycle.startService())
        self.successResultOf(self.lifecycle.stopService())
        self.assertEqual(
            self.story, ["one started", "two started", "welcome", "two stopped", "one stopped"]
        )

    def test_stop_while_starting(self) -> None:
        """The start ends where it is, without a failure, and only then the stop begins."""
        started = self.lifecycle.startService()
        stopped = self.lifecycle.stopService()
        self.assertNoResult(stopped)
        self.one.ready.callback(None)
        self.successResultOf(started)
        self.successResultOf(stopped)
        self.assertEqual(self.story, ["one started", "one stopped"])

    def test_failed_start(self) -> None:
        """What an operator can mend comes as ConfigError, and what did start is stopped."""
        self.one.ready.callback(None)
        self.two.ready.errback(ListenFailed("udp:5060: in use"))
        failure = self.failureResultOf(self.lifecycle.startService(), ConfigError)
        self.assertEqual(str(failure.value), "udp:5060: in use")
        self.successResultOf(self.lifecycle.stopService())
        self.assertEqual(self.story, ["one started", "one stopped"])
