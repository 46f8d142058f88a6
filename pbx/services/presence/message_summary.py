"""The package ``message-summary``: is there voice mail (RFC 3842)."""

from __future__ import annotations

from collections.abc import Callable

from pbx.services.presence.publications import Publications
from pbx.services.presence.subscription import View, sip_uri
from pbx.sip.errors import SIPError

CONTENT_TYPE = "application/simple-message-summary"


class MessageSummaryPackage:
    """What was published or counted last; no messages when neither was."""

    name = "message-summary"
    content_types: tuple[str, ...] = (CONTENT_TYPE,)
    publishable = True

    def __init__(self, publications: Publications, changed: Callable[[str, str], object]) -> None:
        self._publications = publications
        self._changed = changed
        self._counts: dict[str, tuple[int, int, int, int]] = {}

    def may_watch(self, presentity: str, watcher: str) -> bool:
        """A mailbox concerns its owner; others may watch it as the policy allows."""
        return True

    def check(self, body: bytes) -> None:
        """Raises SIPError 400 unless it begins as section 5.2 wants."""
        name, colon, value = body.partition(b"\n")[0].partition(b":")
        answer = value.strip().lower()
        if name.strip().lower() != b"messages-waiting" or not colon or answer not in _ANSWERS:
            raise SIPError("Bad Message Summary", 400)

    def count(
        self, presentity: str, new: int, old: int, urgent_new: int = 0, urgent_old: int = 0
    ) -> None:
        """A mailbox of ours has so many messages now."""
        counts = (new, old, urgent_new, urgent_old)
        if self._counts.get(presentity, (0, 0, 0, 0)) == counts:
            return
        if any(counts):
            self._counts[presentity] = counts
        else:
            del self._counts[presentity]
        self._changed(self.name, presentity)

    def document(self, view: View) -> bytes:
        """The newest publication, else our own counts."""
        presentity = view.presentity
        published = self._publications.of(self.name, presentity)
        if published:
            return published[0].body
        new, old, urgent_new, urgent_old = self._counts.get(presentity, (0, 0, 0, 0))
        lines = [
            f"Messages-Waiting: {'yes' if new else 'no'}",
            f"Message-Account: {sip_uri(presentity)}",
            f"Voice-Message: {new}/{old} ({urgent_new}/{urgent_old})",
        ]
        return ("\r\n".join(lines) + "\r\n").encode("utf-8", "surrogateescape")


_ANSWERS = (b"yes", b"no")
