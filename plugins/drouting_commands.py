"""The ``dr_*`` commands of the management interface (spec 40)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import ctime
from typing import TYPE_CHECKING, Final

from pbx.commands import CommandFailed
from pbx.errors import DatabaseError
from plugins.drouting_table import DISABLED, ENABLED, NEVER, Carrier, Gateway

if TYPE_CHECKING:
    from plugins.drouting import DynamicRouting

CommandRow = tuple[str, Sequence[Sequence[str]], Callable[..., object]]
PARTITION: Final = "Default"


class GatewayCommands:
    """What operators ask of dynamic routing."""

    def __init__(self, routing: DynamicRouting) -> None:
        self._routing = routing

    def rows(self) -> Sequence[CommandRow]:
        """Name, recipes and function of each."""
        return (
            (
                "dr_reload",
                (
                    (),
                    ("partition_name",),
                    ("inherit_state",),
                    ("partition_name", "inherit_state"),
                ),
                self.dr_reload,
            ),
            ("dr_gw_status", ((), ("gw_id",), ("gw_id", "status")), self.dr_gw_status),
            (
                "dr_carrier_status",
                ((), ("carrier_id",), ("carrier_id", "status")),
                self.dr_carrier_status,
            ),
            (
                "dr_number_routing",
                (("number",), ("group_id", "number")),
                self.dr_number_routing,
            ),
            ("dr_reload_status", ((), ("partition_name",)), self.dr_reload_status),
            ("dr_enable_probing", ((), ("status",)), self.dr_enable_probing),
        )

    async def dr_reload(
        self, partition_name: object = PARTITION, inherit_state: object = "y"
    ) -> str:
        """Read gateways, carriers, groups and rules again."""
        _check_partition(partition_name)
        inherit = str(inherit_state).lower()
        if inherit not in ("y", "n", "1", "0"):
            raise CommandFailed(400, "Bad inherit_state: y or n")
        try:
            await self._routing.reload(inherit in ("y", "1"))
        except DatabaseError as error:
            raise CommandFailed(500, "Failed to reload") from error
        return "OK"

    def dr_gw_status(self, gw_id: object = None, status: object = None) -> object:
        """The states of gateways, or of one; or switch one off (0) and on (1)."""
        gateways = self._routing.gateways
        if gw_id is None:
            return {"Gateways": [_shown_gateway(found) for found in gateways.values()]}
        gateway = gateways.get(str(gw_id))
        if gateway is None:
            raise CommandFailed(404, "GW ID not found")
        if status is None:
            return {"State": _state(gateway)}
        state = ENABLED if _is_on(status) else DISABLED
        self._routing.set_state(gateway, state, "by the operator")
        return "OK"

    def dr_carrier_status(self, carrier_id: object = None, status: object = None) -> object:
        """Which carriers are used, or whether one is; or switch one off (0) and on (1)."""
        carriers = self._routing.carriers
        if carrier_id is None:
            return {"Carriers": [{"ID": id, **_enabled(one)} for id, one in carriers.items()]}
        carrier = carriers.get(str(carrier_id))
        if carrier is None:
            raise CommandFailed(404, "Carrier ID not found")
        if status is None:
            return _enabled(carrier)
        self._routing.set_carrier(carrier, _is_on(status))
        return "OK"

    def dr_number_routing(self, number: object, group_id: object = None) -> object:
        """The rule that a number meets now."""
        group = self._routing.settings.default_group
        if group_id is not None:
            digits = str(group_id)
            if not (digits.isascii() and digits.isdigit()):
                raise CommandFailed(400, "Bad group_id")
            group = int(digits)
        user = str(number)
        if self._routing.settings.plus == "strip":
            user = user.removeprefix("+")
        rule = self._routing.rule_for(user, group)
        if rule is None:
            raise CommandFailed(404, "No match")
        shown: dict[str, object] = {
            "Matched Prefix": rule.prefix,
            "GW List": [
                {"CARRIER" if entry.is_carrier else "GW": entry.name} for entry in rule.entries
            ],
        }
        if rule.attrs:
            shown["ATTRS"] = rule.attrs
        return shown

    def dr_reload_status(self, partition_name: object = PARTITION) -> dict[str, str]:
        """When the tables were read last."""
        _check_partition(partition_name)
        return {"Date": ctime(self._routing.reloaded)}

    def dr_enable_probing(self, status: object = None) -> object:
        """Whether gateways are probed; or switch it off (0) and on (1)."""
        prober = self._routing.prober
        if status is None:
            return {"Status": int(prober.enabled)}
        prober.enabled = _is_on(status)
        return "OK"


def _check_partition(name: object) -> None:
    if str(name) not in (PARTITION, PARTITION.lower()):
        raise CommandFailed(404, "Partition not found")


def _is_on(status: object) -> bool:
    if str(status) not in ("0", "1"):
        raise CommandFailed(400, "Bad status: 0 or 1")
    return str(status) == "1"


def _state(gateway: Gateway) -> str:
    if gateway.state == ENABLED:
        return "Active"
    if gateway.state == DISABLED:
        return "Disabled MI"
    return "Inactive" if gateway.probe_mode == NEVER else "Probing"


def _shown_gateway(gateway: Gateway) -> dict[str, str]:
    shown = {"ID": gateway.id, "IP": gateway.address}
    if gateway.attrs:
        shown["ATTRS"] = gateway.attrs
    return {**shown, "State": _state(gateway)}


def _enabled(carrier: Carrier) -> dict[str, str]:
    return {"Enabled": "yes" if carrier.enabled else "no"}
