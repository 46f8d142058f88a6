"""Time recurrences of ``dr_rules.timerec`` and ``dialplan.timerec`` (RFC 2445 section 4.3.10).

``[zone|]dtstart|dtend|duration|freq|until|interval|byday|bymonthday|byyearday|byweekno|bymonth``;
several combine with ``&``, ``/``, ``!`` and parentheses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

#: Whether a moment (epoch seconds) is within.
Schedule = Callable[[float], bool]

FREQUENCIES: Final = ("", "daily", "weekly", "monthly", "yearly")
WEEKDAYS: Final = {name: at for at, name in enumerate(("MO", "TU", "WE", "TH", "FR", "SA", "SU"))}
DAY: Final = timedelta(days=1)
#: Days that one occurrence of a repeated interval may last.
LONGEST: Final = 366
_EPOCH: Final = datetime(1970, 1, 1)
_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+/-]*(?=\|)")
_DURATION: Final = re.compile(
    r"P(?:(\d{1,6})W)?(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9})S)?)?"
)


def parse(text: str | None) -> Schedule | None:
    """The schedule that a column says; None for always. Raises ValueError."""
    text = (text or "").strip(" \t")
    if not text:
        return None
    return _Remembered(_Parser(text).parse())


class _Remembered:
    """A schedule that is worked out once a second at most."""

    __slots__ = ("_answer", "_schedule", "_second")

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._second = -1
        self._answer = False

    def __call__(self, now: float) -> bool:
        second = int(now)
        if second != self._second:
            self._answer = self._schedule(second)
            self._second = second
        return self._answer


class _Parser:
    """Terms and operators; ``&`` binds closer than ``/``."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def parse(self) -> Schedule:
        found = self._any(0)
        if self._at < len(self._text):
            raise ValueError(f"timerec: unexpected {self._text[self._at]!r}")
        return found

    def _next(self) -> str:
        while self._text[self._at : self._at + 1] in (" ", "\t"):
            self._at += 1
        return self._text[self._at : self._at + 1]

    def _any(self, depth: int) -> Schedule:
        parts = [self._all(depth)]
        while self._next() == "/":
            self._at += 1
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else lambda now: any(part(now) for part in parts)

    def _all(self, depth: int) -> Schedule:
        parts = [self._term(depth)]
        while self._next() == "&":
            self._at += 1
            parts.append(self._term(depth))
        return parts[0] if len(parts) == 1 else lambda now: all(part(now) for part in parts)

    def _term(self, depth: int) -> Schedule:
        if depth > 20:
            raise ValueError("timerec: nested too deep")
        char = self._next()
        if char == "!":
            self._at += 1
            inner = self._term(depth + 1)
            return lambda now: not inner(now)
        if char != "(":
            return self._recurrence()
        self._at += 1
        found = self._any(depth + 1)
        if self._next() != ")":
            raise ValueError("timerec: expected )")
        self._at += 1
        return found

    def _recurrence(self) -> Schedule:
        zone = ""
        # A slash in the name of a time zone is no operator.
        if match := _ZONE.match(self._text, self._at):
            zone = match[0]
            self._at = match.end() + 1
        start = self._at
        while self._at < len(self._text) and self._text[self._at] not in "&/!()":
            self._at += 1
        return recurrence(self._text[start : self._at], zone).matches


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrence:
    """One recurrence. Without ``zone`` it is the local time of this machine."""

    zone: ZoneInfo | None
    start: datetime
    length: timedelta | None
    freq: str
    until: float | None
    interval: int
    byday: tuple[tuple[int, int], ...]
    bymonthday: tuple[int, ...]
    byyearday: tuple[int, ...]
    byweekno: tuple[int, ...]
    bymonth: tuple[int, ...]

    def matches(self, now: float) -> bool:
        """Whether an occurrence has begun and not ended."""
        start, length = self.start, self.length
        if not self.freq:
            begun = self._moment(start) <= now
            return begun and (length is None or now < self._moment(start + length))
        if length is None:
            length = DAY
        today = datetime.fromtimestamp(now, self.zone).date()
        for days in range(length.days + 2):
            day = today - timedelta(days=days)
            if day < start.date():
                return False
            first = datetime.combine(day, start.time())
            began = self._moment(first)
            if self.until is not None and began > self.until:
                continue
            if began <= now < self._moment(first + length) and self._occurs(day):
                return True
        return False

    def _moment(self, wall: datetime) -> float:
        return wall.replace(tzinfo=self.zone).timestamp()

    def _occurs(self, day: date) -> bool:
        """Whether an occurrence begins on this day."""
        return self._in_step(day) and self._by_rules(day) and self._like_the_first(day)

    def _in_step(self, day: date) -> bool:
        first = self.start.date()
        match self.freq:
            case "daily":
                steps = (day - first).days
            case "weekly":
                monday = timedelta(days=first.weekday())
                steps = (day - first + monday).days // 7
            case "monthly":
                steps = (day.year - first.year) * 12 + day.month - first.month
            case _:
                steps = day.year - first.year
        return steps % self.interval == 0

    def _by_rules(self, day: date) -> bool:
        if self.bymonth and day.month not in self.bymonth:
            return False
        if self.byweekno:
            year, week, _ = day.isocalendar()
            if week not in self.byweekno and week - _weeks(year) - 1 not in self.byweekno:
                return False
        if self.byyearday:
            number = day.timetuple().tm_yday
            back = number - date(day.year, 12, 31).timetuple().tm_yday - 1
            if number not in self.byyearday and back not in self.byyearday:
                return False
        if self.bymonthday:
            back = day.day - _days_of_month(day) - 1
            if day.day not in self.bymonthday and back not in self.bymonthday:
                return False
        return not self.byday or any(self._is_weekday(day, *rule) for rule in self.byday)

    def _is_weekday(self, day: date, which: int, weekday: int) -> bool:
        if day.weekday() != weekday:
            return False
        if which == 0 or self.freq in ("daily", "weekly"):
            return True
        if self.freq == "monthly" or self.bymonth:
            at, days = day.day, _days_of_month(day)
        else:
            at, days = day.timetuple().tm_yday, date(day.year, 12, 31).timetuple().tm_yday
        return which == ((at - 1) // 7 + 1 if which > 0 else -((days - at) // 7 + 1))

    def _like_the_first(self, day: date) -> bool:
        """What no by-rule says is as in dtstart."""
        first = self.start.date()
        days_said = self.byday or self.bymonthday or self.byyearday or self.byweekno
        match self.freq:
            case "weekly":
                return bool(self.byday) or day.weekday() == first.weekday()
            case "monthly":
                return bool(days_said) or day.day == first.day
            case "yearly" if not days_said:
                return day.day == first.day and (bool(self.bymonth) or day.month == first.month)
            case _:
                return True


def recurrence(text: str, zone_name: str = "") -> Recurrence:
    """The fields from dtstart on; trailing ones may be missing. Raises ValueError."""
    fields = [field.strip(" \t") for field in text.split("|")]
    if len(fields) > 11:
        raise ValueError("timerec: more than 11 fields")
    fields += [""] * (11 - len(fields))
    zone = _zone(zone_name) if zone_name else None
    start = _wall(fields[0], zone) if fields[0] else _EPOCH
    length: timedelta | None = None
    if fields[2]:
        length = _duration(fields[2])
    elif fields[1]:
        length = _wall(fields[1], zone) - start
    if length is not None and length <= timedelta(0):
        raise ValueError("timerec: it ends before it begins")
    freq = fields[3].lower()
    if freq not in FREQUENCIES:
        raise ValueError(f"timerec: freq {fields[3]!r}: daily, weekly, monthly or yearly")
    if freq and length is not None and length.days > LONGEST:
        raise ValueError(f"timerec: longer than {LONGEST} days")
    until = _wall(fields[4], zone).replace(tzinfo=zone).timestamp() if fields[4] else None
    return Recurrence(
        zone=zone,
        start=start,
        length=length,
        freq=freq,
        until=until,
        interval=_numbers(fields[5], 1, 10_000, False)[0] if fields[5] else 1,
        byday=tuple(_weekday(item) for item in _items(fields[6])),
        bymonthday=_numbers(fields[7], 1, 31),
        byyearday=_numbers(fields[8], 1, 366),
        byweekno=_numbers(fields[9], 1, 53),
        bymonth=_numbers(fields[10], 1, 12, False),
    )


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise ValueError(f"timerec: unknown time zone {name!r}") from None


def _wall(text: str, zone: ZoneInfo | None) -> datetime:
    """Local time in the zone, without zone. A date alone is its midnight."""
    plain = text[:-1] if text[-1:] in ("Z", "z") else text
    form = "%Y%m%dT%H%M%S" if len(plain) > 8 else "%Y%m%d"
    if not (plain.isascii() and len(plain) in (8, 15)):
        raise ValueError(f"timerec: {text!r}: expected YYYYMMDDTHHMMSS")
    try:
        wall = datetime.strptime(plain.upper(), form)
    except ValueError:
        raise ValueError(f"timerec: {text!r}: expected YYYYMMDDTHHMMSS") from None
    if not 1900 < wall.year < 9000:
        raise ValueError(f"timerec: {text!r}: no such year")
    if plain == text:
        return wall
    moment = wall.replace(tzinfo=UTC)
    return datetime.fromtimestamp(moment.timestamp(), zone).replace(tzinfo=None)


def _duration(text: str) -> timedelta:
    found = _DURATION.fullmatch(text.upper()) if text.isascii() else None
    if found is None or not any(found.groups()):
        raise ValueError(f"timerec: duration {text!r}: expected one like P1DT8H")
    weeks, days, hours, minutes, seconds = (int(group or 0) for group in found.groups())
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def _items(text: str) -> Sequence[str]:
    return [item.strip(" \t") for item in text.split(",")] if text else ()


def _numbers(text: str, least: int, most: int, negative: bool = True) -> tuple[int, ...]:
    found = []
    for item in _items(text):
        digits = item[1:] if item[:1] == "+" or (negative and item[:1] == "-") else item
        if not (digits.isascii() and digits.isdigit() and len(digits) < 6):
            raise ValueError(f"timerec: {item!r}: expected a number")
        if not least <= int(digits) <= most:
            raise ValueError(f"timerec: {item!r}: expected {least} to {most}")
        found.append(int(item))
    return tuple(found)


def _weekday(item: str) -> tuple[int, int]:
    """``-1FR`` -> (-1, 4): which one of them, 0 for every."""
    weekday = WEEKDAYS.get(item[-2:].upper())
    if weekday is None:
        raise ValueError(f"timerec: {item!r}: expected MO, TU, WE, TH, FR, SA or SU")
    which = item[:-2]
    return (_numbers(which, 1, 53)[0] if which else 0), weekday


def _days_of_month(day: date) -> int:
    return ((day.replace(day=28) + timedelta(days=4)).replace(day=1) - DAY).day


def _weeks(year: int) -> int:
    return date(year, 12, 28).isocalendar()[1]
