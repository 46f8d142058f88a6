"""Aliases: rule R16, spec 20 section 3, spec 30 section 9."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pbx.events import Events, TableChanged
from pbx.services.aliases import Aliases
from pbx.sip.uri import URI
from pbx.storage.memory import memory_database

ResultT = TypeVar("ResultT")


class AliasesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.database = memory_database(Clock())
        self.use("")

    def use(self, prefix: str) -> None:
        self.events = Events()
        self.aliases = Aliases(self.database, self.events, prefix)
        self.done(self.aliases.start())

    def done(self, awaitable: Awaitable[ResultT]) -> ResultT:
        async def wait() -> ResultT:
            return await awaitable

        return self.successResultOf(Deferred.fromCoroutine(wait()))

    def add(self, alias: str, user: str) -> None:
        """Both as user@host."""
        self.done(
            self.database.execute(
                "INSERT INTO dbaliases (alias_username, alias_domain, username, domain)"
                " VALUES (?, ?, ?, ?)",
                (*alias.split("@"), *user.split("@")),
            )
        )
        self.events.publish(TableChanged("dbaliases"))

    def resolved(self, uri: str) -> str:
        return str(self.aliases.resolve(URI.parse(uri)))

    def test_exact_match(self) -> None:
        """R16: exact (user, host) match replaces the URI by its target."""
        self.add("sales@pbx.test", "1001@Other.test")
        self.assertEqual(self.resolved("sip:sales@PBX.test"), "sip:1001@other.test")

    def test_no_match_gives_the_same_uri(self) -> None:
        for known in (False, True):
            if known:
                self.add("sales@pbx.test", "1001@pbx.test")
            for text in (
                "sip:1001@pbx.test",
                "sip:sales@other.test",
                "sip:Sales@pbx.test",
                "tel:+1",
            ):
                uri = URI.parse(text)
                self.assertIs(self.aliases.resolve(uri), uri)

    def test_parameters_stay(self) -> None:
        self.add("sales@pbx.test", "1001@pbx.test")
        self.assertEqual(
            self.resolved("sip:sales@pbx.test:5070;user=phone"), "sip:1001@pbx.test:5070;user=phone"
        )

    def test_port_belongs_to_the_old_host(self) -> None:
        self.add("sales@pbx.test", "1001@other.test")
        self.assertEqual(self.resolved("sip:sales@pbx.test:5070"), "sip:1001@other.test")

    def test_escaped_user(self) -> None:
        self.add("a b@pbx.test", "1001@pbx.test")
        self.assertEqual(self.resolved("sip:a%20b@pbx.test"), "sip:1001@pbx.test")

    def test_once_only(self) -> None:
        """An alias of an alias is not followed, so no circle can be made."""
        self.add("a@pbx.test", "b@pbx.test")
        self.add("b@pbx.test", "a@pbx.test")
        self.assertEqual(self.resolved("sip:a@pbx.test"), "sip:b@pbx.test")

    def test_domain_prefix(self) -> None:
        """Stripped from the host before the search (spec 30 section 9)."""
        self.add("sales@pbx.test", "1001@pbx.test")
        self.use("sip.")
        self.assertEqual(self.resolved("sip:sales@sip.pbx.test"), "sip:1001@pbx.test")
        self.assertEqual(self.resolved("sip:sales@pbx.test"), "sip:1001@pbx.test")

    def test_reload(self) -> None:
        self.add("sales@pbx.test", "1001@pbx.test")
        self.done(self.database.execute("DELETE FROM dbaliases"))
        self.assertEqual(self.resolved("sip:sales@pbx.test"), "sip:1001@pbx.test")
        self.done(self.aliases.reload())
        self.assertEqual(self.resolved("sip:sales@pbx.test"), "sip:sales@pbx.test")
