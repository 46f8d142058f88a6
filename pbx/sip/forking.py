"""One request, several branches: what to start, cancel and send back (RFC 3261 section 16.7).

Pure bookkeeping: the proxy core tells what came in and does what comes out. Branches of equal q run
in parallel, lower ones follow when all before failed; several flows of one device are tried one
after the other (RFC 5626 section 5.3); Max-Breadth bounds what runs at once (RFC 5393 section 5).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from pbx.sip.message import Response

#: Max-Breadth of a request that came without (RFC 5393 section 5.3.2).
DEFAULT_BREADTH = 60
COMPLETED_ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'

_FIRST_CHOICE = {401: 500, 407: 501, 415: 502, 420: 503, 484: 504, 408: 800, 503: 801}


class ForkTarget(Protocol):
    """What forking must know of a target."""

    @property
    def q(self) -> float:
        """Preference, 0 to 1."""

    @property
    def instance(self) -> str:
        """Names the device, "" for unknown."""


class Branch:
    """One target and how it does. ``transaction`` is the owner's business."""

    __slots__ = ("breadth", "done", "response", "status", "target", "transaction")

    def __init__(self, target: ForkTarget) -> None:
        self.target = target
        self.breadth = DEFAULT_BREADTH
        self.status = 0
        self.done = False
        self.response: Response | None = None
        self.transaction: object = None


class Step:
    """What to do next: ``forward`` a response upstream, ``start`` and ``cancel`` branches (with a
    Reason); ``best`` is the outcome when no branch is left and none succeeded.
    """

    __slots__ = ("best", "cancel", "forward", "reason", "start")

    def __init__(
        self,
        forward: Response | None = None,
        start: Sequence[Branch] = (),
        cancel: Sequence[Branch] = (),
        reason: str = "",
        best: Response | None = None,
    ) -> None:
        self.forward = forward
        self.start = start
        self.cancel = cancel
        self.reason = reason
        self.best = best


NOTHING = Step()


class ResponseContext:
    """The response context of section 16: the branches of one request."""

    __slots__ = ("_breadth", "_invite", "_waiting", "branches", "cancelled", "decided")

    def __init__(
        self, targets: Sequence[ForkTarget], invite: bool, breadth: int = DEFAULT_BREADTH
    ) -> None:
        self.branches: list[Branch] = []
        self.cancelled = False
        self.decided = False
        self._invite = invite
        self._breadth = breadth
        self._waiting = list(targets)
        if len(self._waiting) > 1:
            self._waiting.sort(key=_preference)

    @property
    def pending(self) -> list[Branch]:
        """The branches without final response."""
        return [branch for branch in self.branches if not branch.done]

    def start(self) -> Sequence[Branch]:
        """The branches to start now: the best q, as many as Max-Breadth lets run."""
        waiting = self._waiting
        if not waiting or self._breadth < 1:
            return ()
        if len(waiting) == 1:
            started = [Branch(waiting.pop())]
        else:
            started = self._next_group()
        share, rest = divmod(self._breadth, len(started))
        for at, branch in enumerate(started):
            branch.breadth = share + (at < rest)
        self.branches.extend(started)
        return started

    def _next_group(self) -> list[Branch]:
        q = self._waiting[0].q
        chosen: list[Branch] = []
        instances: set[str] = set()
        later: list[ForkTarget] = []
        for target in self._waiting:
            second = target.instance in instances if target.instance else False
            if target.q != q or second or len(chosen) >= self._breadth:
                later.append(target)
                continue
            if target.instance:
                instances.add(target.instance)
            chosen.append(Branch(target))
        self._waiting = later
        return chosen

    def received(self, branch: Branch, response: Response) -> Step:
        """A response of a branch, our Via removed; failures count as 408 or 503 of our own."""
        status = response.status
        if status < 200:
            if branch.done or status == 100:
                return NOTHING
            branch.status = status
            return NOTHING if self.decided else Step(forward=response)
        if branch.done:
            # A 2xx that comes again or from a second fork of the same branch (RFC 6026).
            again = status < 300 and self._invite
            return Step(forward=response) if again else NOTHING
        branch.done = True
        branch.status = status
        branch.response = response
        if status < 300:
            return self._succeeded(response)
        if self.decided:
            return NOTHING
        if status >= 600:
            self._waiting = []
            return self._failed(self.pending, f"SIP;cause={status}")
        instance = branch.target.instance
        if instance and not self.cancelled:
            if status in (408, 430, 503) and self._alternative(branch):
                return Step(start=self.branches[-1:])
            # The device has spoken: its other flows would only ring it again.
            self._waiting = [one for one in self._waiting if one.instance != instance]
        return self._failed((), "")

    def _succeeded(self, response: Response) -> Step:
        if self.decided and not self._invite:
            return NOTHING
        self.decided = True
        self._waiting = []
        return Step(forward=response, cancel=self.pending, reason=COMPLETED_ELSEWHERE)

    def _alternative(self, failed: Branch) -> bool:
        """Another flow of the same device takes the place of a dead one."""
        instance = failed.target.instance
        for at, target in enumerate(self._waiting):
            if target.instance == instance:
                branch = Branch(self._waiting.pop(at))
                branch.breadth = failed.breadth
                # The device was not reached, so the dead flow has no say in the outcome.
                failed.response = None
                self.branches.append(branch)
                return True
        return False

    def _failed(self, cancel: Sequence[Branch], reason: str) -> Step:
        if cancel or any(not branch.done for branch in self.branches):
            return Step(cancel=cancel, reason=reason)
        if self._waiting and not self.cancelled:
            started = self.start()
            if started:
                return Step(start=started)
        self.decided = True
        return Step(best=self.best())

    def cancel(self) -> Sequence[Branch]:
        """The caller gave up: the branches to cancel; nothing further is started (16.10)."""
        self.cancelled = True
        self._waiting = []
        return self.pending

    def best(self) -> Response | None:
        """The one final response to send upstream (16.7, steps 6 and 7)."""
        responses = [branch.response for branch in self.branches if branch.response is not None]
        if not responses:
            return None
        if len(responses) == 1:
            return responses[0]
        best = min(responses, key=self._rank)
        if best.status in (401, 407):
            best = _with_all_challenges(best, responses)
        return best

    def _rank(self, response: Response) -> int:
        status = response.status
        if status == 487 and self.cancelled:
            return 0
        if status >= 600:
            return status - 300
        if status < 400:
            return status + 100
        return _FIRST_CHOICE.get(status, status + 200)


def _preference(target: ForkTarget) -> float:
    return -target.q


def _with_all_challenges(best: Response, responses: Iterable[Response]) -> Response:
    merged = best.copy()
    for response in responses:
        if response is best or response.status not in (401, 407):
            continue
        for name in ("www-authenticate", "proxy-authenticate"):
            for value in response.get_all(name):
                merged.append(name, value)
    return merged
