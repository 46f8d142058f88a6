"""Time recurrences: spec 20 section 8, RFC 2445 section 4.3.10."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from twisted.trial.unittest import SynchronousTestCase

from plugins.timerec import parse

BERLIN = "Europe/Berlin"


def at(text: str, zone: str = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


class TimerecTests(SynchronousTestCase):
    def check(self, text: str, within: list[str], outside: list[str]) -> None:
        schedule = parse(text)
        assert schedule is not None
        for moment in within:
            self.assertTrue(schedule(at(moment)), f"{text} at {moment}")
        for moment in outside:
            self.assertFalse(schedule(at(moment)), f"{text} at {moment}")

    def test_empty_is_always(self) -> None:
        for text in ("", None, "  "):
            self.assertIsNone(parse(text))

    def test_once(self) -> None:
        self.check(
            f"{BERLIN}|20260301T080000|20260302T120000",
            ["2026-03-01T08:00:00", "2026-03-02T11:59:59"],
            ["2026-03-01T07:59:59", "2026-03-02T12:00:00"],
        )

    def test_start_alone_is_for_ever(self) -> None:
        self.check(f"{BERLIN}|20260301T080000", ["2030-01-01"], ["2026-03-01T07:59:59"])

    def test_working_hours(self) -> None:
        """Monday to Friday, 8 to 18."""
        self.check(
            f"{BERLIN}|20260101T080000||PT10H|weekly|||MO,TU,WE,TH,FR",
            ["2026-11-23T08:00:00", "2026-11-27T17:59:59"],
            ["2026-11-23T07:59:59", "2026-11-23T18:00:00", "2026-11-28T12:00:00"],
        )

    def test_summer_time(self) -> None:
        """Wall time counts, also on the day on which the clock changes."""
        self.check(
            f"{BERLIN}|20260101T080000||PT1H|daily",
            ["2026-03-28T08:30:00", "2026-03-29T08:30:00", "2026-07-01T08:30:00"],
            ["2026-03-29T07:30:00", "2026-03-29T09:30:00"],
        )

    def test_over_midnight(self) -> None:
        """Friday 22 h to Saturday 6 h belongs to Friday."""
        self.check(
            f"{BERLIN}|20260102T220000|20260103T060000|||||",
            ["2026-01-03T05:59:59"],
            ["2026-01-09T23:00:00"],
        )
        self.check(
            f"{BERLIN}|20260102T220000|20260103T060000||weekly",
            ["2026-01-09T23:00:00", "2026-01-10T05:00:00"],
            ["2026-01-10T06:00:00", "2026-01-10T23:00:00", "2026-01-09T05:00:00"],
        )

    def test_interval_and_until(self) -> None:
        self.check(
            f"{BERLIN}|20260101T000000||P1D|daily|20260110T000000|3",
            ["2026-01-01T12:00:00", "2026-01-04T12:00:00", "2026-01-10T12:00:00"],
            ["2026-01-02T12:00:00", "2026-01-13T12:00:00"],
        )
        self.check(
            f"{BERLIN}|20260101T000000||P1D|weekly||2|TH",
            ["2026-01-01", "2026-01-15"],
            ["2026-01-08", "2026-01-16"],
        )

    def test_monthly(self) -> None:
        self.check(f"{BERLIN}|20260105|||monthly", ["2026-02-05"], ["2026-02-06"])
        self.check(f"{BERLIN}|20260101|||monthly|||1MO", ["2026-11-02"], ["2026-11-09"])
        self.check(f"{BERLIN}|20260101|||monthly|||-1FR", ["2026-11-27"], ["2026-11-20"])
        self.check(
            f"{BERLIN}|20260101|||monthly||||-1,15", ["2026-02-28", "2026-02-15"], ["2026-03-28"]
        )

    def test_yearly(self) -> None:
        self.check(f"{BERLIN}|20200229|||yearly", ["2024-02-29"], ["2023-02-28", "2023-03-01"])
        self.check(
            f"{BERLIN}|20200101|||yearly|||||||12", ["2026-12-01"], ["2026-12-02", "2026-11-01"]
        )
        self.check(f"{BERLIN}|20200101|||yearly|||||-1", ["2024-12-31"], ["2024-12-30"])
        self.check(f"{BERLIN}|20200101|||yearly||||||53", ["2020-12-30"], ["2021-12-30"])
        self.check(f"{BERLIN}|20200101|||yearly|||-1SU", ["2026-12-27"], ["2026-12-20"])

    def test_utc(self) -> None:
        """A trailing Z; the rest is in the zone."""
        self.check(
            f"{BERLIN}|20260701T060000Z||PT1H|daily",
            ["2026-07-02T08:30:00"],
            ["2026-07-02T06:30:00"],
        )

    def test_operators(self) -> None:
        """The slash of a zone is no operator; ``&`` binds closer than ``/``."""
        week = f"{BERLIN}|20260101T000000||P1D|weekly|||MO"
        night = f"{BERLIN}|20260101T000000||PT6H|daily"
        self.check(
            f"{week} / {night}", ["2026-11-23T12:00", "2026-11-24T05:00"], ["2026-11-24T12:00"]
        )
        self.check(f"{week}&!{night}", ["2026-11-23T12:00"], ["2026-11-23T05:00"])
        self.check(f"!({week}/{night})", ["2026-11-24T12:00"], ["2026-11-23T12:00"])
        self.check(
            f"{week}&{night}/{BERLIN}|20270101",
            ["2027-06-01", "2026-11-23T01:00"],
            ["2026-11-23T12:00"],
        )

    def test_mistakes(self) -> None:
        for text in (
            "Mars/Base|20260101T000000",
            "2026-01-01",
            "20261301T000000",
            "20260101T000000||P",
            "20260101T000000||PT0S",
            "20260102T000000|20260101T000000",
            "20260101T000000|||hourly",
            "20260101T000000|||weekly|||XX",
            "20260101T000000|||weekly||0",
            "20260101T000000|||monthly||||32",
            "20260101T000000|||yearly|||||||13",
            "20260101T000000|||daily||||||||",
            "20260101||P400D|daily",
            "(20260101T000000",
            "20260101T000000)",
            "(" * 500 + "20260101",
            "٢٠٢٦٠١٠١",
        ):
            with self.assertRaises(ValueError, msg=text):
                parse(text)
