"""Links that log a browser in once, for who stands at the machine or manages the PBX."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from pbx.commands import CommandFailed
from pbx.http.settings import WebSettings
from pbx.interfaces import ICommands, IDatabase, ISubscribers
from pbx.subscriber import Subscriber

_KIND = "link"
#: Unused links of one user at a time.
MAX_LINKS = 20


@implementer(ICommands)
class LoginLinks:
    """Tokens in the table ``pbx_web``, which holds their hashes only; any node may redeem one.

    ``urls`` tells where browsers find the site, this machine's own address first.
    """

    def __init__(
        self,
        settings: WebSettings,
        database: IDatabase,
        subscribers: ISubscribers,
        urls: Callable[[], Sequence[str]],
        clock: IReactorTime,
    ) -> None:
        self._settings = settings
        self._database = database
        self._subscribers = subscribers
        self._urls = urls
        self._clock = clock

    async def create(self, user: str, domain: str) -> str:
        """A token that logs this user in once."""
        now = int(self._clock.seconds())
        await self._database.execute("DELETE FROM pbx_web WHERE expires <= ?", (now,))
        token = secrets.token_urlsafe(24)
        await self._database.execute(
            "INSERT INTO pbx_web (hash, kind, username, domain, expires) VALUES (?, ?, ?, ?, ?)",
            (_hash(token), _KIND, user, domain, now + self._settings.link_time),
        )
        await self._database.execute(
            "DELETE FROM pbx_web WHERE kind = ? AND username = ? AND domain = ? AND hash NOT IN"
            " (SELECT hash FROM pbx_web WHERE kind = ? AND username = ? AND domain = ?"
            " ORDER BY expires DESC LIMIT ?)",
            (_KIND, user, domain, _KIND, user, domain, MAX_LINKS),
        )
        return token

    async def redeem(self, token: str) -> Subscriber | None:
        """Whose token it is; it is used up. None for one that is unknown, used or too old."""
        hashed = _hash(token)
        rows = await self._database.query(
            "SELECT username, domain FROM pbx_web WHERE hash = ? AND kind = ? AND expires > ?",
            (hashed, _KIND, int(self._clock.seconds())),
        )
        if not rows:
            return None
        sql = "DELETE FROM pbx_web WHERE hash = ? AND kind = ?"
        if not await self._database.execute(sql, (hashed, _KIND)):
            # Another request, maybe of another node, was faster.
            return None
        return self._subscribers.find(f"{rows[0][0]}@{rows[0][1]}")

    async def links(self, user: str, domain: str) -> Sequence[str]:
        """One token as links to each address of the site."""
        urls = self._urls()
        if not urls:
            return ()
        token = await self.create(user, domain)
        return [f"{url}#login={token}" for url in urls]

    def commands(self) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """``web_link``."""
        return [("web_link", [["user"]], self._link)]

    async def _link(self, user: object) -> Mapping[str, object]:
        """A link that logs a browser in as this user, once."""
        subscriber = self._subscribers.find(str(user))
        if subscriber is None:
            raise CommandFailed(404, "There is no such user")
        links = await self.links(subscriber.user, subscriber.domain)
        if not links:
            raise CommandFailed(503, "There is no web site: [http] listen is empty")
        return {
            "user": f"{subscriber.user}@{subscriber.domain}",
            "links": list(links),
            "expires": self._settings.link_time,
        }


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
