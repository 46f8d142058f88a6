"""``/metrics`` for Prometheus: what the parts have counted, rendered when somebody scrapes.

docs/metrics.md names every metric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from twisted.web import resource
from twisted.web.server import Request

from pbx.health import Health
from pbx.http.access import is_admitted
from pbx.http.networks import Network

if TYPE_CHECKING:
    from pbx.http.prometheus import Exposition


class MetricsPage(resource.Resource):
    """For this host and allowed networks."""

    isLeaf = True

    def __init__(
        self,
        parts: Callable[[], Sequence[object]],
        health: Callable[[], Health],
        allowed: Sequence[Network] = (),
    ) -> None:
        super().__init__()
        self._parts = parts
        self._health = health
        self._allowed = allowed
        self._exposition: Exposition | None = None

    def render_GET(self, request: Request) -> bytes:
        """Also HEAD."""
        if not is_admitted(request, self._allowed):
            request.setResponseCode(403)
            request.setHeader("content-type", b"text/plain; charset=utf-8")
            return b"refused: see [http] metrics_allow\n"
        if self._exposition is None:
            # With the first scrape, in 15 ms: 1 MB that a PBX which nobody scrapes does not hold.
            from pbx.http.prometheus import Exposition

            self._exposition = Exposition(self._parts, self._health)
        page, content_type = self._exposition.render(request.getHeader("accept") or "")
        request.setHeader("content-type", content_type)
        request.setHeader("cache-control", "no-store")
        return page
