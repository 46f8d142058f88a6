"""``/api/login``, ``/api/logout`` and ``/api/me``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from twisted.web.server import Request

from pbx.http.answers import Refused, body_of, text_in
from pbx.http.attempts import Attempts
from pbx.http.links import LoginLinks
from pbx.http.sessions import Session, Sessions
from pbx.http.settings import WebSettings
from pbx.http.visitors import Visitors
from pbx.interfaces import ISubscribers
from pbx.sip.uri import escape_user
from pbx.subscriber import Subscriber

NOT_LOGGED_IN = Refused(401, "not_logged_in", "Log in first.")
WRONG = Refused(401, "wrong_password", "There is no such extension, or the password is another.")
USED = Refused(401, "token_used", "This link was used already, or it is too old.")
NO_MD5 = Refused(
    403,
    "no_md5",
    "This extension has no password or MD5 hash in the table subscriber: browsers need one.",
)
NOT_PRIVATE = Refused(403, "not_private", "A link works on the machine of the PBX, or by https.")


#: Header by which a page says as whom it asks: two windows of one browser may be two extensions.
AS = "x-pbx-user"


class Gate:
    """Lets visitors in and knows them again by their cookie."""

    def __init__(
        self,
        settings: WebSettings,
        visitors: Visitors,
        subscribers: ISubscribers,
        sessions: Sessions,
        links: LoginLinks,
        attempts: Attempts,
    ) -> None:
        self._settings = settings
        self._visitors = visitors
        self._subscribers = subscribers
        self._sessions = sessions
        self._links = links
        self._attempts = attempts
        self.logins = 0

    # Handlers

    async def log_in(self, request: Request) -> object:
        """With extension and password, or with the token of a link."""
        body = body_of(request)
        user, password = text_in(body, "user", 128), text_in(body, "password", 256)
        token = text_in(body, "token", 128)
        if not token and not user:
            raise Refused(400, "bad_value", "user and password, or token, are expected.")
        peer = self._visitors.address(request)
        if wait := self._attempts.wait(peer.host):
            message = "Too many wrong passwords came from your address; try again later."
            raise Refused(429, "too_many", message, (("retry-after", str(wait)),))
        if token:
            if not self._visitors.is_private(request):
                raise NOT_PRIVATE
            subscriber, refusal = await self._links.redeem(token), USED
        else:
            subscriber, refusal = self._subscribers.log_in(user, password, peer), WRONG
        if subscriber is None:
            self._attempts.failure(peer.host)
            raise refusal
        if not subscriber.ha1:
            raise NO_MD5
        self.logins += 1
        self._attempts.success(peer.host)
        marks = (_mark(subscriber), b"")
        self._give(request, marks, self._sessions.begin(subscriber))
        return account(subscriber)

    async def log_out(self, request: Request) -> object:
        """The cookie is good no more."""
        session = self._session(request)
        if session is not None:
            self._give(request, self._marks(request, session), "")
            await self._sessions.end(session)
        return None

    async def me(self, request: Request) -> object:
        """Who is logged in here."""
        session = self._session(request)
        if session is None:
            raise NOT_LOGGED_IN
        if cookie := self._sessions.renewed(session):
            self._give(request, self._marks(request, session), cookie)
        return account(session.subscriber)

    # For the other pages

    def who(self, request: Request) -> Subscriber:
        """Who asks. Raises Refused when nobody is logged in there."""
        session = self._session(request)
        if session is None:
            raise NOT_LOGGED_IN
        return session.subscriber

    def _session(self, request: Request) -> Session | None:
        """The session of the user as whom the page asks, or of who logged in last."""
        login = request.getHeader(AS)
        if not login:
            return self._read(request, b"")
        # Names may be such that no header can hold them as they are.
        wanted = self._subscribers.find(unquote(login))
        session = None if wanted is None else self._read(request, _mark(wanted))
        return None if session is None or session.subscriber != wanted else session

    def _read(self, request: Request, mark: bytes) -> Session | None:
        cookie = request.getCookie(self._cookie_name(request) + mark)
        return None if cookie is None else self._sessions.find(cookie.decode("latin-1"))

    def _marks(self, request: Request, session: Session) -> Sequence[bytes]:
        """The cookies of a session: the one of its user, and the other unless it is of another."""
        last = self._read(request, b"")
        own = _mark(session.subscriber)
        return (own, b"") if last is None or last.number == session.number else (own,)

    def _cookie_name(self, request: Request) -> bytes:
        """By https a name that no page without it may set (RFC 6265bis); the http site of this
        host would otherwise be barred from its own cookie.
        """
        return b"__Host-pbx_session" if self._visitors.is_https(request) else b"pbx_session"

    def _give(self, request: Request, marks: Sequence[bytes], cookie: str) -> None:
        """One for this user, and one for who comes without saying as whom."""
        name = self._cookie_name(request)
        for mark in marks:
            request.addCookie(
                name + mark,
                cookie.encode(),
                path=b"/",
                max_age=str(self._settings.session_time if cookie else 0).encode(),
                secure=self._visitors.is_https(request),
                httpOnly=True,
                sameSite=b"strict",
            )


def _mark(subscriber: Subscriber) -> bytes:
    """What tells the cookie of one user from that of another in the same browser."""
    login = f"{subscriber.user}@{subscriber.domain}".encode()
    return b"_" + hashlib.sha256(login).hexdigest()[:12].encode()


def account(subscriber: Subscriber) -> Mapping[str, str]:
    """What a page needs to register."""
    return {
        "user": subscriber.user,
        "domain": subscriber.domain,
        "name": subscriber.name,
        "realm": subscriber.realm,
        "ha1": subscriber.ha1,
        "sip_uri": sip_uri(subscriber.user, subscriber.domain),
    }


def sip_uri(user: str, domain: str) -> str:
    """The address of record as a URI."""
    return f"sip:{escape_user(user)}@{domain}"
