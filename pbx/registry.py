"""Who provides what, while the PBX is built: ``IRegistrar(registry)`` is the registrar.

Outside `Registry.building` every look-up raises: nothing is looked up per message.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zope.interface import implementer
from zope.interface.interface import InterfaceClass
from zope.interface.verify import verifyObject

from pbx.interfaces import IRegistry


@implementer(IRegistry)
class Registry:
    """Adapts itself to the interfaces that were provided."""

    def __init__(self) -> None:
        self._parts: dict[InterfaceClass, Any] = {}
        self._building = False

    @contextmanager
    def building(self) -> Iterator[None]:
        """The registry answers only in here."""
        self._building = True
        try:
            yield
        finally:
            self._building = False

    def provide(self, interface: InterfaceClass, part: Any) -> None:
        """Offer a part; it must provide the interface completely, and nobody else may have."""
        if interface in self._parts:
            raise ValueError(f"{interface.__name__} is already provided")
        verifyObject(interface, part)
        self._parts[interface] = part

    def parts(self) -> tuple[Any, ...]:
        """Everything that was provided, in order, each once."""
        return tuple({id(part): part for part in self._parts.values()}.values())

    def __conform__(self, interface: InterfaceClass) -> Any:
        if interface is IRegistry:
            return self
        if not self._building:
            raise RuntimeError(f"{interface.__name__} was looked up after the PBX was built")
        return self._parts.get(interface)
