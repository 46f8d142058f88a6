"""Where a URI leads: NAPTR, SRV, A and AAAA (RFC 3263), answers kept for their TTL."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_ntop
from typing import NamedTuple, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime, IResolver
from twisted.names import dns
from twisted.names.error import AuthoritativeDomainError, DNSNameError
from twisted.python.failure import Failure

from pbx.sip.address import Address
from pbx.sip.errors import TransportFailed
from pbx.sip.uri import DEFAULT_PORTS, URI
from pbx.transport.hosts import literal
from pbx.transport.settings import DNSSettings

ResultT = TypeVar("ResultT")

#: RFC 3263 section 4.1 and RFC 7118: what a NAPTR record's service means.
SERVICES = {"SIP+D2U": "UDP", "SIP+D2T": "TCP", "SIPS+D2T": "TLS"}
#: Where the SRV records of a transport are (4.2), in the order we prefer them.
SRV_PREFIXES = {"UDP": "_sip._udp.", "TCP": "_sip._tcp.", "TLS": "_sips._tcp."}
#: Addresses given to the caller at most.
MAX_ADDRESSES = 16
#: Seconds after which an answer is a slow one.
SLOW = 1.0
#: Questions that may be open at once.
MAX_OPEN = 256
_MAX_ROUNDS = 6


class Question(NamedTuple):
    """A name in lower case and a record type."""

    name: str
    kind: int


class _Answer(NamedTuple):
    expires: float
    records: tuple[object, ...]


class _Missing(Exception):
    """Answers are needed first."""


class Locator:
    """URI -> addresses, from memory when it can be.

    ``addresses_of`` is /etc/hosts as a mapping; ``choose`` gives a number from 0 up to its
    argument (for the weights of SRV).
    """

    def __init__(
        self,
        settings: DNSSettings,
        resolver: IResolver,
        clock: IReactorTime,
        hosts: Mapping[str, Sequence[str]] | None = None,
        choose: Callable[[int], int] | None = None,
    ) -> None:
        self._settings = settings
        self._resolver = resolver
        self._clock = clock
        self._hosts = read_hosts() if hosts is None else hosts
        self._choose = choose or (lambda limit: random.randint(0, limit))
        self._cache: dict[Question, _Answer] = {}
        self._open: dict[Question, list[Deferred[None]]] = {}
        self._names: dict[Address, str] = {}
        self._transports: tuple[str, ...] = ("UDP", "TCP", "TLS")
        self._families: tuple[int, ...] = (dns.A,)
        self.queries = self.slow = 0
        self.failures = 0

    def __len__(self) -> int:
        return len(self._cache)

    def transports(self, listeners: Sequence[Address]) -> None:
        """Use what we have listeners for: UDP only with one, IPv6 only with one."""
        udp = any(found.transport == "UDP" for found in listeners)
        self._transports = ("UDP", "TCP", "TLS") if udp else ("TCP", "TLS")
        four = any(":" not in found.host for found in listeners)
        six = any(":" in found.host for found in listeners)
        self._families = ((dns.A,) if four or not six else ()) + ((dns.AAAA,) if six else ())

    def locate(self, uri: URI) -> Sequence[Address] | None:
        """The addresses if they are known at once; empty when there is no way; None: `resolve`."""
        host, transport, secure = _wanted(uri)
        if not uri.is_sip or not host:
            return ()
        if transport is None:
            return ()
        address = literal(host)
        if address:
            via = transport or ("TLS" if secure else "UDP")
            return (Address(via, address, uri.port or DEFAULT_PORTS.get(via, 5060)),)
        missing: set[Question] = set()
        try:
            return self._compute(host, uri.port, transport, secure, missing)
        except _Missing:
            return None

    async def resolve(self, uri: URI) -> Sequence[Address]:
        """The addresses, asking DNS. Raises TransportFailed when nothing is found in time."""
        found = self.locate(uri)
        if found is None:
            found = await self._resolve(uri)
        if not found:
            raise TransportFailed("No Address Found")
        return found

    def names_of(self, address: Address) -> Sequence[str]:
        """The name an address was found under, or the address itself: what TLS has to show."""
        return (self._names.get(address, address.host),)

    # RFC 3263

    def _compute(
        self, host: str, port: int | None, transport: str, secure: bool, missing: set[Question]
    ) -> Sequence[Address]:
        hops = self._hops(host, port, transport, secure, missing)
        found: dict[Address, None] = {}
        for via, target, number in hops:
            for address in self._addresses(target, missing):
                found[Address(via, address, number)] = None
        if missing:
            raise _Missing
        addresses = tuple(found)[:MAX_ADDRESSES]
        for reached in addresses:
            if reached.transport == "TLS":
                # RFC 5922 section 4: the name that was asked for, not what SRV made of it.
                if len(self._names) >= self._settings.cache:
                    self._names.clear()
                self._names[reached] = host
        return addresses

    def _hops(
        self, host: str, port: int | None, transport: str, secure: bool, missing: set[Question]
    ) -> Sequence[tuple[str, str, int]]:
        """Transport, host and port of each candidate, best first (4.1, 4.2)."""
        default = transport or ("TLS" if secure else self._transports[0])
        if port is not None or host in self._hosts:
            return [(default, host, port or DEFAULT_PORTS.get(default, 5060))]
        prefixes: list[tuple[str, str]] = []
        if transport:
            if transport in SRV_PREFIXES:
                prefixes = [(transport, SRV_PREFIXES[transport] + host)]
        else:
            prefixes = self._services(host, secure, missing)
            if missing:
                return ()
        hops: list[tuple[str, str, int]] = []
        for via, name in prefixes:
            hops.extend((via, target, number) for target, number in self._srv(name, missing))
        if missing or hops:
            return hops
        return [(default, host, DEFAULT_PORTS.get(default, 5060))]

    def _services(self, host: str, secure: bool, missing: set[Question]) -> list[tuple[str, str]]:
        """Transport and SRV name of each service, by NAPTR or by trying all (4.1)."""
        usable = ("TLS",) if secure else self._transports
        found: list[tuple[str, str]] = []
        if self._settings.naptr:
            records = [
                record
                for record in self._records(host, dns.NAPTR, missing)
                if isinstance(record, dns.Record_NAPTR) and record.flags.string.lower() == b"s"
            ]
            records.sort(key=lambda record: (record.order, record.preference))
            for record in records:
                via = SERVICES.get(record.service.string.decode("latin-1").upper(), "")
                if via in usable:
                    found.append((via, _text(record.replacement.name)))
        return found or [(via, SRV_PREFIXES[via] + host) for via in usable]

    def _srv(self, name: str, missing: set[Question]) -> Sequence[tuple[str, int]]:
        records = [
            record
            for record in self._records(name, dns.SRV, missing)
            if isinstance(record, dns.Record_SRV)
        ]
        if len(records) == 1 and _text(records[0].target.name) == "":
            # RFC 2782: a lone "." says that the service is decidedly not available.
            return ()
        ordered = weighted(records, self._choose)
        return [(_text(record.target.name), record.port) for record in ordered]

    def _addresses(self, host: str, missing: set[Question]) -> Sequence[str]:
        address = literal(host)
        if address:
            return (address,)
        known = self._hosts.get(host)
        if known is not None:
            return [one for one in known if (dns.AAAA if ":" in one else dns.A) in self._families]
        found: list[str] = []
        for kind in self._families:
            for record in self._records(host, kind, missing):
                if isinstance(record, (dns.Record_A, dns.Record_AAAA)):
                    found.append(literal(_dotted(record)))
        return found

    # DNS

    def _records(self, name: str, kind: int, missing: set[Question]) -> Sequence[object]:
        question = Question(name.lower().rstrip("."), kind)
        answer = self._cache.get(question)
        if answer is None or answer.expires <= self._clock.seconds():
            missing.add(question)
            return ()
        return answer.records

    async def _resolve(self, uri: URI) -> Sequence[Address]:
        host, transport, secure = _wanted(uri)
        deadline = self._clock.seconds() + self._settings.time_limit
        for _ in range(_MAX_ROUNDS):
            missing: set[Question] = set()
            try:
                return self._compute(host, uri.port, transport or "", secure, missing)
            except _Missing:
                left = deadline - self._clock.seconds()
                if left <= 0:
                    break
                await self._ask_all(missing, left)
        raise TransportFailed("Name Lookup Timed Out")

    async def _ask_all(self, questions: Iterable[Question], seconds: float) -> None:
        """Done when all are answered or the time is over."""
        waits = [self._ask(question) for question in sorted(questions)]
        for wait in waits:
            wait.addTimeout(seconds, self._clock)
        await DeferredList(waits, consumeErrors=True)

    def _ask(self, question: Question) -> Deferred[None]:
        wait: Deferred[None] = Deferred()
        waiting = self._open.get(question)
        if waiting is not None:
            waiting.append(wait)
            return wait
        if len(self._open) >= MAX_OPEN:
            wait.errback(TransportFailed("Too Many Questions"))
            return wait
        self._open[question] = [wait]
        self.queries += 1
        ask = {
            dns.NAPTR: self._resolver.lookupNamingAuthorityPointer,
            dns.SRV: self._resolver.lookupService,
            dns.A: self._resolver.lookupAddress,
            dns.AAAA: self._resolver.lookupIPV6Address,
        }[question.kind]
        limit = self._settings.time_limit
        began = self._clock.seconds()
        wait.addBoth(self._measured, began)
        try:
            answer = ask(question.name, (1, max(1, int(limit) - 1)))
        except (ValueError, UnicodeError):
            self._answered(question, (), self._settings.negative_time)
            return wait
        answer.addCallbacks(
            self._found, self._not_found, callbackArgs=(question,), errbackArgs=(question,)
        )
        return wait

    def _measured(self, result: ResultT, began: float) -> ResultT:
        if self._clock.seconds() - began > SLOW:
            self.slow += 1
        return result

    def _found(
        self,
        result: tuple[Sequence[dns.RRHeader], Sequence[dns.RRHeader], Sequence[dns.RRHeader]],
        question: Question,
    ) -> None:
        settings = self._settings
        records = [header for header in result[0] if header.type == question.kind]
        ttl = min((float(header.ttl or 0) for header in result[0]), default=settings.negative_time)
        if not records:
            ttl = settings.negative_time
        self._keep_additional(result[2])
        self._answered(question, tuple(header.payload for header in records), ttl)

    def _keep_additional(self, additional: Sequence[dns.RRHeader]) -> None:
        """Addresses that came along with SRV save a question; never replace a known answer."""
        gathered: dict[Question, list[dns.RRHeader]] = {}
        for header in additional:
            if header.type in (dns.A, dns.AAAA):
                name = _text(header.name.name)
                gathered.setdefault(Question(name, header.type), []).append(header)
        for question, headers in gathered.items():
            if question not in self._cache:
                ttl = min(float(header.ttl or 0) for header in headers)
                self._keep(question, tuple(header.payload for header in headers), ttl)

    def _not_found(self, reason: Failure, question: Question) -> None:
        settings = self._settings
        absent = isinstance(reason.value, (DNSNameError, AuthoritativeDomainError, UnicodeError))
        if not absent:
            self.failures += 1
        self._answered(question, (), settings.negative_time if absent else settings.failure_time)

    def _answered(self, question: Question, records: tuple[object, ...], ttl: float) -> None:
        self._keep(question, records, ttl)
        for wait in self._open.pop(question, ()):
            if not wait.called:
                wait.callback(None)

    def _keep(self, question: Question, records: tuple[object, ...], ttl: float) -> None:
        now = self._clock.seconds()
        cache = self._cache
        if len(cache) >= self._settings.cache:
            for old in [key for key, answer in cache.items() if answer.expires <= now]:
                del cache[old]
            if len(cache) >= self._settings.cache:
                cache.clear()
        # A TTL of zero still has to last through the rounds of one look-up.
        ttl = min(max(ttl, self._settings.time_limit), self._settings.max_time)
        cache[question] = _Answer(now + ttl, records)


def weighted(
    records: Sequence[dns.Record_SRV], choose: Callable[[int], int]
) -> list[dns.Record_SRV]:
    """SRV records in the order to try them: by priority, then by chance (RFC 2782)."""
    ordered: list[dns.Record_SRV] = []
    for priority in sorted({record.priority for record in records}):
        # Weight 0 first, so that it has a small chance to be chosen.
        group = sorted(
            (record for record in records if record.priority == priority),
            key=lambda record: record.weight > 0,
        )
        while group:
            mark = choose(sum(record.weight for record in group))
            total = 0
            for at, record in enumerate(group):
                total += record.weight
                if total >= mark:
                    ordered.append(group.pop(at))
                    break
    return ordered


def read_hosts(path: Path = Path("/etc/hosts")) -> dict[str, list[str]]:
    """Name -> addresses of a hosts file; localhost is always there."""
    found: dict[str, list[str]] = {}
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        words = line.partition("#")[0].split()
        address = literal(words[0]) if words else ""
        if address:
            for name in words[1:]:
                entry = found.setdefault(name.lower(), [])
                if address not in entry:
                    entry.append(address)
    found.setdefault("localhost", ["127.0.0.1", "::1"])
    return found


def _wanted(uri: URI) -> tuple[str, str | None, bool]:
    """Target host, transport ("" to be found out, None for impossible), whether TLS is a must."""
    secure = uri.scheme == "sips"
    transport: str | None = uri.transport
    if secure:
        # sips never means anything but TLS, over TCP or WebSocket (RFC 3261 26.2.2, RFC 7118).
        transport = {"": "", "TCP": "TLS", "TLS": "TLS", "WS": "WSS", "WSS": "WSS"}.get(
            transport or ""
        )
    elif transport and transport not in DEFAULT_PORTS:
        transport = None
    host = uri.params.get("maddr") or uri.host
    return host.lower().rstrip("."), transport, secure


def _text(name: bytes) -> str:
    return name.decode("latin-1").lower().rstrip(".")


def _dotted(record: dns.Record_A | dns.Record_AAAA) -> str:
    if isinstance(record, dns.Record_A):
        return inet_ntop(AF_INET, record.address or bytes(4))
    return inet_ntop(AF_INET6, record.address or bytes(16))
