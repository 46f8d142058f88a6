"""The messages of one user, one call or one address in the log, for as long as somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from pbx.commands import CommandFailed
from pbx.interfaces import ICommands, IFlow, IWire, IWireTap
from pbx.logs import LOG, LogFilter
from pbx.sip.masking import masked

NAME: Final = "pbx.wire"
INFO: Final = 3
MAX_TARGETS: Final = 20
#: Seconds after which a target is forgotten, unless somebody says how long.
DURATION: Final = 3600.0
KINDS: Final = ("user", "call", "address")

Recipes = Sequence[Sequence[str]]


@implementer(ICommands, IWireTap)
class WireLog:
    """Taps the wire while there is any target. Digest answers and keys are masked; of bodies only
    session descriptions are shown.
    """

    def __init__(self, wire: IWire, clock: IReactorTime, log: LogFilter = LOG) -> None:
        self._wire = wire
        self._clock = clock
        self._log = log
        #: When each (kind, value) is over.
        self._targets: dict[tuple[str, str], float] = {}

    def commands(self) -> Sequence[tuple[str, Recipes, Callable[..., object]]]:
        """``log_wire`` and ``log_wire_off``."""
        return (
            ("log_wire", ((), ("target",), ("target", "seconds")), self.log_wire),
            ("log_wire_off", ((), ("target",)), self.log_wire_off),
        )

    def log_wire(self, target: object = None, seconds: object = DURATION) -> object:
        """Whose messages are logged; or log those of ``user:NAME``, ``call:ID``, ``address:IP``."""
        if target is not None:
            key = parsed(str(target))
            try:
                duration = float(str(seconds))
            except ValueError:
                duration = 0.0
            if not 0 < duration <= 7 * 86_400:
                raise CommandFailed(400, "Bad number of seconds: at most a week")
            self._forget_old()
            if key not in self._targets and len(self._targets) >= MAX_TARGETS:
                raise CommandFailed(500, "Too many targets")
            if not self._targets:
                self._wire.tap(self)
            self._targets[key] = self._clock.seconds() + duration
        now = self._clock.seconds()
        self._forget_old()
        return {
            "Targets": [
                {"target": f"{kind}:{value}", "seconds": round(until - now)}
                for (kind, value), until in self._targets.items()
            ]
        }

    def log_wire_off(self, target: object = None) -> object:
        """Log no messages any more, of this target or at all."""
        if target is None:
            self._targets.clear()
        elif self._targets.pop(parsed(str(target)), None) is None:
            raise CommandFailed(404, "No such target")
        self._stop_if_idle()
        return "OK"

    def _forget_old(self) -> None:
        now = self._clock.seconds()
        self._targets = {key: until for key, until in self._targets.items() if until > now}
        self._stop_if_idle()

    def _stop_if_idle(self) -> None:
        if not self._targets:
            self._wire.untap(self)

    # IWireTap

    def message_seen(self, sent: bool, flow: IFlow, data: bytes) -> None:
        """One message: is anybody interested?"""
        head, _, body = data.partition(b"\r\n\r\n")
        headers = _headers(head)
        now = self._clock.seconds()
        if min(self._targets.values()) <= now:
            self._forget_old()
        if not any(self._matches(key, flow, headers) for key in self._targets):
            return
        text = masked(head if not body.startswith(b"v=0") else data)
        self._log.line(
            NAME,
            INFO,
            "sent" if sent else "received",
            (
                ("peer", flow.peer.socket),
                ("local", flow.local.socket),
                ("call_id", headers.get(b"call-id", b"").decode("utf-8", "replace")),
                ("text", text.decode("utf-8", "replace")),
            ),
        )

    def _matches(self, key: tuple[str, str], flow: IFlow, headers: Mapping[bytes, bytes]) -> bool:
        kind, value = key
        if kind == "address":
            return flow.peer.host == value
        wanted = value.encode("utf-8", "surrogateescape")
        if kind == "call":
            return headers.get(b"call-id") == wanted
        user = b":" + wanted + (b"" if b"@" in wanted else b"@")
        return any(user in headers.get(name, b"") for name in (b"from", b"to", b""))


def parsed(target: str) -> tuple[str, str]:
    """``kind:value``. Raises CommandFailed."""
    kind, _, value = target.partition(":")
    if kind not in KINDS or not value or len(value) > 256:
        raise CommandFailed(400, "Bad target: user:NAME, call:ID or address:IP")
    return kind, value


_SHORT: Final = {b"f": b"from", b"t": b"to", b"i": b"call-id"}


def _headers(head: bytes) -> dict[bytes, bytes]:
    """From, To and Call-ID; the start line has no name."""
    lines = head.split(b"\r\n")
    found = {b"": lines[0]}
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        name = name.strip().lower()
        name = _SHORT.get(name, name)
        if name in (b"from", b"to", b"call-id"):
            found.setdefault(name, value.strip())
    return found
