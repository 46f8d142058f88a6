"""NOTIFY: what is sent when, and what the answers mean (RFC 6665 section 4.2.2).

One NOTIFY is under way per subscription; changes meanwhile, or too soon after the last one, end up
in the next. Every NOTIFY carries the full state, so nothing is lost by that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pbx.interfaces import ITimers, IUserAgent
from pbx.services.presence.settings import PresenceSettings
from pbx.services.presence.subscription import STATES, TERMINATED, Subscription
from pbx.sip.errors import MalformedMessage, SIPError
from pbx.sip.events import ENDS_SUBSCRIPTION, subscription_state
from pbx.sip.fields import parse_number
from pbx.sip.message import Request, Response

#: NOTIFYs in a row that may fail in other ways before the subscription ends.
MAX_FAILURES = 3
#: Longest Retry-After that is honoured, in seconds.
MAX_RETRY_AFTER = 600


class Notifier:
    """Sends the state of subscriptions; ``failed(subscription)`` hears which must end."""

    log = Logger()

    def __init__(
        self,
        settings: PresenceSettings,
        agent: IUserAgent,
        clock: IReactorTime,
        timers: ITimers,
        failed: Callable[[Subscription], object],
    ) -> None:
        self._interval = settings.notify_interval
        self._end_on_timeout = settings.end_sub_on_timeout
        self._agent = agent
        self._clock = clock
        self._timers = timers
        self._failed = failed
        self.sent = self.unanswered = self.refused = 0

    def changed(self, subscription: Subscription, delay: float = 0.0) -> None:
        """State has changed: tell the watcher within ``delay`` and the rate limit."""
        now = self._clock.seconds()
        self._plan(subscription, now, max(now + delay, subscription.not_before))

    def answer(self, subscription: Subscription) -> None:
        """A SUBSCRIBE was accepted: send the state as soon as its answer is out (4.2.1.2)."""
        subscription.tell_all()
        if subscription.in_flight:
            subscription.dirty = True
            return
        self._at(subscription, self._clock.seconds())

    def _plan(self, subscription: Subscription, now: float, due: float) -> None:
        if subscription.in_flight:
            subscription.dirty = True
        elif subscription.timer is not None and subscription.due <= due:
            return
        elif due <= now:
            self._send(subscription)
        else:
            self._at(subscription, due)

    def _at(self, subscription: Subscription, due: float) -> None:
        if subscription.timer is not None:
            subscription.timer.cancel()
        subscription.due = due
        subscription.timer = self._timers.call_at(due, self._send, subscription)

    def _send(self, subscription: Subscription) -> None:
        if subscription.timer is not None:
            subscription.timer.cancel()
            subscription.timer = None
        subscription.dirty = False
        flow = subscription.flow
        if flow is not None and flow.closed and flow.peer.transport in ("WS", "WSS"):
            # Nobody can call a browser; its refresh over a new connection brings it up to date.
            self.unanswered += 1
            return
        now = self._clock.seconds()
        if subscription.dialog.local_cseq:
            subscription.not_before = now + self._interval
        try:
            request = self._request(subscription, now)
            routed = bool(subscription.dialog.route_set)
            way = None if routed or flow is None or flow.closed else flow
            next_hop = subscription.dialog.next_hop() if way is None else None
        except MalformedMessage as error:
            self.log.warn(
                "a watcher cannot be notified: {reason}",
                reason=error.reason,
                call_id=subscription.dialog.call_id,
            )
            self._failed(subscription)
            return
        subscription.in_flight = True
        self.sent += 1
        answer = self._agent.send(request, next_hop, way)
        Deferred.fromCoroutine(self._wait(subscription, answer)).addErrback(self._crashed)

    def _request(self, subscription: Subscription, now: float) -> Request:
        subscription.version += 1
        body = subscription.package.document(subscription)
        state = subscription_state(
            STATES[subscription.status],
            expires=max(round(subscription.expires - now), 0),
            reason=subscription.reason,
        )
        headers = [
            ("Contact", subscription.local_contact),
            ("Event", str(subscription.event)),
            ("Subscription-State", state),
        ]
        if subscription.required:
            headers.append(("Require", subscription.required))
        if body:
            subscription.informed = True
            headers.append(("Content-Type", subscription.content_type))
        return subscription.dialog.request("NOTIFY", headers, body)

    async def _wait(self, subscription: Subscription, answer: Awaitable[Response]) -> None:
        ended = subscription.status == TERMINATED
        try:
            response = await answer
            status, wait = response.status, _retry_after(response)
        except SIPError as error:
            status, wait = error.status, 0
        subscription.in_flight = False
        if ended:
            # That was the last one.
            return
        if status < 300:
            subscription.failures = 0
        elif self._is_fatal(subscription, status, wait):
            self._failed(subscription)
            return
        else:
            subscription.tell_all()
        if wait:
            subscription.not_before = self._clock.seconds() + wait
            subscription.dirty = True
        if subscription.status == TERMINATED:
            self._send(subscription)
        elif subscription.dirty:
            self.changed(subscription)

    def _is_fatal(self, subscription: Subscription, status: int, wait: int) -> bool:
        if status == 408:
            self.unanswered += 1
            if self._end_on_timeout:
                return True
        else:
            self.refused += 1
        subscription.failures += 1
        if wait:
            return subscription.failures >= 2 * MAX_FAILURES
        if status == 430 and subscription.flow is not None:
            # Its connection is gone: a refresh or the expiry decides.
            return False
        return status in ENDS_SUBSCRIPTION or subscription.failures >= MAX_FAILURES

    def _crashed(self, failure: Failure) -> None:
        self.log.failure("a NOTIFY failed", failure=failure)


def _retry_after(response: Response) -> int:
    """Seconds of a Retry-After that came with a refusal, 0 for none."""
    value = response.get("retry-after")
    if value is None or response.status < 300 or response.local:
        return 0
    digits = value.replace("(", ";").partition(";")[0]
    try:
        return min(parse_number(digits, "Retry-After"), MAX_RETRY_AFTER)
    except MalformedMessage:
        return 0
