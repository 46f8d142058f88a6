"""What is known in memory of the messages that wait for one user."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import DeferredLock

from pbx.interfaces import ITimer
from pbx.sip.uri import URI


class Mailbox:
    """The rows of one owner, and how far their delivery is.

    ``rows`` says for every id when it may be sent: 0 for at once, else the time of a reminder or
    the end of another node's claim. ``reserved`` counts rows that are being inserted.
    """

    __slots__ = (
        "attempts",
        "delivered",
        "inserting",
        "key",
        "owner",
        "refused",
        "reserved",
        "rows",
        "running",
        "timer",
        "timer_due",
        "told",
        "woken",
    )

    def __init__(self, key: str, owner: URI) -> None:
        self.key = key
        self.owner = owner
        self.rows: dict[int, int] = {}
        self.reserved = 0
        #: Inserts one after the other, so that the ids keep the order of arrival.
        self.inserting = DeferredLock()
        #: Delivered rows that the database did not delete yet, with their ``inc_time``.
        self.delivered: dict[int, int] = {}
        #: Rows that the phones registered now do not want.
        self.refused: set[int] = set()
        #: How many waiting messages others were last told of.
        self.told = 0
        self.attempts = 0
        self.running = False
        #: Seconds after which to go on when the run that is under way ends; None: nobody asked.
        self.woken: float | None = None
        self.timer: ITimer | None = None
        self.timer_due = 0.0

    def __len__(self) -> int:
        """How many messages wait."""
        return len(self.rows) + self.reserved

    @property
    def idle(self) -> bool:
        """Whether it can be forgotten."""
        return not (self.rows or self.reserved or self.delivered or self.running)

    def waiting(self, now: float) -> int:
        """How many messages could be sent now if a phone took them: no reminders of later."""
        return sum(1 for due in self.rows.values() if due <= now)

    def ready(self, now: float) -> int | None:
        """The id of the first message that may be sent now."""
        refused = self.refused
        ready = (id for id, due in self.rows.items() if due <= now and id not in refused)
        return min(ready, default=None)

    def next_due(self, now: float) -> int | None:
        """When the first message that may not be sent yet may be."""
        return min((due for due in self.rows.values() if due > now), default=None)

    def add(self, id: int, snd_time: int) -> None:
        """A row was found or made."""
        if id not in self.delivered:
            self.rows[id] = abs(snd_time)

    def forget(self, ids: Iterable[int]) -> None:
        """Rows are gone."""
        for id in ids:
            self.rows.pop(id, None)
            self.refused.discard(id)

    def cancel_timer(self) -> None:
        """Do not wake up."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
