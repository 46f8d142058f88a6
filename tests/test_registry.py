"""The registry: who provides what, while the PBX is built."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import classImplements, implementer
from zope.interface.exceptions import Invalid

from pbx.events import Events
from pbx.interfaces import IEvents, IHealth, IRegistry
from pbx.registry import Registry


@implementer(IHealth)
class Part:
    def health(self) -> tuple[str, str]:
        return "ok", ""


class Unfinished:
    """Promises health and has none."""


classImplements(Unfinished, IHealth)  # type: ignore[misc]


class RegistryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.registry = Registry()
        self.part = Part()

    def test_adapts_to_what_was_provided(self) -> None:
        with self.registry.building():
            self.registry.provide(IHealth, self.part)
            self.assertIs(IHealth(self.registry), self.part)
            self.assertIs(IRegistry(self.registry), self.registry)

    def test_asking_too_early(self) -> None:
        """A part that comes later in the order is missing: a cycle cannot be written."""
        with self.registry.building(), self.assertRaises(TypeError):
            IHealth(self.registry)

    def test_asking_too_late(self) -> None:
        """No look-up per message: after building it refuses."""
        with self.registry.building():
            self.registry.provide(IHealth, self.part)
        self.assertRaises(RuntimeError, IHealth, self.registry)

    def test_one_provider(self) -> None:
        self.registry.provide(IHealth, self.part)
        self.assertRaises(ValueError, self.registry.provide, IHealth, Part())

    def test_promises_are_checked(self) -> None:
        """A missing method is found at start, by name."""
        with self.assertRaises(Invalid) as caught:
            self.registry.provide(IHealth, Unfinished())
        self.assertIn("health", str(caught.exception))
        with self.assertRaises(Invalid):
            self.registry.provide(IEvents, self.part)

    def test_parts_in_order_and_once(self) -> None:
        events = Events()
        self.registry.provide(IEvents, events)
        self.registry.provide(IHealth, self.part)
        self.assertEqual(self.registry.parts(), (events, self.part))
