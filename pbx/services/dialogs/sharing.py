"""Calls in a cluster: whose they are, and what happens when a node dies or is passed by."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pbx.errors import DatabaseError
from pbx.events import NodeChanged
from pbx.interfaces import ICluster, IEvents, INode
from pbx.services.dialogs.call import Call
from pbx.sip.message import Request
from pbx.verdicts import Arrival


class Keeper(Protocol):
    """The dialogs service."""

    def restore(self, node: str = "") -> Awaitable[int]:
        """Take over what a node left in the table."""

    def ended_elsewhere(self, did: str, call_id: str, from_tag: str) -> None:
        """The BYE of this call went by way of another node."""


class Ownership:
    """A call belongs to the node that its INVITE came to, until that one dies.

    Any node routes requests within any call, by Record-Route alone. Only the owner knows when it
    has ended, so it is told of a BYE that another node saw.
    """

    log = Logger()

    def __init__(self, cluster: ICluster, keeper: Keeper, events: IEvents) -> None:
        self.name = cluster.name
        self._cluster = cluster
        self._keeper = keeper
        cluster.listen("bye", self._bye_heard)
        events.subscribe(NodeChanged, self._node_changed)

    def takes(self, call: Call, node: str) -> bool:
        """Whether a row is ours to go on with: our own, or the one of a dead ``node``."""
        if call.node and call.node != self.name:
            # Once it is known by name it is missed, if it is dead.
            self._cluster.node(call.node)
        return call.node == node if node else call.node in ("", self.name)

    def bye_passed(self, request: Request, arrival: Arrival) -> None:
        """A BYE along our route, of a call that we do not know."""
        did = arrival.own_route.get("did") if arrival.own_route is not None else ""
        if did:
            self._cluster.publish("bye", [did, request.call_id, request.from_.tag or ""])

    def _bye_heard(self, node: INode, body: Any) -> None:
        did, call_id, from_tag = map(str, body)
        self._keeper.ended_elsewhere(did, call_id, from_tag)

    def _node_changed(self, event: NodeChanged) -> None:
        if not event.alive and self._cluster.leads():
            Deferred.fromCoroutine(self._adopt(event.node.name))

    async def _adopt(self, node: str) -> None:
        try:
            count = await self._keeper.restore(node)
        except DatabaseError as error:
            self.log.warn("calls of {node} stay unknown: {error}", node=node, error=error.message)
            return
        self.log.info("took over {count} calls of node {node}", count=count, node=node)
