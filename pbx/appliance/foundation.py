"""What every layer is built on: the settings, the clock, the events, and the list of the parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from pbx.events import Events
from pbx.interfaces import IEvents, IFolder, ITimers
from pbx.registry import Registry
from pbx.tables import Tables
from pbx.timing import TimerWheel
from pbx.transport.delivery import Delivery

PartT = TypeVar("PartT")


@implementer(IFolder)
class Foundation:
    """Belongs to one PBX in the making; relative paths start from ``base``.

    ``delivery`` is what the transports hand messages to: those of a test have it before the PBX.
    """

    def __init__(
        self, tables: Tables, base: Path, reactor: IReactorTime, delivery: Delivery | None = None
    ) -> None:
        self.tables = tables
        self.base = base
        #: Each part says by the type of its parameter how much of a reactor it needs.
        self.reactor: Any = reactor
        self.delivery = Delivery() if delivery is None else delivery
        self.registry = Registry()
        self.events = Events()
        self.wheel = TimerWheel(reactor)
        #: In the order in which they start.
        self.parts: list[object] = []

    def add(self, part: PartT) -> PartT:
        """A part to start and stop, to ask for commands, counters and health."""
        self.parts.append(part)
        return part

    def provide(self) -> None:
        """Offer what is here to plugins and the policy."""
        self.registry.provide(IEvents, self.events)
        self.registry.provide(ITimers, self.wheel)
        self.registry.provide(IFolder, self)

    def located(self, path: Path) -> Path:
        """Absolute ones stay."""
        return self.base / path
