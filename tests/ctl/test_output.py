"""What pbxctl prints."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pbx.ctl import show
from pbx.ctl.main import parameters
from pbx.ctl.output import duration, table


class OutputTests(SynchronousTestCase):
    def test_table(self) -> None:
        """Columns are as wide as they need; no colour where nobody looks."""
        self.assertEqual(
            table(("USER", "N"), [("1001", 1), ("a", 22)], "none"), "USER  N\n1001  1\na     22"
        )
        self.assertEqual(table(("USER",), [], "none"), "none")

    def test_terminal_is_not_steered(self) -> None:
        """Control characters from the wire are not passed on."""
        self.assertEqual(table(("A",), [("\x1b[2Jx\udc80",)], ""), "A\n?[2Jx?")

    def test_duration(self) -> None:
        seconds = (-1, 7, 185, 3_720, 183_600)
        self.assertEqual([duration(s) for s in seconds], ["0s", "7s", "3m 05s", "1h 02m", "2d 3h"])

    def test_parameters(self) -> None:
        """NAME=VALUE for all of them, else positional."""
        self.assertEqual(parameters(["a=1", "b="]), {"a": "1", "b": ""})
        self.assertEqual(parameters(["1", "a=1"]), ["1", "a=1"])
        self.assertEqual(parameters([]), [])


class ShowTests(SynchronousTestCase):
    def test_status(self) -> None:
        text = show.status(
            {
                "version": "0.1.0",
                "build": "compiled",
                "pid": 5,
                "uptime": 65,
                "listeners": ["udp:127.0.0.1:5070"],
                "database": {"url": "sqlite:var/pbx.db", "available": False},
                "cache": {"url": "memory:"},
                "counts": {"dialog:active_dialogs": 3},
                "health": {"status": "degraded", "reasons": ["disk full"]},
            }
        )
        for line in (
            "degraded; disk full",
            "0.1.0 compiled",
            "5, up 1m 05s",
            "sqlite:var/pbx.db (does not answer)",
            "udp:127.0.0.1:5070",
        ):
            self.assertIn(line, text)

    def test_registrations(self) -> None:
        """A line per contact; optional members may be missing."""
        contacts = [
            {"Contact": "sip:a@192.0.2.1", "Expires": 300, "User-agent": "X/1"},
            {"Contact": "sip:a@192.0.2.2", "Expires": "permanent", "Received": "sip:192.0.2.9"},
        ]
        found = {"Domains": [{"AORs": [{"AOR": "a@pbx.test", "Contacts": contacts}]}]}
        lines = show.registrations(found).splitlines()
        self.assertEqual(lines[1].split(), ["a@pbx.test", "sip:a@192.0.2.1", "5m", "00s", "X/1"])
        self.assertEqual(
            lines[2].split(), ["a@pbx.test", "sip:a@192.0.2.2", "permanent", "sip:192.0.2.9"]
        )
        self.assertEqual(show.registrations({"Domains": []}), "nobody is registered")

    def test_calls(self) -> None:
        """Calls that ended stay listed for a while; they are no calls in progress."""
        call = {"from_uri": "sip:a@x", "to_uri": "sip:b@x", "state": 4, "ID": "7.1"}
        text = show.calls({"Dialogs": [call, {**call, "state": 5}]})
        self.assertEqual(len(text.splitlines()), 3)
        self.assertIn("in call", text)
        self.assertTrue(text.endswith("\n1 call"))

    def test_balancer(self) -> None:
        node = {
            "uri": "sip:192.0.2.5",
            "id": 1,
            "group": 1,
            "enabled": "yes",
            "auto-reenable": "on",
            "Resources": [{"name": "pstn", "max": 500, "load": 2}],
        }
        self.assertIn("pstn=2/500", show.balancer({"Destinations": [node]}))
        self.assertIn("phone to phone", show.balancer({"Destinations": []}))

    def test_subscriptions(self) -> None:
        one = {
            "watcher": "1001@pbx.test",
            "presentity": "team@pbx.test",
            "event": "presence",
            "state": "active",
            "members": 3,
            "expires": 3599,
            "contact": "sip:1001@192.0.2.50\x1b[31m",
        }
        lines = show.subscriptions({"Subscriptions": [one]}).split("\n")
        self.assertEqual(
            lines[0].split(), ["WATCHER", "WATCHES", "EVENT", "STATE", "EXPIRES", "CONTACT"]
        )
        self.assertIn("team@pbx.test (3 members)", lines[1])
        self.assertIn("59m 59s", lines[1])
        self.assertNotIn("\x1b", lines[1])
        self.assertEqual(show.subscriptions({"Subscriptions": []}), "nobody watches anybody")

    def test_presentities(self) -> None:
        one = {
            "presentity": "1002@pbx.test",
            "event": "presence",
            "state": "open: in a meeting",
            "publications": 2,
            "watchers": 14,
            "expires": 60,
        }
        lines = show.presentities({"Presentities": [one]}).split("\n")
        self.assertEqual(lines[0].split()[:3], ["USER", "EVENT", "STATE"])
        self.assertIn("open: in a meeting", lines[1])
        self.assertEqual(lines[1].split()[-4:], ["2", "14", "1m", "00s"])
        self.assertEqual(show.presentities({"Presentities": []}), "nobody has published anything")
