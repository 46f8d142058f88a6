"""RFC 3261 section 16.7: branches and the response that wins."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.forking import COMPLETED_ELSEWHERE, Branch, ResponseContext, Step
from pbx.sip.message import Response, response_to
from pbx.sip.uri import URI
from pbx.verdicts import Target
from tests.fakes import request

INVITE = request("INVITE sip:1002@pbx.test")


def target(name: str, q: float = 1.0, instance: str = "") -> Target:
    return Target(URI.parse(f"sip:{name}@192.0.2.9"), q=q, instance=instance)


def response(status: int, *headers: tuple[str, str]) -> Response:
    return response_to(INVITE, status, headers=headers)


def users(branches: object) -> list[str]:
    assert isinstance(branches, (list, tuple))
    return [branch.target.uri.user for branch in branches]


class ForkingTestCase(SynchronousTestCase):
    def fork(self, *targets: Target, invite: bool = True, breadth: int = 60) -> ResponseContext:
        self.context = ResponseContext(targets, invite, breadth)
        self.started = list(self.context.start())
        return self.context

    def gets(self, branch: Branch | int, status: int, *headers: tuple[str, str]) -> Step:
        if isinstance(branch, int):
            branch = self.context.branches[branch]
        return self.context.received(branch, response(status, *headers))

    def best(self, *statuses: int) -> int:
        """The status that wins when each branch ends with one of these."""
        self.fork(*(target(str(at)) for at in range(len(statuses))))
        steps = [self.gets(at, status) for at, status in enumerate(statuses)]
        assert steps[-1].best is not None
        return steps[-1].best.status


class OrderTests(ForkingTestCase):
    def test_equal_q_in_parallel(self) -> None:
        """16.6: the target set of one q at once."""
        self.fork(target("a"), target("b"), target("c", 0.5))
        self.assertEqual(users(self.started), ["a", "b"])

    def test_lower_q_follows(self) -> None:
        """When all before failed, and not earlier."""
        self.fork(target("low", 0.1), target("a", 0.8), target("b", 0.8))
        self.assertEqual(users(self.gets(0, 486).start), [])
        self.assertEqual(users(self.gets(1, 480).start), ["low"])
        step = self.gets(2, 404)
        assert step.best is not None
        self.assertEqual(step.best.status, 404)

    def test_max_breadth_bounds_what_runs(self) -> None:
        """RFC 5393 section 5.3.3: three targets, two at once; the breadth is shared."""
        self.fork(target("a"), target("b"), target("c"), breadth=2)
        self.assertEqual(users(self.started), ["a", "b"])
        self.assertEqual([branch.breadth for branch in self.started], [1, 1])
        self.gets(0, 486)
        self.assertEqual(users(self.gets(1, 486).start), ["c"])

    def test_breadth_is_divided(self) -> None:
        """RFC 5393 section 5.3.3: the sum over the branches is what came in."""
        self.fork(target("a"), target("b"), target("c"))
        self.assertEqual(sum(branch.breadth for branch in self.started), 60)

    def test_no_breadth_left(self) -> None:
        self.fork(target("a"), breadth=0)
        self.assertEqual(self.started, [])

    def test_flows_of_one_device(self) -> None:
        """RFC 5626 section 5.3: alternates are tried one after the other, not forked."""
        self.fork(target("flow1", instance="i"), target("flow2", instance="i"), target("other"))
        self.assertEqual(users(self.started), ["flow1", "other"])
        self.assertEqual(users(self.gets(0, 430).start), ["flow2"])
        self.gets(1, 486)
        step = self.gets(2, 480)
        assert step.best is not None
        self.assertIn(step.best.status, (480, 486))

    def test_busy_device_is_not_rung_on_its_other_flow(self) -> None:
        """RFC 5626 section 5.3: alternates only when the flow failed."""
        for q in (1.0, 0.5):
            self.fork(target("flow1", instance="i"), target("flow2", q, instance="i"))
            step = self.gets(0, 486)
            assert step.best is not None
            self.assertEqual((step.best.status, users(list(step.start))), (486, []))


class SuccessTests(ForkingTestCase):
    def test_first_2xx_wins(self) -> None:
        """16.7 step 5 and 10: forwarded at once, the others cancelled with the reason."""
        self.fork(target("a"), target("b"), target("c", 0.5))
        step = self.gets(1, 200)
        assert step.forward is not None
        self.assertEqual(step.forward.status, 200)
        self.assertEqual(users(step.cancel), ["a"])
        self.assertEqual(step.reason, COMPLETED_ELSEWHERE)
        self.assertIsNone(self.gets(0, 487).best)
        self.assertEqual(users(self.gets(0, 487).start), [])

    def test_second_2xx_of_an_invite_is_forwarded(self) -> None:
        self.fork(target("a"), target("b"))
        self.gets(0, 200)
        self.assertIsNotNone(self.gets(1, 200).forward)

    def test_second_2xx_of_another_method_is_not(self) -> None:
        """16.7 step 5: at most one final response for a non-INVITE."""
        self.fork(target("a"), target("b"), invite=False)
        self.gets(0, 200)
        self.assertIsNone(self.gets(1, 200).forward)

    def test_retransmitted_2xx(self) -> None:
        """RFC 6026 section 7.2."""
        self.fork(target("a"))
        self.gets(0, 200)
        self.assertIsNotNone(self.gets(0, 200).forward)

    def test_provisionals(self) -> None:
        """16.7 step 5: all but 100, and none after the decision."""
        self.fork(target("a"), target("b"))
        self.assertIsNone(self.gets(0, 100).forward)
        self.assertIsNotNone(self.gets(0, 180).forward)
        self.gets(1, 200)
        self.assertIsNone(self.gets(0, 183).forward)


class FailureTests(ForkingTestCase):
    def test_best_response(self) -> None:
        """16.7 step 6."""
        self.assertEqual(self.best(486, 302), 302)
        self.assertEqual(self.best(486, 503), 486)
        self.assertEqual(self.best(408, 486), 486)
        self.assertEqual(self.best(404, 484), 484)
        self.assertEqual(self.best(500, 408), 500)
        self.assertEqual(self.best(408, 503), 408)
        self.assertEqual(self.best(486, 480), 480)
        self.assertEqual(self.best(603, 302, 404), 603)
        self.assertEqual(self.best(404, 401, 407), 401)

    def test_6xx_cancels_the_others(self) -> None:
        """16.7 step 5: nothing new is started, and the 6xx waits for the others."""
        self.fork(target("a"), target("b"), target("c", 0.5))
        step = self.gets(0, 603)
        self.assertEqual(users(step.cancel), ["b"])
        self.assertIsNone(step.best)
        step = self.gets(1, 487)
        assert step.best is not None
        self.assertEqual((step.best.status, step.start), (603, ()))

    def test_2xx_after_6xx(self) -> None:
        """16.7 step 5: a 2xx that crosses the CANCEL is still forwarded."""
        self.fork(target("a"), target("b"))
        self.gets(0, 603)
        self.assertIsNotNone(self.gets(1, 200).forward)

    def test_merged_challenges(self) -> None:
        """16.7 step 7."""
        self.fork(target("a"), target("b"), target("c"))
        self.gets(0, 407, ("Proxy-Authenticate", 'Digest realm="a"'))
        self.gets(1, 401, ("WWW-Authenticate", 'Digest realm="b"'))
        best = self.gets(2, 404).best
        assert best is not None
        self.assertEqual(best.status, 401)
        self.assertEqual(best.get_all("www-authenticate"), ['Digest realm="b"'])
        self.assertEqual(best.get_all("proxy-authenticate"), ['Digest realm="a"'])

    def test_cancel(self) -> None:
        """16.10: the 487 of a cancelled branch wins, and no lower q is tried."""
        self.fork(target("a"), target("b"), target("c", 0.5))
        self.gets(0, 486)
        self.assertEqual(users(self.context.cancel()), ["b"])
        step = self.gets(1, 487)
        assert step.best is not None
        self.assertEqual((step.best.status, step.start), (487, ()))
