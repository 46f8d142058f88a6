"""The importer: what it reads, what it writes, what it tells."""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pbx.ctl.importer.command import ImportFailed, imported, report
from pbx.ctl.importer.draft import Draft, toml
from pbx.ctl.importer.lexer import BadScript, Kind, tokens
from pbx.ctl.importer.parser import parse
from pbx.ctl.importer.rules import RULES

EXAMPLES = Path(__file__).parents[1] / "importer"
CLUSTER = Path(__file__).parents[2] / "etc" / "freeswitch-cluster.toml"
#: What the hand-written file has besides: values that are defaults, or that no old line says.
BY_HAND = {
    *(("sip", "listen"), ("management", "socket"), ("management", "mode"), ("mi_http", "root")),
    *(("media", "engine"), ("media", "relay_phones")),
}


def draft_of(name: str) -> Draft:
    return imported(EXAMPLES / name)


def written(draft: Draft) -> dict[str, Any]:
    return tomllib.loads(draft.text("x.cfg"))


class LexerTests(SynchronousTestCase):
    def words(self, source: str) -> list[str]:
        return [token.value for token in tokens(source) if token.kind is not Kind.END]

    def test_comments_and_texts(self) -> None:
        """Comments of both kinds, signs of comments in texts, escaped quotes."""
        source = '# a "b\n/* c\n d */ x = "e # f /* g */ \\"h\\"" // i\n'
        self.assertEqual(self.words(source), ["x", "=", 'e # f /* g */ "h"'])

    def test_variables_and_operators(self) -> None:
        source = '$(ru{uri.user}) =~ "^a" && $avp(x)!=NULL||$hdr(From[0]) $du'
        expected = ["$(ru{uri.user})", "=~", "^a", "&&", "$avp(x)", "!=", "NULL", "||"]
        self.assertEqual(self.words(source), [*expected, "$hdr(From[0])", "$du"])

    def test_addresses(self) -> None:
        """What is an operator elsewhere is part of a listener."""
        for address in ("udp:*:5060", "tls:[2001:db8::1]:5061", "tcp:eth0.5:5060"):
            self.assertEqual(self.words(f"listen={address} # x\n")[2], address)

    def test_lines(self) -> None:
        found = tokens('a\n/* \n\n */ b "c\nd" e')
        self.assertEqual([token.line for token in found][:4], [1, 4, 4, 5])

    def test_no_script(self) -> None:
        with self.assertRaisesRegex(BadScript, "line 2"):
            tokens('a\n"never closed')


class ParserTests(SynchronousTestCase):
    def test_unclosed(self) -> None:
        for source, text in (
            ("route {\n if (a) {", "line 1: a brace is never closed"),
            ('\nmodparam("a", ', "line 2: a parenthesis is never closed"),
            ("route[", "line 1: a bracket is never closed"),
        ):
            with self.assertRaisesRegex(BadScript, text):
                parse(source)

    def test_conditions(self) -> None:
        """A call knows the conditions that it stands under."""
        script = parse(
            'route { if (is_method("A")) { if (b()) c(); d(); } else e("x, y", $var(z)); }'
        )
        within = {call.name: call.within for call in script.routes[0].calls}
        self.assertEqual(within["c"], ('is_method ( "A" )', "b ( )"))
        self.assertEqual(within["d"], ('is_method ( "A" )',))
        self.assertEqual(within["e"], ())
        self.assertEqual(script.calls("e")[0].arguments, ("x, y", "$var(z)"))

    def test_spellings(self) -> None:
        """Parameters of several modules, values of every kind, settings without spaces."""
        script = parse(
            'modparam("auth_db|uri", "x", yes)\nmodparam("a", "n", -1)\nlog_level=3\n'
            "debug=2\nunknown {\n thing }\nchildren=4\n"
        )
        found = [(s.module, s.name, s.value) for s in script.settings]
        self.assertEqual(
            found,
            [
                ("auth_db", "x", "yes"),
                ("uri", "x", "yes"),
                ("a", "n", "-1"),
                ("", "log_level", "3"),
                ("", "debug", "2"),
                ("", "children", "4"),
            ],
        )
        self.assertEqual(script.strange, [(5, "unknown {...}")])

    def test_deep_nesting(self) -> None:
        """No recursion: neither braces nor parentheses have a depth that is too much."""
        depth = 20_000
        parse("route {" + "if (a) {" * depth + "}" * depth + "}")
        parse("route { f(" + "(" * depth + ")" * depth + "); }")


class ReferenceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.draft = draft_of("reference.cfg")

    def test_every_rule_is_recognised(self) -> None:
        """All twenty, exactly; nothing is left out."""
        found = {ref for note in self.draft.understood for ref in note.refs}
        self.assertEqual(found, {rule.name for rule in RULES})
        self.assertEqual(self.draft.left_out, [])
        text = report(self.draft, Path("a.cfg"), Path("a.toml"))
        self.assertIn("the reference recipe, all 20 rules", text)

    def test_oddities(self) -> None:
        """Those that the file shows, by number."""
        found = {ref for note in self.draft.differs for ref in note.refs}
        shown = {2, 4, 5, 7, 8, 9, 10, 11, 12, 17, 19, 20, 21, 22, 29, 31}
        self.assertLessEqual({f"O{number}" for number in shown}, found)

    def test_same_as_by_hand(self) -> None:
        """Every value is that of etc/freeswitch-cluster.toml, which was written by hand."""
        by_hand = tomllib.loads(CLUSTER.read_text())
        ours = written(self.draft)
        for table, values in ours.items():
            for key, value in values.items():
                if (table, key) == ("plugins", "enabled"):
                    self.assertEqual(sorted(value), sorted(by_hand[table][key]))
                else:
                    self.assertEqual(by_hand.get(table, {}).get(key), value, f"[{table}] {key}")
        missing = {
            (table, key)
            for table, values in by_hand.items()
            for key in values
            if key not in ours.get(table, {}) and table != "routing"
        }
        self.assertLessEqual(missing, BY_HAND)

    def test_no_passwords(self) -> None:
        """Neither in the file nor in the report, nor for programs."""
        for text in (
            self.draft.text("x"),
            report(self.draft, Path("a"), Path("b")),
            str(self.draft.as_json()),
        ):
            self.assertNotIn("db-secret", text)
            self.assertNotIn("redis-secret", text)


class OtherFilesTests(SynchronousTestCase):
    def check(self, draft: Draft, **tables: dict[str, Any]) -> None:
        found = written(draft)
        for table, values in tables.items():
            for key, value in values.items():
                self.assertEqual(found[table][key], value, f"[{table}] {key}")

    def left(self, draft: Draft, text: str) -> str:
        found = [note.why for note in draft.left_out if text in note.text]
        self.assertEqual(len(found), 1, f"{text}: {found}")
        return found[0]

    def test_trunk_gateway(self) -> None:
        """2.4: old names of timers, several names of the host, MySQL, group and dial plan."""
        draft = draft_of("trunks-2.4.cfg")
        self.check(
            draft,
            sip={
                "domain": "sbc.carrier.example",
                "listen": ["udp:198.51.100.10:5060 as 203.0.113.10:5060", "tcp:0.0.0.0:5060"],
                "advertise": "203.0.113.10:5060",
            },
            transport={"aliases": ["sbc.carrier.example", "sbc2.carrier.example"], "idle": 3605},
            proxy={"fr_timeout": 4, "fr_inv_timeout": 45, "server_header": "Trunk Gateway"},
            transaction={"t1": 0.25, "fr_timeout": 4},
            drouting={"default_group": 7, "probing_reply_codes": [404, 405], "use_domain": False},
            dialog={"ping_caller": True, "ping_callee": True, "bye_on_timeout": False},
            accounting={"extra_fields": {"caller": "from_user", "agent": "header:User-Agent"}},
            http={"listen": ["tcp:127.0.0.1:8080"]},
            mi_http={"root": "manage"},
            msilo={"enabled": False},
        )
        self.assertIn("expected one of 0, 1, 2", self.left(draft, "dlg_match_mode"))
        self.assertIn("mysql", self.left(draft, "db_url").lower())
        self.left(draft, "timer_route[stats,60]")
        self.left(draft, "weird")
        self.assertIn("etc/routing.py: DIALPLAN = 5", draft.todo)
        text = report(draft, Path("a"), Path("b"))
        self.assertNotIn("s3cret", text)
        self.assertNotIn("hunter2", text)

    def test_registrar_with_rtpengine(self) -> None:
        """3.4: sockets, presets, names of flags, a file that is included."""
        draft = draft_of("registrar-3.4.cfg")
        self.check(
            draft,
            sip={"listen": ["udp:*:5060", "ws:0.0.0.0:8080", "wss:10.0.0.5:8443"]},
            storage={"database": "postgresql://pbx@db.internal:5433/voice"},
            media={"engine": "rtpengine:udp:127.0.0.1:2223"},
            registrar={"db_mode": 2, "default_q": 0.5, "gruu": True, "max_contacts": 5},
            auth={"calculate_ha1": False, "password_column": "ha1"},
            nat_ping={"remove_on_timeout": True, "method": "OPTIONS"},
            mi_fifo={"fifo_mode": "0600"},
            mi_datagram={"listen": ["udp:127.0.0.1:8080"]},
        )
        self.assertIn("other files are not read", self.left(draft, "include_file"))
        self.assertIn("sctp", self.left(draft, "sctp"))
        self.assertIn("cannot be used", self.left(draft, "soon"))
        rules = {ref for note in draft.understood for ref in note.refs}
        self.assertLessEqual({"R1", "R2", "R4", "R5", "R6", "R7", "R9", "R13", "R14"}, rules)
        self.assertNotIn("p%40ss", draft.text("x") + report(draft, Path("a"), Path("b")))

    def test_edge_with_tls(self) -> None:
        """3.6: certificates that are not here, groups of another number, a domain in the routes."""
        draft = draft_of("edge-3.6.cfg")
        self.check(
            draft,
            sip={
                "domain": "voice.example",
                "listen": [
                    "udp:192.0.2.20:5060 as edge.voice.example:5060",
                    "tls:192.0.2.20:5061",
                    "tls:[2001:db8::20]:5061",
                ],
            },
            media={"engine": "rtpproxy:udp:127.0.0.1:12221"},
            transport={"connect_time": 0.3, "max_connections": 4096},
            dispatcher={"ping_interval": 10, "probing_threshold": 3},
            tls={"verify": True, "minimum": "1.2"},
        )
        self.assertNotIn("certificate", written(draft)["tls"])
        for line in ("INTERNAL = 10", "EXTERNAL = 12", 'RESOURCE = "channels"'):
            self.assertIn(f"etc/routing.py: {line}", draft.todo)
        self.left(draft, "unknown_setting")
        self.left(draft, "ds_select_dst")

    def test_every_line_counts(self) -> None:
        """No setting or module of any file disappears without a word."""
        for path in sorted(EXAMPLES.glob("*.cfg")):
            draft, script = imported(path), parse(path.read_text())
            notes = [*draft.understood, *draft.differs, *draft.left_out]
            told = {note.line for note in notes}
            text = " ".join(note.text + note.why for note in notes)
            for setting in script.settings:
                if "db_url" not in setting.name and setting.name != "advertised_port":
                    self.assertTrue(
                        setting.line in told or setting.name in text, (path.name, setting)
                    )


class BadFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "x.cfg"

    def fails(self, content: bytes, text: str) -> None:
        self.path.write_bytes(content)
        with self.assertRaisesRegex(ImportFailed, text):
            imported(self.path)

    def test_clear_errors(self) -> None:
        self.fails(b"", "no OpenSIPS configuration")
        self.fails(b"\x7fELF\x00\x01", "line 1: what is")
        self.fails(b"route {", "line 1: a brace is never closed")
        self.fails(b"x" * (5 << 20), "larger than 4 MiB")
        self.path.unlink()
        with self.assertRaisesRegex(ImportFailed, "No such file"):
            imported(self.path)
        with self.assertRaisesRegex(ImportFailed, "Is a directory"):
            imported(self.path.parent)

    def test_strange_values(self) -> None:
        """Text that could break out of TOML stays text; bad numbers are left out and told."""
        self.path.write_text(
            'server_header="Server: a\\"b\\\\c ü"\nloadmodule "tm.so"\n'
            'modparam("tm", "fr_timeout", -5)\nlisten=udp:1.2.3.4:99999\nlisten=\n'
            'modparam("httpd", "port", 0)\nmodparam("mi_fifo", "fifo_mode", 7777777)\n'
            'modparam("usrloc", "db_url", "nonsense")\nalias=""\nmodparam("x")\n'
        )
        draft = imported(self.path)
        found = written(draft)
        self.assertEqual(found["proxy"], {"server_header": 'a"b\\c ü'})
        self.assertGreater(len(draft.left_out), 5)

    def test_toml_values(self) -> None:
        value = 'a"b\\c\n\x00é'
        self.assertEqual(tomllib.loads(f"x = {toml(value)}")["x"], value)
        self.assertEqual(tomllib.loads(f"x = {toml({'k': value})}")["x"], {"k": value})
