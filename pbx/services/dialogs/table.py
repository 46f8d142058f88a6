"""Which calls there are, and which of them a request belongs to."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from pbx.services.dialogs.call import ENDED, Call


class CallTable:
    """Calls by cookie and by SIP identifiers: ``early``, ``active``, and lately ended."""

    def __init__(self, match_mode: int, delete_delay: float) -> None:
        self.calls: dict[str, Call] = {}
        self.early: dict[str, Call] = {}
        self.active: dict[str, Call] = {}
        self._by_ids: dict[tuple[str, str], Call] = {}
        self._gone: deque[tuple[float, Call]] = deque()
        self._match_mode = match_mode
        self._delete_delay = delete_delay

    def add(self, call: Call, kind: dict[str, Call]) -> None:
        """A new call; ``kind`` is `early` or `active`."""
        did = call.did
        self.calls[did] = kind[did] = call
        self._by_ids[(call.call_id, call.from_tag)] = call

    def match(self, did: str, call_id: str, from_tag: str, to_tag: str) -> Call | None:
        """The call of a request, as ``dlg_match_mode`` says."""
        mode = self._match_mode
        if did and mode != 2:
            call = self.calls.get(did)
            if (
                call is not None
                and call.call_id == call_id
                and (from_tag == call.from_tag or to_tag == call.from_tag)
            ):
                return call
        return None if mode == 0 else self.by_tags(call_id, from_tag, to_tag)

    def by_tags(self, call_id: str, from_tag: str, to_tag: str) -> Call | None:
        """By the SIP identifiers, either direction."""
        for one, other in ((from_tag, to_tag), (to_tag, from_tag)):
            call = self._by_ids.get((call_id, one))
            if call is not None and (not call.callees or call.leg(other) is not None):
                return call
        return None

    def leave(self, call: Call) -> None:
        """The call has ended: forget it after ``delete_delay``."""
        if self._delete_delay > 0:
            self._gone.append((call.ended + self._delete_delay, call))
        else:
            self._forget(call)

    def forget_due(self, now: float) -> None:
        """Forget those that ended long enough ago."""
        gone = self._gone
        while gone and gone[0][0] <= now:
            _, call = gone.popleft()
            # A late 2xx may have brought it back.
            if call.state == ENDED and call.ended + self._delete_delay <= now:
                self._forget(call)

    def _forget(self, call: Call) -> None:
        self.calls.pop(call.did, None)
        key = (call.call_id, call.from_tag)
        if self._by_ids.get(key) is call:
            del self._by_ids[key]

    def lost(self, before: float) -> Sequence[Call]:
        """Unanswered calls that began before a time."""
        found: list[Call] = []
        for call in self.early.values():
            if call.created > before:
                break
            found.append(call)
        return found
