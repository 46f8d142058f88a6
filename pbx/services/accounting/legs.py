"""Which dialogs are legs of one call (oddity O15, spec 50 sections 2 and 5)."""

from __future__ import annotations

import itertools
from collections import deque

from twisted.internet.interfaces import IReactorTime

from pbx.interfaces import IDialog
from pbx.services.accounting.columns import user_of

#: Seconds for which a leg that ended is remembered: for the other leg, and for the answer to BYE.
_LATE = 35.0
#: How many calls between the same users are looked at for a second leg.
_CANDIDATES = 8
#: Packets, loss, jitter and score of a call whose media does not pass here.
NOT_HEARD = (0, 0.0, 0.0, 0.0)


class Leg:
    """A call in progress; ``main`` is the call that it is a further leg of."""

    __slots__ = ("dialog", "joined", "main", "media", "users")

    def __init__(self, dialog: IDialog) -> None:
        self.dialog = dialog
        self.main: Leg | None = None
        self.joined = False
        self.media: tuple[int, float, float, float] = NOT_HEARD
        self.users = (user_of(dialog.from_uri), user_of(dialog.to_uri))


class Legs:
    """The legs in progress, and for a while those that ended."""

    def __init__(self, join_window: float, clock: IReactorTime) -> None:
        self._join_window = join_window
        self._clock = clock
        self._legs: dict[str, Leg] = {}
        self._by_users: dict[tuple[str, str], dict[str, Leg]] = {}
        self._late: deque[tuple[float, Leg]] = deque()

    def find(self, did: str) -> Leg | None:
        """By cookie."""
        return self._legs.get(did)

    def __len__(self) -> int:
        return len(self._legs)

    def started(self, dialog: IDialog) -> None:
        """A call has begun: is it a further leg of another?"""
        leg = Leg(dialog)
        self._legs[dialog.did] = leg
        if dialog.correlation != dialog.did:
            main = self._legs.get(dialog.correlation)
            if main is not None:
                self._join(leg, main.main or main)
        elif self._join_window > 0:
            others = self._by_users.get(leg.users)
            if others is None:
                others = self._by_users[leg.users] = {}
            else:
                self._join_likely(leg, others)
            others[dialog.did] = leg

    def _join(self, leg: Leg, main: Leg) -> None:
        leg.main = main
        main.joined = True

    def _join_likely(self, leg: Leg, others: dict[str, Leg]) -> None:
        """Of several calls it may belong to, the newest without a second leg, else the newest."""
        best: Leg | None = None
        for main in itertools.islice(reversed(others.values()), _CANDIDATES):
            if self._is_leg_of(leg, main):
                if not main.joined:
                    best = main
                    break
                best = best or main
        if best is not None:
            self._join(leg, best)

    def restored(self, dialog: IDialog) -> None:
        """Calls come back in no particular order: each may be the main leg of any other."""
        self.started(dialog)
        restored = self._legs[dialog.did]
        for leg in self._legs.values():
            if leg.main is None and leg is not restored:
                correlated = leg.dialog.correlation == restored.dialog.did
                if correlated or (
                    leg.users == restored.users
                    and self._join_window > 0
                    and self._is_leg_of(leg, restored)
                ):
                    self._join(leg, restored)

    def _is_leg_of(self, leg: Leg, main: Leg) -> bool:
        """Whether a call is likely what a node made of another one (spec 50, section 5)."""
        if main.main is not None or leg is main:
            return False
        ours, theirs = leg.dialog, main.dialog
        if not 0 <= ours.created - theirs.created <= self._join_window:
            return False
        # Nodes speak no WebSocket. A browser that calls again is a call of its own, even at the
        # address of who was called before (one NAT for all).
        if ours.caller == theirs.caller or ours.caller.transport in ("WS", "WSS"):
            return False
        if theirs.callee is not None:
            return theirs.callee.host == ours.caller.host
        # Not answered yet. Nodes put their own address into From, phones the domain.
        return host_of(ours.from_uri) == ours.caller.host

    def ended(self, dialog: IDialog) -> Leg:
        """The leg of a dialog that has just ended; forgotten a while later."""
        now = self._clock.seconds()
        late = self._late
        while late and late[0][0] <= now:
            _, gone = late.popleft()
            # One that came back to life by a late answer ends again.
            if gone.dialog.ended and gone.dialog.ended + _LATE <= now:
                self._forget(gone)
        leg = self._legs.get(dialog.did)
        if leg is None:
            leg = self._legs[dialog.did] = Leg(dialog)
        late.append((now + _LATE, leg))
        return leg

    def _forget(self, leg: Leg) -> None:
        if self._legs.pop(leg.dialog.did, None) is None:
            return
        leg.main = None
        others = self._by_users.get(leg.users)
        if others is not None:
            others.pop(leg.dialog.did, None)
            if not others:
                del self._by_users[leg.users]


def host_of(uri: str) -> str:
    """The host of a URI in text, without port and brackets."""
    host = uri.partition(":")[2].rpartition("@")[2].partition(";")[0].partition("?")[0]
    if host[:1] == "[":
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
