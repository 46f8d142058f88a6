"""What a database operation fails with: defined where services may import it."""

from __future__ import annotations

from pbx.errors import DatabaseError, Kind

__all__ = ["DatabaseError", "Kind"]
