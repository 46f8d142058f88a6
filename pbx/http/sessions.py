"""Browsers that are logged in: a signed cookie says who, so that a restart ends no session."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from pbx.http.settings import WebSettings
from pbx.interfaces import IDatabase, IStartable, ISubscribers
from pbx.subscriber import Subscriber

_STATE = "web.session_key"
_KIND = "ended"
#: Sessions ended by log-out that are remembered at a time, until they would expire anyway.
MAX_ENDED = 50_000
_MAX_COOKIE = 1024


@dataclass(frozen=True, slots=True)
class Session:
    """One logged-in browser."""

    subscriber: Subscriber
    number: str
    expires: float


@implementer(IStartable)
class Sessions:
    """Makes and reads cookies. A cookie is good until it expires, its user logs out, or the
    password changes, which the signature covers; all nodes on one database accept it.
    """

    def __init__(
        self,
        settings: WebSettings,
        database: IDatabase,
        subscribers: ISubscribers,
        clock: IReactorTime,
    ) -> None:
        self._settings = settings
        self._database = database
        self._subscribers = subscribers
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._ended: dict[str, float] = {}

    async def start(self) -> None:
        """Read the key, and which sessions were ended."""
        sql = "SELECT value FROM pbx_state WHERE name = ?"
        rows = await self._database.query(sql, (_STATE,))
        if not rows:
            await self._database.execute(
                "INSERT INTO pbx_state (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (_STATE, self._key.hex()),
            )
            rows = await self._database.query(sql, (_STATE,))
        self._key = bytes.fromhex(str(rows[0][0]))
        ended = await self._database.query(
            "SELECT hash, expires FROM pbx_web WHERE kind = ? AND expires > ?",
            (_KIND, int(self._clock.seconds())),
        )
        self._ended = {str(number): float(expires) for number, expires in ended}

    async def stop(self) -> None:
        """Nothing waits."""

    def begin(self, subscriber: Subscriber) -> str:
        """The value of a new cookie."""
        expires = int(self._clock.seconds()) + self._settings.session_time
        number = secrets.token_hex(16)
        return self._signed(number, expires, subscriber)

    def renewed(self, session: Session) -> str:
        """A fresh cookie for a session that is half over, else ""."""
        left = session.expires - self._clock.seconds()
        if left > self._settings.session_time / 2:
            return ""
        expires = int(self._clock.seconds()) + self._settings.session_time
        return self._signed(session.number, expires, session.subscriber)

    def find(self, cookie: str) -> Session | None:
        """The session of a cookie that is good."""
        text, _, signature = cookie.partition(".")
        if len(cookie) > _MAX_COOKIE or not signature.isascii():
            return None
        try:
            number, expires, login = _decoded(text).split(" ", 2)
            until = int(expires)
        except ValueError:
            return None
        subscriber = self._subscribers.find(login)
        if subscriber is None or until <= self._clock.seconds() or number in self._ended:
            return None
        if not hmac.compare_digest(self._signature(text, subscriber), signature):
            return None
        return Session(subscriber, number, float(until))

    async def end(self, session: Session) -> None:
        """Log out; the cookie is good no more, here at once and after a restart."""
        now = self._clock.seconds()
        if len(self._ended) >= MAX_ENDED:
            self._ended = {name: until for name, until in self._ended.items() if until > now}
        if len(self._ended) >= MAX_ENDED:
            del self._ended[next(iter(self._ended))]
        # A cookie of the same session that was renewed lives longer than this one.
        until = int(now) + self._settings.session_time
        self._ended[session.number] = float(until)
        await self._database.execute("DELETE FROM pbx_web WHERE expires <= ?", (int(now),))
        user = session.subscriber
        await self._database.execute(
            "INSERT INTO pbx_web (hash, kind, username, domain, expires) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (session.number, _KIND, user.user, user.domain, until),
        )

    def _signed(self, number: str, expires: int, subscriber: Subscriber) -> str:
        login = f"{subscriber.user}@{subscriber.domain}"
        text = base64.urlsafe_b64encode(f"{number} {expires} {login}".encode()).decode()
        text = text.rstrip("=")
        return f"{text}.{self._signature(text, subscriber)}"

    def _signature(self, text: str, subscriber: Subscriber) -> str:
        signed = f"{text} {subscriber.ha1}".encode()
        return hmac.digest(self._key, signed, "sha256").hex()


def _decoded(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except binascii.Error:
        raise ValueError("no base64") from None
