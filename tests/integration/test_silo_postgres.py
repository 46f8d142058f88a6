"""The statements on ``silo`` against a real PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred, gatherResults

from pbx.errors import DatabaseError
from pbx.services.msilo.stored import SiloTable, StoredMessage
from tests.integration.test_postgres import PostgresTestCase

NOW = 1_790_000_000
MESSAGE = StoredMessage(
    src_addr="sip:1001@pbx.test",
    dst_addr="sip:1002@pbx.test",
    username="1002",
    domain="pbx.test",
    inc_time=NOW,
    exp_time=NOW + 100,
    ctype="text/plain",
    body=b"\x00\xff%s ?",
)


class SiloTableTests(PostgresTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.table = SiloTable(self.database)

    async def test_there_and_back(self) -> None:
        """A row comes back as it went in, until it is deleted."""
        first = await self.table.insert(MESSAGE)
        second = await self.table.insert(replace(MESSAGE, username="1003", ctype=None, snd_time=7))
        self.assertGreater(second, first)
        self.assertEqual(await self.table.read(first), MESSAGE)
        self.assertEqual(
            await self.table.waiting(0),
            [(first, "1002", "pbx.test", 0), (second, "1003", "pbx.test", 7)],
        )
        self.assertEqual(len(await self.table.waiting(first)), 1)
        await self.table.delete(first, NOW + 1)
        self.assertIsNotNone(await self.table.read(first))
        await self.table.delete(first, NOW)
        self.assertIsNone(await self.table.read(first))

    async def test_committed(self) -> None:
        """Another program sees the row as soon as the insert is done."""
        await self.table.insert(MESSAGE)
        self.assertEqual(self.sql("SELECT count(*) FROM silo"), "1")

    async def test_claim(self) -> None:
        """Of ten nodes at the same time one gets it."""
        id = await self.table.insert(MESSAGE)
        claims = await gatherResults(
            [Deferred.fromCoroutine(self.table.claim(id, 0, NOW + 9)) for _ in range(10)]
        )
        self.assertEqual(sorted(claims), [False] * 9 + [True])
        self.assertFalse(await self.table.claim(id, 0, NOW + 9))
        await self.table.release(id)
        self.assertTrue(await self.table.claim(id, 0, NOW + 9))

    async def test_expire(self) -> None:
        """0 lasts for ever."""
        for exp_time in (NOW, NOW + 1, 0):
            await self.table.insert(replace(MESSAGE, exp_time=exp_time))
        await self.table.expire(NOW + 0.5)
        self.assertEqual(
            self.sql("SELECT exp_time FROM silo ORDER BY 1").split(), ["0", str(NOW + 1)]
        )

    async def test_refused(self) -> None:
        """What an older table has no room for is told from a server that is away."""
        self.sql("ALTER TABLE silo ALTER src_addr TYPE varchar(10)")
        with self.assertRaises(DatabaseError) as caught:
            await self.table.insert(MESSAGE)
        self.assertTrue(caught.exception.refused)
