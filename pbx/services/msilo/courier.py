"""Brings one stored message to the phones of its owner (RFC 3428)."""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import formatdate
from enum import Enum
from itertools import groupby

from twisted.internet.defer import Deferred, gatherResults

from pbx.interfaces import IFlow, IFlows, IRegistrar, IUserAgent
from pbx.services.msilo.stored import StoredMessage, is_plain_text
from pbx.sip.errors import SIPError
from pbx.sip.message import Request
from pbx.sip.uri import URI
from pbx.verdicts import Target

#: Answers after which the same message may well arrive later; 408, 430 and 503 are also our own.
TRANSIENT = frozenset((408, 430, 480, 486, 500, 503, 504, 600))


class Outcome(Enum):
    """What became of a message."""

    DELIVERED = "a phone took it"
    UNREACHABLE = "no phone can be reached now"
    REFUSED = "the phones do not want it"
    AWAY = "there is no phone"


class Courier:
    """Sends stored messages to where the registrar says that their owner is."""

    def __init__(self, user_agent: IUserAgent, registrar: IRegistrar, flows: IFlows) -> None:
        self._user_agent = user_agent
        self._registrar = registrar
        self._flows = flows

    def is_registered(self, owner: URI) -> bool:
        """Whether it is worth trying."""
        return self._registrar.is_registered(owner)

    async def deliver(self, message: StoredMessage, date_in_body: bool) -> Outcome:
        """To all phones of the highest q that take it, as the proxy would have done (16.6)."""
        targets = self._registrar.lookup(message.owner, "MESSAGE")
        if not targets:
            return Outcome.AWAY
        failed: set[Outcome] = set()
        ordered = sorted(targets, key=lambda target: -target.q)
        for _, equal in groupby(ordered, key=lambda target: target.q):
            results = await self._to_all(message, date_in_body, list(equal))
            if Outcome.DELIVERED in results:
                return Outcome.DELIVERED
            failed.update(results)
        return Outcome.UNREACHABLE if Outcome.UNREACHABLE in failed else Outcome.REFUSED

    async def _to_all(
        self, message: StoredMessage, date_in_body: bool, targets: Sequence[Target]
    ) -> Sequence[Outcome]:
        devices: dict[str, list[Target]] = {}
        for at, target in enumerate(targets):
            devices.setdefault(target.instance or str(at), []).append(target)
        return await gatherResults(
            [
                Deferred.fromCoroutine(self._to_device(message, date_in_body, flows))
                for flows in devices.values()
            ],
            consumeErrors=True,
        )

    async def _to_device(
        self, message: StoredMessage, date_in_body: bool, flows: Sequence[Target]
    ) -> Outcome:
        """One flow of a device after the other: it must not get the message twice (RFC 5626)."""
        outcome = Outcome.REFUSED
        for target in flows:
            status = await self._send(message_to(target, message, date_in_body), target)
            if 200 <= status < 300:
                return Outcome.DELIVERED
            if status in TRANSIENT:
                outcome = Outcome.UNREACHABLE
        return outcome

    async def _send(self, request: Request, target: Target) -> int:
        flow, hop = target.flow, None
        if flow is not None and flow.closed and not target.flow_required:
            flow = None
        if flow is None and not target.path:
            hop = target.next_hop
            flow = self._from_socket(hop or target.uri, target)
        try:
            return (await self._user_agent.send(request, hop, flow)).status
        except SIPError as error:
            # A row that no request can be made of.
            return error.status

    def _from_socket(self, hop: URI, target: Target) -> IFlow | None:
        """By the listener that the phone knows: its NAT lets nobody else in."""
        addresses = self._flows.locate(hop) if target.socket is not None else None
        return self._flows.find(addresses[0], target.socket) if addresses else None


def message_to(target: Target, message: StoredMessage, date_in_body: bool) -> Request:
    """The MESSAGE for one phone; Date says when it was sent (RFC 3428 section 7)."""
    uri = target.uri
    if uri.headers or "method" in uri.params:
        uri = uri.replace(headers="", params=uri.params.without("method"))
    sent = formatdate(message.inc_time, usegmt=True)
    headers = [
        *(("Route", route) for route in target.path),
        ("From", f"<{message.src_addr}>"),
        ("To", f"<{message.dst_addr or message.owner}>"),
        ("Date", sent),
    ]
    if message.ctype:
        headers.append(("Content-Type", message.ctype))
    body = message.body
    if date_in_body and is_plain_text(message):
        body = f"[Offline message - {sent}] ".encode() + body
    request = Request.make("MESSAGE", uri, headers, body)
    for name, value in target.headers:
        request.set(name.lower(), value)
    return request
