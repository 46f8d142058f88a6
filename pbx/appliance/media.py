"""The engine that bridges media, and which calls need it."""

from __future__ import annotations

from pbx.appliance.foundation import Foundation
from pbx.appliance.services import Services
from pbx.config import ConfigError
from pbx.media.calls import CallMedia
from pbx.media.open import EngineParts, open_engine
from pbx.media.settings import MediaSettings
from pbx.tables import SipSettings
from pbx.transport.hosts import local_addresses, source_towards


def build_media(foundation: Foundation, services: Services) -> CallMedia:
    """Raises ConfigError for a bad engine."""
    settings = foundation.tables.of(MediaSettings)
    parts = EngineParts(
        settings=settings,
        advertise=foundation.tables.of(SipSettings).advertise,
        reactor=foundation.reactor,
        timers=foundation.wheel,
        source_towards=source_towards,
        local_addresses=local_addresses,
        folder=foundation.base / "var",
    )
    try:
        engine = open_engine(parts)
    except ValueError as error:
        raise ConfigError(f"[media] engine: {error}") from None
    if engine is not None:
        foundation.add(engine)
    return foundation.add(
        CallMedia(
            engine,
            settings.relay_phones,
            services.dialogs,
            foundation.events,
            foundation.wheel,
            foundation.reactor.seconds,
        )
    )
