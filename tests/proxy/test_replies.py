from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pbx.interfaces import IServerTransaction
from pbx.proxy.replies import Replier
from pbx.sip.message import Request, Response
from pbx.verdicts import Reply
from tests.fakes import FakeFlow, request


@implementer(IServerTransaction)
class Asked:
    """A transaction that keeps its response."""

    def __init__(self, asked: Request) -> None:
        self.request = asked
        self.flow = FakeFlow()
        self.arrived = 0.0
        self.status = 0
        self.tags: list[str | None] = []

    def respond(self, response: Response) -> None:
        self.status = response.status
        self.tags.append(response.to.tag)

    def respond_statelessly(
        self, status: int, reason: str, headers: Sequence[tuple[str, str]]
    ) -> None:
        self.status = status
        self.stateless = reason, headers


class ToTagTests(SynchronousTestCase):
    """RFC 3261 section 8.2.6.2."""

    def test_chosen_by_who_begins_a_dialog(self) -> None:
        asked = Asked(request("SUBSCRIBE sip:1002@pbx.test"))
        Replier().respond(asked, Reply(200, to_tag="ours"))
        self.assertEqual(asked.tags, ["ours"])

    def test_made_up_otherwise(self) -> None:
        asked = Asked(request("SUBSCRIBE sip:1002@pbx.test"))
        replier = Replier()
        replier.respond(asked, Reply(480))
        replier.respond(asked, Reply(480))
        self.assertEqual(len({tag for tag in asked.tags if tag}), 2)


class StatelessTests(SynchronousTestCase):
    """RFC 3261 section 8.2.7: the tag is the transaction's business."""

    def test_headers(self) -> None:
        asked = Asked(request("REGISTER sip:pbx.test"))
        replier = Replier("pbx")
        replier.respond(asked, Reply(401, headers=(("X", "1"),), stateless=True))
        self.assertEqual((asked.status, asked.tags, replier.sent), (401, [], 1))
        self.assertEqual(asked.stateless, ("", (("X", "1"), ("Server", "pbx"))))
