"""The rows of the ``dr_*`` tables in memory: gateways, carriers, rules by prefix. No I/O."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from twisted.logger import Logger

from pbx.rows import column, left_out, whole
from pbx.sip.uri import URI
from plugins.probing import Peer, parse_place, parse_socket
from plugins.timerec import Schedule, parse

ENABLED, DISABLED, PROBING = 0, 1, 2
WORDS = ("active", "disabled", "probing")
NEVER, WHEN_DISABLED, ALWAYS = 0, 1, 2
BY_WEIGHT: Final = "W"
GATEWAY_COLUMNS: Final = "gwid, type, address, strip, pri_prefix, attrs, probe_mode, state, socket"
RULE_COLUMNS: Final = "ruleid, groupid, prefix, timerec, priority, gwlist, sort_alg, attrs, routeid"
CARRIER_COLUMNS: Final = "carrierid, gwlist, flags, sort_alg, state, attrs"
DIGITS: Final = "0123456789"
log = Logger()

#: A number from 0 up to (not including) the argument.
Draw = Callable[[int], int]


class Gateway(Peer):
    """One row of ``dr_gateways``. ``stored`` is the state that the database has."""

    __slots__ = (
        "address",
        "attrs",
        "id",
        "kind",
        "prefix",
        "probe_mode",
        "state",
        "stored",
        "strip",
    )

    def __init__(self, row: Sequence[object]) -> None:
        """Raises ValueError."""
        self.address = str(row[2] or "").strip(" \t")
        with column("address"):
            place = parse_place(self.address)
        with column("socket"):
            socket = parse_socket(row[8])
        super().__init__(place, socket)
        self.id = str(row[0] or "").strip(" \t")
        if not self.id:
            raise ValueError("gwid: empty")
        self.kind = whole("type", row[1])
        self.strip = whole("strip", row[3])
        self.prefix = str(row[4] or "").strip(" \t")
        self.attrs = str(row[5] or "")
        self.probe_mode = whole("probe_mode", row[6])
        self.state = self.stored = whole("state", row[7])
        if self.strip < 0:
            raise ValueError(f"strip: expected 0 or more, not {self.strip}")

    def number_for(self, dialled: str) -> str:
        """How this gateway wants a number; "" when nothing is left of it."""
        if self.strip >= len(dialled):
            return ""
        return self.prefix + dialled[self.strip :]

    def uri_for(self, user: str) -> URI:
        """The Request-URI of a call to this gateway."""
        return self.uri.replace(user=user)


class Entry(NamedTuple):
    """One name of a gateway list."""

    name: str
    is_carrier: bool
    weight: int


class Carrier:
    """One row of ``dr_carriers``."""

    __slots__ = ("attrs", "by_weight", "enabled", "entries", "first_only", "id", "stored")

    def __init__(self, row: Sequence[object], version: int) -> None:
        """``version`` of the table says what the flags mean. Raises ValueError."""
        self.id = str(row[0] or "").strip(" \t")
        self.entries = parse_list(row[1])
        if not self.id or any(entry.is_carrier for entry in self.entries):
            raise ValueError("carrierid: empty, or gwlist: a carrier in the list of a carrier")
        flags = whole("flags", row[2])
        if version < 3:
            self.by_weight = bool(flags & 1)
            self.first_only, off = bool(flags & 2), bool(flags & 4)
        else:
            self.by_weight = str(row[3] or "").upper() == BY_WEIGHT
            self.first_only, off = bool(flags & 1), bool(flags & 2)
        self.stored = whole("state", row[4])
        self.enabled = not off and self.stored == 0
        self.attrs = str(row[5] or "")


class Rule:
    """One row of ``dr_rules``."""

    __slots__ = ("attrs", "by_weight", "entries", "groups", "id", "prefix", "priority", "schedule")

    def __init__(self, row: Sequence[object], plus: bool, extra: str) -> None:
        """``plus``: a leading + of the prefix means nothing. Raises ValueError."""
        self.id = whole("ruleid", row[0])
        with column("groupid"):
            self.groups = parse_groups(row[1])
        prefix = str(row[2] or "").strip(" \t")
        if plus:
            prefix = prefix.removeprefix("+")
        if prefix.strip(DIGITS + extra):
            raise ValueError(f"prefix {prefix!r}: expected digits")
        self.prefix = prefix
        self.schedule: Schedule | None = parse(str(row[3] or ""))
        self.priority = whole("priority", row[4])
        self.entries = parse_list(row[5])
        self.by_weight = str(row[6] or "").upper() == BY_WEIGHT
        self.attrs = str(row[7] or "")


class Prefixes:
    """The rules of one group, to be found by the longest prefix."""

    __slots__ = ("_lengths", "_rules")

    def __init__(self) -> None:
        self._rules: dict[str, list[Rule]] = {}
        self._lengths: tuple[int, ...] = ()

    def add(self, rule: Rule) -> None:
        """One more rule; of those with the same prefix the highest priority counts."""
        found = self._rules.get(rule.prefix)
        if found is None:
            self._rules[rule.prefix] = [rule]
            length = len(rule.prefix)
            if length not in self._lengths:
                self._lengths = tuple(sorted((*self._lengths, length), reverse=True))
        else:
            found.append(rule)
            found.sort(key=_rank)

    def find(self, dialled: str, now: float) -> Rule | None:
        """The best rule that holds now."""
        rules = self._rules
        for length in self._lengths:
            found = rules.get(dialled[:length])
            # A slice of a shorter number is the number: no match of that length.
            if found is not None and length <= len(dialled):
                for rule in found:
                    if rule.schedule is None or rule.schedule(now):
                        return rule
        return None

    def find_all(self, dialled: str, now: float) -> Iterable[Rule]:
        """All rules that hold now, best first."""
        for length in self._lengths:
            if length <= len(dialled):
                for rule in self._rules.get(dialled[:length], ()):
                    if rule.schedule is None or rule.schedule(now):
                        yield rule


def _rank(rule: Rule) -> tuple[int, int]:
    return -rule.priority, rule.id


@lru_cache(maxsize=1024)
def parse_groups(value: object) -> tuple[int, ...]:
    """``0,3`` or ``0;3``. Raises ValueError."""
    parts = [part.strip(" \t") for part in str(value or "0").replace(";", ",").split(",")]
    return tuple(dict.fromkeys(int(part) for part in parts if part))


@lru_cache(maxsize=4096)
def parse_list(value: object) -> tuple[Entry, ...]:
    """``gw1=10,#carrier``. Raises ValueError."""
    found = []
    for part in str(value or "").replace(";", ",").split(","):
        name, equals, weight = (piece.strip(" \t") for piece in part.partition("="))
        if not name and not equals:
            continue
        is_carrier = name[:1] == "#"
        name = name.removeprefix("#")
        digits = weight if equals else "1"
        if not name or not (digits.isascii() and digits.isdigit()):
            raise ValueError(f"gwlist {part.strip()!r}: expected NAME, #CARRIER or NAME=WEIGHT")
        found.append(Entry(name, is_carrier, int(digits)))
    return tuple(found)


def make_gateways(rows: Iterable[Sequence[object]]) -> dict[str, Gateway]:
    """Gateways by name; bad rows are left out, with a log line."""
    made: dict[str, Gateway] = {}
    for row in rows:
        try:
            gateway = Gateway(row)
        except ValueError as error:
            left_out("dr_gateways", row[0], error)
            continue
        made[gateway.id] = gateway
    return made


def make_carriers(rows: Iterable[Sequence[object]], version: int) -> dict[str, Carrier]:
    """Carriers by name; bad rows are left out, with a log line."""
    made: dict[str, Carrier] = {}
    for row in rows:
        try:
            carrier = Carrier(row, version)
        except ValueError as error:
            left_out("dr_carriers", row[0], error)
            continue
        made[carrier.id] = carrier
    return made


def add_rules(
    groups: dict[int, Prefixes], rows: Iterable[Sequence[object]], plus: bool, extra: str
) -> int:
    """Put rules under their prefixes; how many were good."""
    added = 0
    for row in rows:
        try:
            rule = Rule(row, plus, extra)
        except ValueError as error:
            left_out("dr_rules", row[0], error)
            continue
        added += 1
        for group in rule.groups:
            found = groups.get(group)
            if found is None:
                found = groups[group] = Prefixes()
            found.add(rule)
    return added


def ordered(entries: Sequence[Entry], by_weight: bool, draw: Draw) -> Sequence[Entry]:
    """The entries in the order to try: as given, or drawn one by one with their weights."""
    if not by_weight or len(entries) < 2:
        return entries
    left = list(entries)
    order: list[Entry] = []
    while left:
        total = sum(entry.weight for entry in left)
        at = 0
        if total:
            drawn = draw(total)
            while drawn >= left[at].weight:
                drawn -= left[at].weight
                at += 1
        order.append(left.pop(at))
    return order


def expand(
    rule: Rule,
    gateways: Mapping[str, Gateway],
    carriers: Mapping[str, Carrier],
    draw: Draw = random.randrange,
) -> list[Gateway]:
    """The enabled gateways of a rule in the order to try, each once."""
    found: dict[str, Gateway] = {}
    for entry in ordered(rule.entries, rule.by_weight, draw):
        if not entry.is_carrier:
            gateway = gateways.get(entry.name)
            if gateway is not None and gateway.state == ENABLED:
                found.setdefault(gateway.id, gateway)
            continue
        carrier = carriers.get(entry.name)
        if carrier is None or not carrier.enabled:
            continue
        for inner in ordered(carrier.entries, carrier.by_weight, draw):
            gateway = gateways.get(inner.name)
            if gateway is not None and gateway.state == ENABLED:
                found.setdefault(gateway.id, gateway)
                if carrier.first_only:
                    break
    return list(found.values())
