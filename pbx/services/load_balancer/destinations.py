"""The rows of ``load_balancer``: destinations, what they offer and what is used of it."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence

from twisted.logger import Logger

from pbx.rows import column, left_out, whole
from pbx.sip.address import Address
from pbx.sip.uri import URI

NEVER, WHEN_DISABLED, ALWAYS = 0, 1, 2
log = Logger()


class Destination:
    """One node. ``capacity`` and ``load`` are calls by resource, ``others`` those of other PBXs."""

    __slots__ = (
        "addresses",
        "attrs",
        "auto_enable",
        "capacity",
        "enabled",
        "group",
        "id",
        "load",
        "others",
        "probe_mode",
        "uri",
    )

    def __init__(
        self,
        id: int,
        group: int,
        uri: URI,
        capacity: dict[str, int],
        probe_mode: int,
        attrs: str | None,
    ) -> None:
        self.id = id
        self.group = group
        self.uri = uri
        self.capacity = capacity
        self.probe_mode = probe_mode
        self.attrs = attrs
        self.load = dict.fromkeys(capacity, 0)
        self.others: dict[str, int] = {}
        self.enabled = True
        self.auto_enable = True
        self.addresses: Collection[str] = (uri.host,)

    def availability(self, resources: Sequence[str], relative: bool) -> float | None:
        """The least that is free of these, in calls or per cent; None when one is lacking."""
        least: float | None = None
        for name in resources:
            capacity = self.capacity.get(name)
            if capacity is None:
                return None
            free = float(capacity - self.load[name] - self.others.get(name, 0))
            if relative:
                free = 100.0 * free / capacity if capacity else 0.0
            if least is None or free < least:
                least = free
        return least

    def count(self, resources: Sequence[str], by: int) -> None:
        """A call more or less on these resources."""
        for name in resources:
            if name in self.load:
                self.load[name] = max(0, self.load[name] + by)

    def is_at(self, peer: Address, via_port: int | None) -> bool:
        """Whether something that came from there came from this node (oddity O24).

        Connections come from any port, so for them the port in Via counts. A URI without port
        matches every port.
        """
        if peer.host not in self.addresses:
            return False
        port = self.uri.port
        if port is None:
            return True
        if peer.transport == "UDP":
            return port == peer.port
        return port == (via_port or (5061 if peer.transport == "TLS" else 5060))


def parse_resources(text: str) -> dict[str, int]:
    """``name=capacity;...`` -> capacities. Raises ValueError."""
    found: dict[str, int] = {}
    for part in text.split(";"):
        if not part.strip():
            continue
        name, equals, capacity = (piece.strip() for piece in part.partition("="))
        if not equals or not name or name in found:
            raise ValueError(f"bad resource {part.strip()!r}")
        if not (capacity.isascii() and capacity.isdigit()):
            raise ValueError(f"capacity of {name}: expected a number, not {capacity!r}")
        found[name] = int(capacity)
    if not found:
        raise ValueError("no resources")
    return found


def make_destinations(
    rows: Sequence[Sequence[object]], before: dict[int, Destination]
) -> dict[int, Destination]:
    """Rows of id, group_id, dst_uri, resources, probe_mode, attrs; bad ones are left out.

    A destination that was there before under the same id keeps its state and its calls.
    """
    made: dict[int, Destination] = {}
    for row in rows:
        try:
            id, group = whole("id", row[0]), whole("group_id", row[1])
            mode = whole("probe_mode", row[4])
            with column("dst_uri"):
                uri = URI.parse(str(row[2] or "").strip())
                if not uri.is_sip:
                    raise ValueError(f"{uri}: expected a sip URI")
            with column("resources"):
                capacity = parse_resources(str(row[3] or ""))
        except ValueError as error:
            left_out("load_balancer", row[0], error)
            continue
        destination = Destination(id, group, uri, capacity, mode, str(row[5]) if row[5] else None)
        known = before.get(id)
        if known is not None and str(known.uri) == str(uri):
            destination.enabled = known.enabled
            destination.auto_enable = known.auto_enable
            destination.addresses = known.addresses
            destination.others = known.others
            destination.load.update({k: v for k, v in known.load.items() if k in capacity})
        made[id] = destination
    return made


def choose(
    candidates: Sequence[Destination],
    resources: Sequence[str],
    tried: Collection[int],
    flags: str,
) -> Destination | None:
    """The destination with the most to give: flags r (relative), n (even when full), s (ties at
    random).
    """
    best: list[Destination] = []
    most: float | None = None
    for candidate in candidates:
        if not candidate.enabled or candidate.id in tried:
            continue
        free = candidate.availability(resources, "r" in flags)
        if free is None or (free <= 0 and "n" not in flags):
            continue
        if most is None or free > most:
            most = free
            best = [candidate]
        elif free == most:
            best.append(candidate)
    if not best:
        return None
    return random.choice(best) if "s" in flags and len(best) > 1 else best[0]


def shown(destination: Destination, load: Mapping[str, int]) -> dict[str, object]:
    """A destination as the management interface shows it."""
    text: dict[str, object] = {
        "uri": str(destination.uri),
        "id": destination.id,
        "group": destination.group,
        "enabled": "yes" if destination.enabled else "no",
        "auto-reenable": "on" if destination.auto_enable else "off",
        "Resources": [
            {"name": name, "max": capacity, "load": load[name]}
            for name, capacity in destination.capacity.items()
        ],
    }
    if destination.attrs:
        text["attrs"] = destination.attrs
    return text
