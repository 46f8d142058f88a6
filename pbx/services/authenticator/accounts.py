"""The subscribers in memory, read page by page so that nothing else has to wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from sys import intern

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from pbx.errors import DatabaseError
from pbx.interfaces import IDatabase
from pbx.rows import left_out, needed
from pbx.services.authenticator.settings import AuthenticatorSettings
from pbx.sip.digest import ha1

#: Rows that are taken over in one turn of the reactor: a few milliseconds.
PAGE = 2000
#: Rows at fault that are named in the log.
MAX_FAULTS = 100
_HASH_COLUMNS = {"MD5": "ha1", "SHA-256": "ha1_sha256", "SHA-512-256": "ha1_sha512t256"}
#: HA1 of ``user@domain:realm:password``, for phones that send the domain as part of their name.
_LONG = "MD5 of user@domain"
_COLUMNS = {**_HASH_COLUMNS, _LONG: "ha1b"}


class Account:
    """One subscriber. ``hashes`` are the HA1s that the table brings, by algorithm; none are kept
    beside a password.
    """

    __slots__ = (
        "_algorithm",
        "_ha1",
        "_name",
        "_realm",
        "domain",
        "hashes",
        "password",
        "username",
    )

    def __init__(
        self, username: str, domain: str, password: str, hashes: tuple[tuple[str, str], ...]
    ) -> None:
        self.username = username
        self.domain = domain
        self.password = password
        self.hashes = () if password else hashes
        # Of the last question only: few accounts use several algorithms or names.
        self._algorithm = self._name = self._realm = self._ha1 = ""

    def ha1(self, algorithm: str, name: str, realm: str) -> str:
        """HA1 for the name as the client sends it, with or without domain; "" when there is nothing
        to make it from.
        """
        if algorithm == self._algorithm and name == self._name and realm == self._realm:
            return self._ha1
        if self.password:
            found = ha1(algorithm, name, realm, self.password)
        else:
            column = _LONG if algorithm == "MD5" and "@" in name else algorithm
            found = dict(self.hashes).get(column, "")
        # One copy of each text: there are as many of these as subscribers.
        self._algorithm, self._realm = intern(algorithm), intern(realm)
        self._name = self.username if name == self.username else name
        self._ha1 = found
        return found

    def same(self, other: Account) -> bool:
        """Whether the rows say the same."""
        return self.password == other.password and self.hashes == other.hashes


class Accounts:
    """All subscribers by user and domain."""

    def __init__(
        self, settings: AuthenticatorSettings, database: IDatabase, clock: IReactorTime
    ) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._by_name: dict[str, Account] = {}
        self._identities: frozenset[str] = frozenset()
        self._reading = False
        self._again = False
        self._lacking: set[str] = set()
        self._faults = 0
        self.offered: Sequence[str] = settings.algorithms

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, user: str, domain: str) -> Account | None:
        """The account of a user."""
        return self._by_name.get(f"{user}@{domain}" if self._settings.use_domain else user)

    def all(self) -> Mapping[str, Account]:
        """Every account; another mapping after a change."""
        return self._by_name

    def may_be(self, user: str, domain: str, identity: str) -> bool:
        """Whether a login may call itself so: its own name, or what the ``uri`` table says."""
        if user.lower() == identity.lower():
            return True
        return f"{user}@{domain}/{identity.lower()}" in self._identities

    async def read(self) -> None:
        """Read everything again; calls that come meanwhile read once more afterwards."""
        if self._reading:
            self._again = True
            return
        self._reading = True
        try:
            self._again = True
            while self._again:
                self._again = False
                await self._read_all()
        finally:
            self._reading = False

    async def _read_all(self) -> None:
        self._lacking.clear()
        self._faults = 0
        columns = await self._hash_columns()
        sql = (
            f"SELECT id, username, domain, {', '.join([self._settings.password_column, *columns])}"
            " FROM subscriber WHERE id > ? ORDER BY id LIMIT ?"
        )
        fresh: dict[str, Account] = {}
        last = -1
        while True:
            rows = await self._database.query(sql, (last, PAGE))
            for row in rows:
                self._take(fresh, row, columns)
            if len(rows) < PAGE:
                break
            last = rows[-1][0]
            await deferLater(self._clock, 0)
        if self._settings.use_uri_table:
            self._identities = frozenset(
                f"{user}@{str(domain).lower()}/{str(identity).lower()}"
                for user, domain, identity in await self._database.query(
                    "SELECT username, domain, uri_user FROM uri"
                )
            )
        self._by_name = fresh
        self.offered = self._all_can()

    def _all_can(self) -> Sequence[str]:
        """The algorithms that every account has a secret for, and the last one in any case.

        The same for everybody, so that a challenge does not tell who exists. When not even the last
        one serves all, everything is offered.
        """
        configured = self._settings.algorithms
        if configured[-1] in self._lacking:
            return configured
        return tuple(name for name in configured if name not in self._lacking)

    async def _hash_columns(self) -> list[str]:
        """Those of the hash columns that this generation of the table has."""
        have: list[str] = []
        for column in _COLUMNS.values():
            if await self._has_column(column):
                have.append(column)
        return have

    async def _has_column(self, column: str) -> bool:
        try:
            await self._database.query(f"SELECT {column} FROM subscriber WHERE id < 0")
        except DatabaseError as error:
            if error.refused:
                return False
            raise
        return True

    def _take(
        self, fresh: dict[str, Account], row: Sequence[object], columns: Sequence[str]
    ) -> None:
        try:
            user, domain = needed("username", row[1]), intern(str(row[2] or "").lower())
        except ValueError as error:
            self._faults += 1
            if self._faults <= MAX_FAULTS:
                left_out("subscriber", row[0], error)
            return
        hashes = {
            name: str(value).lower()
            for name, column in _COLUMNS.items()
            if column in columns and (value := row[4 + columns.index(column)])
        }
        password = str(row[3] or "")
        if password and not self._settings.calculate_ha1:
            hashes["MD5"] = password.lower()
            password = ""
        key = f"{user}@{domain}" if self._settings.use_domain else user
        account = Account(user, domain, password, tuple(hashes.items()))
        known = self._by_name.get(key)
        # The hashes that were computed are worth keeping.
        fresh[key] = known if known is not None and known.same(account) else account
        if not password and hashes:
            self._lacking.update(name for name in self._settings.algorithms if name not in hashes)
