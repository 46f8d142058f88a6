"""A database that OpenSIPS made and filled is used as it is; rows that make no sense are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pbx.sip.digest import ha1
from tests.integration.cluster_case import ClusterCase, Node
from tests.integration.harness import until

MADE = (Path(__file__).parent / "opensips_36.sql").read_text()
FILLED = f"""
INSERT INTO subscriber (username, domain, password, ha1) VALUES
    ('alice', 'pbx.test', 'secret', ''),
    ('bob', 'pbx.test', '', '{ha1("MD5", "bob", "pbx.test", "secret")}');
INSERT INTO domain (domain) VALUES ('old.test');
INSERT INTO dbaliases (alias_username, alias_domain, username, domain)
    VALUES ('boss', 'pbx.test', 'bob', 'pbx.test');
INSERT INTO location (username, domain, contact, expires, callid, cseq, last_modified, methods)
    VALUES ('carol', 'pbx.test', 'sip:carol@127.0.0.1:9', 2000000000, 'c', 1, now(), 8191);
INSERT INTO load_balancer (id, group_id, dst_uri, resources, probe_mode)
    VALUES (1, 7, 'sip:127.0.0.1:9', 'pstn=5', 0);
INSERT INTO dispatcher (id, setid, destination) VALUES (1, 1, 'sip:127.0.0.1:9');
INSERT INTO dialplan (dpid, pr, match_op, match_exp, repl_exp) VALUES (0, 1, 0, '77', 'bob');
"""
LAYOUT = (
    "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable,"
    " column_default FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
)
PLUGINS = {"enabled": ["dialplan", "dispatcher", "drouting"]}


class OpensipsDatabaseCase(ClusterCase):
    redis = False

    def setUp(self) -> None:
        super().setUp()
        self.sql(MADE + FILLED)

    def sql(self, statement: str) -> str:
        return self.postgres.sql(statement, self.database)

    def configured(self, node: Node) -> None:
        del node.tables["cluster"]
        node.tables["plugins"] = PLUGINS
        node.tables["dispatcher"] = {"ping_interval": 0}

    def layout(self) -> list[str]:
        return self.sql(LAYOUT).splitlines()


class AsItIsTests(OpensipsDatabaseCase):
    def test_used_and_completed(self) -> None:
        """Nothing that was there is another now; what is new is named in the log."""
        before = self.layout()
        versions = self.sql("SELECT * FROM version ORDER BY 1").splitlines()
        pbx = self.node("")
        after = self.layout()
        self.assertEqual([line for line in before if line not in after], [])
        kept = self.sql("SELECT * FROM version ORDER BY 1").splitlines()
        self.assertEqual([line for line in versions if line not in kept], [])
        log = pbx.output()
        tables = {line.partition("|")[0] for line in before}
        for line in after:
            table, name = line.split("|")[:2]
            if line in before:
                continue
            if table in tables:
                self.assertIn(f"ALTER TABLE {table} ADD COLUMN {name} ", log)
            elif table not in ("cdr",):
                self.assertRegex(log, rf"table {table}\b")
        alice, bob = self.phone_at(pbx, "alice"), self.phone_at(pbx, "bob")
        alice.register()
        bob.register()
        for number in ("boss", "77"):
            invite = alice.invite(number)
            bob.respond(bob.request("INVITE"), 486)
            alice.acknowledge(invite, alice.response(486))
            bob.request("ACK")
        self.assertEqual(len(self.contacts(pbx, "carol")), 1)
        until(lambda: self.sql("SELECT count(*) FROM location") == "3", "rows", 5)
        until(lambda: self.sql("SELECT count(*) FROM missed_calls") == "2", "rows", 5)
        names = [row["name"] for row in pbx.mi("domain_dump")["Domains"]]
        self.assertEqual(names, ["old.test"])
        # Once more: nothing is left to add.
        pbx.stop()
        self.assertEqual(self.layout(), after)
        pbx.start()
        self.assertNotIn("ALTER TABLE", pbx.output()[len(log) :])

    def test_unknown_version(self) -> None:
        """Nothing is touched."""
        self.sql("UPDATE version SET table_version = 99 WHERE table_name = 'location'")
        before = self.layout()
        with self.assertRaises(AssertionError) as raised:
            self.node("")
        self.assertIn(
            "table location: layout version 99 found, 1013 expected", str(raised.exception)
        )
        self.assertEqual(self.layout(), before)


class BadRowTests(OpensipsDatabaseCase):
    #: Table, columns, values of a bad row, and what the log says of it.
    BAD = (
        ("domain", "id, domain", "90, NULL", "domain row 90 .*domain: empty"),
        ("domain", "id, domain", "91, 'a b'", "domain row 91 .*domain: Bad Host"),
        (
            "domain",
            "id, domain, accept_subdomain",
            "92, 'c.test', 'often'",
            "domain row 92 .*accept_subdomain: expected a whole number, not 'often'",
        ),
        ("dbaliases", "id, alias_username", "90, 'x'", "dbaliases row 90 .*alias_domain: empty"),
        ("subscriber", "id, username", "90, NULL", "subscriber row 90 .*username: empty"),
        (
            "load_balancer",
            "id, group_id, dst_uri, resources",
            "90, 'first', 'sip:a', 'x=1'",
            "load_balancer row 90 .*group_id: expected a whole number",
        ),
        (
            "load_balancer",
            "id, dst_uri, resources",
            "91, 'tel:1', 'x=1'",
            "load_balancer row 91 .*dst_uri: tel:1: expected a sip URI",
        ),
        (
            "load_balancer",
            "id, dst_uri, resources",
            "92, 'sip:a', NULL",
            "load_balancer row 92 .*resources: no resources",
        ),
        (
            "load_balancer",
            "id, dst_uri, resources",
            "93, NULL, 'x=1'",
            "load_balancer row 93 .*dst_uri: ",
        ),
        (
            "dispatcher",
            "id, setid, destination",
            "90, 'one', 'sip:a'",
            "dispatcher row 90 .*setid: expected a whole number",
        ),
        (
            "dispatcher",
            "id, setid, destination",
            "91, 1, 'sip:[x'",
            "dispatcher row 91 .*destination: ",
        ),
        (
            "dispatcher",
            "id, setid, destination, weight",
            "92, 1, 'sip:a', 'heavy'",
            "dispatcher row 92 .*weight: expected a whole number",
        ),
        (
            "dialplan",
            "id, dpid, match_op, match_exp",
            "90, 0, 1, '('",
            "dialplan row 90 .*match_exp: ",
        ),
        (
            "dialplan",
            "id, dpid, match_op, match_exp",
            "91, 'x', 1, '1'",
            "dialplan row 91 .*dpid: expected a whole number",
        ),
        (
            "location",
            "contact_id, username, contact, expires",
            "90, 'x', NULL, '2000000000'",
            "location row 90 .*contact: empty",
        ),
        (
            "location",
            "contact_id, username, contact, expires",
            "91, 'x', 'no uri', '2000000000'",
            "location row 91 .*contact: ",
        ),
        (
            "location",
            "contact_id, username, contact, expires, cseq",
            "92, 'x', 'sip:x@a', '2000000000', 'many'",
            "location row 92 .*cseq: 'many' is no whole number",
        ),
        (
            "location",
            "contact_id, username, contact, expires, q",
            "93, 'x', 'sip:x@a', '2000000000', 'high'",
            "location row 93 .*q: 'high' is no number",
        ),
        ("dialog", "dlg_id, state", "90, NULL", "dialog row 90 .*state: empty"),
        (
            "dialog",
            "dlg_id, state, timeout",
            "91, '4', 'never'",
            "dialog row 91 .*timeout: expected a whole number",
        ),
        ("silo", "id, username, domain", "90, NULL, 'pbx.test'", "silo row 90 .*username: empty"),
        (
            "silo",
            "id, username, domain, snd_time",
            "91, 'x', 'pbx.test', 'now'",
            "silo row 91 .*snd_time: expected a whole number",
        ),
    )

    def loosen(self) -> None:
        """Any column but the keys takes any text and NULL, as after somebody's import."""
        found = self.sql(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            f" WHERE table_schema = 'public' AND table_name IN ({self.tables()})"
        )
        statements = []
        for line in found.splitlines():
            table, name, kind = line.split("|")
            if name in ("id", "contact_id", "dlg_id"):
                continue
            changes = [f"ALTER {name} DROP NOT NULL", f"ALTER {name} DROP DEFAULT"]
            if kind != "bytea" and name not in ("expires", "exp_time", "inc_time"):
                changes.append(f"ALTER {name} TYPE text USING {name}::text")
            statements.append(f"ALTER TABLE {table} {', '.join(changes)}")
        self.sql("; ".join(statements))

    def tables(self) -> str:
        return ", ".join(sorted({f"'{row[0]}'" for row in self.BAD}))

    def test_every_table(self) -> None:
        """One line with table, id and column for each; the good rows are used."""
        self.loosen()
        for table, columns, values, _ in self.BAD:
            self.sql(f"INSERT INTO {table} ({columns}) VALUES ({values})")
        self.sql("ALTER TABLE subscriber ADD COLUMN shoe_size integer DEFAULT 43")
        pbx = self.node("")
        log = pbx.output()
        for _, _, _, said in self.BAD:
            self.assertRegex(log, said)
        self.assertIn("column subscriber.shoe_size is unknown", log)
        self.works(pbx)

    def works(self, pbx: Node) -> None:
        """The rows of `FILLED`."""
        alice, bob = self.phone_at(pbx, "alice"), self.phone_at(pbx, "bob")
        alice.register()
        bob.register()
        for number in ("boss", "77"):
            invite = alice.invite(number)
            bob.respond(bob.request("INVITE"), 486)
            alice.acknowledge(invite, alice.response(486))
            bob.request("ACK")
        self.assertEqual(len(self.contacts(pbx, "carol")), 1)
        lists: dict[str, Any] = {"lb": pbx.mi("lb_list"), "ds": pbx.mi("ds_list")}
        self.assertEqual([one["id"] for one in lists["lb"]["Destinations"]], [1])
        self.assertIn("sip:127.0.0.1:9", str(lists["ds"]))

    def test_missing_tables(self) -> None:
        """Those that vanish while we run are named, and what is in memory goes on; at the next
        start they are made again, empty.
        """
        pbx = self.node("")
        for table in ("dispatcher", "dialplan", "dbaliases", "domain", "load_balancer"):
            self.sql(f"DROP TABLE {table}")
        for command in ("ds_reload", "dp_reload", "lb_reload", "domain_reload", "reload"):
            with self.assertRaises((ValueError, OSError)):
                pbx.mi(command)
        self.works(pbx)
        for table in ("dispatcher", "dialplan", "dbaliases", "domain", "load_balancer"):
            missing = f'relation "{table}" does not exist'
            self.assertIn(missing, pbx.output())
        pbx.stop()
        pbx.start()
        self.assertIn("table dispatcher", pbx.output())
        self.assertEqual(self.sql("SELECT count(*) FROM dispatcher"), "0")
