"""The package ``message-summary``: is there voice mail, or text that waits (RFC 3842)."""

from __future__ import annotations

from collections.abc import Callable

from pbx.events import MessagesWaiting
from pbx.interfaces import IEvents
from pbx.services.presence.publications import Publications
from pbx.services.presence.subscription import View, sip_uri
from pbx.sip.errors import SIPError

CONTENT_TYPE = "application/simple-message-summary"


class MessageSummaryPackage:
    """What a voice mail system publishes or counts, and the text messages that we keep."""

    name = "message-summary"
    content_types: tuple[str, ...] = (CONTENT_TYPE,)
    publishable = True

    def __init__(
        self,
        count_texts: bool,
        publications: Publications,
        changed: Callable[[str, str], object],
        events: IEvents,
    ) -> None:
        self._publications = publications
        self._changed = changed
        self._counts: dict[str, tuple[int, int, int, int]] = {}
        self._texts: dict[str, int] = {}
        if count_texts:
            events.subscribe(MessagesWaiting, self._messages_waiting)

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
        """A mailbox of ours has so many voice messages now."""
        counts = (new, old, urgent_new, urgent_old)
        if self._counts.get(presentity, (0, 0, 0, 0)) == counts:
            return
        if any(counts):
            self._counts[presentity] = counts
        else:
            del self._counts[presentity]
        self._changed(self.name, presentity)

    def _messages_waiting(self, event: MessagesWaiting) -> None:
        if event.count:
            self._texts[event.aor] = event.count
        else:
            self._texts.pop(event.aor, None)
        self._changed(self.name, event.aor)

    def document(self, view: View) -> bytes:
        """The newest publication, else our own counts; text messages in any case."""
        presentity = view.presentity
        published = self._publications.of(self.name, presentity)
        texts = self._texts.get(presentity, 0)
        if published:
            return with_texts(published[0].body, texts) if texts else published[0].body
        new, old, urgent_new, urgent_old = self._counts.get(presentity, (0, 0, 0, 0))
        lines = [
            f"Messages-Waiting: {'yes' if new or texts else 'no'}",
            f"Message-Account: {sip_uri(presentity)}",
            f"Voice-Message: {new}/{old} ({urgent_new}/{urgent_old})",
        ]
        lines += [f"Text-Message: {texts}/0"] if texts else []
        return ("\r\n".join(lines) + "\r\n").encode("utf-8", "surrogateescape")


_ANSWERS = (b"yes", b"no")


def with_texts(body: bytes, texts: int) -> bytes:
    """A summary that also counts text messages; one that does so itself stays as it is."""
    summary, blank, headers = body.partition(b"\r\n\r\n")
    lines = summary.rstrip(b"\r\n").split(b"\r\n")
    if any(line.lower().startswith(b"text-message") for line in lines):
        return body
    counted = [b"Messages-Waiting: yes", *lines[1:], b"Text-Message: %d/0" % texts, b""]
    return b"\r\n".join(counted) + (b"\r\n" + headers if blank else b"")
