"""Who may see whom: the rules of the presentities, as their documents are now (RFC 5025)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pbx.events import DocumentChanged
from pbx.interfaces import IDocuments, IEvents, ITimer, ITimers
from pbx.services.presence.rules import FULL, HANDLINGS, Handling, Permission, Ruleset
from pbx.services.presence.settings import PresenceSettings
from pbx.services.presence.subscription import ACTIVE, PENDING, TERMINATED, View
from pbx.sip.errors import SIPError

#: Rulesets kept; beyond that they are read again.
MAX_RULESETS = 10_000
STATUS = {
    Handling.BLOCK: TERMINATED,
    Handling.CONFIRM: PENDING,
    Handling.POLITE_BLOCK: ACTIVE,
    Handling.ALLOW: ACTIVE,
}


class Authorisation:
    """Decides; ``changed(presentity)`` hears when a decision may be another one now."""

    log = Logger()

    def __init__(
        self,
        settings: PresenceSettings,
        documents: IDocuments,
        changed: Callable[[str], object],
        events: IEvents,
        clock: IReactorTime,
        timers: ITimers,
    ) -> None:
        self._force_active = settings.force_active
        self._default = HANDLINGS[settings.default_handling]
        self._documents = documents
        self._changed = changed
        self._clock = clock
        self._timers = timers
        self._rulesets: dict[str, Ruleset | None] = {}
        self._due: dict[str, ITimer] = {}
        events.subscribe(DocumentChanged, self._document_changed)

    def decide(self, package: str, view: View, watcher: str) -> bool:
        """Set what a watcher may see; whether that is anything new."""
        before = view.permission
        view.permission = self._permission(package, view.presentity, watcher)
        view.status = STATUS[view.permission.handling]
        view.reason = "rejected" if view.status == TERMINATED else ""
        return view.permission != before

    def _permission(self, package: str, presentity: str, watcher: str) -> Permission:
        if self._force_active or package != "presence" or presentity == watcher:
            return FULL
        ruleset = self._ruleset(presentity)
        if ruleset is None:
            return Permission(self._default)
        return ruleset.permission(watcher, self._clock.seconds(), self._default)

    def _ruleset(self, presentity: str) -> Ruleset | None:
        if presentity in self._rulesets:
            return self._rulesets[presentity]
        if len(self._rulesets) >= MAX_RULESETS:
            self._rulesets.clear()
        found = self._rulesets[presentity] = self._read(presentity)
        if found is not None:
            self._wait(presentity, found)
        return found

    def _read(self, presentity: str) -> Ruleset | None:
        body = self._documents.document("pres-rules", presentity)
        if body is None:
            return None
        try:
            return Ruleset.read(body)
        except SIPError as error:
            # Only a row that was written by another program.
            self.log.warn(
                "the rules of {who} cannot be read: {why}", who=presentity, why=error.reason
            )
            return None

    def _wait(self, presentity: str, ruleset: Ruleset) -> None:
        """A rule may be for a time only (RFC 4745 section 7.3)."""
        timer = self._due.pop(presentity, None)
        if timer is not None:
            timer.cancel()
        due = ruleset.next_change(self._clock.seconds())
        if due is not None:
            self._due[presentity] = self._timers.call_at(due, self._forget, presentity)

    def _document_changed(self, event: DocumentChanged) -> None:
        if event.auid == "pres-rules" and not self._force_active:
            self._forget(event.owner)

    def _forget(self, presentity: str) -> None:
        timer = self._due.pop(presentity, None)
        if timer is not None:
            timer.cancel()
        self._rulesets.pop(presentity, None)
        self._changed(presentity)
