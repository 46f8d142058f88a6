"""Bindings of users: REGISTER and the location table (RFC 3261 section 10)."""

from pbx.services.registrar.registrar import Registrar
from pbx.services.registrar.settings import RegistrarSettings
from pbx.services.registrar.store import LOCATION_COLUMNS, LOCATION_KEY

__all__ = ["LOCATION_COLUMNS", "LOCATION_KEY", "Registrar", "RegistrarSettings"]
