"""Domains: rules R7 and R12, spec 20 section 3, commands of spec 40."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pbx.events import Events, TableChanged
from pbx.services.domains import Domains
from pbx.storage.memory import memory_database

ResultT = TypeVar("ResultT")


class DomainsTests(SynchronousTestCase):
    """The default domain is PBX.test, we listen on 192.0.2.1 and 2001:db8::1."""

    def setUp(self) -> None:
        self.database = memory_database(Clock())
        self.events = Events()
        self.domains = Domains(
            "PBX.test",
            lambda host: host in ("192.0.2.1", "2001:db8::1"),
            self.database,
            self.events,
        )
        self.done(self.domains.start())

    def done(self, awaitable: Awaitable[ResultT]) -> ResultT:
        async def wait() -> ResultT:
            return await awaitable

        return self.successResultOf(Deferred.fromCoroutine(wait()))

    def add(self, name: str, subdomains: int = 0, attrs: str | None = None) -> None:
        self.done(
            self.database.execute(
                "INSERT INTO domain (domain, accept_subdomain, attrs) VALUES (?, ?, ?)",
                (name, subdomains, attrs),
            )
        )
        self.events.publish(TableChanged("domain"))

    def test_default_domain(self) -> None:
        self.assertTrue(self.domains.is_local("pbx.TEST"))
        self.assertFalse(self.domains.is_local("other.test"))

    def test_own_addresses_count_as_the_default_domain(self) -> None:
        """design/contract.md."""
        for host in ("192.0.2.1", "2001:db8::1"):
            self.assertTrue(self.domains.is_local(host))
            self.assertEqual(self.domains.canonical(host), "pbx.test")
        self.assertFalse(self.domains.is_local("192.0.2.2"))

    def test_own_address_in_the_table_is_a_domain_of_its_own(self) -> None:
        """The seed's installation: the domain is the listener's address."""
        self.add("192.0.2.1")
        self.assertEqual(self.domains.canonical("192.0.2.1"), "192.0.2.1")

    def test_canonical_of_others(self) -> None:
        self.assertEqual(self.domains.canonical("Other.Test"), "other.test")

    def test_rows(self) -> None:
        """Compared without regard to case (spec 20)."""
        self.add("Other.Test")
        self.assertTrue(self.domains.is_local("oTHER.test"))
        self.assertFalse(self.domains.is_local("x.other.test"))

    def test_subdomains(self) -> None:
        """accept_subdomain > 0: any x.y.domain, and nothing that merely ends alike."""
        self.add("other.test", 1)
        self.assertTrue(self.domains.is_local("other.test"))
        self.assertTrue(self.domains.is_local("a.b.other.test"))
        self.assertFalse(self.domains.is_local("another.test"))
        self.assertFalse(self.domains.is_local("test"))

    def test_ipv6_row(self) -> None:
        self.add("[2001:DB8::9]")
        self.assertTrue(self.domains.is_local("2001:db8::9"))

    def test_no_host(self) -> None:
        """tel: URIs have none."""
        self.add("")
        self.assertFalse(self.domains.is_local(""))

    def test_names(self) -> None:
        self.add("other.test")
        self.add("pbx.test")
        self.assertEqual(self.domains.names(), ["pbx.test", "other.test"])

    def test_removed_rows(self) -> None:
        self.add("other.test", 1)
        self.done(self.database.execute("DELETE FROM domain"))
        self.events.publish(TableChanged("dbaliases"))
        self.assertTrue(self.domains.is_local("other.test"))
        self.events.publish(TableChanged("domain"))
        self.assertFalse(self.domains.is_local("other.test"))

    def test_commands(self) -> None:
        """Spec 40: domain_reload() -> OK; domain_dump()."""
        commands: dict[str, Callable[..., Any]] = {
            name: function for name, _, function in self.domains.commands()
        }
        self.done(
            self.database.execute(
                "INSERT INTO domain (domain, attrs) VALUES ('a.test', NULL), ('b.test', 'x=1')"
            )
        )
        self.assertEqual(commands["domain_dump"](), {"Domains": []})
        self.assertEqual(self.done(commands["domain_reload"]()), "OK")
        self.assertEqual(
            commands["domain_dump"](),
            {"Domains": [{"name": "a.test"}, {"name": "b.test", "attributes": "x=1"}]},
        )
