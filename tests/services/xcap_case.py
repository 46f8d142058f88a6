"""An XCAP server on a database in memory, without HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pbx.events import DocumentChanged, Events
from pbx.interfaces import IHTTPLogin
from pbx.services.xcap import Documents, ServiceURIs, XCAPSettings
from pbx.services.xcap.server import Answer, Asked, XCAPServer
from pbx.sip.address import Address
from pbx.storage.memory import memory_database
from pbx.verdicts import Reply
from tests.services.presence_case import OneDomain

PEER = Address("TCP", "192.0.2.50", 40000)
LISTS = "application/resource-lists+xml"
RULES = "application/auth-policy+xml"
SERVICES = "application/rls-services+xml"
ELEMENT = "application/xcap-el+xml"
ATTRIBUTE = "application/xcap-att+xml"
FRIENDS = (
    b'<?xml version="1.0"?>\n<resource-lists xmlns="urn:ietf:params:xml:ns:resource-lists">\n'
    b'  <!-- mine -->\n  <list name="friends">\n    <entry uri="sip:1002@pbx.test"/>\n'
    b'    <entry uri="sip:1003@pbx.test"/>\n  </list>\n</resource-lists>\n'
)
INDEX = "resource-lists/users/sip:1001@pbx.test/index"


@implementer(IHTTPLogin)
class FakeLogin:
    """Everybody is who they say they are: the Authorization is the user."""

    def log_in(
        self,
        method: str,
        uri: str,
        authorization: Sequence[str],
        body: bytes,
        domain: str,
        peer: Address,
    ) -> str | Reply:
        if not authorization:
            return Reply(401, "", (("WWW-Authenticate", f'Digest realm="{domain}"'),))
        return authorization[0]


class XCAPCase(SynchronousTestCase):
    """``self.server``, as 1001 unless somebody else is named."""

    settings = XCAPSettings(max_document=4096, max_documents_per_user=3)

    def setUp(self) -> None:
        self.clock = Clock()
        self.database = memory_database(self.clock)
        self.wait(self.database.start())
        self.build()

    def build(self) -> None:
        """A new process on the same database."""
        self.events = Events()
        self.changes: list[DocumentChanged] = []
        self.events.subscribe(DocumentChanged, self.changes.append)
        self.documents = Documents(self.database, self.events, self.clock)
        services = ServiceURIs(self.documents, self.events)
        self.server = XCAPServer(self.settings, self.documents, services, FakeLogin(), OneDomain())
        self.wait(self.documents.start())
        self.changes.clear()

    def wait(self, awaitable: Any) -> Any:
        """The result of something that does not really wait; raises what it raised."""
        if not isinstance(awaitable, Deferred):
            awaitable = Deferred.fromCoroutine(awaitable)
        results: list[Any] = []
        awaitable.addBoth(results.append)
        self.assertEqual(len(results), 1)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def ask(self, method: str, uri: str, body: bytes = b"", kind: str = "", **about: Any) -> Answer:
        """One request; ``user`` asks."""
        path, _, query = uri.partition("?")
        user = about.pop("user", "1001@pbx.test")
        answer: Answer = self.wait(
            self.server.answer(
                Asked(
                    method=method,
                    uri=f"/xcap-root/{uri}",
                    path=path,
                    query=query,
                    peer=PEER,
                    authorization=(user,) if user else (),
                    content_type=kind,
                    body=body,
                    **about,
                )
            )
        )
        return answer

    def put(self, uri: str = INDEX, body: bytes = FRIENDS, kind: str = LISTS, **about: Any) -> int:
        return self.ask("PUT", uri, body, kind, **about).status

    def get(self, uri: str = INDEX, **about: Any) -> bytes | int:
        """The body, or the status of a refusal."""
        answer = self.ask("GET", uri, **about)
        return answer.body if answer.status == 200 else answer.status

    def conflict(self, answer: Answer) -> str:
        """The element of a 409 that says why."""
        self.assertEqual(answer.status, 409, answer.body)
        return (
            answer.body.decode().partition("><xcap:")[2].partition(">")[0].split(" ")[0].strip("/")
        )


def etag(answer: Answer) -> str:
    return dict(answer.headers)["ETag"]
