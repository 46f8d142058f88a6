"""Asking nodes whether they live."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pbx.interfaces import ITimer, ITimers, IUserAgent
from pbx.services.load_balancer.destinations import ALWAYS, WHEN_DISABLED, Destination
from pbx.services.load_balancer.settings import LoadBalancerSettings
from pbx.sip.message import Request


class Prober:
    """Sends a request to every node that wants it, once per interval, spread over it."""

    log = Logger()

    def __init__(
        self,
        settings: LoadBalancerSettings,
        user_agent: IUserAgent,
        timers: ITimers,
        destinations: Callable[[], Iterable[Destination]],
        answered: Callable[[Destination, bool, str], object],
    ) -> None:
        self._settings = settings
        self._user_agent = user_agent
        self._timers = timers
        self._destinations = destinations
        self._answered = answered
        self._timer: ITimer | None = None
        self.sent = 0

    def start(self) -> None:
        """First probes after one interval."""
        if self._settings.probing_interval > 0:
            self._timer = self._timers.call_later(self._settings.probing_interval, self._turn)

    def stop(self) -> None:
        """No further probe."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turn(self) -> None:
        self._timer = self._timers.call_later(self._settings.probing_interval, self._turn)
        for destination in list(self._destinations()):
            mode = destination.probe_mode
            if mode == ALWAYS or (mode == WHEN_DISABLED and not destination.enabled):
                self.probe(destination)

    def probe(self, destination: Destination) -> None:
        """Ask one node now."""
        self.sent += 1
        Deferred.fromCoroutine(self._probe(destination)).addErrback(
            lambda failure: self.log.failure("a probe failed", failure=failure)
        )

    async def _probe(self, destination: Destination) -> None:
        uri = destination.uri
        request = Request.make(
            self._settings.probing_method,
            uri,
            [("From", f"<{self._settings.probing_from}>"), ("To", f"<{uri}>")],
        )
        response = await self._user_agent.send(request, timeout=self._settings.probing_timeout)
        status = response.status
        if self._is_alive(status):
            self._answered(destination, True, f"{status} {response.reason}")
        elif status >= 400:
            self._answered(destination, False, f"{status} {response.reason}")

    def _is_alive(self, status: int) -> bool:
        if status == 200 or status in self._settings.probing_reply_codes:
            return True
        return self._settings.lenient and status not in (408, 503)
