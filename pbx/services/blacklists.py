"""Named lists of destinations that a policy may refuse to send to; kept in memory only."""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from pbx.commands import CommandFailed
from pbx.interfaces import IBlacklists, ICommands
from pbx.sip.address import Address
from pbx.sip.params import split_outside

#: Rules of one list, and lists: whoever adds rules by a program must not fill the memory.
MAX_RULES = 10_000
MAX_LISTS = 100
_TRANSPORTS = ("any", "udp", "tcp", "tls", "ws", "wss")
_FORM = 'Bad rule: expected (PROTO, IP[/MASK], PORT, "PATTERN"), with any and 0 for all'

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Recipes = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of a list; ``expires`` 0 is never. ``denied``: it excepts what it matches."""

    transport: str
    network: Network
    port: int
    pattern: str
    denied: bool = False

    def matches(self, transport: str, host: str, port: int, text: str) -> bool:
        """Whether the rule is about that destination and that text."""
        found = (
            self.transport in ("any", transport)
            and self.port in (0, port)
            and ipaddress.ip_address(host) in self.network
            and (not self.pattern or fnmatch.fnmatchcase(text, self.pattern))
        )
        return found != self.denied

    def as_json(self, expires: float, now: float) -> dict[str, object]:
        """For ``list_blacklists``."""
        shown: dict[str, object] = {
            "IP": str(self.network),
            "Proto": self.transport,
            "Port": self.port,
            "Match": self.pattern,
            "Flags": 1 if self.denied else 0,
        }
        if expires:
            shown["Expires"] = int(expires - now)
        return shown


def parse_rule(text: str) -> Rule:
    """``(udp, 192.0.2.0/24, 5060, "*premium*")``, with ``!`` before it to except. Raises
    CommandFailed.
    """
    body = text.strip().removeprefix("!").strip()
    parts = [part.strip() for part in split_outside(body.removeprefix("(").removesuffix(")"), ",")]
    if not 2 <= len(parts) <= 4 or parts[0].lower() not in _TRANSPORTS:
        raise CommandFailed(400, _FORM)
    port = parts[2] if len(parts) > 2 else "0"
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise CommandFailed(400, _FORM)
    try:
        network = ipaddress.ip_network(parts[1], strict=False)
    except ValueError:
        raise CommandFailed(400, _FORM) from None
    return Rule(
        transport=parts[0].lower(),
        network=network,
        port=int(port),
        pattern=parts[3].strip("\"'") if len(parts) > 3 else "",
        denied=text.strip().startswith("!"),
    )


@implementer(IBlacklists, ICommands)
class Blacklists:
    """Lists come into being with their first rule."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._lists: dict[str, dict[Rule, float]] = {}

    def blocks(self, name: str, address: Address, text: str = "") -> bool:
        """IBlacklists."""
        return self._matches(name, address.transport.lower(), address.host, address.port, text)

    def commands(self) -> Sequence[tuple[str, Recipes, Callable[..., object]]]:
        """ICommands."""
        where = ("ip", "port", "proto", "pattern")
        checks = tuple(where[:length] for length in range(1, 5))
        rule = ("name", "rule")
        return (
            ("list_blacklists", ((), ("name",)), self.list_blacklists),
            ("check_blacklist", tuple(("name", *check) for check in checks), self.check_blacklist),
            ("check_blacklists", checks, self.check_blacklists),
            ("add_blacklist_rule", (rule, (*rule, "expire")), self.add_blacklist_rule),
            ("del_blacklist_rule", (rule,), self.del_blacklist_rule),
        )

    def list_blacklists(self, name: object = None) -> object:
        """All lists with their rules, or one."""
        if name is not None and str(name) not in self._lists:
            raise CommandFailed(404, "Blacklist not found")
        names = sorted(self._lists) if name is None else [str(name)]
        now = self._clock.seconds()
        return [
            {
                "name": one,
                "owner": "core",
                "flags": 0,
                "Rules": [rule.as_json(until, now) for rule, until in self._live(one).items()],
            }
            for one in names
        ]

    def check_blacklist(self, name: object, ip: object, **more: object) -> object:
        """OK when the list blocks that destination."""
        if str(name) not in self._lists:
            raise CommandFailed(404, "Blacklist not found")
        if not self._checked(str(name), ip, **more):
            raise CommandFailed(404, "No match")
        return "OK"

    def check_blacklists(self, ip: object, **more: object) -> object:
        """The names of all lists that block that destination."""
        return [name for name in sorted(self._lists) if self._checked(name, ip, **more)]

    def add_blacklist_rule(self, name: object, rule: object, expire: object = 0) -> object:
        """One more rule, for ``expire`` seconds unless that is 0."""
        seconds = _number(expire, "expire")
        made = parse_rule(str(rule))
        rules = self._lists.get(str(name), {})
        if len(rules) >= MAX_RULES or (str(name) not in self._lists and self._full()):
            raise CommandFailed(500, "Too many rules or lists")
        rules[made] = self._clock.seconds() + seconds if seconds else 0.0
        self._lists[str(name)] = rules
        return "OK"

    def del_blacklist_rule(self, name: object, rule: object) -> object:
        """One rule less; the list goes with its last one."""
        made = parse_rule(str(rule))
        rules = self._lists.get(str(name))
        if rules is None:
            raise CommandFailed(404, "Blacklist not found")
        if rules.pop(made, None) is None:
            raise CommandFailed(404, "Rule not found")
        if not rules:
            del self._lists[str(name)]
        return "OK"

    def _full(self) -> bool:
        return len(self._lists) >= MAX_LISTS

    def _checked(
        self,
        name: str,
        ip: object,
        port: object = 0,
        proto: object = "any",
        pattern: object = "",
    ) -> bool:
        try:
            host = str(ipaddress.ip_address(str(ip)))
        except ValueError:
            raise CommandFailed(400, "Bad IP address") from None
        transport = str(proto).lower()
        if transport not in _TRANSPORTS:
            raise CommandFailed(400, f"Bad protocol: one of {', '.join(_TRANSPORTS)}")
        return self._matches(name, transport, host, _number(port, "port"), str(pattern))

    def _matches(self, name: str, transport: str, host: str, port: int, text: str) -> bool:
        if name not in self._lists:
            return False
        return any(rule.matches(transport, host, port, text) for rule in self._live(name))

    def _live(self, name: str) -> dict[Rule, float]:
        rules, now = self._lists[name], self._clock.seconds()
        for rule in [rule for rule, until in rules.items() if until and until <= now]:
            del rules[rule]
        return rules


def _number(value: object, what: str) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise CommandFailed(400, f"Bad {what}: expected a number")
    return int(text)
