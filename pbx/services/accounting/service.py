"""Writes accounting rows as calls go by."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from pbx.events import (
    CallEnded,
    CallFailed,
    CallRestored,
    CallStarted,
    MediaEnded,
    TransactionCompleted,
)
from pbx.interfaces import IEvents, IWriteBehind
from pbx.services.accounting.columns import AccountingSettings, DateFormat, source, user_of
from pbx.services.accounting.legs import Leg, Legs, host_of

_BUSY = frozenset((486, 600, 603))
_MISSED = frozenset((408, 480, 487))


class Accounting:
    """Writes what became of accounted requests and calls."""

    def __init__(
        self,
        settings: AccountingSettings,
        acc: IWriteBehind,
        missed: IWriteBehind,
        cdr: IWriteBehind,
        events: IEvents,
        clock: IReactorTime,
    ) -> None:
        self._acc = acc
        self._missed = missed
        self._cdr = cdr
        self._clock = clock
        self._date = DateFormat(settings.utc)
        self._extra = [source(text) for text in settings.extra_fields.values()]
        self._legs = Legs(settings.join_window, clock)
        events.subscribe(TransactionCompleted, self._transaction_completed)
        events.subscribe(CallStarted, lambda event: self._legs.started(event.dialog))
        events.subscribe(CallRestored, lambda event: self._legs.restored(event.dialog))
        events.subscribe(CallFailed, self._call_failed)
        events.subscribe(CallEnded, self._call_ended)
        events.subscribe(MediaEnded, self._media_ended)

    # acc and missed_calls

    def _transaction_completed(self, event: TransactionCompleted) -> None:
        """2xx always, anything else only for BYE (rules R4.4, R11.5)."""
        request, response = event.request, event.response
        if request.method != "BYE" and not 200 <= response.status < 300:
            return
        leg = self._legs.find(event.call)
        dialog = None if leg is None else leg.dialog
        # Of BYE, too, the time counts from the INVITE.
        created = event.created if dialog is None else dialog.created
        self._put_acc(
            request.method,
            (
                request.from_.tag or "",
                response.to.tag or "",
                request.call_id,
                str(response.status),
                response.reason,
            ),
            created,
            [value(dialog, event) for value in self._extra],
        )

    def _put_acc(
        self, method: str, about: tuple[str, ...], created: float, extra: list[str]
    ) -> None:
        now = self._clock.seconds()
        self._acc.insert(
            (
                *(method[:16], *(text[:255] for text in about), self._date(now)),
                *(0, 0, max(int(now - created), 0), self._date(created), *extra),
            ),
        )

    def _call_failed(self, event: CallFailed) -> None:
        """One missed call for each INVITE that nobody answered (O14, O34)."""
        dialog = event.dialog
        leg = self._legs.ended(dialog)
        if not dialog.accounted:
            return
        now = self._clock.seconds()
        row = (
            *("INVITE", dialog.from_tag[:255], dialog.to_tag[:255], dialog.call_id[:255]),
            *(str(event.status), event.reason[:255], self._date(now)),
            *(max(int(now - dialog.created), 0), self._date(dialog.created)),
            *(value(dialog, None) for value in self._extra),
        )
        self._missed.insert(row)
        self._put_cdr(leg, _disposition(event.status, event.cancelled))

    def _call_ended(self, event: CallEnded) -> None:
        """A CDR; of a call that we ended also the BYE (local block)."""
        dialog = event.dialog
        leg = self._legs.ended(dialog)
        if not dialog.accounted:
            return
        if event.by not in ("caller", "callee"):
            about = (dialog.from_tag, dialog.to_tag, dialog.call_id, "200", "Dialog Timeout")
            extra = [value(dialog, None) for value in self._extra]
            self._put_acc("BYE", about, dialog.created, extra)
        self._put_cdr(leg, "answered")

    def _media_ended(self, event: MediaEnded) -> None:
        """How the call was heard comes after its end: the row once more, complete."""
        leg = self._legs.find(event.call)
        if leg is not None and leg.dialog.ended:
            heard = event.statistics
            leg.media = (
                heard.packets,
                round(heard.loss, 5),
                round(1000 * heard.jitter, 2),
                round(heard.mos, 2),
            )
            if leg.dialog.accounted:
                self._put_cdr(leg, "answered")

    def _put_cdr(self, leg: Leg, disposition: str) -> None:
        dialog = leg.dialog
        main = leg.main
        answered = dialog.answered
        row = (
            dialog.did,
            (dialog if main is None else main.dialog).correlation[:64],
            int(main is None),
            dialog.call_id[:255],
            dialog.from_tag[:255],
            dialog.to_tag[:255],
            leg.users[0][:255],
            dialog.from_display[:255],
            (leg.users[1] or user_of(dialog.request_uri))[:255],
            str(dialog.caller)[:64],
            str(dialog.callee or "")[:64],
            self._date(dialog.created),
            self._date(answered) if answered else None,
            self._date(dialog.ended),
            dialog.created,
            answered,
            dialog.ended,
            disposition,
            dialog.ended_by,
            dialog.sip_code,
            dialog.sip_reason[:255],
            host_of(dialog.from_uri)[:64].lower(),
            host_of(dialog.to_uri)[:64].lower(),
            *leg.media,
        )
        self._cdr.put((dialog.did,), row)


def _disposition(status: int, cancelled: bool) -> str:
    """What became of a call that nobody answered."""
    if cancelled:
        return "cancelled"
    if status in _BUSY:
        return "busy"
    return "missed" if status in _MISSED else "failed"
