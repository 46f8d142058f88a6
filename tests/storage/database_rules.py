"""What every database does; each backend's tests run these rules."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from pbx.errors import DatabaseError, Kind
from pbx.interfaces import IChangeSource, IDatabase, IHealth, IStatistics
from pbx.storage.layout import VERSIONS

ResultT = TypeVar("ResultT")

SUBSCRIBER = ("username", "domain", "password")
ACCOUNT = ("username", "domain")
LOCATION = ("contact_id", "username", "domain", "contact", "expires", "user_agent")

#: The statements with which the old system was provisioned (spec 20, rule 4).
OLD_INSERTS = (
    'INSERT INTO "load_balancer" ("id","group_id","dst_uri","resources","probe_mode","description")'
    " VALUES (1,'1','sip:192.0.2.114:5060','vm=100;conf=100;transc=100;pstn=500',1,'FS1')",
    'INSERT INTO "dispatcher" ("id","setid","destination","socket","state","weight","priority",'
    "\"attrs\",\"description\") VALUES (1,1,'sip:192.0.2.114:5060','',0,50,0,'fs1','FS1')",
)


class DatabaseRules:
    """Mixed into a test case that offers ``database``."""

    database: IDatabase

    async def rule_interfaces(self, case: SynchronousTestCase) -> None:
        """It keeps its promises."""
        for interface in (IDatabase, IChangeSource, IHealth, IStatistics):
            case.assertTrue(verifyObject(interface, self.database))

    async def rule_schema(self, case: SynchronousTestCase) -> None:
        """Every table is there with the number that OpenSIPS 3.6 asks for."""
        rows = await self.database.query("SELECT table_name, table_version FROM version")
        case.assertEqual(dict(rows), {table: numbers[0] for table, numbers in VERSIONS.items()})
        for table in (*VERSIONS, "pbx_state", "pbx_cdr", "cdr"):
            case.assertEqual(await self.database.query(f"SELECT * FROM {table}"), [])

    async def rule_start_again(self, case: SynchronousTestCase) -> None:
        """A second start finds nothing to add and keeps the rows."""
        await self.database.execute("INSERT INTO domain (domain) VALUES ('pbx.example')")
        case.assertEqual(list(await self.database.start()), [])
        case.assertEqual(await self.database.query("SELECT domain FROM domain"), [("pbx.example",)])

    async def rule_older_view(self, case: SynchronousTestCase) -> None:
        """A database of before calls were heard: columns are added, and the view is made anew."""
        for sql in (
            "DROP VIEW cdr",
            "ALTER TABLE pbx_cdr DROP COLUMN mos",
            "CREATE VIEW cdr AS SELECT caller AS caller FROM pbx_cdr",
            "DELETE FROM pbx_schema WHERE number = 9",
        ):
            await self.database.execute(sql)
        for _ in range(2):
            await self.database.start()
            case.assertEqual(await self.database.query("SELECT caller, mos FROM cdr"), [])

    async def rule_old_inserts(self, case: SynchronousTestCase) -> None:
        """The old system's statements run unchanged."""
        for sql in OLD_INSERTS:
            case.assertEqual(await self.database.execute(sql), 1)
        case.assertEqual(
            await self.database.query("SELECT weight, attrs FROM dispatcher WHERE setid = ?", (1,)),
            [("50", "fs1")],
        )

    async def rule_explicit_ids(self, case: SynchronousTestCase) -> None:
        """After rows with ids of their own, a start lets ids go on behind them (rule 4)."""
        for sql in OLD_INSERTS:
            await self.database.execute(sql)
        await self.database.start()
        await self.database.execute("INSERT INTO dispatcher (setid) VALUES (2)")
        case.assertEqual(
            await self.database.query("SELECT id, setid FROM dispatcher ORDER BY id"),
            [(1, 1), (2, 2)],
        )

    async def rule_upsert_and_delete(self, case: SynchronousTestCase) -> None:
        """A row with a known key replaces its columns; deletes name keys."""
        write = self.database.write
        rows = [("1001", "pbx.example", "a"), ("1002", "pbx.example", "b")]
        await write("subscriber", ACCOUNT, SUBSCRIBER, rows)
        await write(
            "subscriber",
            ACCOUNT,
            SUBSCRIBER,
            [("1001", "pbx.example", "c"), ("1003", "pbx.example", "d")],
            [("1002", "pbx.example")],
        )
        case.assertEqual(
            await self.database.query(
                "SELECT username, password FROM subscriber ORDER BY username"
            ),
            [("1001", "c"), ("1003", "d")],
        )

    async def rule_insert_only(self, case: SynchronousTestCase) -> None:
        """Without a key each row is one more."""
        row = ("INVITE", "call-1", "200", "2026-01-02 03:04:05")
        columns = ("method", "callid", "sip_code", "time")
        await self.database.write("acc", (), columns, [row, row])
        case.assertEqual(
            await self.database.query("SELECT method, callid, sip_code, time FROM acc"), [row, row]
        )

    async def rule_key_without_index(self, case: SynchronousTestCase) -> None:
        """A key that no unique index backs is good as well; NULL equals NULL."""
        key = ("username", "domain", "contact")
        first = (1, "1001", None, "sip:1001@192.0.2.1", 10, "A")
        await self.database.write("location", key, LOCATION, [first])
        await self.database.write("location", key, LOCATION, [(*first[:5], "B")])
        case.assertEqual(
            await self.database.query("SELECT contact_id, user_agent FROM location"), [(1, "B")]
        )
        await self.database.write("location", key, LOCATION, [], [first[1:4]])
        case.assertEqual(await self.database.query("SELECT * FROM location"), [])

    async def rule_values(self, case: SynchronousTestCase) -> None:
        """Bytes, big numbers, fractions, NULL and any text come back as they went in."""
        columns = ("id", "username", "body", "ctype", "exp_time")
        row = (7, "J\u00fcrgen ?%s' \\ \u2603", b"\x00\xff'\\", None, 2147483647)
        await self.database.write("silo", ("id",), columns, [row])
        case.assertEqual(await self.database.query(f"SELECT {', '.join(columns)} FROM silo"), [row])
        case.assertEqual(
            await self.database.query("SELECT id FROM silo WHERE username = ?", (row[1],)), [(7,)]
        )
        location = (1 << 62, "a", "b", "sip:a", 1, "")
        await self.database.write("location", ("contact_id",), LOCATION, [location])
        case.assertEqual(
            await self.database.query("SELECT contact_id, q FROM location"), [(1 << 62, 1.0)]
        )

    async def rule_foreign_text(self, case: SynchronousTestCase) -> None:
        """Bytes of a peer that are no UTF-8, and NUL, are replaced and do not fail."""
        await self.database.write(
            "subscriber", ACCOUNT, SUBSCRIBER, [("a\udc80", "x", "p\0q")], [("\udcff", "x")]
        )
        ((username, password),) = await self.database.query(
            "SELECT username, password FROM subscriber"
        )
        case.assertEqual(username, "a\ufffd")
        case.assertIn(password, ("p\ufffdq", "p\0q"))
        case.assertEqual(
            await self.database.query("SELECT 1 FROM subscriber WHERE username = ?", ("\udc80",)),
            [],
        )

    async def rule_bad_row(self, case: SynchronousTestCase) -> None:
        """A row that is refused is dropped alone."""
        rows: list[tuple[object, ...]] = [
            (f"10{number}", "pbx.example", "x") for number in range(50)
        ]
        rows[17] = ("1017", "pbx.example", None)
        await self.database.write("subscriber", ACCOUNT, SUBSCRIBER, rows)
        case.assertEqual(await self.database.query("SELECT count(*) FROM subscriber"), [(49,)])
        counts = IStatistics(self.database).statistics()
        case.assertEqual((counts["sql:rows_written"], counts["sql:rows_dropped"]), (49, 1))
        case.assertEqual(IHealth(self.database).health(), ("ok", ""))

    async def rule_bad_sql(self, case: SynchronousTestCase) -> None:
        """A statement at fault is refused; the database stays available."""
        try:
            await self.database.query("SELECT nothing FROM nowhere")
        except DatabaseError as error:
            case.assertIs(error.kind, Kind.REFUSED)
        else:
            case.fail("not refused")
        case.assertTrue(self.database.available)
        case.assertEqual(self.database.trouble, "")


RULES = sorted(name for name in vars(DatabaseRules) if name.startswith("rule_"))


def sync_result(case: SynchronousTestCase, awaitable: Awaitable[ResultT]) -> ResultT:
    """What an awaitable gives that needs no waiting."""

    async def awaiting() -> ResultT:
        return await awaitable

    result: ResultT = case.successResultOf(Deferred.fromCoroutine(awaiting()))
    return result


def reactor_tests(cls: type[TestCase]) -> type[TestCase]:
    """Give a case a test method for each rule, with a real reactor."""
    for name in RULES:

        def test(self: TestCase, name: str = name) -> Deferred[None]:
            return Deferred.fromCoroutine(getattr(self, name)(self))

        test.__doc__ = getattr(DatabaseRules, name).__doc__
        setattr(cls, "test_" + name.removeprefix("rule_"), test)
    return cls
