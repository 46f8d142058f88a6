"""``/health``: for load balancers, monitors and container engines."""

from __future__ import annotations

import json
from collections.abc import Callable

from twisted.web import resource
from twisted.web.server import Request

from pbx import __version__
from pbx.health import Health


class HealthPage(resource.Resource):
    """200 while calls can be served, 503 when not; JSON with the reasons either way."""

    isLeaf = True

    def __init__(self, health: Callable[[], Health]) -> None:
        super().__init__()
        self._health = health

    def render_GET(self, request: Request) -> bytes:
        """Also HEAD."""
        health = self._health()
        request.setResponseCode(503 if health.status == "down" else 200)
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"cache-control", b"no-store")
        found = {**health.as_json(), "version": __version__}
        return json.dumps(found).encode() + b"\n"
