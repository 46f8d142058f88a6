"""Subscribers as people: they log in to the web pages and look for each other by name."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pbx.events import TableChanged
from pbx.interfaces import IDatabase, IDomains, IEvents, IReloadable, IStartable, ISubscribers
from pbx.services.authenticator.accounts import Account
from pbx.services.authenticator.service import Authenticator
from pbx.services.authenticator.settings import AuthenticatorSettings
from pbx.sip.address import Address
from pbx.sip.digest import ha1
from pbx.subscriber import Subscriber

#: What to compare with, the best first that an account has; browsers need the MD5.
_ALGORITHMS = ("MD5", "SHA-256", "SHA-512-256")


@implementer(ISubscribers, IStartable, IReloadable)
class Subscribers:
    """The accounts of the authenticator, with display names from ``usr_preferences``."""

    log = Logger()

    def __init__(
        self,
        settings: AuthenticatorSettings,
        authenticator: Authenticator,
        database: IDatabase,
        domains: IDomains,
        events: IEvents,
    ) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._database = database
        self._domains = domains
        self._names: dict[tuple[str, str], str] = {}
        self._listed: dict[str, list[tuple[str, str, str]]] = {}
        self._known: object = None
        events.subscribe(TableChanged, self._table_changed)

    async def start(self) -> None:
        """Read the names."""
        await self.reload()

    async def stop(self) -> None:
        """Nothing is kept anywhere else."""

    async def reload(self) -> None:
        """Read the names again."""
        rows = await self._database.query(
            "SELECT username, domain, value FROM usr_preferences WHERE attribute = ?",
            (self._settings.name_attribute,),
        )
        self._names = {
            (str(user), str(domain or "").lower()): " ".join(str(value).split())
            for user, domain, value in rows
            if value
        }
        self._known = None

    def _table_changed(self, event: TableChanged) -> None:
        if event.table == "usr_preferences":
            Deferred.fromCoroutine(self.reload()).addErrback(self._not_read)

    def _not_read(self, failure: Failure) -> None:
        self.log.warn("the names were not read: {error}", error=failure.getErrorMessage())

    # ISubscribers

    def log_in(self, login: str, password: str, peer: Address) -> Subscriber | None:
        """The subscriber whose password that is; a failure is published for who counts them."""
        user, domain = self._split(login)
        account = self._authenticator.accounts.find(user, domain)
        realm = self._realm(account.domain if account is not None else domain)
        name = account.username if account is not None else user
        algorithm, known = "MD5", ""
        if account is not None:
            for algorithm in _ALGORITHMS:
                known = account.ha1(algorithm, name, realm)
                if known:
                    break
        # As much work for users that there are not.
        given = ha1(algorithm, name, realm, password)
        right = hmac.compare_digest(given, known or self._authenticator.nobody)
        if account is None or not known or not right:
            reason = "unknown user" if account is None else "wrong password"
            self._authenticator.failed(peer, login, realm, reason)
            return None
        return self._made(account)

    def find(self, login: str) -> Subscriber | None:
        """The subscriber of that name, with or without domain."""
        account = self._authenticator.accounts.find(*self._split(login))
        return None if account is None else self._made(account)

    def search(self, domain: str, text: str, limit: int) -> Sequence[tuple[str, str]]:
        """User and name of those whose user or name holds the text, by user."""
        wanted = text.casefold()
        found: list[tuple[str, str]] = []
        for user, name, folded in self._list(domain):
            if wanted in folded:
                found.append((user, name))
                if len(found) >= limit:
                    break
        return found

    def name(self, user: str, domain: str) -> str:
        """The display name of a user, "" for none."""
        return self._names.get((user, domain), "")

    def _list(self, domain: str) -> Sequence[tuple[str, str, str]]:
        accounts = self._authenticator.accounts.all()
        if accounts is not self._known:
            self._known = accounts
            self._listed = {}
            for account in accounts.values():
                user, at = account.username, account.domain
                name = self._names.get((user, at), "")
                entry = (user, name or user, f"{user} {name}".casefold())
                self._listed.setdefault(at, []).append(entry)
            for entries in self._listed.values():
                entries.sort()
        return self._listed.get(domain, ())

    def _split(self, login: str) -> tuple[str, str]:
        user, at, host = login.strip().removeprefix("sip:").partition("@")
        return user, self._domains.canonical(host) if at else self._domains.names()[0]

    def _realm(self, domain: str) -> str:
        return self._settings.realm or domain

    def _made(self, account: Account) -> Subscriber:
        user, domain = account.username, account.domain
        realm = self._realm(domain)
        return Subscriber(
            user=user,
            domain=domain,
            name=self._names.get((user, domain)) or user,
            realm=realm,
            ha1=account.ha1("MD5", user, realm),
        )
