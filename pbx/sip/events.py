"""Event and Subscription-State as typed values, and which media types are accepted (RFC 6665)."""

from __future__ import annotations

from collections.abc import Sequence

from pbx.sip.errors import MalformedMessage
from pbx.sip.message import Message
from pbx.sip.params import EMPTY, Params, is_closed, is_token, quote

#: Answers to NOTIFY that end the subscription (RFC 6665 section 4.2.2, RFC 5057 section 5.1).
ENDS_SUBSCRIPTION = frozenset((404, 405, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501, 604))


class Event:
    """An event package with its parameters (8.2.1). Immutable.

    ``package`` is lower case with its templates: ``presence.winfo``; ``id`` is "" for none.
    """

    __slots__ = ("id", "package", "params")

    def __init__(self, package: str, params: Params = EMPTY) -> None:
        self.package = package
        self.params = params
        self.id = params.get("id") or ""

    @classmethod
    def parse(cls, text: str) -> Event:
        """Raises MalformedMessage."""
        package, _, rest = text.partition(";")
        package = package.strip(" \t").lower()
        if not is_token(package) or not is_closed(rest):
            raise MalformedMessage("Bad Event")
        return cls(package, Params.parse(rest))

    def __str__(self) -> str:
        # Only the id belongs to the identity of a subscription (8.2.1).
        if not self.id:
            return self.package
        return f"{self.package};id={self.id if is_token(self.id) else quote(self.id)}"

    def __repr__(self) -> str:
        return f"Event({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and (self.package, self.id) == (other.package, other.id)

    def __hash__(self) -> int:
        return hash((self.package, self.id))


def subscription_state(state: str, *, expires: int = 0, reason: str = "") -> str:
    """A Subscription-State value (4.1.3): ``expires`` counts unless terminated."""
    if state == "terminated":
        return f"terminated;reason={reason}" if reason else state
    return f"{state};expires={expires}"


def accepts(message: Message, content_types: Sequence[str]) -> str:
    """The first of our content types that the sender takes, "" when it takes none.

    Without Accept the first one, the default of the package (RFC 6665 section 4.1.2.2).
    """
    if "accept" not in message.names:
        return content_types[0] if content_types else ""
    ranges = [value.partition(";")[0].strip(" \t").lower() for value in message.get_list("accept")]
    for content_type in content_types:
        kind = content_type.partition("/")[0]
        if content_type in ranges or f"{kind}/*" in ranges or "*/*" in ranges:
            return content_type
    return ""
