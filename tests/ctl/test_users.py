"""Subscribers written by pbxctl (specification 20, table subscriber)."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pbx.ctl import users
from pbx.ctl.users import User, UserError
from pbx.storage.open import open_database

ResultT = TypeVar("ResultT")
ALICE = User("alice", "pbx.test")


async def _waited(work: Awaitable[ResultT]) -> ResultT:
    return await work


class UsersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.database = open_database("memory:", Clock())

    def do(self, work: Awaitable[ResultT]) -> ResultT:
        return self.successResultOf(Deferred.fromCoroutine(_waited(work)))

    def refused(self, work: Awaitable[object]) -> str:
        done = Deferred.fromCoroutine(_waited(work))
        return str(self.failureResultOf(done, UserError).value)

    def row(self) -> tuple[object, ...]:
        sql = "SELECT password, ha1, ha1_sha256, ha1_sha512t256 FROM subscriber"
        rows = self.do(self.database.query(sql))
        self.assertEqual(len(rows), 1)
        return rows[0]

    def test_password_and_all_hashes(self) -> None:
        """user:realm:password, in clear, MD5, SHA-256 and SHA-512/256."""
        self.do(users.add(self.database, ALICE, "s3crét"))
        text = "alice:pbx.test:s3crét".encode()
        self.assertEqual(
            self.row(),
            (
                "s3crét",
                hashlib.md5(text).hexdigest(),
                hashlib.sha256(text).hexdigest(),
                hashlib.new("sha512_256", text).hexdigest(),
            ),
        )

    def test_known_hashes(self) -> None:
        """RFC 7616 section 3.9.1: the first steps of its examples."""
        mufasa = User("Mufasa", "http-auth@example.org")
        self.assertEqual(
            users.hashes(mufasa, "Circle of Life")[:2],
            (
                "3d78807defe7de2157e2b0b6573a855f",
                "7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232",
            ),
        )

    def test_display_name(self) -> None:
        """In usr_preferences, where OpenSIPS keeps what it knows of users; gone with the user."""
        self.do(users.add(self.database, ALICE, "s3cret", "Alice  Liddell"))
        self.assertEqual(
            self.do(users.listed_with_names(self.database))[1], {ALICE: "Alice Liddell"}
        )
        self.do(users.set_name(self.database, ALICE, "Al"))
        self.assertEqual(self.do(users.listed_with_names(self.database))[1], {ALICE: "Al"})
        self.do(users.set_name(self.database, ALICE, ""))
        self.assertEqual(self.do(users.listed_with_names(self.database))[1], {})
        self.refused(users.set_name(self.database, User("bob", "pbx.test"), "Bob"))
        self.refused(users.set_name(self.database, ALICE, "A\x1b"))
        self.do(users.set_name(self.database, ALICE, "Al"))
        self.do(users.remove(self.database, ALICE))
        self.assertEqual(self.do(self.database.query("SELECT 1 FROM usr_preferences")), [])

    def test_no_second_of_a_name(self) -> None:
        self.do(users.add(self.database, ALICE, "one"))
        self.assertIn("exists already", self.refused(users.add(self.database, ALICE, "two")))
        self.do(users.add(self.database, User("alice", "other.test"), "two"))

    def test_new_password_replaces_everything(self) -> None:
        self.do(users.add(self.database, ALICE, "one"))
        self.do(users.change_password(self.database, ALICE, "two"))
        self.assertEqual(self.row(), ("two", *users.hashes(ALICE, "two")))

    def test_unknown_user(self) -> None:
        change = users.change_password(self.database, ALICE, "x")
        self.assertEqual(self.refused(change), "there is no user alice@pbx.test")
        self.assertIn("no user", self.refused(users.remove(self.database, ALICE)))

    def test_remove_takes_the_phones_along(self) -> None:
        self.do(users.add(self.database, ALICE, "one"))
        self.do(users.add(self.database, User("bob", "pbx.test"), "one"))
        for name in ("alice", "bob"):
            self.do(
                self.database.execute(
                    "INSERT INTO location (contact_id, username, domain, contact, expires)"
                    " VALUES (?, ?, 'pbx.test', 'sip:x', 1)",
                    (len(name), name),
                )
            )
        self.do(users.remove(self.database, ALICE))
        self.assertEqual(self.do(users.listed(self.database)), [User("bob", "pbx.test")])
        rows = self.do(self.database.query("SELECT username FROM location"))
        self.assertEqual([tuple(row) for row in rows], [("bob",)])

    def test_bad_passwords(self) -> None:
        for password in ("", "x" * 129, "a\nb"):
            self.refused(users.add(self.database, ALICE, password))
        self.assertEqual(self.do(users.listed(self.database)), [])


class NamesTests(SynchronousTestCase):
    def test_names(self) -> None:
        """The default domain unless one is given; domains in lower case."""
        self.assertEqual(users.parse_user("1001", "pbx.test"), User("1001", "pbx.test"))
        self.assertEqual(users.parse_user("sip:Al@B.TEST", "x"), User("Al", "b.test"))

    def test_bad_names(self) -> None:
        for text in ("", "@x", "a b", "a:b", "a@b@c", "x" * 65, "a\x00", "<a>"):
            self.assertRaises(UserError, users.parse_user, text, "pbx.test")
        self.assertRaises(UserError, users.parse_user, "a", "")

    def test_generated_passwords(self) -> None:
        """Never the same, nothing that looks alike."""
        made = {users.generated_password() for _ in range(100)}
        self.assertEqual(len(made), 100)
        self.assertFalse(set("".join(made)) & set("0O1lI"))
        self.assertEqual({len(password) for password in made}, {16})
