"""The ``ds_*`` commands of the management interface (spec 40)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from pbx.commands import CommandFailed
from pbx.errors import DatabaseError
from pbx.sip.address import Address
from pbx.sip.uri import join_host_port, shortest_ipv6
from plugins.dispatcher_sets import ACTIVE, INACTIVE, PROBING, Destination, Group
from plugins.probing import parse_place

if TYPE_CHECKING:
    from plugins.dispatcher import Dispatcher

CommandRow = tuple[str, Sequence[Sequence[str]], Callable[..., object]]
PARTITION: Final = "default"
STATES: Final = {"a": ACTIVE, "i": INACTIVE, "p": PROBING}
NAMES: Final = {ACTIVE: "Active", INACTIVE: "Inactive", PROBING: "Probing"}


class DispatcherCommands:
    """What operators ask of the dispatcher."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def rows(self) -> Sequence[CommandRow]:
        """Name, recipes and function of each."""
        pushed = ("attrs", "ip", "port", "set")
        return (
            ("ds_list", ((), ("full",), ("partition",), ("full", "partition")), self.ds_list),
            ("ds_set_state", (("state", "group", "address"),), self.ds_set_state),
            (
                "ds_reload",
                ((), ("partition",), ("inherit_state",), ("partition", "inherit_state")),
                self.ds_reload,
            ),
            ("ds_push_script_attrs", (pushed, (*pushed, "partition")), self.ds_push_script_attrs),
        )

    def ds_list(self, full: object = None, partition: object = PARTITION) -> dict[str, object]:
        """All sets and the states of their destinations."""
        _check_partition(partition)
        sets = [
            {
                "id": group.id,
                "Destinations": [_shown(one, full is not None) for one in group.destinations],
            }
            for group in self._dispatcher.groups.values()
        ]
        return {"PARTITIONS": [{"name": PARTITION, "SETS": sets}]}

    def ds_set_state(self, state: object, group: object, address: object) -> str:
        """Make a destination active (a), inactive (i) or probing (p)."""
        wanted = STATES.get(str(state).lower()[:1])
        if wanted is None:
            raise CommandFailed(500, "Bad state value")
        found = self._group(str(group))
        text = str(address).strip(" \t")
        if not text:
            raise CommandFailed(500, "address not found")
        try:
            uri = parse_place(text)
        except ValueError:
            raise CommandFailed(500, "address not found") from None
        matching = [one for one in found.destinations if one.uri == uri]
        if not matching:
            raise CommandFailed(404, "destination not found")
        for destination in matching:
            destination.failures = 0
            self._dispatcher.set_state(destination, wanted, "by the operator")
        return "OK"

    def _group(self, text: str) -> Group:
        """The set of ``[partition:]set``."""
        partition, colon, number = text.rpartition(":")
        if colon and partition.strip(" \t") != PARTITION:
            raise CommandFailed(500, "group not found")
        number = number.strip(" \t")
        if not number:
            raise CommandFailed(500, "group not found")
        if not (number.isascii() and number.isdigit()):
            raise CommandFailed(500, "bad group value")
        found = self._dispatcher.groups.get(int(number))
        if found is None:
            raise CommandFailed(404, "destination not found")
        return found

    async def ds_reload(self, partition: object = PARTITION, inherit_state: object = "y") -> str:
        """Read the destinations again; ``inherit_state`` n forgets what probes said."""
        _check_partition(partition)
        inherit = str(inherit_state).lower()
        if inherit not in ("y", "n", "1", "0"):
            raise CommandFailed(400, "Bad inherit_state: y or n")
        try:
            await self._dispatcher.reload(inherit in ("y", "1"))
        except DatabaseError as error:
            raise CommandFailed(500, "Failed to reload") from error
        return "OK"

    def ds_push_script_attrs(
        self,
        attrs: object,
        ip: object,
        port: object,
        set: object,
        partition: object = PARTITION,
    ) -> str:
        """Give the destinations at an address a text for the policy."""
        _check_partition(partition)
        number, place = str(set), str(port)
        if not (number.isascii() and number.isdigit()):
            raise CommandFailed(500, "bad group value")
        if not (place.isascii() and place.isdigit() and int(place) < 65536):
            raise CommandFailed(400, "Bad port")
        group = self._dispatcher.groups.get(int(number))
        host = str(ip).strip("[]")
        address = Address("UDP", shortest_ipv6(host) or host, int(place))
        matching = [one for one in (group.destinations if group else ()) if _is_there(one, address)]
        if not matching:
            raise CommandFailed(404, "destination not found")
        for destination in matching:
            destination.pushed = str(attrs)
        return "OK"


def _is_there(destination: Destination, address: Address) -> bool:
    return any(
        found.host == address.host and address.port in (0, found.port)
        for found in destination.addresses
    )


def _check_partition(name: object) -> None:
    if str(name) != PARTITION:
        raise CommandFailed(500, "Unknown partition")


def _shown(destination: Destination, full: bool) -> dict[str, object]:
    shown: dict[str, object] = {
        "URI": str(destination.uri),
        "state": NAMES[destination.state],
        "first_hit_counter": destination.hits,
    }
    if destination.socket is not None:
        shown["socket"] = destination.socket.socket
    if destination.attrs:
        shown["attr"] = destination.attrs
    if destination.pushed:
        shown["script_attr"] = destination.pushed
    if full:
        shown["weight"] = destination.weight
        shown["priority"] = destination.priority
        if destination.description:
            shown["description"] = destination.description
    shown["resolved_addresses"] = [
        join_host_port(found.host, found.port) for found in destination.addresses
    ]
    return shown
