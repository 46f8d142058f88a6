"""A browser without a screen: cookies, JSON, and the WebSocket of the page."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any

from tests.integration.harness import PBX
from tests.integration.phone import Phone, WebSocket


def port_of(pbx: PBX) -> int:
    """The port of the web site of a PBX that has one."""
    return int(pbx.mi("status")["web"].rstrip("/").rpartition(":")[2])


class Browser:
    """Asks one site; errors come as (status, code)."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.context = context
        self.cookies: dict[str, str] = {}
        self.headers: dict[str, str] = {}

    @property
    def origin(self) -> str:
        """Of the page that is shown."""
        return f"{'http' if self.context is None else 'https'}://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, question: object = None, **headers: str
    ) -> tuple[int, bytes]:
        """Status and body."""
        if self.context is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        else:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=20, context=self.context
            )
        body = None if question is None else json.dumps(question)
        sent = {"Origin": self.origin, "Content-Type": "application/json", **headers}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            found = answer.read()
        finally:
            connection.close()
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        for cookie in answer.headers.get_all("set-cookie", []):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer.status, found

    def get(self, path: str) -> Any:
        """The JSON of a page that must be there."""
        status, body = self.ask("GET", path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def log_in(self, user: str, password: str = "secret") -> Any:
        """What a page needs to register, or (status, code)."""
        return self._answer({"user": user, "password": password})

    def redeem(self, link: str) -> Any:
        """The same with a link."""
        return self._answer({"token": link.partition("#login=")[2]})

    def _answer(self, question: object) -> Any:
        status, body = self.ask("POST", "/api/login", question)
        found = json.loads(body)
        return found if status == 200 else (status, found["error"])

    def phone(self, user: str, password: str = "secret") -> Phone:
        """The phone in the page, connected and not registered."""
        way = WebSocket("127.0.0.1", self.port, "/sip", self.context, self.origin)
        return Phone(user, way, password)
