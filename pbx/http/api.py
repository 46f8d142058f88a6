"""``/api``: what the web phone asks the PBX. The pages are put together here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request
from zope.interface import implementer

from pbx import __version__
from pbx.http.answers import Handler, JSONPage, NothingPage
from pbx.http.attempts import Attempts
from pbx.http.console import PAGES, Console, Operators, Registrations, read_token
from pbx.http.ice import IceServers
from pbx.http.links import LoginLinks
from pbx.http.login import Gate
from pbx.http.networks import networks
from pbx.http.phonebook import Phonebook
from pbx.http.sessions import Sessions
from pbx.http.settings import IceSettings, WebSettings
from pbx.http.static import BUILT, Pages
from pbx.http.visitors import Visitors
from pbx.interfaces import (
    IDatabase,
    IDialogs,
    IDomains,
    IGuard,
    IManagement,
    IStatistics,
    ISubscribers,
)
from pbx.sip.uri import URI


class About:
    """What every visitor may know."""

    def __init__(self, name: str, domain: str, engine: str) -> None:
        self._about = {
            "name": name or domain,
            "domain": domain,
            "version": __version__,
            "sip": "/sip",
            "engine": engine,
        }

    async def site(self, request: Request) -> object:
        """Name and domain, and where SIP is spoken."""
        return self._about


@implementer(IStatistics)
class LoginCounts:
    """Counters of log-ins for the statistics."""

    def __init__(self, gate: Gate, attempts: Attempts) -> None:
        self._gate = gate
        self._attempts = attempts

    def statistics(self) -> Mapping[str, int]:
        """Group ``web``."""
        return {
            "web:logins": self._gate.logins,
            "web:failed_logins": self._attempts.failed,
            "web:refused_logins": self._attempts.refused,
            "web:failing_sources_used": len(self._attempts),
        }


class Web:
    """Everything at ``/`` and ``/api``. Its ``parts`` start with the PBX, before the site listens.

    ``registered`` tells whether a user has a phone just now, ``urls`` where browsers find the
    site, ``located`` where a file of the settings is.
    """

    def __init__(
        self,
        settings: WebSettings,
        ice: IceSettings,
        visitors: Visitors,
        about: About,
        subscribers: ISubscribers,
        domains: IDomains,
        database: IDatabase,
        guard: IGuard,
        registered: Callable[[URI], bool],
        located: Callable[[Path], Path],
        urls: Callable[[], Sequence[str]],
        clock: IReactorTime,
    ) -> None:
        self._settings = settings
        self._located = located
        self._visitors = visitors
        self.urls = urls
        sessions = Sessions(settings, database, subscribers, clock)
        self.links = LoginLinks(settings, database, subscribers, urls, clock)
        attempts = self._attempts = Attempts(settings, guard, clock)
        gate = Gate(settings, visitors, subscribers, sessions, self.links, attempts)
        phonebook = Phonebook(gate, subscribers, database, domains, registered)
        servers = IceServers(ice, located, gate, clock)
        self.front = Pages(BUILT if settings.pages == Path() else located(settings.pages))
        self.console = Pages(PAGES, "/console")
        counts = LoginCounts(gate, attempts)
        self.parts = (sessions, self.links, attempts, counts, self.front, self.console)
        self.api = NothingPage(visitors)
        pages: dict[str, dict[str, Handler]] = {
            "site": {"GET": about.site},
            "login": {"POST": gate.log_in},
            "logout": {"POST": gate.log_out},
            "me": {"GET": gate.me},
            "ice": {"GET": servers.list},
            "directory": {"GET": phonebook.directory},
            "history": {"GET": phonebook.history},
        }
        for name, handlers in pages.items():
            self.api.putChild(name.encode(), JSONPage(visitors, **handlers))

    def add_console(
        self,
        is_local: Callable[[str], bool],
        management: IManagement,
        dialogs: IDialogs,
        registrations: Registrations,
        now: Callable[[], float],
    ) -> None:
        """What operators look at. Raises ConfigError."""
        settings, path = self._settings, self._settings.console_token_file
        token = b"" if path == Path() else read_token(self._located(path))
        allowed = networks(settings.console_allow)
        operators = Operators(token, allowed, is_local, self._visitors, self._attempts)
        console = Console(operators, management, dialogs, registrations, now)
        self.api.putChild(b"console", JSONPage(self._visitors, GET=console.overview))
