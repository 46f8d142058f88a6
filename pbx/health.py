"""How well the PBX is: one verdict out of what its parts say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pbx.interfaces import IHealth

#: From well to unwell.
WORDS = ("ok", "degraded", "down")


@dataclass(frozen=True, slots=True)
class Health:
    """``ok``; ``degraded`` when calls work but something else does not; ``down`` when none do."""

    status: str
    reasons: tuple[str, ...] = ()

    def as_json(self) -> Mapping[str, object]:
        """For the management interface and ``/health``."""
        return {"status": self.status, "reasons": list(self.reasons)}


def overall(parts: Iterable[object]) -> Health:
    """The worst word of all parts that provide IHealth, with the reasons of the unwell ones."""
    worst, reasons = 0, []
    for part in parts:
        if IHealth.providedBy(part):
            word, why = IHealth(part).health()
            worst = max(worst, WORDS.index(word))
            if word != "ok":
                reasons.append(why)
    return Health(WORDS[worst], tuple(reasons))
