"""What is remembered of a bridged call: its branches, their legs, and who owes an answer."""

from __future__ import annotations

from collections.abc import Iterator

from pbx.interfaces import IDialog
from pbx.legs import LegKind, MediaLeg, MediaSession, Side
from pbx.sip.address import Address
from pbx.sip.message import Request


class Bridge:
    """One session of the engine; ``offerer`` made the first offer.

    ``waits_for`` is who owes an answer. What was made of a body is kept, so that a message that is
    sent again carries the same again.
    """

    __slots__ = ("_made", "freed", "legs", "offerer", "session", "waits_for")

    def __init__(self, session: MediaSession, source: MediaLeg, aim: MediaLeg) -> None:
        self.session = session
        self.offerer = source.side
        self.legs = {source.side: source, aim.side: aim}
        self.waits_for: Side | None = None
        self.freed = False
        self._made: dict[tuple[Side, bool, bytes], bytes] = {}

    def kind(self, side: Side) -> LegKind:
        """It never changes."""
        return self.legs[side].kind

    def knows(self, leg: MediaLeg) -> None:
        """What a message told about a side is the newest."""
        self.legs[leg.side] = leg

    def made(self, side: Side, offer: bool, body: bytes) -> bytes | None:
        """What became of this body before, None when it is new."""
        return self._made.get((side, offer, body))

    def offered(self, side: Side, body: bytes, made: bytes) -> None:
        """A new offer: what was made before does not come again."""
        self._made = {(side, True, body): made}

    def answered(self, side: Side, body: bytes, made: bytes) -> None:
        """An answer; of several that differ only the last is kept."""
        self.waits_for = None
        self._made = {key: value for key, value in self._made.items() if key[1]}
        self._made[side, False, body] = made

    def words(self, engine: str) -> str:
        """All that a restart needs to know."""
        kinds = (self.kind(Side.CALLER).value, self.kind(Side.CALLEE).value)
        return " ".join((engine, self.session.branch, *kinds))


class BridgedCall:
    """All sessions of one call. ``tags`` finds them by the callee's tag."""

    __slots__ = ("branches", "caller_tag", "count", "did", "left_over", "tags", "winner")

    def __init__(self, did: str, caller_tag: str) -> None:
        self.did = did
        self.caller_tag = caller_tag
        self.branches: dict[object, Bridge] = {}
        self.tags: dict[str, Bridge] = {}
        self.left_over: list[Bridge] = []
        self.winner: Bridge | None = None
        self.count = 0

    def find(self, request: Request) -> tuple[Bridge | None, Side]:
        """The session of a request within the call, and who sent it. Raises MalformedMessage."""
        from_tag, to_tag = request.from_.tag or "", request.to.tag or ""
        side = Side.CALLER if from_tag == self.caller_tag else Side.CALLEE
        bridge = self.tags.get(to_tag if side is Side.CALLER else from_tag)
        return bridge or self.winner, side

    def bridges(self) -> Iterator[Bridge]:
        """Every session that the engine may have."""
        yield from self.branches.values()
        yield from self.left_over


def from_words(words: str, engine: str, dialog: IDialog) -> BridgedCall | None:
    """A call as it was before a restart (`Bridge.words`), None for one of another engine."""
    parts = words.split(" ")
    if len(parts) != 4 or parts[0] != engine:
        return None
    try:
        kinds = LegKind(parts[2]), LegKind(parts[3])
    except ValueError:
        return None
    nowhere = Address("UDP", "", 0)
    caller = MediaLeg(side=Side.CALLER, kind=kinds[0], peer=dialog.caller, tag=dialog.from_tag)
    callee = MediaLeg(
        side=Side.CALLEE, kind=kinds[1], peer=dialog.callee or nowhere, tag=dialog.to_tag
    )
    call = BridgedCall(dialog.did, dialog.from_tag)
    bridge = Bridge(MediaSession(dialog.did, parts[1]), caller, callee)
    call.branches["restored"] = call.tags[dialog.to_tag] = call.winner = bridge
    call.count = int(parts[1]) if parts[1].isdigit() else 1
    return call
