"""The columns of ``acc``, ``missed_calls`` and ``pbx_cdr``, those of the operator included."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pbx.events import TransactionCompleted
from pbx.interfaces import IDialog
from pbx.sip.headers import canonical
from pbx.sip.uri import unescape

_ACC = ("method", "from_tag", "to_tag", "callid", "sip_code", "sip_reason", "time")
#: Columns of the ``acc`` table that are always written.
ACC_COLUMNS = (*_ACC, "duration", "ms_duration", "setuptime", "created")
#: Columns of the ``missed_calls`` table that are always written.
MISSED_COLUMNS = (*_ACC, "setuptime", "created")
CDR_KEY = ("did",)
CDR_COLUMNS = (
    *("did", "correlation", "main", "call_id", "from_tag", "to_tag", "caller", "caller_name"),
    *("callee", "caller_address", "callee_address", "start_time", "answer_time", "end_time"),
    *("started", "answered", "ended", "disposition", "ended_by", "sip_code", "sip_reason"),
    *("caller_domain", "callee_domain"),
    *("packets", "loss", "jitter", "mos"),
)

Source = Callable[[IDialog | None, TransactionCompleted | None], str]


@dataclass(frozen=True, slots=True)
class AccountingSettings:
    """The ``[accounting]`` table."""

    extra_fields: dict[str, str] = field(default_factory=dict)
    """Further columns of acc and missed_calls that you added: column = "source". A source is
    from_user, to_user, request_user, from_uri, to_uri, request_uri, src_ip, dst_ip, call (joins
    the legs of a call) or header:NAME (of the request; empty in missed_calls)."""
    utc: bool = False
    """Write timestamps in UTC instead of the local time of the server."""
    join_window: float = 10.0
    """Seconds after the start of a call within which a call from the node that got it, with the
    same From and To users, is taken for its second leg when no X-PBX-Call header says so. 0: never.
    """

    def __post_init__(self) -> None:
        for column, source in self.extra_fields.items():
            if not (column.isidentifier() and column.isascii()):
                raise ValueError(f"extra_fields: {column!r} is no name of a column")
            if source not in _SOURCES and not source.startswith("header:"):
                raise ValueError(f"extra_fields: {source!r} is no source")


def acc_columns(settings: AccountingSettings) -> tuple[str, ...]:
    """The columns of rows for ``acc``."""
    return (*ACC_COLUMNS, *settings.extra_fields)


def missed_columns(settings: AccountingSettings) -> tuple[str, ...]:
    """The columns of rows for ``missed_calls``."""
    return (*MISSED_COLUMNS, *settings.extra_fields)


def user_of(uri: str) -> str:
    """The user part of a URI in text, "" for none."""
    address = uri.partition(":")[2].partition("@")
    if not address[1]:
        return address[0] if uri[:4].lower() == "tel:" else ""
    user = address[0].partition(":")[0]
    return unescape(user) if "%" in user else user


class DateFormat:
    """Seconds since 1970 as the text of a timestamp; calls of one second share the work."""

    __slots__ = ("_last", "_text", "_utc")

    def __init__(self, utc: bool) -> None:
        self._utc = utc
        self._last = -1
        self._text = ""

    def __call__(self, seconds: float) -> str:
        """The text of the second that this is in."""
        whole = int(seconds)
        if whole != self._last:
            parts = time.gmtime(whole) if self._utc else time.localtime(whole)
            self._last = whole
            self._text = time.strftime("%Y-%m-%d %H:%M:%S", parts)
        return self._text


def source(text: str) -> Source:
    """What gives the value of an extra column."""
    return _header_source(text[7:]) if text.startswith("header:") else _SOURCES[text]


def _header_source(name: str) -> Source:
    known = canonical(name)

    def header(dialog: IDialog | None, event: TransactionCompleted | None) -> str:
        return "" if event is None else event.request.get(known) or ""

    return header


def _from_uri(dialog: IDialog | None, event: TransactionCompleted | None) -> str:
    if dialog is not None:
        return dialog.from_uri
    return "" if event is None else event.request.from_.uri_text


def _to_uri(dialog: IDialog | None, event: TransactionCompleted | None) -> str:
    if dialog is not None:
        return dialog.to_uri
    return "" if event is None else event.request.to.uri_text


def _request_uri(dialog: IDialog | None, event: TransactionCompleted | None) -> str:
    if dialog is not None:
        return dialog.request_uri
    return "" if event is None else event.request.uri_text


def _src_ip(dialog: IDialog | None, event: TransactionCompleted | None) -> str:
    if dialog is not None:
        return dialog.caller.host
    return "" if event is None else event.arrival_peer.host


def _dst_ip(dialog: IDialog | None, event: TransactionCompleted | None) -> str:
    return "" if dialog is None or dialog.callee is None else dialog.callee.host


def _call(dialog: IDialog | None, event: TransactionCompleted | None) -> str:
    if dialog is not None:
        return dialog.correlation
    return "" if event is None else event.call


_SOURCES: dict[str, Source] = {
    "from_uri": _from_uri,
    "to_uri": _to_uri,
    "request_uri": _request_uri,
    "from_user": lambda dialog, event: user_of(_from_uri(dialog, event)),
    "to_user": lambda dialog, event: user_of(_to_uri(dialog, event)),
    "request_user": lambda dialog, event: user_of(_request_uri(dialog, event)),
    "src_ip": _src_ip,
    "dst_ip": _dst_ip,
    "call": _call,
}
