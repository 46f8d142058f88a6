"""Bindings as rows of the ``location`` table, and back."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from twisted.logger import Logger

from pbx.interfaces import ICluster
from pbx.services.registrar.location import Binding
from pbx.services.registrar.lookup import connectable
from pbx.sip.address import Address
from pbx.sip.errors import MalformedURI
from pbx.sip.params import split_outside
from pbx.sip.uri import URI, split_host_port

#: Key and columns of the table as the rows of `Rows.row_of` fill them.
LOCATION_KEY: Final = ("contact_id",)
LOCATION_COLUMNS: Final = (
    "contact_id",
    "username",
    "domain",
    "contact",
    "received",
    "path",
    "expires",
    "q",
    "callid",
    "cseq",
    "last_modified",
    "flags",
    "cflags",
    "user_agent",
    "socket",
    "methods",
    "sip_instance",
    "kv_store",
    "attr",
    "pbx_node",
)
SELECT: Final = f"SELECT {', '.join(LOCATION_COLUMNS)} FROM location"
#: Rows at fault that are named in the log.
MAX_FAULTS: Final = 100
_REG_ID: Final = "reg-id"


class Rows:
    """Turns bindings into rows and rows into bindings.

    ``default_domain`` is for rows without domain, which were written under ``use_domain = false``.
    """

    log = Logger()

    def __init__(
        self,
        use_domain: bool,
        case_sensitive: bool,
        default_domain: str,
        cluster: ICluster | None = None,
    ) -> None:
        self._use_domain = use_domain
        self._case_sensitive = case_sensitive
        self._default_domain = default_domain
        self._cluster = cluster
        self._own_name = None if cluster is None else cluster.name
        self._faults = 0
        self._sockets: dict[str, Address | None] = {}
        self._second = -1
        self._second_text = ""

    def row_of(self, binding: Binding) -> tuple[object, ...]:
        """The row of a binding."""
        user, at, host = binding.aor.rpartition("@")
        if not at or not self._use_domain:
            user, host = binding.aor, ""
        return (
            binding.contact_id,
            user,
            host or None,
            binding.contact,
            binding.received or None,
            ", ".join(binding.path) if binding.path else None,
            binding.expires,
            binding.q,
            binding.call_id,
            binding.cseq,
            self.local_time(binding.last_modified),
            binding.flags,
            binding.cflags or None,
            binding.user_agent or "n/a",
            binding.socket.socket if binding.socket is not None else None,
            binding.methods,
            binding.instance or None,
            binding.kv_store or None,
            binding.attr or None,
            self._own_name if binding.node is None else binding.node.name,
        )

    def local_time(self, second: int) -> str:
        """Epoch seconds as the ``timestamp`` columns hold them."""
        if second != self._second:
            self._second = second
            self._second_text = datetime.fromtimestamp(second).isoformat(" ")
        return self._second_text

    def read(self, row: Sequence[object]) -> Binding | None:
        """The binding of a row; None, and a line in the log, for one that makes no sense."""
        try:
            binding = self.binding_of(row)
            try:
                URI.parse(binding.contact)
            except MalformedURI as error:
                raise ValueError(f"contact: {error.reason or 'no URI'}") from None
            return binding
        except ValueError as error:
            if self._faults < MAX_FAULTS:
                self._faults += 1
                self.log.warn("location row {id} is left alone: {error!s}", id=row[0], error=error)
            return None

    def binding_of(self, row: Sequence[object]) -> Binding:
        """The binding of a row. Raises ValueError that names the column at fault."""
        value = dict(zip(LOCATION_COLUMNS, row, strict=True))
        contact, user = value["contact"], value["username"]
        if not contact or not user:
            raise ValueError(f"{'username' if contact else 'contact'}: empty")
        aor = str(user)
        if self._use_domain and "@" not in aor:
            aor = f"{aor}@{str(value['domain'] or self._default_domain).lower()}"
        binding = Binding(
            aor if self._case_sensitive else aor.lower(),
            str(contact),
            _whole("contact_id", value["contact_id"]),
        )
        binding.received = str(value["received"] or "")
        if value["path"]:
            binding.path = tuple(split_outside(str(value["path"]), ","))
        binding.expires = _whole("expires", value["expires"])
        binding.q = _number("q", value["q"])
        binding.call_id = str(value["callid"] or "")
        binding.cseq = _whole("cseq", value["cseq"])
        binding.last_modified = _epoch(value["last_modified"])
        binding.flags = _whole("flags", value["flags"])
        binding.cflags = sys.intern(str(value["cflags"] or ""))
        agent = str(value["user_agent"] or "")
        binding.user_agent = "" if agent == "n/a" else sys.intern(agent)
        socket, methods = value["socket"], value["methods"]
        binding.socket = self._socket(str(socket)) if socket else None
        binding.methods = None if methods is None else _whole("methods", methods)
        binding.instance = str(value["sip_instance"] or "")
        binding.attr = str(value["attr"] or "")
        node = value["pbx_node"]
        if node and self._cluster is not None and node != self._own_name:
            binding.node = self._cluster.node(str(node))
        if value["kv_store"]:
            binding.kv_store = str(value["kv_store"])
            binding.reg_id = reg_id_of(binding.kv_store)
        binding.flow_required = needs_flow(binding)
        return binding

    def _socket(self, text: str) -> Address | None:
        if text in self._sockets:
            return self._sockets[text]
        transport, _, rest = text.partition(":")
        try:
            host, port = split_host_port(rest)
            address = Address(sys.intern(transport.upper()), host, port or 5060)
        except MalformedURI:
            address = None
        if len(self._sockets) < 1000:
            self._sockets[text] = address
        return address


def needs_flow(binding: Binding) -> bool:
    """Whether only the connection that it came by leads to a binding, as to any browser."""
    if binding.path or not binding.received:
        return False
    marker = binding.received.rpartition(";transport=")[2]
    if marker == binding.received:
        return False
    if marker == "ws" or marker == "wss" or binding.reg_id:
        return True
    try:
        host = URI.parse(binding.received).host
    except MalformedURI:
        return True
    return not connectable(binding.contact, host)


def with_reg_id(kv_store: str, reg_id: int) -> str:
    """The ``kv_store`` column with our part of it set; what others wrote stays."""
    if not kv_store:
        return f'{{"{_REG_ID}": {reg_id}}}' if reg_id else ""
    known = _object(kv_store)
    if known is None:
        return kv_store
    if reg_id:
        known[_REG_ID] = reg_id
    else:
        known.pop(_REG_ID, None)
    return json.dumps(known) if known else ""


def reg_id_of(kv_store: str) -> int:
    """The reg-id in the ``kv_store`` column, 0 for none."""
    value = (_object(kv_store) or {}).get(_REG_ID, 0)
    return value if isinstance(value, int) and 0 < value < 2**31 else 0


def _object(text: str) -> dict[str, object] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _whole(column: str, value: object) -> int:
    try:
        return value if isinstance(value, int) else int(str(value or 0))
    except ValueError:
        raise ValueError(f"{column}: {str(value)[:60]!r} is no whole number") from None


def _number(column: str, value: object) -> float:
    try:
        return -1.0 if value is None else float(str(value))
    except ValueError:
        raise ValueError(f"{column}: {str(value)[:60]!r} is no number") from None


def _epoch(value: object) -> int:
    """A ``timestamp`` column as epoch seconds; text in SQLite, datetime in PostgreSQL."""
    try:
        when = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        return int(when.timestamp())
    except (ValueError, OverflowError, OSError):
        return 0
