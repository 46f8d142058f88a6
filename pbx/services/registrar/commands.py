"""The ``ul_`` commands of the management interface."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import ceil
from typing import Any, Final, Protocol

from pbx.commands import CommandFailed
from pbx.services.registrar.location import Binding, Location
from pbx.services.registrar.registration import LATEST
from pbx.services.registrar.settings import RegistrarSettings
from pbx.sip.errors import MalformedURI
from pbx.sip.uri import URI

#: The only table that there is.
TABLE: Final = "location"
_HASH_SIZE: Final = 512
#: ``Methods`` of a phone that sent no Allow, and of one that accepts all.
_UNKNOWN_METHODS: Final = 2**32 - 1
_ALL_METHODS: Final = 32767

Command = tuple[str, Sequence[Sequence[str]], Callable[..., object]]


class Keeper(Protocol):
    """The registrar, as the commands need it."""

    location: Location

    @property
    def synced_before(self) -> float:
        """Bindings last changed before this time are in the database."""

    def now(self) -> float:
        """Time of the clock."""

    def remove(self, aor: str, contact: str = "") -> int:
        """Remove the bindings of an AOR, or one; how many there were."""

    def save_by_hand(self, binding: Binding, expires: int) -> None:
        """A binding that no REGISTER made."""

    def look_again(self) -> bool:
        """Compare with the table soon; False when there is no other node."""

    async def write_all(self, aor: str = "") -> None:
        """Write the bindings of an AOR, or all."""

    async def flush(self) -> None:
        """What waits to be written is written."""


def shown(binding: Binding, now: float, synced_before: float) -> dict[str, Any]:
    """A contact as the management interface shows it."""
    expires: object = "permanent"
    if binding.expires:
        expires = int(binding.expires - now) if binding.expires > now else "expired"
    text: dict[str, Any] = {
        "Contact": binding.contact,
        "ContactID": str(binding.contact_id),
        "Expires": expires,
        "Q": f"{binding.q:.3g}" if binding.q >= 0 else "",
        "Callid": binding.call_id,
        "Cseq": binding.cseq,
        "User-agent": binding.user_agent or "n/a",
    }
    if binding.received:
        text["Received"] = binding.received
    if binding.path:
        text["Path"] = ", ".join(binding.path)
    if binding.node is not None:
        text["Node"] = binding.node.name
    text["State"] = _state(binding, synced_before)
    text["Flags"] = binding.flags
    text["Cflags"] = binding.cflags
    if binding.socket is not None:
        text["Socket"] = binding.socket.socket
    text["Methods"] = _UNKNOWN_METHODS if binding.methods is None else binding.methods
    for name, value in (
        ("Attr", binding.attr),
        ("SIP_instance", binding.instance),
        ("KV-Store", binding.kv_store),
    ):
        if value:
            text[name] = value
    return text


def _state(binding: Binding, synced_before: float) -> str:
    if binding.last_modified < synced_before:
        return "CS_SYNC"
    return "CS_NEW" if binding.last_modified <= binding.created else "CS_DIRTY"


class RegistrarCommands:
    """``ul_dump`` and its relatives."""

    def __init__(self, keeper: Keeper, settings: RegistrarSettings) -> None:
        self._keeper = keeper
        self._settings = settings

    def table(self) -> Sequence[Command]:
        """Names, recipes and functions."""
        add = ("table_name", "aor", "contact", "expires", "q", "flags", "cflags", "methods")
        return (
            ("ul_dump", ((), ("brief",)), self.dump),
            ("ul_show_contact", (("table_name", "aor"),), self.show_contact),
            ("ul_add", (add,), self.add),
            ("ul_rm", (("table_name", "aor"),), self.remove),
            ("ul_rm_contact", (("table_name", "aor", "contact"),), self.remove_contact),
            ("ul_flush", ((),), self.flush),
            ("ul_sync", (("table_name",), ("table_name", "aor")), self.sync),
            ("ul_cluster_sync", ((),), self.cluster_sync),
        )

    def dump(self, brief: object = None) -> Mapping[str, Any]:
        """Every user, with contacts unless ``brief``."""
        records = self._keeper.location.records.values()
        aors: list[dict[str, Any]]
        if brief is None:
            aors = [
                {"AOR": record.aor, "Contacts": self._shown(record.bindings)} for record in records
            ]
        else:
            aors = [{"AOR": record.aor} for record in records]
        return {"Domains": [{"name": TABLE, "hash_size": _HASH_SIZE, "AORs": aors}]}

    def _shown(self, bindings: Sequence[Binding]) -> list[dict[str, Any]]:
        now = self._keeper.now()
        synced = self._keeper.synced_before
        return [shown(binding, now, synced) for binding in bindings]

    def _aor(self, table_name: object, aor: object) -> str:
        if table_name != TABLE:
            raise CommandFailed(404, "Table not found")
        text = str(aor)
        for scheme in ("sip:", "sips:"):
            text = text.removeprefix(scheme)
        user, at, host = text.rpartition("@")
        if self._settings.use_domain:
            if not at:
                raise CommandFailed(400, "Domain missing in AOR")
            text = f"{user}@{host.lower()}"
        elif at:
            text = user
        return text if self._settings.case_sensitive else text.lower()

    def show_contact(self, table_name: object, aor: object) -> Mapping[str, Any]:
        """The contacts of one user."""
        record = self._keeper.location.get(self._aor(table_name, aor))
        if record is None:
            raise CommandFailed(404, "AOR not found")
        return {"AOR": record.aor, "Contacts": self._shown(record.bindings)}

    def add(
        self,
        table_name: object,
        aor: object,
        contact: object,
        expires: object,
        q: object,
        flags: object,
        cflags: object,
        methods: object,
    ) -> str:
        """A contact without REGISTER; ``expires`` in seconds, 0 for ever."""
        known = self._aor(table_name, aor)
        now = self._keeper.now()
        binding = Binding(known, str(contact), self._keeper.location.new_id())
        try:
            URI.parse(binding.contact)
            seconds = int(str(expires))
            binding.q = -1.0 if str(q) in ("", "-1") else float(str(q))
            binding.flags = int(str(flags) or "0")
            mask = int(str(methods) or str(_ALL_METHODS))
        except (MalformedURI, ValueError):
            raise CommandFailed(400, "Bad parameter value") from None
        if seconds < 0 or not -1 <= binding.q <= 1 or not 0 <= mask <= _UNKNOWN_METHODS:
            raise CommandFailed(400, "Bad parameter value")
        binding.cflags = "" if str(cflags) == "0" else str(cflags)
        binding.methods = mask if mask < _ALL_METHODS else None
        binding.expires = min(ceil(now) + seconds, LATEST) if seconds else 0
        binding.last_modified = int(now)
        binding.call_id = "ul_add"
        binding.cseq = 1
        self._keeper.save_by_hand(binding, seconds)
        return "OK"

    def remove(self, table_name: object, aor: object) -> str:
        """All contacts of one user."""
        if not self._keeper.remove(self._aor(table_name, aor)):
            raise CommandFailed(404, "AOR not found")
        return "OK"

    def remove_contact(self, table_name: object, aor: object, contact: object) -> str:
        """One contact of one user."""
        known = self._aor(table_name, aor)
        if self._keeper.location.get(known) is None:
            raise CommandFailed(404, "AOR not found")
        if not contact or not self._keeper.remove(known, str(contact)):
            raise CommandFailed(404, "Contact not found")
        return "OK"

    async def flush(self) -> str:
        """Write changes now."""
        await self._keeper.flush()
        return "OK"

    def sync(self, table_name: object, aor: object = None) -> Awaitable[str]:
        """Write contacts whether they changed or not."""
        if table_name != TABLE:
            raise CommandFailed(404, "Table not found")
        if self._settings.db_mode == 3:
            raise CommandFailed(200, "Contacts already synced")
        known = "" if aor is None else self._aor(table_name, aor)
        if known and self._keeper.location.get(known) is None:
            raise CommandFailed(404, "AOR not found")
        return self._sync(known)

    async def _sync(self, aor: str) -> str:
        await self._keeper.write_all(aor)
        return "OK"

    def cluster_sync(self) -> str:
        """Compare with the table what other nodes told."""
        if not self._keeper.look_again():
            raise CommandFailed(400, "Clustering not enabled")
        return "OK"
