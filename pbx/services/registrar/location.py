"""The location service: bindings by address of record (RFC 3261 section 10), and their expiry.

Only the table: nothing here sends, writes or tells anybody.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from twisted.internet.interfaces import IReactorTime

from pbx.interfaces import IFlow, INode, ITimer, ITimers
from pbx.sip.address import Address
from pbx.verdicts import Target

#: `Binding.slot` of one that never expires, and of one that was removed.
NEVER: Final = 0
REMOVED: Final = -1


class Binding:
    """One contact of a user. Texts are "" when not known.

    ``expires`` is epoch seconds, 0 for never; ``q`` is -1 when not given; ``methods`` None for all.
    ``flow`` is the connection it came by while that is open; with ``flow_required`` it is the only
    way. ``reg_id`` is 0 without outbound (RFC 5626). ``node`` is the node of a cluster that the
    phone registered at, None for us.
    """

    __slots__ = (
        "aor",
        "attr",
        "call_id",
        "cflags",
        "contact",
        "contact_id",
        "cseq",
        "expires",
        "flags",
        "flow",
        "flow_required",
        "instance",
        "kv_store",
        "last_modified",
        "methods",
        "node",
        "path",
        "q",
        "received",
        "reg_id",
        "slot",
        "socket",
        "user_agent",
    )

    def __init__(self, aor: str, contact: str, contact_id: int) -> None:
        self.aor = aor
        self.contact = contact
        self.contact_id = contact_id
        self.call_id = ""
        self.cseq = 0
        self.expires = 0
        self.last_modified = 0
        self.q = -1.0
        self.received = ""
        self.path: tuple[str, ...] = ()
        self.socket: Address | None = None
        self.flow: IFlow | None = None
        self.flow_required = False
        self.node: INode | None = None
        self.methods: int | None = None
        self.flags = 0
        self.cflags = ""
        self.user_agent = ""
        self.instance = ""
        self.reg_id = 0
        self.kv_store = ""
        self.attr = ""
        self.slot = NEVER

    @property
    def reachable(self) -> bool:
        """Whether a request can be sent to it at all."""
        if self.node is not None and self.node.alive:
            return True
        return not self.flow_required or self.flow is not None

    def become(self, other: Binding) -> None:
        """The same binding, as another node has it now."""
        for name in _TOLD:
            setattr(self, name, getattr(other, name))

    @property
    def created(self) -> float:
        """Epoch seconds of its first registration, as far as the id tells."""
        return (self.contact_id >> _RANDOM_BITS) / _TICKS


#: What a refresh at another node may change.
_TOLD: Final = frozenset(Binding.__slots__) - {"aor", "contact_id", "flow", "slot"}


class Record:
    """The bindings of one address of record, in the order of their first registration.

    ``targets`` is what `lookup` made of them, None when they changed since; ``masks`` the methods
    that each accepts.
    """

    __slots__ = ("aor", "bindings", "masks", "targets")

    def __init__(self, aor: str) -> None:
        self.aor = aor
        self.bindings: list[Binding] = []
        self.targets: tuple[Target, ...] | None = None
        self.masks: tuple[int | None, ...] = ()


class _Slot:
    """Bindings that may expire in one second; ``live`` of the entries are still meant."""

    __slots__ = ("entries", "live", "timer")

    def __init__(self, timer: ITimer) -> None:
        self.entries: list[Binding] = []
        self.live = 0
        self.timer = timer


_RANDOM_BITS: Final = 23
_TICKS: Final = 256


class Location:
    """All bindings. ``expired`` is called with each one whose time is over; it must `remove` it.

    A refresh does not touch the expiry queue: a binding waits in the slot of the second in which it
    first would expire, and moves on from there when it was refreshed meanwhile.
    """

    def __init__(
        self, clock: IReactorTime, timers: ITimers, expired: Callable[[Binding], object]
    ) -> None:
        self._clock = clock
        self._timers = timers
        self._expired = expired
        self._slots: dict[int, _Slot] = {}
        self._by_flow: dict[IFlow, set[Binding]] = {}
        self._by_id: dict[int, Binding] = {}
        self._last_id = 0
        self.records: dict[str, Record] = {}
        self.contacts = 0
        #: Bindings by the transport that they came by.
        self.transports: Counter[str] = Counter()

    def new_id(self) -> int:
        """A 63-bit contact id: grows with time, unlikely to be given by another node as well."""
        made = (int(self._clock.seconds() * _TICKS) << _RANDOM_BITS) | random.getrandbits(
            _RANDOM_BITS
        )
        self._last_id = max(self._last_id + 1, made)
        return self._last_id

    def get(self, aor: str) -> Record | None:
        """The record of a user who has any binding."""
        return self.records.get(aor)

    def by_id(self, contact_id: int) -> Binding | None:
        """A binding that `index` made known."""
        return self._by_id.get(contact_id)

    def index(self, binding: Binding) -> None:
        """Make a binding known to `by_id`, which only temporary GRUUs need."""
        self._by_id[binding.contact_id] = binding

    def all(self) -> Iterable[Binding]:
        """Every binding; the table may change meanwhile."""
        for record in list(self.records.values()):
            yield from list(record.bindings)

    # Changes

    def add(self, binding: Binding) -> None:
        """A new binding; its ``expires`` is set already."""
        record = self.records.get(binding.aor)
        if record is None:
            record = self.records[binding.aor] = Record(binding.aor)
        record.bindings.append(binding)
        record.targets = None
        self.contacts += 1
        self.transports[transport_of(binding.socket)] += 1
        if binding.contact_id > self._last_id:
            self._last_id = binding.contact_id
        if binding.expires:
            self._wait(binding, binding.expires)

    def refreshed(self, record: Record, binding: Binding) -> None:
        """The fields of a binding changed."""
        record.targets = None
        expires = binding.expires
        slot = binding.slot
        if slot == NEVER:
            if expires:
                self._wait(binding, expires)
        elif expires == NEVER or expires < slot:
            self._stop_waiting(binding)
            if expires:
                self._wait(binding, expires)

    def moved(self, before: Address | None, now: Address | None) -> None:
        """A binding came by another listener than before."""
        self.transports[transport_of(before)] -= 1
        self.transports[transport_of(now)] += 1

    def remove(self, binding: Binding) -> None:
        """Forget a binding, and its record when it was the last."""
        record = self.records[binding.aor]
        record.bindings.remove(binding)
        record.targets = None
        if not record.bindings:
            del self.records[binding.aor]
        self.contacts -= 1
        self.transports[transport_of(binding.socket)] -= 1
        self.bind(binding, None)
        self._by_id.pop(binding.contact_id, None)
        if binding.slot != NEVER:
            self._stop_waiting(binding)
        binding.slot = REMOVED

    def bind(self, binding: Binding, flow: IFlow | None) -> None:
        """The binding is reached by this connection from now on."""
        old = binding.flow
        if old is flow:
            return
        if old is not None:
            others = self._by_flow.get(old)
            if others is not None:
                others.discard(binding)
                if not others:
                    del self._by_flow[old]
        binding.flow = flow
        if flow is not None:
            self._by_flow.setdefault(flow, set()).add(binding)

    def unbind_all(self, flow: IFlow) -> list[Binding]:
        """The bindings of a connection that is gone, without it now."""
        gone = sorted(self._by_flow.pop(flow, ()), key=lambda binding: binding.contact_id)
        for binding in gone:
            binding.flow = None
            self.records[binding.aor].targets = None
        return gone

    def stop(self) -> None:
        """Let nothing expire any more."""
        for slot in self._slots.values():
            slot.timer.cancel()
        self._slots.clear()

    # Expiry

    def _wait(self, binding: Binding, second: int) -> None:
        slot = self._slots.get(second)
        if slot is None:
            timer = self._timers.call_at(float(second), self._due, second)
            slot = self._slots[second] = _Slot(timer)
        slot.entries.append(binding)
        slot.live += 1
        binding.slot = second

    def _stop_waiting(self, binding: Binding) -> None:
        second = binding.slot
        binding.slot = NEVER
        slot = self._slots.get(second)
        if slot is None:
            return
        slot.live -= 1
        if slot.live == 0:
            slot.timer.cancel()
            del self._slots[second]
        elif len(slot.entries) > 2 * slot.live + 64:
            slot.entries = [entry for entry in slot.entries if entry.slot == second]

    def _due(self, second: int) -> None:
        slot = self._slots.pop(second, None)
        if slot is None:
            return
        for binding in slot.entries:
            if binding.slot != second:
                continue
            binding.slot = NEVER
            if binding.expires == NEVER:
                continue
            if binding.expires > second:
                self._wait(binding, binding.expires)
            else:
                self._expired(binding)


def transport_of(socket: Address | None) -> str:
    """The label under which the bindings of a listener are counted."""
    return socket.transport.lower() if socket is not None else "unknown"
