"""An RTPProxy that is another program: the same commands over UDP."""

from __future__ import annotations

from typing import Any

from pbx.media.cookies import CookieChannel


class ExternalChannel:
    """Nothing is told by itself: that would need a socket that the other program may connect to."""

    notify_socket = ""

    def __init__(self, channel: CookieChannel) -> None:
        self._channel = channel

    @property
    def silent(self) -> bool:
        """Whether it has stopped to answer."""
        return self._channel.silent

    async def open(self, reactor: Any) -> None:
        """Ready for commands."""
        self._channel.open(reactor)

    async def ask(self, command: str) -> str:
        """The reply. Raises MediaFailed."""
        return (await self._channel.ask(command.encode())).decode("utf-8", "replace")

    async def close(self) -> None:
        """No more commands."""
        await self._channel.close()
