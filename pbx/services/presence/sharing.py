"""What the nodes of a cluster tell each other: publications, and calls for busy lamps.

Every node holds everything that is published and knows every call, so that a watcher sees the same
wherever it subscribed. A subscription belongs to the node that it came to; when that one dies, the
leader of the others goes on with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pbx.errors import DatabaseError
from pbx.events import (
    CallAnswered,
    CallEnded,
    CallFailed,
    CallRestored,
    CallRinging,
    NewsLost,
    NodeChanged,
)
from pbx.interfaces import ICluster, IDialog, IEvents, INode, ITimers
from pbx.services.presence.dialog_info import DialogPackage, Ending
from pbx.services.presence.publications import Publication, Publications
from pbx.services.presence.subscription import Package

#: Longest document that is told; others are read from the database a little later.
MOST_TOLD = 3000
#: Seconds until what a node wrote behind is in the database, and until a dead node's calls go.
WRITTEN, GONE = 3.0, 10.0
#: Seconds that an entity tag which is not valid any more may still be in the database.
OUTDATED = 60.0


class ToldCall:
    """A call that another node relays; what `IDialog` has of it that a lamp shows."""

    __slots__ = (
        "call_id",
        "correlation",
        "did",
        "doubtful",
        "from_display",
        "from_tag",
        "from_uri",
        "node",
        "profiles",
        "request_uri",
        "to_tag",
    )

    def __init__(self, did: str, node: INode) -> None:
        self.did = did
        self.node = node
        #: Its end may have been told and not been heard.
        self.doubtful = False
        self.profiles: Mapping[str, str] = {}
        self.call_id = self.correlation = self.from_tag = self.to_tag = ""
        self.from_uri = self.request_uri = self.from_display = ""

    def update(self, told: list[Any]) -> None:
        """Take over what was told, in the order of `_facts`."""
        (
            self.correlation,
            self.call_id,
            self.from_tag,
            self.to_tag,
            self.from_uri,
            self.request_uri,
            self.from_display,
        ) = map(str, told[:7])
        self.profiles = {"lb": ""} if told[7] else {}


def _facts(call: IDialog) -> list[object]:
    return [
        call.correlation,
        call.call_id,
        call.from_tag,
        call.to_tag,
        call.from_uri,
        call.request_uri,
        call.from_display,
        any(name.startswith("lb") for name in call.profiles),
    ]


class Sharing:
    """Tells the other nodes what happens here, and hears what happens there."""

    log = Logger()

    def __init__(
        self,
        cluster: ICluster,
        publications: Publications,
        packages: Mapping[str, Package],
        lamps: DialogPackage,
        events: IEvents,
        timers: ITimers,
    ) -> None:
        self._cluster = cluster
        self._publications = publications
        self._packages = packages
        self._lamps = lamps
        self._timers = timers
        self._calls: dict[str, ToldCall] = {}
        self._own: dict[str, tuple[IDialog, str]] = {}
        self._looks_soon = False
        self._outdated: set[str] = set()
        self._adopt: Callable[[str], Awaitable[int]] | None = None
        self._look: Callable[[], Awaitable[None]] | None = None
        publications.tell(self._published)
        for topic, handler in (
            ("published", self._heard_published),
            ("withdrawn", self._heard_withdrawn),
            ("lamp", self._heard_calls),
            ("lamps", self._heard_question),
        ):
            cluster.listen(topic, handler)
        events.subscribe(CallRinging, lambda event: self._call(event.dialog, "early"))
        events.subscribe(CallAnswered, lambda event: self._call(event.dialog, "confirmed"))
        events.subscribe(CallRestored, lambda event: self._call(event.dialog, "confirmed"))
        events.subscribe(CallFailed, lambda event: self._ended(event.dialog, Ending.of(event)))
        events.subscribe(CallEnded, lambda event: self._ended(event.dialog, Ending.of(event)))
        events.subscribe(NodeChanged, self._node_changed)
        events.subscribe(NewsLost, lambda event: self._news_lost())

    def start(
        self, adopt: Callable[[str], Awaitable[int]], look: Callable[[], Awaitable[None]]
    ) -> None:
        """Ask what the others know. ``adopt(node)`` goes on with the subscriptions of a dead node,
        ``look()`` reads what is published.
        """
        self._adopt, self._look = adopt, look
        self._cluster.publish("lamps", 0)

    # Publications

    def _published(self, publication: Publication | None, old: str) -> None:
        self._is_outdated(old)
        if publication is None:
            self._cluster.publish("withdrawn", old)
            return
        short = len(publication.body) <= MOST_TOLD
        told = [
            old,
            publication.etag,
            publication.package,
            publication.presentity,
            publication.sender,
            publication.content_type,
            publication.expires,
            publication.received,
            publication.body.decode("latin-1") if short else None,
        ]
        self._cluster.publish("published", told)

    def _heard_published(self, node: INode, told: Any) -> None:
        old, etag, package, presentity, sender, content_type, expires, received, body = told
        self._is_outdated(str(old))
        known = self._packages.get(package)
        if known is None or not known.publishable:
            return
        if body is None:
            self._look_soon()
            return
        publication = Publication(
            package, str(presentity), str(body).encode("latin-1"), str(content_type), str(sender)
        )
        publication.etag = str(etag)
        publication.expires, publication.received = float(expires), float(received)
        self._publications.heard(publication, str(old))

    def _heard_withdrawn(self, node: INode, etag: Any) -> None:
        self._is_outdated(str(etag))
        self._publications.heard_removed(str(etag))

    def found(self, publication: Publication) -> None:
        """It is in the database; perhaps still, and somebody told of its end."""
        if publication.etag not in self._outdated:
            self._publications.heard(publication, publication.etag)

    def _is_outdated(self, etag: str) -> None:
        if etag and etag not in self._outdated:
            self._outdated.add(etag)
            self._timers.call_later(OUTDATED, self._outdated.discard, etag)

    def _look_soon(self) -> None:
        if not self._looks_soon:
            self._looks_soon = True
            self._timers.call_later(WRITTEN, self._look_now)

    def _look_now(self) -> None:
        self._looks_soon = False
        if self._look is not None:
            Deferred.fromCoroutine(self._looked(self._look))

    async def _looked(self, look: Callable[[], Awaitable[None]]) -> None:
        try:
            await look()
        except DatabaseError as error:
            self.log.warn("what is published elsewhere stays unknown: {why}", why=error.message)

    # Calls

    def _call(self, call: IDialog, state: str) -> None:
        if not self._lamps.shows(call.did):
            return
        if self._calls.pop(call.did, None) is not None:
            # Taken over from a node that is dead.
            self._lamps.replace(call)
        self._own[call.did] = (call, state)
        self._cluster.publish("lamp", [[call.did, state, *_facts(call)]])

    def _ended(self, call: IDialog, ending: Ending) -> None:
        if self._own.pop(call.did, None) is not None:
            told = [call.did, "terminated", ending.by, ending.why, ending.code]
            self._cluster.publish("lamp", [told])

    def _heard_question(self, node: INode, body: Any) -> None:
        told = [[did, state, *_facts(call)] for did, (call, state) in self._own.items()]
        if told:
            self._cluster.publish("lamp", told)

    def _heard_calls(self, node: INode, told: Any) -> None:
        for did, state, *facts in told:
            if did in self._own:
                continue
            if state == "terminated":
                by, why, code = facts
                self._forget(str(did), Ending(str(by), str(why), int(code)))
                continue
            call = self._calls.get(did)
            if call is None:
                call = self._calls[str(did)] = ToldCall(str(did), node)
            call.node, call.doubtful = node, False
            call.update(facts)
            self._lamps.told(call, "early" if state == "early" else "confirmed")

    def _forget(self, did: str, ending: Ending) -> None:
        call = self._calls.pop(did, None)
        if call is not None:
            self._lamps.ended(did, ending)

    # Nodes

    def _news_lost(self) -> None:
        self._look_soon()
        for call in self._calls.values():
            call.doubtful = True
        self._cluster.publish("lamps", 0)
        self._timers.call_later(GONE, self._drop)

    def _node_changed(self, event: NodeChanged) -> None:
        if event.alive:
            self._cluster.publish("lamps", 0)
            return
        for call in self._calls.values():
            call.doubtful = call.doubtful or call.node is event.node
        self._timers.call_later(GONE, self._drop)
        if self._cluster.leads() and self._adopt is not None:
            Deferred.fromCoroutine(self._go_on(self._adopt, event.node.name))

    def _drop(self) -> None:
        """Calls that nobody spoke of again."""
        for did in [did for did, call in self._calls.items() if call.doubtful]:
            self._forget(did, Ending("pbx"))

    async def _go_on(self, adopt: Callable[[str], Awaitable[int]], node: str) -> None:
        try:
            count = await adopt(node)
        except DatabaseError as error:
            self.log.warn("who watched at {node} is unknown: {why}", node=node, why=error.message)
            return
        self.log.info("took over {count} subscriptions of node {node}", count=count, node=node)
