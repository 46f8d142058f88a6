"""What the transaction layer counts, under the names of the reference (spec: tm)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

#: Methods that are counted by name; whatever else peers make up is one more.
METHODS: Final = (
    "REGISTER",
    "INVITE",
    "BYE",
    "CANCEL",
    "OPTIONS",
    "MESSAGE",
    "SUBSCRIBE",
    "NOTIFY",
    "PUBLISH",
    "INFO",
    "UPDATE",
    "PRACK",
    "REFER",
)
OTHER: Final = "other"


class Counters:
    """Plain integers; `named` makes them readable."""

    __slots__ = (
        "absorbed_requests",
        "client",
        "finals",
        "late_responses",
        "received",
        "refused",
        "stateless",
        "stateless_acks",
        "relayed",
        "replies",
        "sent_retransmissions",
        "server",
        "stray",
        "timeouts",
        "transport_errors",
    )

    def __init__(self) -> None:
        self.received = 0
        self.replies = 0
        self.relayed = 0
        self.server = 0
        self.client = 0
        #: Final responses that we sent, by method and class.
        self.finals = {method: [0] * 7 for method in (*METHODS, OTHER)}
        self.absorbed_requests = 0
        self.late_responses = 0
        self.sent_retransmissions = 0
        self.stray = 0
        self.refused = 0
        #: Stateless answers by class, and the ACKs for them.
        self.stateless = [0] * 7
        self.stateless_acks = 0
        self.timeouts = 0
        self.transport_errors = 0

    def answered(self, method: str, status: int) -> None:
        """A request got its final response."""
        finals = self.finals
        (finals[method] if method in finals else finals[OTHER])[status // 100] += 1

    def answered_statelessly(self, method: str, status: int) -> None:
        """So did one of which nothing is kept."""
        self.replies += 1
        self.stateless[status // 100] += 1
        self.answered(method, status)

    def by_method(self) -> Iterator[tuple[str, int, int]]:
        """Method, class of status, and how many final responses of it there were."""
        for method, finals in self.finals.items():
            for of_class in range(2, 7):
                if finals[of_class]:
                    yield method, of_class, finals[of_class]

    def failed(self, status: int) -> None:
        """A client transaction ended without one."""
        if status == 408:
            self.timeouts += 1
        else:
            self.transport_errors += 1

    def named(self) -> dict[str, int]:
        """By name, without group."""
        finals = [sum(column) for column in zip(*self.finals.values(), strict=True)]
        return {
            "received_replies": self.received,
            "relayed_replies": self.relayed,
            "local_replies": self.replies - self.relayed,
            "UAS_transactions": self.server,
            "UAC_transactions": self.client,
            "2xx_transactions": finals[2],
            "3xx_transactions": finals[3],
            "4xx_transactions": finals[4],
            "5xx_transactions": finals[5],
            "6xx_transactions": finals[6],
            "unusual_methods": sum(self.finals[OTHER]),
            "received_retransmissions": self.absorbed_requests + self.late_responses,
            "sent_retransmissions": self.sent_retransmissions,
            "stray_replies": self.stray,
            "refused_requests": self.refused,
            "timeouts": self.timeouts,
            "transport_errors": self.transport_errors,
        }
