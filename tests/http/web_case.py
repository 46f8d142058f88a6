"""The pages for users on a memory database and a clock, asked without sockets."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from pbx.config import settings
from pbx.events import AuthenticationFailed, Events
from pbx.gate import OpenGate
from pbx.http.api import About, Web
from pbx.http.settings import HTTPSettings, IceSettings, WebSettings
from pbx.http.site import Site
from pbx.http.visitors import Visitors
from pbx.interfaces import IStartable
from pbx.services.authenticator import Authenticator, AuthenticatorSettings, Subscribers
from pbx.services.domains import Domains
from pbx.services.guard import Guard, GuardSettings
from pbx.storage.memory import memory_database
from pbx.transport.hosts import real_client

NOW = 1_790_000_000.0
PASSWORD = "Tiger7"
LOOPBACK = IPv4Address("TCP", "127.0.0.1", 40000)
OTHER = IPv4Address("TCP", "192.0.2.7", 40000)
PROXY = IPv4Address("TCP", "198.51.100.1", 40000)
JSON = ("Content-Type", "application/json")
Header = tuple[str, str]
ResultT = TypeVar("ResultT")


class Transport(StringTransport):
    """One that may be TLS."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        """As TCP has it."""


class Answer:
    """What came back."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        pairs = [line.split(": ", 1) for line in lines]
        self.headers = {name.lower(): value for name, value in pairs}
        set_cookies = [value for name, value in pairs if name.lower() == "set-cookie"]
        #: Those that were set, as they are to be sent.
        self.cookies = [value.partition(";")[0] for value in set_cookies]

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def cookie(self) -> str:
        """The one for who does not say as whom he comes."""
        return self.cookies[-1]


class WebTestCase(SynchronousTestCase):
    """1001 (Alice) and 1002 of pbx.test have the password of `PASSWORD`."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=self._parent()))
        self.clock = Clock()
        self.clock.advance(NOW)
        self.online: set[str] = set()
        self.database = memory_database(self.clock)
        self.add("1001", name="Alice Liddell")
        self.add("1002")
        self.use()

    def _parent(self) -> str:
        parent = Path(self.mktemp())
        parent.mkdir(parents=True)
        return str(parent)

    def done(self, work: Awaitable[ResultT]) -> ResultT:
        async def waited() -> ResultT:
            return await work

        return self.successResultOf(Deferred.fromCoroutine(waited()))

    def add(
        self, user: str, domain: str = "pbx.test", password: str = PASSWORD, name: str = ""
    ) -> None:
        self.sql(
            "INSERT INTO subscriber (username, domain, password) VALUES (?, ?, ?)",
            (user, domain, password),
        )
        if name:
            self.sql(
                "INSERT INTO usr_preferences (username, domain, attribute, type, value)"
                " VALUES (?, ?, 'display_name', 2, ?)",
                (user, domain, name),
            )

    def sql(self, statement: str, values: tuple[object, ...] = ()) -> None:
        self.done(self.database.execute(statement, values))

    def use(
        self,
        web: Mapping[str, Any] | None = None,
        ice: Mapping[str, Any] | None = None,
        auth: Mapping[str, Any] | None = None,
        trusted: tuple[str, ...] = (),
        allowed: tuple[str, ...] = (),
    ) -> None:
        """The web as after a restart with these settings."""
        events = Events()
        self.failures: list[AuthenticationFailed] = []
        guarding = settings(GuardSettings, {"max_failures": 0, "allow": []}, "guard")
        self.guard = Guard(guarding, self.database, events, self.clock)
        events.subscribe(AuthenticationFailed, self.failures.append)
        domains = Domains("pbx.test", lambda host: host == "192.0.2.1", self.database, events)
        found = settings(AuthenticatorSettings, auth or {}, "auth")
        authenticator = Authenticator(found, self.database, domains, events, self.clock, OpenGate())
        self.subscribers = Subscribers(found, authenticator, self.database, domains, events)
        self.web = Web(
            settings(WebSettings, web or {}, "web"),
            settings(IceSettings, ice or {}, "ice"),
            Visitors(lambda peer, header: real_client(peer, header, trusted), trusted, allowed),
            About("", "pbx.test", "none"),
            self.subscribers,
            domains,
            self.database,
            self.guard,
            lambda uri: uri.user in self.online,
            self.folder.joinpath,
            lambda: ["http://127.0.0.1:8888/", "https://192.0.2.1:8443/"],
            self.clock,
        )
        for part in (domains, authenticator, self.subscribers, *self.web.parts):
            if IStartable.providedBy(part):
                self.done(IStartable(part).start())
        self.site = Site(
            HTTPSettings(listen=()),
            self.clock,  # type: ignore[arg-type]
            banned=self.guard.banned,
        )
        self.site.put("api", self.web.api)
        self.site.put("/", self.web.front)
        self.site.put("console", self.web.console)

    def ask(
        self,
        method: str,
        path: str,
        *headers: Header,
        body: bytes | None = None,
        peer: IPv4Address | IPv6Address = LOOPBACK,
        secure: bool = False,
    ) -> Answer:
        """One request on a connection of its own."""
        lines = [f"{method} {path} HTTP/1.1"]
        if all(name != "Host" for name, _ in headers):
            lines.append("Host: 127.0.0.1:8888")
        lines += [f"{name}: {value}" for name, value in headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        transport = Transport(peerAddress=peer)
        if secure:
            alsoProvides(transport, ISSLTransport)
        channel = self.site.factory.buildProtocol(peer)
        channel.makeConnection(transport)
        channel.dataReceived("\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + (body or b""))
        data = transport.value()
        channel.connectionLost(cast(Any, None))
        return Answer(data)

    def post(
        self,
        path: str,
        question: object,
        *headers: Header,
        peer: IPv4Address | IPv6Address = LOOPBACK,
        secure: bool = False,
    ) -> Answer:
        body = json.dumps(question).encode()
        return self.ask("POST", path, JSON, *headers, body=body, peer=peer, secure=secure)

    def log_in(self, user: str = "1001", password: str = PASSWORD, **how: Any) -> Answer:
        return self.post("/api/login", {"user": user, "password": password}, **how)

    def cookie(self, user: str = "1001") -> Header:
        """The header of a browser that is logged in."""
        return ("Cookie", self.log_in(user).cookie)
