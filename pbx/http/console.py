"""``/api/console``: what the operator's console shows. Read-only."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twisted.web.server import Request

from pbx.config import ConfigError
from pbx.http.access import is_admitted
from pbx.http.answers import Refused, argument, limit_of
from pbx.http.attempts import Attempts
from pbx.http.networks import Network
from pbx.http.visitors import Visitors
from pbx.interfaces import IDialog, IDialogs, IManagement
from pbx.sip.address import Address

#: The pages; they need no build.
PAGES = Path(__file__).parent / "console"
#: What is asked of the management interface: a plugin that is off answers with an error.
QUESTIONS: Mapping[str, Sequence[object]] = {
    "status": (),
    "get_statistics": (["core:", "net:", "auth:", "web:", "tls:", "guard:"],),
    "lb_list": (),
    "dr_gw_status": (),
    "ds_list": (),
}
STATES = {1: "calling", 2: "ringing", 3: "answered", 4: "talking", 5: "ended"}
FOREIGN = Refused(403, "foreign_page", "Open the console by the address or a domain of the PBX.")
FOR_OPERATORS = Refused(
    403,
    "not_operator",
    "The console is shown to this machine only; others need to be in [web] console_allow,"
    " or a token: see console_token_file.",
)
NEEDS_TOKEN = Refused(401, "needs_token", "The token of the console is needed.")
#: Page of registrations or of calls with the number of all that match.
Registrations = Callable[[str, int], tuple[int, Sequence[Mapping[str, Any]]]]


def read_token(path: Path) -> bytes:
    """The token in a file. Raises ConfigError."""
    try:
        token = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"[web] console_token_file: {path}: {error.strerror}") from None
    if len(token) < 16 or len(token.split()) != 1:
        raise ConfigError(
            f"[web] console_token_file: {path}: expected one word of 16 characters or more"
        )
    return token


class Operators:
    """Who may see the console: this machine, the networks that are allowed, who has the token."""

    def __init__(
        self,
        token: bytes,
        allowed: Sequence[Network],
        is_local: Callable[[str], bool],
        visitors: Visitors,
        attempts: Attempts,
    ) -> None:
        self._token = token
        self._allowed = allowed
        self._is_local = is_local
        self._visitors = visitors
        self._attempts = attempts

    def check(self, request: Request) -> None:
        """Raises Refused."""
        scheme, _, given = (request.getHeader("authorization") or "").partition(" ")
        if scheme.lower() == "bearer" and self._token:
            self._check_token(request, given.strip().encode("utf-8", "surrogateescape"))
            return
        if not is_admitted(request, self._allowed):
            raise NEEDS_TOKEN if self._token else FOR_OPERATORS
        if not self._is_ours(request.getHeader("host") or ""):
            raise FOREIGN

    def _check_token(self, request: Request, given: bytes) -> None:
        host = self._visitors.address(request).host
        if wait := self._attempts.wait(host):
            message = "Too many wrong tokens came from your address; try again later."
            raise Refused(429, "too_many", message, (("retry-after", str(wait)),))
        if not hmac.compare_digest(given, self._token):
            self._attempts.failure(host)
            raise NEEDS_TOKEN

    def _is_ours(self, host: str) -> bool:
        """A name that is not ours may be made to point here, by a page that wants to read this
        (DNS rebinding).
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name == "localhost" or _is_literal(name) or self._is_local(name)


def _is_literal(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


class Console:
    """One picture of everything, bounded in size."""

    def __init__(
        self,
        operators: Operators,
        management: IManagement,
        dialogs: IDialogs,
        registrations: Registrations,
        now: Callable[[], float],
    ) -> None:
        self._operators = operators
        self._management = management
        self._dialogs = dialogs
        self._registrations = registrations
        self._now = now

    async def overview(self, request: Request) -> object:
        """For the page, which asks every few seconds."""
        self._operators.check(request)
        wanted = argument(request, "q", 64).strip().lower()
        limit = limit_of(request, 100, 500)
        answers = await self._answers()
        status = answers["status"] or {}
        total, bindings = self._registrations(wanted, limit)
        calls = self._dialogs.all()
        listed = [call for call in calls if _mentions(call, wanted)]
        newest = sorted(listed, key=lambda call: call.created, reverse=True)[:limit]
        return {
            "now": self._now(),
            "status": {key: status.get(key) for key in _STATUS},
            "counters": answers["get_statistics"] or {},
            "calls": {
                "all": len(calls),
                "talking": sum(call.answered > 0 for call in calls),
                "found": len(listed),
                "rows": [_call(call) for call in newest],
            },
            "registrations": {
                "found": total,
                "rows": [_binding(binding) for binding in bindings],
            },
            "nodes": (answers["lb_list"] or {}).get("Destinations", []),
            "gateways": (answers["dr_gw_status"] or {}).get("Gateways", []),
            "dispatcher": _dispatcher(answers["ds_list"] or {}),
        }

    async def _answers(self) -> Mapping[str, Any]:
        """Results by method; None for what cannot be told."""
        batch = [
            {"jsonrpc": "2.0", "id": name, "method": name, "params": list(values)}
            for name, values in QUESTIONS.items()
        ]
        text = await self._management.handle(json.dumps(batch).encode())
        found = json.loads(text) if text else []
        return {**dict.fromkeys(QUESTIONS), **{one["id"]: one.get("result") for one in found}}


_STATUS = ("version", "uptime", "listeners", "web", "database", "cache", "counts", "health")


def _mentions(call: IDialog, text: str) -> bool:
    if not text:
        return True
    return any(text in part.lower() for part in (call.from_uri, call.to_uri, call.from_display))


def _call(call: IDialog) -> Mapping[str, object]:
    return {
        "id": call.did,
        "from": call.from_uri,
        "name": call.from_display,
        "to": call.to_uri,
        "state": STATES.get(call.state, ""),
        "created": call.created,
        "answered": call.answered,
        "caller": _place(call.caller),
        "callee": "" if call.callee is None else _place(call.callee),
    }


def _place(address: Address) -> str:
    return f"{address.transport.lower()} {address.host}"


def _binding(binding: Mapping[str, Any]) -> Mapping[str, object]:
    agent = binding.get("User-agent", "")
    return {
        "aor": binding["AOR"],
        "contact": binding["Contact"],
        "received": binding.get("Received", ""),
        "socket": binding.get("Socket", ""),
        "agent": "" if agent == "n/a" else agent,
        "expires": binding.get("Expires"),
        "node": binding.get("Node", ""),
    }


def _dispatcher(found: Mapping[str, Any]) -> Sequence[Mapping[str, object]]:
    """Sets and their destinations as one list."""
    rows: list[Mapping[str, object]] = []
    for partition in found.get("PARTITIONS", []):
        for group in partition.get("SETS", []):
            rows += [{"set": group.get("id"), **one} for one in group.get("Destinations", [])]
    return rows
