"""A gate without guard: everybody may come in. For tests, and for who wants no limits."""

from __future__ import annotations

from typing import Final

from zope.interface import implementer

from pbx.interfaces import IGuard, ISource
from pbx.sip.message import Request

#: More messages than any source can send.
UNLIMITED: Final = 1 << 62


@implementer(ISource)
class Anybody:
    """A source that nobody counts."""

    stranger = False

    def __init__(self) -> None:
        self.tokens = UNLIMITED

    def wait(self) -> float:
        """Not at all."""
        return 0.0

    def meets(self, request: Request) -> bool:
        """Always."""
        return True


@implementer(IGuard)
class OpenGate:
    """All are welcome."""

    def __init__(self) -> None:
        self._anybody = Anybody()

    def source(self, host: str) -> Anybody:
        """The same for every address."""
        return self._anybody

    def banned(self, host: str) -> float:
        """Nobody is."""
        return 0.0

    def failed(self, host: str, user: str, why: str, where: str = "web") -> None:
        """Nothing comes of it."""

    def proved(self, host: str) -> None:
        """Nothing comes of it."""
