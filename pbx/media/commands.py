"""What operators may ask about bridged calls."""

from __future__ import annotations

from collections.abc import Iterable

from pbx.errors import MediaFailed
from pbx.interfaces import IMediaEngine
from pbx.legs import LegKind, MediaStatistics, Side, StreamStatistics
from pbx.media.bridge import BridgedCall


async def media_list(engine: IMediaEngine | None, calls: Iterable[BridgedCall]) -> object:
    """Every session: whose call, through what, and how it is heard so far."""
    sessions: list[object] = []
    for call in list(calls):
        for bridge in list(call.bridges()):
            heard: MediaStatistics | None = None
            if engine is not None:
                try:
                    heard = await engine.query(bridge.session)
                except MediaFailed:
                    # An engine that is away: what we know ourselves is told all the same.
                    heard = None
            sessions.append(
                {
                    "dialog": call.did,
                    "branch": bridge.session.branch,
                    "answered": bridge is call.winner,
                    "caller": _side(bridge.kind(Side.CALLER), heard.caller if heard else None),
                    "callee": _side(bridge.kind(Side.CALLEE), heard.callee if heard else None),
                }
            )
    return {"engine": "none" if engine is None else engine.name, "sessions": sessions}


def _side(kind: LegKind, heard: StreamStatistics | None) -> dict[str, object]:
    told: dict[str, object] = {"kind": kind.value}
    if heard is not None:
        told.update(
            packets=heard.packets,
            loss=round(heard.loss, 5),
            jitter_ms=round(1000 * heard.jitter, 2),
            mos=round(heard.mos, 2),
        )
    return told
