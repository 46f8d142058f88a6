"""The way up that all transports share: stamp, count, hand to the transaction layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

from twisted.logger import Logger
from zope.interface import classImplements

from pbx.gate import OpenGate
from pbx.interfaces import IFlow, IGuard, ISource, IStatistics, ITransportUser, IWire, IWireTap
from pbx.sip.errors import MalformedMessage, MalformedURI, SIPError
from pbx.sip.message import Message, Request
from pbx.sip.via import mark_received


class Delivery:
    """Whom messages go to, who else looks at them, and how many there were.

    ``watch`` is called with (sent, flow, data) for every message on the wire, and is None while
    nobody taps. Whatever goes wrong above is logged here and harms no other message.
    """

    log: ClassVar = Logger(__name__)

    def __init__(self) -> None:
        #: Set before anything listens.
        self.guard: IGuard = OpenGate()
        self.user: ITransportUser | None = None
        self.watch: Callable[[bool, IFlow, bytes], object] | None = None
        self._taps: tuple[IWireTap, ...] = ()
        self.requests = 0
        self.replies = 0
        self.malformed = 0
        self.bad_uris = 0
        self.bad_replies = 0
        #: Messages of connections; what is not of these came by UDP.
        self.streamed = {"TCP": 0, "TLS": 0, "WS": 0, "WSS": 0}
        self.keep_alives = 0
        self.datagrams = 0
        self.sent = 0
        self.send_failures = 0
        self.refused = 0
        self.aborted = 0

    # IWire

    def tap(self, tap: IWireTap) -> None:
        """Show it every message from now on."""
        self._taps = (*self._taps, tap)
        self.watch = self._show

    def untap(self, tap: IWireTap) -> None:
        """No longer."""
        self._taps = tuple(other for other in self._taps if other is not tap)
        if not self._taps:
            self.watch = None

    def _show(self, sent: bool, flow: IFlow, data: bytes) -> None:
        for tap in self._taps:
            try:
                tap.message_seen(sent, flow, data)
            except Exception:
                self.log.failure("a tap failed on a message of {peer}", peer=flow.peer)

    # The way up

    def message_received(
        self, message: Message, flow: IFlow, source: ISource | None = None
    ) -> None:
        """Deliver a message after stamping ``received`` and ``rport`` (18.2.1), unless its source
        is a stranger who is not let in.
        """
        user = self.user
        if user is None:
            return
        try:
            if isinstance(message, Request):
                self.requests += 1
                if source is not None and source.stranger and not source.meets(message):
                    return
                try:
                    mark_received(message, flow.peer)
                except MalformedMessage as error:
                    self.malformed += 1
                    user.malformed_received(error, flow)
                    return
            else:
                self.replies += 1
            user.message_received(message, flow)
        except Exception:
            self.log.failure("a message from {peer} could not be handled", peer=flow.peer)

    def malformed_received(self, error: MalformedMessage, flow: IFlow) -> None:
        """Deliver the news that bytes were no message."""
        self.malformed += 1
        if isinstance(error, MalformedURI):
            self.bad_uris += 1
        elif error.request is None:
            self.bad_replies += 1
        user = self.user
        if user is None:
            return
        try:
            request = error.request
            if request is not None:
                try:
                    mark_received(request, flow.peer)
                except SIPError:
                    error.request = None
            user.malformed_received(error, flow)
        except Exception:
            self.log.failure("bad bytes from {peer} could not be handled", peer=flow.peer)

    def flow_closed(self, flow: IFlow) -> None:
        """Deliver the news that a connection is gone."""
        if self.user is None:
            return
        try:
            self.user.flow_closed(flow)
        except Exception:
            self.log.failure("the end of {peer} could not be handled", peer=flow.peer)

    def by_transport(self) -> Iterator[tuple[tuple[str], int]]:
        """Messages received by each transport."""
        streamed = self.streamed
        received = self.requests + self.replies + self.malformed
        yield ("udp",), max(received - sum(streamed.values()), 0)
        for transport, count in streamed.items():
            yield (transport.lower(),), count

    def statistics(self) -> Mapping[str, int]:
        """Counters by the reference's names where it has any."""
        return {
            "core:rcv_requests": self.requests,
            "core:rcv_replies": self.replies,
            "core:bad_msg_hdr": self.malformed,
            "core:bad_URIs_rcvd": self.bad_uris,
            "core:err_replies": self.bad_replies,
            "net:rcv_datagrams": self.datagrams,
            "net:keep_alives": self.keep_alives,
            "net:sent_messages": self.sent,
            "net:send_failures": self.send_failures,
            "net:refused_connections": self.refused,
            "net:aborted_connections": self.aborted,
        }


classImplements(Delivery, IStatistics, IWire)
