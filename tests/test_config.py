"""Settings: conversion, faults that say what would be right, the shipped files."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from twisted.trial.unittest import SynchronousTestCase

from pbx import tables
from pbx.config import ConfigError, base_folder, located, read, reference, settings
from pbx.interfaces import IPBXPlugin
from pbx.tables import Tables
from pbx.tap import all_settings

SETTINGS = all_settings()
PROJECT = Path(__file__).resolve().parent.parent
FILES = ("pbx.toml", "freeswitch-cluster.toml")
OPTIONAL = re.compile(r"^# (?=[a-z0-9_]+ = )", re.MULTILINE)
#: Optional lines that show an example, because the default is to have none.
EXAMPLES = {
    *(("tls", key) for key in ("certificate", "private_key")),
    ("web", "console_token_file"),
    *(("ice", key) for key in ("stun", "turn", "secret_file")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One of every type."""

    name: str
    """Who it is
    about."""
    count: int = 1
    """How many."""
    ratio: float = 0.5
    on: bool = False
    path: Path = Path("a")
    words: tuple[str, ...] = ()
    mode: Literal["a", "b"] = "a"
    perhaps: int | None = None
    numbers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("count: must not be negative")


class SettingsTests(SynchronousTestCase):
    def fault(self, **table: object) -> str:
        with self.assertRaises(ConfigError) as caught:
            settings(Sample, {"name": "x", **table}, "sample")
        return str(caught.exception)

    def test_values(self) -> None:
        """TOML types become the types of the fields; the rest has its default."""
        table = {
            "name": "x",
            "ratio": 2,
            "on": True,
            "path": "b/c",
            "words": ["a", "b"],
            "mode": "b",
            "perhaps": 3,
            "numbers": {"one": 1},
        }
        self.assertEqual(
            settings(Sample, table, "sample"),
            Sample(
                name="x",
                ratio=2.0,
                on=True,
                path=Path("b/c"),
                words=("a", "b"),
                mode="b",
                perhaps=3,
                numbers={"one": 1},
            ),
        )

    def test_unknown_key(self) -> None:
        """With what was probably meant, or what there is."""
        self.assertEqual(self.fault(cuont=1), "[sample] cuont: unknown; did you mean count?")
        self.assertIn("known: count, mode, name, numbers", self.fault(zzzzz=1))

    def test_wrong_types(self) -> None:
        for key, value, text in (
            ("count", "1", "expected a number, not '1'"),
            ("count", True, "expected a number"),
            ("count", 1.5, "expected a whole number"),
            ("ratio", "x", "expected a number"),
            ("on", 1, "expected true or false"),
            ("name", 1, "expected a text in quotes"),
            ("path", 1, "expected a text in quotes"),
            ("words", "a", "expected a list"),
            ("words", [1], "expected a text in quotes"),
            ("mode", "c", "expected one of 'a', 'b'"),
            ("numbers", [], "expected a table"),
        ):
            self.assertIn(f"[sample] {key}: {text}", self.fault(**{key: value}))

    def test_all_faults_at_once(self) -> None:
        with self.assertRaises(ConfigError) as caught:
            settings(Sample, {"count": "x", "nmae": 1}, "sample")
        self.assertEqual(len(caught.exception.faults), 3)

    def test_missing(self) -> None:
        with self.assertRaises(ConfigError) as caught:
            settings(Sample, {}, "sample")
        self.assertEqual(caught.exception.faults, ("[sample] name: missing",))

    def test_rule_of_the_class(self) -> None:
        self.assertEqual(self.fault(count=-1), "[sample] count: must not be negative")

    def test_reference(self) -> None:
        """Name, default, type and meaning of each field."""
        text = reference(Sample, "sample")
        self.assertIn("[sample]\n  name = required    (str)\n      Who it is about.", text)
        self.assertIn("  count = 1    (int)\n      How many.", text)
        self.assertIn('  path = "a"    (Path)', text)
        self.assertIn("  on = false", text)


class FileTests(SynchronousTestCase):
    def test_unreadable(self) -> None:
        path = Path(self.mktemp())
        with self.assertRaises(ConfigError) as caught:
            read(path)
        self.assertIn("cannot be read: No such file", str(caught.exception))

    def test_bad_syntax(self) -> None:
        """The place of the mistake; also for bytes that are no text."""
        path = Path(self.mktemp())
        path.write_text("[sip]\nlisten = \n")
        with self.assertRaises(ConfigError) as caught:
            read(path)
        self.assertIn("line 2", str(caught.exception))
        path.write_bytes(b"\xff\xfe")
        self.assertRaises(ConfigError, read, path)

    def test_base_folder(self) -> None:
        """The folder that holds etc/, else the folder of the file."""
        self.assertEqual(base_folder(Path("/srv/pbx/etc/pbx.toml")), Path("/srv/pbx"))
        self.assertEqual(base_folder(Path("/srv/pbx/my.toml")), Path("/srv/pbx"))

    def test_located(self) -> None:
        base = Path("/srv/pbx")
        self.assertEqual(located("sqlite:var/pbx.db", base), "sqlite:/srv/pbx/var/pbx.db")
        self.assertEqual(located("sqlite:/tmp/x", base), "sqlite:/tmp/x")
        for url in ("memory:", "postgresql://u@h/d"):
            self.assertEqual(located(url, base), url)


class ShippedFilesTests(SynchronousTestCase):
    def tables(self, name: str, optional: bool = False) -> dict[str, dict[str, object]]:
        text = (PROJECT / "etc" / name).read_text("utf-8")
        return tomllib.loads(OPTIONAL.sub("", text) if optional else text)

    def test_files_are_good(self) -> None:
        """No unknown table, key, type or plugin."""
        for name in FILES:
            tables = self.tables(name)
            Tables(tables)
            for table, keys in tables.items():
                settings(SETTINGS[table], keys, table)

    def test_optional_lines_are_the_defaults(self) -> None:
        """A line that is commented out changes nothing when it is not."""
        for name in FILES:
            written = self.tables(name)
            for table, keys in self.tables(name, optional=True).items():
                kind: Any = SETTINGS[table]
                least = {"domain": "x"} if table == "sip" else {}
                default = settings(kind, least, table)
                for key in keys.keys() - written.get(table, {}).keys():
                    self.assertTrue(hasattr(default, key), f"{name} [{table}] {key}")
                    if (table, key) not in EXAMPLES:
                        found = settings(kind, {**least, key: keys[key]}, table)
                        self.assertEqual(found, default, f"{name} [{table}] {key}")

    def test_every_table_is_shown(self) -> None:
        """An operator finds all of them in the embedded default."""
        self.assertEqual(SETTINGS.keys() - self.tables("pbx.toml").keys(), set())

    def test_no_secrets(self) -> None:
        """Passwords come from elsewhere (oddity O21)."""
        for name in FILES:
            text = (PROJECT / "etc" / name).read_text("utf-8")
            self.assertNotRegex(text, r"://[^/\s\"]*:[^/\s\"]*@")

    def test_values_of_the_old_configuration(self) -> None:
        """Parameters of the reference deployment keep their values."""
        tables = self.tables("freeswitch-cluster.toml")
        for table, key, value in (
            ("proxy", "fr_timeout", 5),
            ("proxy", "fr_inv_timeout", 30),
            ("proxy", "restart_fr_on_each_reply", False),
            ("registrar", "max_contacts", 1),
            ("registrar", "db_mode", 2),
            ("dialog", "default_timeout", 21600),
            ("dialog", "dlg_match_mode", 1),
            ("load_balancer", "probing_method", "INFO"),
            ("load_balancer", "probing_interval", 5),
            ("load_balancer", "probing_reply_codes", [501, 403]),
            ("dispatcher", "ping_method", "INFO"),
            ("dispatcher", "ping_interval", 5),
            ("dispatcher", "probing_threshold", 2),
            ("dispatcher", "probing_mode", 1),
            ("nat_ping", "interval", 10),
            ("nat_ping", "ping_nated_only", True),
            ("nat_ping", "ping_from", "sip:pinger@192.168.10.109"),
            ("auth", "calculate_ha1", True),
            ("auth", "use_uri_table", False),
            ("mi_http", "root", "mi"),
            ("mi_fifo", "fifo_name", "/tmp/opensips_fifo"),
        ):
            self.assertEqual(tables[table][key], value, f"[{table}] {key}")

    def test_reference_page_is_up_to_date(self) -> None:
        """`make reference` was run after the last change of a setting."""
        page = (PROJECT / "docs" / "configuration.md").read_text("utf-8")
        for name, kind in SETTINGS.items():
            self.assertIn(reference(kind, name), page, f"[{name}]: run make reference")


class TablesTests(SynchronousTestCase):
    def test_all_faults_of_all_tables(self) -> None:
        with self.assertRaises(ConfigError) as caught:
            Tables(
                {
                    "sip": {"domian": "x"},
                    "registar": {},
                    "registrar": {"max_contact": 1},
                    "plugins": {"enabled": ["none_such"]},
                    "http": {"listen": ["tcp:1"]},
                }
            )
        faults = "\n".join(caught.exception.faults)
        for text in (
            "[sip] domian: unknown; did you mean domain?",
            "[sip] domain: missing",
            "[registar]: unknown table; did you mean registrar?",
            "[registrar] max_contact: unknown; did you mean max_contacts?",
            "[plugins] enabled: no plugin 'none_such'",
            "[http] listen: expected",
        ):
            self.assertIn(text, faults)

    def test_plugin_that_cannot_be_loaded(self) -> None:
        """Only those that are enabled matter."""

        def load() -> IPBXPlugin:
            raise ImportError("No module named 'missing'")

        self.patch(tables, "known_plugins", lambda: {"other": load, "good": lambda: self})
        made = Tables(
            {"sip": {"domain": "pbx.test"}, "plugins": {"enabled": ["good"]}, "other": {}}
        )
        self.assertEqual(made.plugins, [self])
        with self.assertRaises(ConfigError) as caught:
            Tables({"sip": {"domain": "pbx.test"}, "plugins": {"enabled": ["other"]}})
        fault = "[plugins] enabled: other: No module named 'missing'"
        self.assertEqual(caught.exception.faults, (fault,))
