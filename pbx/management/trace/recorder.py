"""The messages of late, in a ring: a tap that costs a tuple per message."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from zope.interface import classImplements

from pbx.interfaces import IFlow, IWire, IWireTap
from pbx.management.trace.messages import Seen, TracedMessage, read
from pbx.management.trace.settings import TraceSettings

#: Of a longer message the end is not kept: what the ring can grow to has a bound.
MAX_BYTES = 8192
#: How many are kept while somebody looks, if otherwise none are.
LIVE = 4096
#: Messages that are read before other work gets its turn.
CHUNK = 500


class Recorder:
    """The ring. It taps the wire always, or only while it is `followed`."""

    def __init__(self, settings: TraceSettings, wire: IWire, now: Callable[[], float]) -> None:
        self._wire = wire
        self._now = now
        self._size = settings.messages or LIVE
        self._always = settings.messages > 0
        self._tapping = False
        #: Messages since the start: the number of the next one.
        self.count = 0
        self._raw: deque[Seen] = deque(maxlen=self._size)
        self._read: deque[TracedMessage] = deque(maxlen=self._size)

    def start(self) -> None:
        """Begin to record, if always."""
        self._tap(self._always)

    def stop(self) -> None:
        """Record no more."""
        self._tap(False)

    def follow(self) -> None:
        """Somebody looks."""
        self._tap(True)

    def unfollow(self) -> None:
        """Nobody does any more: forget everything, if not always recording."""
        if not self._always:
            self._tap(False)
            self._raw.clear()
            self._read.clear()

    def _tap(self, wanted: bool) -> None:
        if wanted != self._tapping:
            self._tapping = wanted
            (self._wire.tap if wanted else self._wire.untap)(self)

    def message_seen(self, sent: bool, flow: IFlow, data: bytes) -> None:
        """IWireTap."""
        self.count += 1
        if len(data) > MAX_BYTES:
            data = data[:MAX_BYTES]
        self._raw.append((self._now(), sent, flow.local, flow.sent_by, flow.peer, data))

    @property
    def kept(self) -> int:
        """Messages in the ring."""
        return min(len(self._raw) + len(self._read), self._size)

    async def messages(self, pause: Callable[[], Awaitable[object]]) -> Sequence[TracedMessage]:
        """All that are kept, oldest first; ``pause`` is awaited between pieces of the work."""
        raw, done = self._raw, 0
        while raw:
            number = self.count - len(raw)
            self._read.append(read(number, raw.popleft()))
            done += 1
            if done % CHUNK == 0:
                await pause()
        oldest = self.count - self._size
        while self._read and self._read[0].number < oldest:
            self._read.popleft()
        return tuple(self._read)


classImplements(Recorder, IWireTap)
