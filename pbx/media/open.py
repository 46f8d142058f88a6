"""Name to engine: the only table of media engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbx.media.settings import MediaSettings

if TYPE_CHECKING:
    from pbx.interfaces import IMediaEngine, ITimers


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParts:
    """What an engine may be made of.

    ``source_towards`` tells which address of this machine a peer sees ("" for no route),
    ``local_addresses`` all of them. ``folder`` is for sockets and files of the running process.
    """

    settings: MediaSettings
    advertise: str
    reactor: Any
    timers: ITimers
    source_towards: Callable[[str], str]
    local_addresses: Callable[[], frozenset[str]]
    folder: Path


#: Engines by the first word of the setting; each gets the rest of it (after the colon) and raises
#: ValueError when that makes no sense.
ENGINES: dict[str, Callable[[str, EngineParts], IMediaEngine]] = {}


def open_engine(parts: EngineParts) -> IMediaEngine | None:
    """The engine of the setting, None for ``none``. Raises ValueError for a bad setting."""
    name, _, rest = parts.settings.engine.partition(":")
    if name == "none" and not rest:
        return None
    engine = ENGINES.get(name)
    if engine is None:
        known = ", ".join(["none", *ENGINES])
        raise ValueError(f"{parts.settings.engine!r}: not a media engine; known: {known}")
    return engine(rest, parts)
