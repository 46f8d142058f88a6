"""Loading, checking and swapping the routing policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from pbx.proxy.coroutines import run
from pbx.registry import Registry
from pbx.routing.loader import PolicyError, ReloadablePolicy, load
from pbx.verdicts import Arrival, Reply, Verdict
from tests.fakes import FakeFlow, request

POLICY = """
from zope.interface import implementer
from pbx.interfaces import IRoutingPolicy
from pbx.verdicts import Reply

@implementer(IRoutingPolicy)
class Policy:
    def __init__(self, registry):
        pass

    async def route_request(self, request, arrival):
        return Reply({status})
"""


class LoaderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.registry = Registry()

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def fault(self, text: str) -> str:
        """What is said of a policy with this text, without the path."""
        self.write(text)
        error = self.assertRaises(PolicyError, load, self.path, self.registry)
        said = str(error)
        self.assertTrue(said.startswith(str(self.path)), said)
        self.assertNotIn("\n", said)
        return said.removeprefix(str(self.path))

    def test_faults_are_one_line_with_the_place(self) -> None:
        """Design contract: file, what is wrong, where."""
        self.assertTrue(self.fault("x = 1\ndef (").startswith(":2: "))
        self.assertEqual(self.fault("x = 1"), ": there is no class Policy")
        self.assertEqual(self.fault("import nonsense_module")[:22], ":1: ModuleNotFoundErro")
        self.assertIn("route_request", self.fault("class Policy:\n    def __init__(self, r): pass"))
        self.assertTrue(
            self.fault("class Policy:\n    def __init__(self, r): 1 / 0").startswith(":2: Zero")
        )

    def test_missing_file(self) -> None:
        error = self.assertRaises(PolicyError, load, self.path, self.registry)
        self.assertEqual(str(error), f"{self.path}: cannot be read: No such file or directory")

    def answer(self, policy: ReloadablePolicy) -> Verdict:
        verdicts: list[Verdict] = []
        arrival = Arrival(flow=FakeFlow(), peer=FakeFlow().peer)
        coroutine: Any = policy.route_request(request("OPTIONS sip:pbx.test"), arrival)
        run(coroutine, verdicts.append, self.fail)
        return verdicts[0]

    def reload(self, policy: ReloadablePolicy) -> None:
        self.successResultOf(Deferred.fromCoroutine(policy.reload()))

    def test_reload(self) -> None:
        """Architecture section 6: the new file counts from the next request on."""
        self.write(POLICY.format(status=480))
        policy = ReloadablePolicy(self.path, self.registry, self.registry.building)
        self.assertEqual(self.answer(policy), Reply(480))
        self.write(POLICY.format(status=486))
        self.reload(policy)
        self.assertEqual(self.answer(policy), Reply(486))

    def test_bad_reload_keeps_the_old_policy(self) -> None:
        """Architecture section 6: the error goes to the log and to whoever asked."""
        self.write(POLICY.format(status=480))
        policy = ReloadablePolicy(self.path, self.registry, self.registry.building)
        self.write("def (")
        self.failureResultOf(Deferred.fromCoroutine(policy.reload()), PolicyError)
        self.assertEqual(self.answer(policy), Reply(480))


class CoroutineTests(SynchronousTestCase):
    """`pbx.proxy.coroutines.run`."""

    def setUp(self) -> None:
        self.done: list[object] = []
        self.failed: list[BaseException] = []

    def test_at_once(self) -> None:
        async def work() -> int:
            return 1

        run(work(), self.done.append, self.failed.append)
        self.assertEqual(self.done, [1])

    def test_later(self) -> None:
        waited: Deferred[int] = Deferred()

        async def work() -> int:
            return await waited + 1

        run(work(), self.done.append, self.failed.append)
        self.assertEqual(self.done, [])
        waited.callback(1)
        self.assertEqual(self.done, [2])

    def test_failure_reaches_the_coroutine(self) -> None:
        waited: Deferred[int] = Deferred()

        async def work() -> str:
            try:
                await waited
            except KeyError:
                return "mended"
            return "unreached"

        run(work(), self.done.append, self.failed.append)
        waited.errback(KeyError())
        self.assertEqual(self.done, ["mended"])

    def test_raises(self) -> None:
        async def work() -> None:
            raise KeyError("x")

        run(work(), self.done.append, self.failed.append)
        self.assertIsInstance(self.failed[0], KeyError)

    def test_awaits_nonsense(self) -> None:
        """An asyncio future would never come back."""

        class Nonsense:
            def __await__(self) -> Any:
                yield 1

        async def work() -> None:
            await Nonsense()

        run(work(), self.done.append, self.failed.append)
        self.assertIsInstance(self.failed[0], TypeError)
