"""The registrar: REGISTER in, targets out (RFC 3261 section 10, RFC 3327, RFC 5626, RFC 5627)."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from os import urandom
from typing import Any, ClassVar, Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import classImplements

from pbx.errors import DatabaseError
from pbx.events import FlowClosed, Registered, Unregistered
from pbx.interfaces import (
    ICache,
    ICluster,
    ICommands,
    IDatabase,
    IDomains,
    IEvents,
    IFlows,
    IMetrics,
    IRegistrar,
    IStartable,
    IStatistics,
    ITimers,
    IWriteBehind,
)
from pbx.metrics import Kind, Metric
from pbx.services.registrar.answer import Answers
from pbx.services.registrar.commands import RegistrarCommands, shown
from pbx.services.registrar.gruu import PREFIX, TemporaryGRUUs, same_instance
from pbx.services.registrar.location import Binding, Location, Record
from pbx.services.registrar.lookup import accepting, make_targets, of_instance, target_of
from pbx.services.registrar.registration import Reader, method_bit
from pbx.services.registrar.reread import Reread
from pbx.services.registrar.save import Saver
from pbx.services.registrar.settings import RegistrarSettings
from pbx.services.registrar.sharing import Sharing
from pbx.services.registrar.store import SELECT, Rows
from pbx.sip.address import Address
from pbx.sip.message import Request
from pbx.sip.uri import URI
from pbx.verdicts import Arrival, Reply, Target

_SECRET: Final = "gruu_secret"
#: Rows that are read at a time.
PAGE: Final = 5000


class Registrar:
    """Bindings in memory; changes go to ``write_behind``, which fills the ``location`` table.

    ``write_behind`` is made for ``LOCATION_KEY`` and ``LOCATION_COLUMNS``.
    """

    log: ClassVar = Logger(__name__)

    def __init__(
        self,
        settings: RegistrarSettings,
        database: IDatabase,
        write_behind: IWriteBehind,
        cache: ICache | None,
        domains: IDomains,
        flows: IFlows,
        events: IEvents,
        clock: IReactorTime,
        timers: ITimers,
        cluster: ICluster | None = None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._cluster = cluster
        self._rows = Rows(settings.use_domain, settings.case_sensitive, "", cluster)
        self._domains = domains
        self._flows = flows
        self._events = events
        self._clock = clock
        self._write_behind = write_behind if settings.db_mode else None
        self._write_through = settings.db_mode in (1, 3)
        self._cache = cache if settings.contact_cache else None
        self._own_sockets: frozenset[Address] = frozenset()
        self.gruus = TemporaryGRUUs(urandom(32))
        self.location = Location(clock, timers, self._expired)
        self.expired = 0
        self._sharing: Sharing | None = None
        if cluster is not None:
            cluster.deliver_with(self._target_of_own)
            self._sharing = Sharing(
                cluster, database, lambda: self._rows, self.location, self, events, clock, timers
            )
        self._reread: Reread | None = None
        if settings.db_mode == 3:
            self._reread = Reread(
                database, lambda: self._rows, self.location, self, events, clock, timers
            )
        self._reader = Reader(settings, domains)
        self._answers = Answers(settings, self.location, clock)
        self._answers.gruus = self.gruus
        self._saver = Saver(settings, self._reader, self.location, self._answers, clock, self)
        self._commands = RegistrarCommands(self, settings)

    # IStartable

    async def start(self) -> None:
        """Read the bindings that are still valid and the secret of temporary GRUUs."""
        if self._settings.db_mode:
            await self._load()
            if self._sharing is not None:
                # What others wrote and told while we were reading.
                self._sharing.look_again()
        await self._load_secret()
        self._events.subscribe(FlowClosed, self._flow_closed)

    async def stop(self) -> None:
        """Write what is not written yet."""
        self._events.unsubscribe(FlowClosed, self._flow_closed)
        for part in (self._sharing, self._reread):
            if part is not None:
                part.stop()
        self.location.stop()
        if self._write_behind is not None:
            await self._write_behind.flush()

    async def _load(self) -> None:
        now = int(self._clock.seconds())
        try:
            await self._database.execute(
                "DELETE FROM location WHERE expires <> 0 AND expires <= ?", (now,)
            )
        except DatabaseError as error:
            if not error.refused:
                raise
            self.log.warn("expired rows of location stay: {why}", why=error.message)
        names = self._domains.names()
        self._rows = Rows(
            self._settings.use_domain,
            self._settings.case_sensitive,
            names[0] if names else "",
            self._cluster,
        )
        sql = f"{SELECT} WHERE contact_id > ? ORDER BY contact_id LIMIT ?"
        last = -(2**63)
        # Nothing of this is garbage, and looking for some takes longer than the loading.
        collecting = gc.isenabled()
        gc.disable()
        try:
            while True:
                rows = await self._database.query(sql, (last, PAGE))
                self._restore(rows, now + self._settings.restart_grace)
                if len(rows) < PAGE:
                    break
                last = rows[-1][0]
        finally:
            if collecting:
                gc.enable()

    def _restore(self, rows: Iterable[Sequence[object]], grace: int) -> None:
        for row in rows:
            binding = self._rows.read(row)
            if binding is None:
                continue
            if self._sharing is not None and self._sharing.knows(binding):
                # News of it came before its row.
                continue
            mine = binding.node is None
            if mine and binding.flow_required and (binding.expires > grace or not binding.expires):
                # Its connection died with the process; the phone will be back soon or never.
                binding.expires = grace
            if binding.instance:
                self.location.index(binding)
            self.location.add(binding)

    async def _load_secret(self) -> None:
        rows = await self._database.query("SELECT value FROM pbx_state WHERE name = ?", (_SECRET,))
        try:
            secret = bytes.fromhex(rows[0][0]) if rows else b""
        except (TypeError, ValueError):
            secret = b""
        if not 16 <= len(secret) <= 64:
            secret = urandom(32)
            if rows:
                await self._database.execute("DELETE FROM pbx_state WHERE name = ?", (_SECRET,))
            # Another node may have been faster: the secret is the same for all.
            insert = "INSERT INTO pbx_state (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING"
            if not await self._database.execute(insert, (_SECRET, secret.hex())):
                await self._load_secret()
                return
        self.gruus = self._answers.gruus = TemporaryGRUUs(secret)

    # IRegistrar

    async def save(self, request: Request, arrival: Arrival) -> Reply:
        """Do an authenticated REGISTER."""
        reply = self._saver.save(request, arrival)
        if self._write_through and reply.status == 200 and self._write_behind is not None:
            await self._write_behind.flush()
        return reply

    def lookup(self, uri: URI, method: str = "") -> Sequence[Target]:
        """Where to reach an address of record or GRUU, best first."""
        if uri.params and "gr" in uri.params:
            return self._lookup_gruu(uri, method)
        record = self.location.records.get(self._reader.aor(uri))
        if record is None:
            return ()
        targets = record.targets
        if targets is None:
            targets = self._make_targets(record)
        if not method:
            return targets
        return accepting(targets, record.masks, method_bit(method))

    def _make_targets(self, record: Record) -> tuple[Target, ...]:
        return make_targets(
            record, self._settings.desc_time_order, self._is_listener, self._cluster
        )

    def _target_of_own(self, aor: str, contact_id: int) -> Target | None:
        """For another node, which sends by way of us."""
        record = self.location.get(aor)
        for binding in record.bindings if record is not None else ():
            if binding.contact_id == contact_id and binding.node is None and binding.reachable:
                return target_of(binding, self._is_listener)
        return None

    def _lookup_gruu(self, uri: URI, method: str) -> Sequence[Target]:
        bit = method_bit(method)
        found = Record("")
        found.bindings = [
            binding
            for binding in self._bindings_of_gruu(uri)
            if not method or binding.methods is None or binding.methods & bit
        ]
        return self._make_targets(found)

    def _bindings_of_gruu(self, uri: URI) -> Sequence[Binding]:
        if uri.user.startswith(PREFIX):
            named = self.location.by_id(self.gruus.contact_id(uri.user))
            if named is None or not self.gruus.is_valid(uri.user, named.call_id):
                return ()
            bindings = self.location.records[named.aor].bindings
            return of_instance([b for b in bindings if b.instance == named.instance])
        gr = uri.params.get("gr")
        record = self.location.get(self._reader.aor(uri))
        if record is None or not gr:
            return ()
        return of_instance(
            [b for b in record.bindings if b.instance and same_instance(gr, b.instance)]
        )

    def _is_listener(self, address: Address) -> bool:
        if address not in self._own_sockets:
            self._own_sockets = frozenset(self._flows.listeners())
        return address in self._own_sockets

    def is_registered(self, uri: URI) -> bool:
        """Whether there is any binding that can be reached, whatever methods it accepts."""
        if uri.params and "gr" in uri.params:
            return any(binding.reachable for binding in self._bindings_of_gruu(uri))
        record = self.location.get(self._reader.aor(uri))
        return record is not None and any(binding.reachable for binding in record.bindings)

    def bindings(self, aor: str = "") -> Sequence[Mapping[str, Any]]:
        """All bindings (of one AOR) as the management interface shows them, with their ``AOR``."""
        now = self._clock.seconds()
        record = self.location.get(aor) if aor else None
        of_one = record.bindings if record is not None else ()
        found: Iterable[Binding] = of_one if aor else self.location.all()
        synced = self.synced_before
        return [{"AOR": binding.aor, **shown(binding, now, synced)} for binding in found]

    def page(self, text: str, limit: int) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """How many bindings have a text in AOR or contact, and the first of them as above."""
        now, synced = self._clock.seconds(), self.synced_before
        found = [
            binding
            for binding in self.location.all()
            if text in binding.aor or text in binding.contact
        ]
        return len(found), [
            {"AOR": binding.aor, **shown(binding, now, synced)} for binding in found[:limit]
        ]

    def remove(self, aor: str, contact: str = "") -> int:
        """Remove the bindings of an AOR, or one; how many there were."""
        record = self.location.get(aor)
        if record is None:
            return 0
        gone = [b for b in record.bindings if not contact or b.contact == contact]
        for binding in gone:
            self.removed(binding, "admin")
        return len(gone)

    def pingable(self, nated_only: bool = True) -> Iterable[tuple[str, Target]]:
        """AOR and target of every binding (behind a NAT); new ones meanwhile come next time."""
        for record in list(self.location.records.values()):
            # Not kept in the record: most of these are pinged for hours and never called.
            for binding in tuple(record.bindings):
                if (
                    binding.node is None
                    and binding.reachable
                    and (binding.cflags or not nated_only)
                ):
                    target = target_of(binding, self._is_listener)
                    if target is not None:
                        yield record.aor, target

    def hosts(self) -> Iterable[str]:
        """Where phones are: the address that each came from, or that it said."""
        return {
            host_of(binding.received or binding.contact)
            for record in self.location.records.values()
            for binding in record.bindings
            if not binding.path
        }

    # What happens to bindings: called by the saver, the commands and the expiry

    def added(self, binding: Binding, expires: int) -> None:
        """A new binding is in the location table."""
        self._write(binding)
        if self._events.wanted(Registered):
            self._events.publish(
                Registered(
                    binding.aor,
                    binding.contact,
                    expires,
                    binding.flow,
                    True,
                    binding.instance or "",
                )
            )

    def refreshed(self, binding: Binding, expires: int) -> None:
        """A binding was refreshed."""
        self._write(binding)
        if self._events.wanted(Registered):
            self._events.publish(
                Registered(
                    binding.aor,
                    binding.contact,
                    expires,
                    binding.flow,
                    False,
                    binding.instance or "",
                )
            )

    def removed(self, binding: Binding, reason: str) -> None:
        """Take a binding out of the location table."""
        self.location.remove(binding)
        if self._write_behind is not None:
            self._write_behind.delete((binding.contact_id,))
        if self._sharing is not None:
            self._sharing.gone(binding)
        if self._cache is not None and reason != "replaced":
            self.cache_contact(_cache_key(binding.aor), binding.aor)
        if self._events.wanted(Unregistered):
            self._events.publish(Unregistered(binding.aor, binding.contact, reason))

    def cache_contact(self, key: str, aor: str) -> None:
        """Tell the cache the contact that was refreshed last, or that there is none (O12)."""
        if self._cache is None:
            return
        record = self.location.get(aor)
        if record is None:
            self._cache.delete(key)
            return
        newest = max(record.bindings, key=lambda b: (b.last_modified, b.contact_id))
        left = max(newest.expires - self._clock.seconds(), 1.0) if newest.expires else None
        self._cache.set(key, newest.contact, left)

    @property
    def caching(self) -> bool:
        """Whether contacts go to the cache."""
        return self._cache is not None

    def _write(self, binding: Binding) -> None:
        if self._write_behind is not None:
            self._write_behind.put((binding.contact_id,), partial(self._rows.row_of, binding))
        if self._sharing is not None:
            self._sharing.changed(binding)

    # What other nodes did to bindings of ours: called by the sharing

    def given_up(self, binding: Binding) -> None:
        """A phone of ours registered at another node, which writes the row now."""
        if self._write_behind is not None:
            self._write_behind.forget((binding.contact_id,))
        if self._events.wanted(Unregistered):
            self._events.publish(Unregistered(binding.aor, binding.contact, "replaced"))

    def vanished(self, binding: Binding) -> None:
        """Another program deleted its row."""
        self.removed(binding, "admin")

    def dropped(self, binding: Binding) -> None:
        """Another node removed it, or has a newer one of the same phone."""
        if self._write_behind is not None:
            self._write_behind.delete((binding.contact_id,))
        if self._events.wanted(Unregistered):
            self._events.publish(Unregistered(binding.aor, binding.contact, "replaced"))

    def _expired(self, binding: Binding) -> None:
        if binding.node is not None:
            self._expired_elsewhere(binding)
            return
        self.expired += 1
        self.removed(binding, "expired")

    def _expired_elsewhere(self, binding: Binding) -> None:
        """Its node tells the others of a refresh, and deletes the row; a dead one does neither."""
        self.location.remove(binding)
        node, leads = binding.node, self._cluster is not None and self._cluster.leads()
        if self._write_behind is not None and node is not None and not node.alive and leads:
            self._write_behind.delete((binding.contact_id,))

    def _flow_closed(self, event: FlowClosed) -> None:
        for binding in self.location.unbind_all(event.flow):
            if binding.flow_required:
                self.removed(binding, "flow")

    # Management

    def now(self) -> float:
        """Time of the clock."""
        return self._clock.seconds()

    @property
    def synced_before(self) -> float:
        """Bindings last changed before this time are in the database."""
        if self._write_behind is None:
            return 0.0
        return self._clock.seconds() + (1.0 if self._write_through else -1.5)

    def look_again(self) -> bool:
        """Compare what other nodes told with the table; False when there is no other node."""
        if self._sharing is not None:
            self._sharing.look_again()
        return self._sharing is not None

    async def write_all(self, aor: str = "") -> None:
        """Write the bindings of an AOR, or all, whether they changed or not."""
        record = self.location.get(aor) if aor else None
        of_one = record.bindings if record is not None else ()
        for binding in of_one if aor else self.location.all():
            self._write(binding)
        await self.flush()

    async def flush(self) -> None:
        """What waits to be written is written."""
        if self._write_behind is not None:
            await self._write_behind.flush()

    def save_by_hand(self, binding: Binding, expires: int) -> None:
        """A binding that no REGISTER made; replaces one with the same Contact."""
        record = self.location.get(binding.aor)
        for old in list(record.bindings) if record is not None else ():
            if old.contact == binding.contact:
                self.removed(old, "replaced")
        self.location.add(binding)
        self.added(binding, expires)

    def commands(
        self,
    ) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """The ``ul_`` commands."""
        return self._commands.table()

    def statistics(self) -> Mapping[str, int]:
        """Groups ``usrloc`` and ``registrar``."""
        users = len(self.location.records)
        return {
            "usrloc:registered_users": users,
            "usrloc:location-users": users,
            "usrloc:location-contacts": self.location.contacts,
            "usrloc:location-expires": self.expired,
            "registrar:max_expires": self._settings.max_expires,
            "registrar:max_contacts": self._settings.max_contacts,
            "registrar:default_expire": self._settings.default_expires,
            "registrar:accepted_registrations": self._saver.accepted,
            "registrar:rejected_registrations": self._saver.rejected,
        }

    def metrics(self) -> Iterable[Metric]:
        """Bindings by transport."""
        yield Metric(
            "pbx_registrations",
            Kind.GAUGE,
            "Registered contacts, by the transport that they came by.",
            ("transport",),
            [((transport,), count) for transport, count in self.location.transports.items()],
        )


classImplements(Registrar, IRegistrar, IStartable, ICommands, IStatistics, IMetrics)


def host_of(uri: str) -> str:
    """The host of a URI that was read before, quickly: there may be a million of them."""
    host = uri.partition(";")[0].rpartition("@")[2].removeprefix("sip:").removeprefix("sips:")
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _cache_key(aor: str) -> str:
    user, _, host = aor.rpartition("@")
    return f"{host}:{user}"
