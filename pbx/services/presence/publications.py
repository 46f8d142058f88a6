"""Published state by entity tag (RFC 3903 sections 4 and 6)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence

from twisted.internet.interfaces import IReactorTime

from pbx.interfaces import ITimer, ITimers
from pbx.services.presence.settings import PresenceSettings
from pbx.sip.errors import SIPError


class Publication:
    """What one publisher said about a presentity; ``expires`` is a time of the clock."""

    __slots__ = (
        "body",
        "content_type",
        "etag",
        "expires",
        "package",
        "presentity",
        "received",
        "sender",
        "timer",
    )

    def __init__(
        self,
        package: str,
        presentity: str,
        body: bytes,
        content_type: str,
        sender: str = "",
    ) -> None:
        self.package = package
        self.presentity = presentity
        self.body = body
        self.content_type = content_type
        self.sender = sender
        self.etag = ""
        self.expires = self.received = 0.0
        self.timer: ITimer | None = None


class Publications:
    """Every publication that has not expired.

    ``changed(package, presentity)`` is called when what is published has changed; ``saved`` and
    ``removed`` hear of every row, the latter with the entity tag that is no longer valid. Others
    may listen with `tell`: the nodes of a cluster hold all publications, whoever got them.
    """

    def __init__(
        self,
        settings: PresenceSettings,
        clock: IReactorTime,
        timers: ITimers,
        changed: Callable[[str, str], object],
        saved: Callable[[Publication], object],
        removed: Callable[[Publication, str], object],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._timers = timers
        self._changed = changed
        self._saved = saved
        self._removed = removed
        # As the reference writes them: start, a number, count.
        self._prefix = f"a.{int(clock.seconds())}.{secrets.randbelow(2**31)}"
        self._count = 0
        self._told: Callable[[Publication | None, str], object] = lambda publication, old: None
        self._by_tag: dict[str, Publication] = {}
        self._by_state: dict[tuple[str, str], list[Publication]] = {}

    def __len__(self) -> int:
        return len(self._by_tag)

    def of(self, package: str, presentity: str) -> Sequence[Publication]:
        """What is published, newest first."""
        return self._by_state.get((package, presentity), ())

    def all(self) -> Iterable[Publication]:
        """Every publication; a copy."""
        return list(self._by_tag.values())

    def tell(self, told: Callable[[Publication | None, str], object]) -> None:
        """Call with a publication as it is now, None when it was removed, and its tag before."""
        self._told = told

    def heard(self, publication: Publication, old: str) -> None:
        """Another node has it; the row is that node's business."""
        before = self._by_tag.get(old) or self._by_tag.get(publication.etag)
        if before is not None:
            self._drop(before)
        self.restore(publication)
        if before is None or before.body != publication.body:
            self._changed(publication.package, publication.presentity)

    def heard_removed(self, etag: str) -> None:
        """Another node has it no more."""
        publication = self._by_tag.get(etag)
        if publication is not None:
            self._drop(publication)
            self._changed(publication.package, publication.presentity)

    def find(self, package: str, presentity: str, etag: str) -> Publication:
        """The publication with this tag. Raises SIPError 412."""
        found = self._by_tag.get(etag)
        if found is None or (found.package, found.presentity) != (package, presentity):
            raise SIPError(status=412)
        return found

    def add(self, publication: Publication, expires: int) -> None:
        """Initial publication (4.1). Raises SIPError 503 when there are too many."""
        key = (publication.package, publication.presentity)
        known = self._by_state.get(key, [])
        full = len(known) >= self._settings.max_publications_per_user
        if full or len(self._by_tag) >= self._settings.max_publications:
            raise SIPError("Too Many Publications", 503, [("Retry-After", "60")])
        self._by_state[key] = [publication, *known]
        self._renew(publication, expires)
        self._changed(*key)

    def restore(self, publication: Publication) -> None:
        """One that was read back; its tag and expiry are known."""
        key = (publication.package, publication.presentity)
        known = [*self._by_state.get(key, ()), publication]
        known.sort(key=lambda one: one.received, reverse=True)
        self._by_state[key] = known
        self._by_tag[publication.etag] = publication
        self._expire_later(publication)

    def refresh(self, publication: Publication, expires: int) -> None:
        """It lives longer, under a new tag; nobody is notified (4.3)."""
        self._renew(publication, expires)

    def modify(
        self, publication: Publication, body: bytes, content_type: str, expires: int
    ) -> None:
        """A new document under a new tag (4.4)."""
        publication.body = body
        publication.content_type = content_type
        key = (publication.package, publication.presentity)
        others = [one for one in self._by_state[key] if one is not publication]
        self._by_state[key] = [publication, *others]
        self._renew(publication, expires)
        self._changed(*key)

    def remove(self, publication: Publication) -> None:
        """It is gone (4.5)."""
        if self._by_tag.get(publication.etag) is not publication:
            return
        self._drop(publication)
        self._removed(publication, publication.etag)
        self._told(None, publication.etag)
        self._changed(publication.package, publication.presentity)

    def _drop(self, publication: Publication) -> None:
        del self._by_tag[publication.etag]
        if publication.timer is not None:
            publication.timer.cancel()
            publication.timer = None
        key = (publication.package, publication.presentity)
        left = [one for one in self._by_state[key] if one is not publication]
        if left:
            self._by_state[key] = left
        else:
            del self._by_state[key]

    def _renew(self, publication: Publication, expires: int) -> None:
        old = publication.etag
        if old:
            del self._by_tag[old]
            self._removed(publication, old)
        self._count += 1
        publication.etag = f"{self._prefix}.{self._count}.{secrets.randbelow(1000)}"
        publication.received = self._clock.seconds()
        publication.expires = publication.received + expires
        self._by_tag[publication.etag] = publication
        self._expire_later(publication)
        self._saved(publication)
        self._told(publication, old)

    def _expire_later(self, publication: Publication) -> None:
        if publication.timer is not None:
            publication.timer.cancel()
        publication.timer = self._timers.call_at(publication.expires, self.remove, publication)
