"""Traced messages as HEPv3, for tools that show them (opensips-cli)."""

from __future__ import annotations

from pbx import hep
from pbx.management.trace.messages import TracedMessage
from pbx.sip.masking import masked


def packet(message: TracedMessage, correlation: str, capture_id: int = 0) -> bytes:
    """One message, its credentials masked."""
    own, peer = message.own, message.peer
    source, target = (own, peer) if message.sent else (peer, own)
    return hep.packet(message.time, source, target, masked(message.data), correlation, capture_id)
