"""A line in the log for each turn that a call takes."""

from __future__ import annotations

from typing import Final

from pbx.events import CallAnswered, CallEnded, CallFailed, CallRinging, CallStarted
from pbx.interfaces import IDialog, IEvents
from pbx.log_lines import Fields
from pbx.logs import LOG, LogFilter

#: What the log calls it; `log_level` may name it.
NAME: Final = "pbx.calls"
INFO, DEBUG = 3, 4


class CallLog:
    """Hears of calls. Ringing is told at debug level only."""

    def __init__(self, events: IEvents, log: LogFilter = LOG) -> None:
        self._log = log
        events.subscribe(CallStarted, self._started)
        events.subscribe(CallRinging, self._ringing)
        events.subscribe(CallAnswered, self._answered)
        events.subscribe(CallFailed, self._failed)
        events.subscribe(CallEnded, self._ended)

    def _started(self, event: CallStarted) -> None:
        call = event.dialog
        self._tell(
            "call started",
            call,
            ("from", call.from_uri),
            ("to", call.to_uri),
            ("uri", call.request_uri),
            ("peer", call.caller.socket),
        )

    def _ringing(self, event: CallRinging) -> None:
        if self._log.passes(NAME, DEBUG):
            self._tell("call ringing", event.dialog, level=DEBUG)

    def _answered(self, event: CallAnswered) -> None:
        call = event.dialog
        callee = call.callee
        self._tell(
            "call answered",
            call,
            ("after", call.answered - call.created),
            ("callee", callee.socket if callee is not None else ""),
        )

    def _failed(self, event: CallFailed) -> None:
        call = event.dialog
        self._tell(
            "call cancelled" if event.cancelled else "call failed",
            call,
            ("status", event.status),
            ("reason", event.reason),
            ("after", call.ended - call.created),
        )

    def _ended(self, event: CallEnded) -> None:
        call = event.dialog
        self._tell("call ended", call, ("by", event.by), ("duration", call.ended - call.answered))

    def _tell(
        self, message: str, call: IDialog, *more: tuple[str, object], level: int = INFO
    ) -> None:
        fields: Fields = (
            ("call_id", call.call_id),
            ("leg", call.did),
            ("call", call.correlation),
            *more,
        )
        self._log.line(NAME, level, message, fields)
