"""Limits and bans by source address (spec 60, section 3).

Hot path: a flow has its `Source`, the transport counts its tokens down and asks only when there are
none. All else happens when somebody fails to log in, which is rare or an attack.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from math import inf
from typing import Final
from weakref import WeakValueDictionary

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from pbx.commands import CommandFailed
from pbx.events import AuthenticationFailed
from pbx.gate import UNLIMITED
from pbx.interfaces import (
    ICommands,
    IDatabase,
    IEvents,
    IGuard,
    IStartable,
    IStatistics,
    ITrusted,
)
from pbx.services.guard.bans import BanList
from pbx.services.guard.settings import GuardSettings
from pbx.services.guard.sources import Source, name_of
from pbx.sip.message import Request

#: Sources remembered as those of users; beyond that, and after a day, the older half is forgotten.
MAX_PROVED: Final = 100_000
REMEMBERED: Final = 86_400.0
#: Seconds that many strangers at one address have until the first of them must have logged in.
GRACE: Final = 5.0
#: Seconds between two lines about one source that sends too much.
COMPLAINT: Final = 60.0
#: The longest ban that an operator can ask for.
MAX_SECONDS: Final = 10 * 365 * 86_400.0


@implementer(IGuard, IStartable, ICommands, IStatistics)
class Guard:
    """``trusted`` gives the parts that know hosts of ours, asked before anybody is kept out;
    ``proxies`` are HTTP proxies in front of us.
    """

    log = Logger()

    def __init__(
        self,
        settings: GuardSettings,
        database: IDatabase,
        events: IEvents,
        clock: IReactorTime,
        trusted: Callable[[], Iterable[object]] = tuple,
        proxies: Sequence[str] = (),
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._trusted = trusted
        self._proxies = frozenset(proxies)
        self._allowed = tuple(ip_network(text) for text in settings.allow)
        self._bans = BanList(settings, database, clock, self._is_trusted, self._lifted)
        self._sources: WeakValueDictionary[str, Source] = WeakValueDictionary()
        self._proved: set[str] = set()
        self._proved_before: set[str] = set()
        self._rotated = clock.seconds()
        self.dropped = {"rate": 0, "ban": 0, "scanner": 0}
        self.failures = 0
        events.subscribe(AuthenticationFailed, self._authentication_failed)

    async def start(self) -> None:
        """Read the bans that are not over."""
        await self._bans.start()

    async def stop(self) -> None:
        """Write the last changes."""
        await self._bans.stop()

    # IGuard

    def source(self, host: str) -> Source:
        """What counts for this address."""
        name = name_of(host)
        source = self._sources.get(name)
        if source is None:
            settings = self._settings
            tokens = settings.burst if settings.rate else UNLIMITED
            source = Source(self, name, tokens, self._clock.seconds())
            if not settings.enabled or self._is_allowed(host):
                self._let(source)
            else:
                source.stranger = not self._is_known(name)
                if self._bans.left(name):
                    source.tokens = -1
            self._sources[name] = source
        return source

    def banned(self, host: str) -> float:
        """Seconds left of a ban."""
        return self._bans.left(name_of(host))

    def proved(self, host: str) -> None:
        """Somebody logged in from there."""
        if host in self._proved:
            return
        now = self._clock.seconds()
        if len(self._proved) > MAX_PROVED or now - self._rotated > REMEMBERED:
            self._rotated = now
            self._proved_before, self._proved = self._proved, set()
        name = name_of(host)
        self._proved.update((host, name))
        source = self._sources.get(name)
        if source is not None:
            source.stranger = False

    def failed(self, host: str, user: str, why: str, where: str = "web") -> None:
        """Wrong credentials came from there."""
        self.failures += 1
        # The form that etc/fail2ban/filter.d/pbx.conf reads. The host comes first: no text of an
        # attacker's making is before it.
        self.log.warn(
            "failed login: host={host} transport={where} user={user} reason={why}",
            host=host,
            where=where,
            user=json.dumps(user[:64]),
            why=json.dumps(why),
        )
        settings = self._settings
        name = name_of(host)
        limit = settings.max_failures_known if self._is_known(name) else settings.max_failures
        if not settings.enabled or not limit or self._is_allowed(host):
            return
        if self._bans.failed(name, limit):
            self._stop_source(name)

    def _authentication_failed(self, event: AuthenticationFailed) -> None:
        peer = event.peer
        self.failed(peer.host, event.username, event.reason, peer.transport.lower())

    # From the sources

    def wait(self, source: Source) -> float:
        """Seconds until a source that has no token may send again."""
        if self._bans.left(source.name):
            self.dropped["ban"] += 1
            return inf
        rate = self._settings.rate
        if not rate or not self._settings.enabled:
            source.tokens = UNLIMITED
            return 0.0
        now = self._clock.seconds()
        fresh = int((now - source.refilled) * rate)
        if fresh > 0:
            # What came now is counted already.
            full = self._settings.burst - 1
            source.tokens = min(source.tokens + fresh, full)
            source.refilled = now if source.tokens == full else source.refilled + fresh / rate
        if source.tokens >= 0:
            return 0.0
        if now - source.complained >= COMPLAINT:
            if self._is_trusted(source.name):
                self._let(source)
                return 0.0
            source.complained = now
            self.log.warn(
                "{host} sends more than {rate} messages a second", host=source.name, rate=int(rate)
            )
        self.dropped["rate"] += 1
        return -source.tokens / rate

    def meets(self, source: Source, request: Request) -> bool:
        """Whether a request of a stranger is let in."""
        agent = (request.get("user-agent") or "").lower()
        for scanner in self._settings.scanners if agent else ():
            if scanner in agent and self._caught(source, f"scanner {scanner}"):
                return False
        if request.method == "OPTIONS":
            return True
        source.asked += 1
        limit = self._settings.max_unproved
        if not limit or source.asked <= limit:
            return True
        now = self._clock.seconds()
        if now - source.asked_since < GRACE:
            # All phones of an office at once; in a moment one of them will have logged in.
            return True
        if now - source.asked_since > self._settings.window:
            source.asked = 1
            source.asked_since = now
            return True
        return not self._caught(source, f"{source.asked} requests without a login")

    def _caught(self, source: Source, reason: str) -> bool:
        """Whether a stranger is banned for that; one of ours is a stranger no more."""
        if not self._bans.ban(source.name, reason):
            self._let(source)
            return False
        self.dropped["scanner"] += 1
        source.asked = 0
        source.tokens = -1
        return True

    # Who is who

    def _is_known(self, name: str) -> bool:
        return name in self._proved or name in self._proved_before

    def _is_allowed(self, host: str) -> bool:
        """Whether the settings say that an address, or a name of ours, is never kept out."""
        if host in self._proxies:
            return True
        try:
            address = ip_address(host.partition("%")[0].partition("/")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._allowed)

    def _is_trusted(self, name: str) -> bool:
        """The same, or one of our own nodes and gateways."""
        return self._is_allowed(name) or any(
            name_of(host) == name
            for part in self._trusted()
            if ITrusted.providedBy(part)
            for host in ITrusted(part).trusted_hosts()
        )

    def _let(self, source: Source) -> None:
        source.tokens = UNLIMITED
        source.stranger = False

    def _stop_source(self, name: str) -> None:
        source = self._sources.get(name)
        if source is not None:
            # So that its next message is asked about.
            source.tokens = -1

    def _lifted(self, name: str) -> None:
        source = self._sources.get(name)
        if source is not None:
            source.asked = 0
            source.refilled = 0.0

    # Management

    def commands(self) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """``ban_list``, ``ban``, ``unban``."""
        return [
            ("ban_list", [[]], self._ban_list),
            ("ban", [["source"], ["source", "seconds"]], self._ban_command),
            ("unban", [["source"]], self._unban_command),
        ]

    def _ban_list(self) -> object:
        """Who is banned, for how long still and why; and who is on the way there."""
        now = self._clock.seconds()
        bans = [
            {
                "source": name,
                "seconds": round(found.until - now),
                "bans": found.bans,
                "reason": found.reason,
            }
            for name, found in self._bans.banned()
        ]
        failing = [{"source": name, "failures": count} for name, count in self._bans.failing()]
        return {"Bans": bans, "Failing": failing}

    def _ban_command(self, source: object, seconds: object = "") -> object:
        """Keep an address out, for ``seconds`` or as long as the settings say."""
        name = parsed(str(source))
        try:
            wanted = float(str(seconds or self._settings.ban_time))
        except ValueError:
            wanted = 0.0
        if not 0 < wanted <= MAX_SECONDS:
            raise CommandFailed(400, "Bad number of seconds")
        if not self._bans.ban(name, "by the operator", wanted):
            raise CommandFailed(403, "Never banned: an address of ours, or in allow")
        self._stop_source(name)
        return {"source": name, "seconds": round(wanted)}

    def _unban_command(self, source: object) -> object:
        """Let an address in again, or all of them ("all"); its failures are forgotten as well."""
        if str(source) == "all":
            names = [name for name, _ in self._bans.banned()]
        else:
            names = [parsed(str(source))]
        lifted = sum(self._bans.lift(name) for name in names)
        if not lifted and str(source) != "all":
            raise CommandFailed(404, "Not banned")
        return {"unbanned": lifted}

    def statistics(self) -> Mapping[str, int]:
        """Counters and gauges."""
        return {
            "guard:sources": len(self._sources),
            "guard:banned_sources": sum(1 for _ in self._bans.banned()),
            "guard:bans": self._bans.count,
            "guard:failed_logins": self.failures,
            **{f"guard:dropped_{why}": count for why, count in self.dropped.items()},
        }


def parsed(text: str) -> str:
    """The source that an operator means. Raises CommandFailed."""
    host, slash, bits = text.partition("/")
    try:
        six = ip_address(host).version == 6
    except ValueError:
        raise CommandFailed(400, "Bad address") from None
    if slash and not (six and bits == "64"):
        raise CommandFailed(400, "Bad address: one IPv4 address, or a /64 of IPv6")
    return name_of(host)
