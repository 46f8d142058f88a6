"""The rows of ``dispatcher``: sets of destinations, and which of them comes first. No I/O."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from zlib import crc32

from twisted.logger import Logger

from pbx.rows import column, left_out, whole
from pbx.sip.message import Request
from pbx.sip.uri import URI
from plugins.probing import Peer, parse_place, parse_socket

ACTIVE, INACTIVE, PROBING = 0, 1, 2
COLUMNS: Final = (
    "id, setid, destination, socket, state, probe_mode, weight, priority, attrs, description"
)
(
    BY_CALL_ID,
    BY_FROM,
    BY_TO,
    BY_REQUEST_URI,
    ROUND_ROBIN,
    BY_AUTH_USER,
    RANDOM,
    BY_VARIABLE,
    FIRST,
    LOWEST,
    HIGHEST,
) = range(11)
#: Weight of destinations that FreeSWITCH should tell us the weight of.
FREESWITCH_WEIGHT: Final = 100
log = Logger()

#: The text that algorithm 7 hashes.
Variable = Callable[[Request], str]


class Destination(Peer):
    """One row. ``stored`` is the state that the database has, ``failures`` those in a row."""

    __slots__ = (
        "attrs",
        "credit",
        "description",
        "failures",
        "hits",
        "id",
        "priority",
        "probe_mode",
        "pushed",
        "set",
        "state",
        "stored",
        "weight",
        "weight_text",
    )

    def __init__(self, row: Sequence[object]) -> None:
        """Raises ValueError."""
        with column("destination"):
            place = parse_place(str(row[2] or ""))
        with column("socket"):
            socket = parse_socket(row[3])
        super().__init__(place, socket)
        self.id = whole("id", row[0])
        self.set = whole("setid", row[1])
        self.state = self.stored = whole("state", row[4])
        self.probe_mode = whole("probe_mode", row[5])
        self.weight_text = str(row[6] or "1").strip(" \t")
        if self.weight_text.startswith("fs://"):
            self.weight = FREESWITCH_WEIGHT
        else:
            self.weight = whole("weight", self.weight_text)
        self.priority = whole("priority", row[7])
        self.attrs = str(row[8] or "")
        self.description = str(row[9] or "")
        self.pushed = ""
        self.failures = self.hits = self.credit = 0
        if self.state not in (ACTIVE, INACTIVE, PROBING) or self.weight < 0:
            raise ValueError("state: 0, 1 or 2; weight: 0 or more")


class Group:
    """One set: destinations by falling priority, then id."""

    __slots__ = ("destinations", "id")

    def __init__(self, id: int, destinations: Iterable[Destination]) -> None:
        self.id = id
        self.destinations = sorted(destinations, key=lambda one: (-one.priority, one.id))

    def order(
        self,
        request: Request,
        algorithm: int,
        variable: Variable | None,
        value: Callable[[URI], float] | None,
    ) -> Sequence[Destination]:
        """The active destinations: the one that the algorithm says, then those that follow it."""
        active = [found for found in self.destinations if found.state == ACTIVE]
        if len(active) < 2:
            return active
        if algorithm in (LOWEST, HIGHEST) and value is not None:
            sign = 1 if algorithm == LOWEST else -1
            return sorted(active, key=lambda one: sign * value(one.uri))
        first = self._first(active, request, algorithm, variable)
        return active if first == 0 else active[first:] + active[:first]

    def _first(
        self,
        active: Sequence[Destination],
        request: Request,
        algorithm: int,
        variable: Variable | None,
    ) -> int:
        text = ""
        if algorithm == BY_AUTH_USER:
            text = auth_user(request)
            if not text:
                algorithm = ROUND_ROBIN
        elif algorithm == BY_VARIABLE and variable is not None:
            text = variable(request)
        elif algorithm in _HASHED:
            text = _HASHED[algorithm](request)
        total = sum(found.weight for found in active)
        if text and total:
            return _at(active, crc32(text.encode("utf-8", "surrogateescape")) % total)
        if algorithm == ROUND_ROBIN and total:
            return _in_turn(active, total)
        if algorithm == RANDOM and total:
            return _at(active, random.randrange(total))
        return 0


def _in_turn(active: Sequence[Destination], total: int) -> int:
    """Everybody as often as its weight says, spread evenly: each gains its weight per turn, and
    who has most pays the sum of all.
    """
    best = 0
    for at, found in enumerate(active):
        found.credit += found.weight
        if found.credit > active[best].credit:
            best = at
    active[best].credit -= total
    return best


def _at(active: Sequence[Destination], share: int) -> int:
    """Whose part of the sum of weights this is."""
    for at, found in enumerate(active):
        share -= found.weight
        if share < 0:
            return at
    return 0


def auth_user(request: Request) -> str:
    """The user that the credentials of a request name, "" without any."""
    for name in ("authorization", "proxy-authorization"):
        credentials = request.get(name) or ""
        _, found, rest = credentials.partition('username="')
        if found:
            return rest.partition('"')[0]
    return ""


def _header(name: str) -> Variable:
    return lambda request: request.get(name) or ""


_HASHED: Final[dict[int, Variable]] = {
    BY_CALL_ID: _header("call-id"),
    BY_FROM: lambda request: request.from_.uri.aor,
    BY_TO: lambda request: request.to.uri.aor,
    BY_REQUEST_URI: lambda request: request.uri_text,
}
VARIABLES: Final[dict[str, Variable]] = {
    "$ci": _header("call-id"),
    "$fu": lambda request: str(request.from_.uri),
    "$fU": lambda request: request.from_.uri.user,
    "$fd": lambda request: request.from_.uri.host,
    "$tu": lambda request: str(request.to.uri),
    "$tU": lambda request: request.to.uri.user,
    "$td": lambda request: request.to.uri.host,
    "$ru": lambda request: request.uri_text,
    "$rU": lambda request: request.uri.user,
    "$rd": lambda request: request.uri.host,
    "$au": auth_user,
    "$ua": _header("user-agent"),
}


def parse_variable(text: str) -> Variable | None:
    """What ``hash_pvar`` names: one of `VARIABLES` or ``$hdr(Name)``. Raises ValueError."""
    if not text:
        return None
    if text.startswith("$hdr(") and text.endswith(")") and len(text) > 6:
        return _header(text[5:-1].lower())
    if text not in VARIABLES:
        raise ValueError(f"hash_pvar: expected $hdr(NAME) or one of {', '.join(VARIABLES)}")
    return VARIABLES[text]


def make_groups(rows: Iterable[Sequence[object]]) -> dict[int, Group]:
    """Sets by number; bad rows are left out, with a log line."""
    found: dict[int, list[Destination]] = {}
    for row in rows:
        try:
            destination = Destination(row)
        except ValueError as error:
            left_out("dispatcher", row[0], error)
            continue
        found.setdefault(destination.set, []).append(destination)
    return {id: Group(id, destinations) for id, destinations in found.items()}
