"""Parts that the transport tests share."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.task import Clock
from zope.interface import implementer

from pbx.interfaces import IFlow, ITransportUser, IWireTap
from pbx.sip.address import Address
from pbx.sip.errors import MalformedMessage
from pbx.sip.message import Message
from pbx.timing import TimerWheel
from pbx.transport.connection import Connections
from pbx.transport.delivery import Delivery
from pbx.transport.settings import TransportSettings
from pbx.transport.udp import UDPPort

OPTIONS = (
    b"OPTIONS sip:pbx.test SIP/2.0\r\n"
    b"Via: SIP/2.0/TCP phone.test:5070;branch=z9hG4bK-1;rport\r\n"
    b"Max-Forwards: 70\r\n"
    b"From: <sip:1001@pbx.test>;tag=a\r\n"
    b"To: <sip:pbx.test>\r\n"
    b"Call-ID: call-1\r\n"
    b"CSeq: 1 OPTIONS\r\n"
    b"Content-Length: 0\r\n\r\n"
)


@implementer(ITransportUser)
class Recorder:
    """Keeps what was delivered."""

    def __init__(self) -> None:
        self.messages: list[tuple[Message, IFlow]] = []
        self.malformed: list[tuple[MalformedMessage, IFlow]] = []
        self.closed: list[IFlow] = []

    def message_received(self, message: Message, flow: IFlow) -> None:
        self.messages.append((message, flow))

    def malformed_received(self, error: MalformedMessage, flow: IFlow) -> None:
        self.malformed.append((error, flow))

    def flow_closed(self, flow: IFlow) -> None:
        self.closed.append(flow)

    @property
    def lines(self) -> Sequence[str]:
        return [message.start_line for message, _ in self.messages]


@implementer(IWireTap)
class Tap:
    """Keeps what was seen on the wire: whether it was sent, the peer, the bytes."""

    def __init__(self) -> None:
        self.seen: list[tuple[bool, Address, bytes]] = []

    def message_seen(self, sent: bool, flow: IFlow, data: bytes) -> None:
        self.seen.append((sent, flow.peer, data))


def connections(
    clock: Clock, user: Recorder, settings: TransportSettings | None = None
) -> Connections:
    delivery = Delivery()
    delivery.user = user
    return Connections(settings or TransportSettings(), TimerWheel(clock), delivery, clock.seconds)


class FakeReactor:
    """Reads for nobody, and notes whether somebody wants to write."""

    def __init__(self) -> None:
        self.writing = False

    def addReader(self, reader: object) -> None:
        """It reads when it is told to."""

    def removeReader(self, reader: object) -> None:
        """It does not any more."""

    def addWriter(self, writer: object) -> None:
        self.writing = True

    def removeWriter(self, writer: object) -> None:
        self.writing = False


def udp_port(made: Connections, reactor: FakeReactor) -> UDPPort:
    """A listener on a free port, with what these connections have."""
    return UDPPort(
        Address("UDP", "127.0.0.1", 0),
        ("pbx.test", 5060),
        made.settings,
        reactor,  # type: ignore[arg-type]
        made.delivery,
        None,  # type: ignore[arg-type]
    )
