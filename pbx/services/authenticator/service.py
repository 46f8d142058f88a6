"""Who is that? Digest authentication against ``subscriber`` (rules R7 and R14)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from pbx.events import AuthenticationFailed, TableChanged
from pbx.interfaces import (
    IAuthenticator,
    ICommands,
    IDatabase,
    IDomains,
    IEvents,
    IGuard,
    IHTTPLogin,
    IReloadable,
    IStartable,
    IStatistics,
)
from pbx.services.authenticator.accounts import Account, Accounts
from pbx.services.authenticator.settings import AuthenticatorSettings
from pbx.sip.address import Address
from pbx.sip.digest import HASHES, Credentials, Nonces, Use, challenge
from pbx.sip.errors import MalformedMessage
from pbx.sip.message import Request
from pbx.sip.uri import URI
from pbx.verdicts import Arrival, Reply

FORBIDDEN = Reply(403, "Forbidden auth ID")
NO_DATABASE = Reply(500, "Server Internal Error", (("Retry-After", "10"),))
_BROWSERS = frozenset(("WS", "WSS"))
_STATE = "auth.nonce_key"
#: Seconds until a change that could not be read is tried again.
RETRY = 5.0


class Authenticator:
    """Checks credentials from memory; nothing in `check` ever waits."""

    log: ClassVar = Logger(__name__)

    def __init__(
        self,
        settings: AuthenticatorSettings,
        database: IDatabase,
        domains: IDomains,
        events: IEvents,
        clock: IReactorTime,
        guard: IGuard,
    ) -> None:
        self._settings = settings
        self._database = database
        self._domains = domains
        self._events = events
        self._clock = clock
        self.accounts = Accounts(settings, database, clock)
        self._guard = guard
        self._nonces = self._made_nonces(secrets.token_bytes(32))
        self.nobody = secrets.token_hex(32)
        self._stand_in = Account("", "", "", tuple((name, self.nobody) for name in HASHES))
        self._retry: IDelayedCall | None = None
        self.checked = self.challenged = self.rejected = self.stale = 0
        #: Logins whose From or To is theirs, and those that named somebody else.
        self.matching = self.foreign = 0
        events.subscribe(TableChanged, self._table_changed)

    def _made_nonces(self, key: bytes) -> Nonces:
        serial = secrets.randbits(32)
        return Nonces(key, serial, self._settings.nonce_expire, self._settings.max_nonces)

    # Start

    async def start(self) -> None:
        """Read the subscribers, and the key that keeps nonces good over a restart."""
        await self._read_key()
        await self.accounts.read()

    async def _read_key(self) -> None:
        rows = await self._database.query("SELECT value FROM pbx_state WHERE name = ?", (_STATE,))
        if not rows:
            key = secrets.token_hex(32)
            await self._database.execute(
                "INSERT INTO pbx_state (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (_STATE, key),
            )
            rows = await self._database.query(
                "SELECT value FROM pbx_state WHERE name = ?", (_STATE,)
            )
        self._nonces = self._made_nonces(bytes.fromhex(str(rows[0][0])))

    async def stop(self) -> None:
        """Nothing is kept anywhere else."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    async def reload(self) -> None:
        """Read the subscribers again."""
        await self.accounts.read()

    def _table_changed(self, event: TableChanged) -> None:
        if event.table == "subscriber" or event.table == "uri":
            self._refresh()

    def _refresh(self) -> None:
        self._retry = None
        Deferred.fromCoroutine(self.reload()).addErrback(self._not_read)

    def _not_read(self, failure: Failure) -> None:
        self.log.warn("the subscribers were not read: {error}", error=failure.getErrorMessage())
        if self._retry is None:
            self._retry = self._clock.callLater(RETRY, self._refresh)

    # IAuthenticator

    def knows(self, uri: URI) -> bool:
        """Whether there is such a subscriber."""
        return self.accounts.find(uri.user, self._domains.canonical(uri.host)) is not None

    def is_own_realm(self, realm: str) -> bool:
        """Whether credentials for this realm are meant for us and not to be passed on."""
        return realm == self._settings.realm or self._domains.is_local(realm)

    async def check(self, request: Request, arrival: Arrival) -> Reply | None:
        """None when the sender proved to be the user of From (To for REGISTER)."""
        method = request.method
        if method == "ACK" or method == "CANCEL":
            return None
        register = method == "REGISTER"
        identity = (request.to if register else request.from_).uri
        domain = self._domains.canonical(identity.host)
        realm = self._settings.realm or domain
        try:
            header = "authorization" if register else "proxy-authorization"
            credentials = self._credentials(request.get_all(header), realm)
        except MalformedMessage as error:
            return Reply(400, error.reason)
        if credentials is None:
            return self._challenge(arrival.peer, realm, register)
        account = self._account(credentials, domain)
        refusal = self._refused(credentials, account, method, request.body, arrival.peer, register)
        if refusal:
            return refusal
        assert account is not None
        if not self.accounts.may_be(account.username, account.domain, identity.user):
            self.foreign += 1
            self._failed(credentials, arrival.peer, "another user's name")
            return FORBIDDEN
        if account.domain != domain and self._settings.use_domain:
            self._failed(credentials, arrival.peer, "another domain's user")
            return FORBIDDEN
        self._guard.proved(arrival.peer.host)
        self.matching += 1
        return None

    def log_in(
        self,
        method: str,
        uri: str,
        authorization: Sequence[str],
        body: bytes,
        domain: str,
        peer: Address,
    ) -> str | Reply:
        """``user@domain`` of who sent an HTTP request, else what to answer (see `IHTTPLogin`)."""
        realm = self._settings.realm or domain
        try:
            credentials = self._credentials(authorization, realm)
        except MalformedMessage as error:
            return Reply(400, error.reason)
        if credentials is None:
            return self._challenge(peer, realm, True)
        if not _same_uri(credentials.uri, uri):
            # Made for another resource (RFC 7616 section 3.4.6).
            return Reply(400, "Credentials for Another URI")
        account = self._account(credentials, domain)
        if refusal := self._refused(credentials, account, method, body, peer, True):
            return refusal
        assert account is not None
        self._guard.proved(peer.host)
        return f"{account.username}@{account.domain}"

    def _account(self, credentials: Credentials, domain: str) -> Account | None:
        self.checked += 1
        user, at, user_domain = credentials.username.partition("@")
        return self.accounts.find(user, user_domain.lower() if at else domain)

    def _refused(
        self,
        credentials: Credentials,
        account: Account | None,
        method: str,
        body: bytes,
        peer: Address,
        register: bool,
    ) -> Reply | None:
        realm = credentials.realm
        if not self._accepts(credentials):
            self._failed(credentials, peer, "algorithm or qop that is not offered")
            return self._challenge(peer, realm, register, failed=True)
        # As much work for users that there are not.
        ha1 = (account or self._stand_in).ha1(credentials.base, credentials.username, realm)
        right = credentials.proves(ha1 or self.nobody, method, body)
        if account is None or not ha1 or not right:
            if not self._database.prompt and account is None:
                return NO_DATABASE
            self._failed(credentials, peer, "wrong password" if account else "unknown user")
            return self._challenge(peer, realm, register, failed=True)
        use = self._nonces.use(credentials.nonce, credentials.count, self._clock.seconds())
        if use is Use.ACCEPTED:
            return None
        # Who knows the password need not type it again because of an old, used or foreign nonce.
        self.stale += 1
        return self._challenge(peer, realm, register, stale=True)

    def _accepts(self, credentials: Credentials) -> bool:
        if credentials.base not in self._settings.algorithms:
            return False
        return credentials.qop != "auth-int" or "auth-int" in self._settings.qop

    def _credentials(self, values: Iterable[str], realm: str) -> Credentials | None:
        """Those for our realm; of several the first with a hash that we offer.

        Raises MalformedMessage when there are none and some cannot be read.
        """
        found: Credentials | None = None
        malformed: MalformedMessage | None = None
        for value in values:
            try:
                credentials = Credentials.parse(value)
            except MalformedMessage as error:
                malformed = error
                continue
            if credentials is None or credentials.realm != realm:
                continue
            if credentials.base in self.accounts.offered:
                return credentials
            found = found or credentials
        if found is None and malformed is not None:
            raise malformed
        return found

    def _challenge(
        self,
        peer: Address,
        realm: str,
        register: bool,
        *,
        stale: bool = False,
        failed: bool = False,
    ) -> Reply:
        self.challenged += 1
        name = "WWW-Authenticate" if register else "Proxy-Authenticate"
        offered = self.accounts.offered
        if peer.transport in _BROWSERS:
            can = [name for name in self._settings.browser_algorithms if name in offered]
            offered = can or offered
        nonce = self._nonces.issue(self._clock.seconds())
        qop = self._settings.qop
        headers = tuple(
            (name, challenge(realm, nonce, qop, _shown(algorithm, qop), stale))
            for algorithm in offered
        )
        # A repeat of wrong credentials is not another failure.
        return Reply(401 if register else 407, "", headers, stateless=not failed)

    def _failed(self, credentials: Credentials, peer: Address, reason: str) -> None:
        self.failed(peer, credentials.username, credentials.realm, reason)

    def failed(self, peer: Address, username: str, realm: str, reason: str) -> None:
        """Count wrong credentials, however they came."""
        self.rejected += 1
        if self._events.wanted(AuthenticationFailed):
            self._events.publish(AuthenticationFailed(peer, username, realm, reason))

    # Management

    def commands(self) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """``auth_reload`` and ``auth_knows``."""
        return [
            ("auth_reload", [[]], self._reload_command),
            ("auth_knows", [["aor"]], self._knows_command),
        ]

    async def _reload_command(self) -> str:
        """Forget what is known of subscribers and read it again."""
        await self.reload()
        return "OK"

    def _knows_command(self, aor: object) -> bool:
        """Whether this user, as user@domain, can log in."""
        user, _, domain = str(aor).rpartition("@")
        return self.accounts.find(user, self._domains.canonical(domain)) is not None

    def statistics(self) -> Mapping[str, int]:
        """Counters and gauges."""
        return {
            "auth:subscribers": len(self.accounts),
            "auth:checked": self.checked,
            "auth:challenged": self.challenged,
            "auth:rejected": self.rejected,
            "auth:stale": self.stale,
            "auth:used_nonces": len(self._nonces),
            "uri:positive_checks": self.matching,
            "uri:negative_checks": self.foreign,
        }


classImplements(
    Authenticator, IAuthenticator, IHTTPLogin, IStartable, IReloadable, ICommands, IStatistics
)


def _same_uri(claimed: str, uri: str) -> bool:
    """Whether credentials were made for this URI; they may name scheme and host as well."""
    if claimed == uri:
        return True
    scheme, separator, rest = claimed.partition("://")
    return bool(separator) and scheme in ("http", "https") and rest[rest.find("/") :] == uri


def _shown(algorithm: str, qop: str) -> str:
    """MD5 goes without saying where there is no qop, as before RFC 2617."""
    return algorithm if qop or algorithm != "MD5" else ""
