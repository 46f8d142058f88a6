"""A bus without network: what one cluster says, all hear at once, unless it is cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from zope.interface import implementer

from pbx.interfaces import IBus, ITally


class Hub:
    """What is said, and who hears it; ``counts`` is the tally of all."""

    def __init__(self) -> None:
        self.buses: list[FakeBus] = []
        self.said: list[str] = []
        self.counts: dict[str, dict[str, dict[str, int]]] = {}

    def say(self, text: str) -> None:
        self.said.append(text)
        for bus in self.buses:
            if bus.connected:
                bus.received(text)


@implementer(IBus, ITally)
class FakeBus:
    """One node's way to the hub. ``answers`` False: the tally does not answer."""

    url = "fake:"
    trouble = ""

    def __init__(self, hub: Hub, limit: int = 100_000) -> None:
        self.hub = hub
        self.limit = limit
        self.connected = True
        self.answers = True
        self.reconnected = 0
        self.received: Callable[[str], None] = lambda text: None
        hub.buses.append(self)

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        self.connected = False

    def deliver_to(self, received: Callable[[str], None]) -> None:
        self.received = received

    def publish(self, text: str) -> None:
        assert len(text) <= self.limit
        if self.connected:
            self.hub.say(text)

    def reconnect(self) -> None:
        self.reconnected += 1

    def put(self, key: str, node: str, numbers: Mapping[str, int]) -> None:
        self.hub.counts.setdefault(key, {}).setdefault(node, {}).update(numbers)

    async def take(
        self, key: str, node: str, numbers: Mapping[str, int], limits: Mapping[str, int]
    ) -> Mapping[str, int] | None:
        if not self.answers:
            return None
        others = {
            name: sum(
                counts.get(name, 0)
                for other, counts in self.hub.counts.get(key, {}).items()
                if other != node
            )
            for name in numbers
        }
        if any(others[name] + number > limits[name] for name, number in numbers.items()):
            return others
        self.put(key, node, numbers)
        return {}

    def forget(self, key: str, node: str) -> None:
        self.hub.counts.get(key, {}).pop(node, None)


def words(hub: Hub, topic: str) -> list[Any]:
    """The bodies that were said about something."""
    return [said[4] for said in map(json.loads, hub.said) if said[3] == topic]
