"""What SUBSCRIBE and PUBLISH have in common: who asks for what, how long, and how often."""

from __future__ import annotations

from collections.abc import Mapping

from pbx.interfaces import IAliases, IDomains
from pbx.services.presence.settings import PresenceSettings
from pbx.services.presence.subscription import Package
from pbx.services.presence.throttle import Throttle
from pbx.sip.errors import SIPError
from pbx.sip.events import Event
from pbx.sip.message import Request
from pbx.sip.uri import URI


class Requests:
    """Reads requests; every method raises SIPError with what the sender deserves."""

    def __init__(
        self,
        settings: PresenceSettings,
        packages: Mapping[str, Package],
        domains: IDomains,
        aliases: IAliases,
    ) -> None:
        self._min_expires = settings.min_expires
        self._packages = packages
        self._domains = domains
        self._aliases = aliases
        self.throttle = Throttle(settings.watcher_rate, settings.watcher_burst)

    @property
    def allow_events(self) -> tuple[tuple[str, str], ...]:
        """The header that goes with 489 (RFC 6665 section 8.2.2)."""
        return (("Allow-Events", ", ".join(sorted(self._packages))),)

    def sender(self, request: Request, now: float) -> str:
        """The user that asks; 503 when it asks too often."""
        name = self.aor(request.from_.uri)
        self.slow_down(name, now)
        return name

    def slow_down(self, name: str, now: float) -> None:
        """503 for who asks too often."""
        wait = self.throttle.take(name, now)
        if wait:
            raise SIPError("Too Many Requests", 503, [("Retry-After", str(wait))])

    def is_foreign(self, request: Request) -> bool:
        """Whether the sender is no user of ours: a node or gateway that the policy trusts."""
        return not self._domains.is_local(request.from_.uri.host)

    def package(self, request: Request) -> tuple[Event, Package]:
        """Which event package it is about; 489 when we have no such package."""
        value = request.get("event")
        if value is not None:
            event = Event.parse(value)
            package = self._packages.get(event.package)
            if package is not None:
                return event, package
        raise SIPError(status=489, headers=self.allow_events)

    def expires(self, request: Request, longest: int) -> int:
        """What is granted, 0 for the end; 423 for too little."""
        asked = request.expires
        if asked is None:
            return longest
        if 0 < asked < self._min_expires:
            raise SIPError(status=423, headers=[("Min-Expires", str(self._min_expires))])
        return min(asked, longest)

    def presentity(self, request: Request) -> str:
        """Whom it is about; 404 for nobody."""
        if not request.uri.user:
            raise SIPError(status=404)
        return self.aor(self._aliases.resolve(request.uri))

    def aor(self, uri: URI) -> str:
        """``user@domain`` as everything is kept under."""
        host = self._domains.canonical(uri.host) if uri.host else self._domains.names()[0]
        return f"{uri.user}@{host}"

    def local_user(self, uri: URI) -> str:
        """The user of ours behind a URI, "" for strangers."""
        uri = self._aliases.resolve(uri)
        if not uri.user or not (uri.scheme == "tel" or self._domains.is_local(uri.host)):
            return ""
        return self.aor(uri)
