"""REGISTER step by step: match, check everything, then change everything (RFC 3261 10.3)."""

from __future__ import annotations

from math import ceil
from typing import Final, Protocol

from twisted.internet.interfaces import IReactorTime

from pbx.interfaces import IFlow
from pbx.services.registrar.answer import Answers
from pbx.services.registrar.location import Binding, Location, Record
from pbx.services.registrar.registration import (
    LATEST,
    Reader,
    Registration,
    RegistrationRefused,
    Wanted,
)
from pbx.services.registrar.settings import RegistrarSettings
from pbx.services.registrar.store import needs_flow, with_reg_id
from pbx.sip.errors import MalformedMessage, MalformedURI
from pbx.sip.message import Request
from pbx.sip.uri import URI
from pbx.verdicts import Arrival, Reply

#: Seconds that a connection is kept beyond the registration that came by it.
LINGER: Final = 10


class Keeper(Protocol):
    """Who writes, announces and caches what the saver changed: the registrar."""

    @property
    def caching(self) -> bool:
        """Whether `cache_contact` does anything."""

    def added(self, binding: Binding, expires: int) -> None:
        """A new binding is in the location table."""

    def refreshed(self, binding: Binding, expires: int) -> None:
        """A binding was refreshed."""

    def removed(self, binding: Binding, reason: str) -> None:
        """Take a binding out of the location table."""

    def cache_contact(self, key: str, aor: str) -> None:
        """Tell the cache what changed."""


class Saver:
    """Does REGISTER requests; nothing is changed unless all of a request can be done."""

    def __init__(
        self,
        settings: RegistrarSettings,
        reader: Reader,
        location: Location,
        answers: Answers,
        clock: IReactorTime,
        keeper: Keeper,
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._location = location
        self._answers = answers
        self._clock = clock
        self._keeper = keeper
        self.accepted = 0
        self.rejected = 0

    def save(self, request: Request, arrival: Arrival) -> Reply:
        """The answer, all changes done."""
        aor = ""
        try:
            registration = self._reader.read(request)
            if arrival.flow.closed:
                raise RegistrationRefused(503, "Connection closed")
            aor = registration.aor
            outbound = self._do(registration, arrival)
        except RegistrationRefused as error:
            self.rejected += 1
            return self._answers.refused(error, aor)
        except MalformedMessage as error:
            self.rejected += 1
            refused = RegistrationRefused(400, error.reason or "Bad request")
            return self._answers.refused(refused, aor)
        self.accepted += 1
        if self._keeper.caching and (registration.contacts or registration.removes_all):
            self._keeper.cache_contact(f"{request.from_.uri.host}:{registration.to.user}", aor)
        return self._answers.ok(registration, outbound, arrival.flow.reliable)

    def _do(self, registration: Registration, arrival: Arrival) -> bool:
        """Whether outbound processing was applied."""
        record = self._location.records.get(registration.aor)
        if registration.removes_all:
            self._remove_all(record, registration)
            return False
        wishes = registration.contacts
        if not wishes:
            return False
        now = self._clock.seconds()
        plan: list[tuple[Wanted, Binding | None]] = []
        added = removed = 0
        for wanted in wishes:
            binding = None if record is None else self._match(record, wanted, registration)
            if binding is None:
                if not wanted.expires:
                    continue
                _check_uri(wanted.contact)
                added += 1
            elif self._is_repeated(binding, registration, now):
                continue
            elif not wanted.expires:
                removed += 1
            elif binding.contact != wanted.contact:
                _check_uri(wanted.contact)
            plan.append((wanted, binding))
        displaced: list[Binding] = []
        if added and self._settings.max_contacts:
            displaced = self._displaced(record, plan, added - removed, arrival)
        for binding in displaced:
            self._keeper.removed(binding, "replaced")
        for wanted, binding in plan:
            self._apply(wanted, binding, registration, arrival, now)
        return any(wanted.reg_id and wanted.expires for wanted in wishes)

    def _match(self, record: Record, wanted: Wanted, registration: Registration) -> Binding | None:
        """The binding that a Contact means: the flow (RFC 5626 6), else the very same URI."""
        if wanted.reg_id:
            for binding in record.bindings:
                if binding.reg_id == wanted.reg_id and binding.instance == wanted.instance:
                    return binding
        by_call_id = self._settings.matching_mode == 1
        for binding in record.bindings:
            if (
                binding.contact == wanted.contact
                and not (wanted.reg_id and binding.reg_id)
                and not (by_call_id and binding.call_id != registration.call_id)
            ):
                return binding
        return None

    def _is_repeated(self, binding: Binding, registration: Registration, now: float) -> bool:
        """Whether it is a retransmission (step 7). Raises RegistrationRefused for one too late."""
        if binding.call_id != registration.call_id or binding.cseq < registration.cseq:
            return False
        if (
            binding.cseq == registration.cseq
            and now - binding.last_modified <= self._settings.cseq_delay
        ):
            return True
        raise RegistrationRefused(400, "Invalid CSeq number")

    def _remove_all(self, record: Record | None, registration: Registration) -> None:
        """``Contact: *`` (step 6)."""
        if record is None:
            return
        for binding in record.bindings:
            if binding.call_id == registration.call_id and binding.cseq >= registration.cseq:
                raise RegistrationRefused(400, "Invalid CSeq number")
        for binding in list(record.bindings):
            self._keeper.removed(binding, "removed")

    def _displaced(
        self,
        record: Record | None,
        plan: list[tuple[Wanted, Binding | None]],
        more: int,
        arrival: Arrival,
    ) -> list[Binding]:
        """Who makes room (oddity O11). Raises RegistrationRefused when there is none."""
        bindings = record.bindings if record is not None else []
        excess = len(bindings) + more - self._settings.max_contacts
        if excess <= 0:
            return []
        touched = {id(binding) for _, binding in plan}
        others = [binding for binding in bindings if id(binding) not in touched]
        browser = arrival.peer.transport in ("WS", "WSS")
        if excess > len(others) or not (self._settings.force_registration or browser):
            raise RegistrationRefused(503, "Too many registered contacts", listed=True)
        others.sort(key=lambda b: (b.reachable, b.last_modified, b.contact_id))
        return others[:excess]

    def _apply(
        self,
        wanted: Wanted,
        binding: Binding | None,
        registration: Registration,
        arrival: Arrival,
        now: float,
    ) -> None:
        if not wanted.expires:
            # The same contact may be removed twice in one request.
            if binding is not None and binding.slot >= 0:
                self._keeper.removed(binding, "removed")
            return
        record = self._location.records.get(registration.aor)
        if binding is None and record is not None:
            # Named twice in one request.
            binding = self._match(record, wanted, registration)
        location = self._location
        new = binding is None or binding.slot < 0
        if binding is None or new:
            binding = Binding(registration.aor, wanted.contact, location.new_id())
        before = binding.socket
        flow = self._fill(binding, wanted, registration, arrival)
        binding.expires = min(ceil(now) + wanted.expires, LATEST)
        binding.last_modified = int(now)
        if new:
            location.add(binding)
        elif record is not None:
            location.refreshed(record, binding)
            if before is not binding.socket:
                location.moved(before, binding.socket)
        if flow is not None or binding.flow is not None:
            location.bind(binding, flow)
        if flow is not None:
            flow.keep(wanted.expires + LINGER)
        if new:
            self._keeper.added(binding, wanted.expires)
        else:
            self._keeper.refreshed(binding, wanted.expires)

    def _fill(
        self, binding: Binding, wanted: Wanted, registration: Registration, arrival: Arrival
    ) -> IFlow | None:
        """Everything but times; gives the connection that the binding is reached by, if any."""
        flow = arrival.flow
        stream = flow.reliable
        binding.contact = wanted.contact
        binding.q = wanted.q
        binding.instance = wanted.instance
        if binding.reg_id != wanted.reg_id:
            binding.reg_id = wanted.reg_id
            binding.kv_store = with_reg_id(binding.kv_store, wanted.reg_id)
        binding.call_id = registration.call_id
        binding.cseq = registration.cseq
        binding.user_agent = registration.user_agent
        binding.methods = registration.methods
        binding.path = registration.path
        binding.socket = flow.local
        binding.node = None
        if registration.path:
            # The proxies in Path know the way to the phone, not we.
            binding.received = binding.cflags = ""
            binding.flow_required = False
            return None
        binding.cflags = self._settings.nat_bflag if arrival.behind_nat else ""
        if not stream:
            nated = arrival.behind_nat or wanted.reg_id
            binding.received = arrival.peer.uri if nated else ""
            binding.flow_required = False
            return None
        binding.received = arrival.peer.uri
        binding.flow_required = needs_flow(binding)
        return flow


def _check_uri(text: str) -> None:
    try:
        URI.parse(text)
    except MalformedURI:
        raise RegistrationRefused(400, "Bad Contact") from None
