"""After a restart: where phones are registered, somebody has logged in."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zope.interface import implementer

from pbx.interfaces import IGuard, IStartable


@implementer(IStartable)
class KnownHosts:
    """Tells the guard before anybody listens, so that it is patient with offices at once."""

    def __init__(self, guard: IGuard, hosts: Callable[[], Iterable[str]]) -> None:
        self._guard = guard
        self._hosts = hosts

    async def start(self) -> None:
        """The registrations have been read."""
        for host in self._hosts():
            self._guard.proved(host)

    async def stop(self) -> None:
        """Nothing is kept."""
