"""JSON in, JSON out: what every page of ``/api`` has in common."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import resource
from twisted.web.server import NOT_DONE_YET, Request

from pbx.errors import DatabaseError
from pbx.http.visitors import Visitors

#: Longest body of a question.
MAX_BODY = 64 * 1024
Handler = Callable[[Request], Awaitable[object]]


class Refused(Exception):
    """An answer that is an error: a code for programs and a sentence for people."""

    def __init__(
        self, status: int, code: str, message: str, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


NOT_FOUND = Refused(404, "not_found", "There is no such page.")


class JSONPage(resource.Resource):
    """One path; a handler per method gives a JSON value, None for 204, or raises `Refused`."""

    isLeaf = True
    log = Logger()

    def __init__(self, visitors: Visitors, **handlers: Handler) -> None:
        super().__init__()
        self._visitors = visitors
        self._handlers: Mapping[bytes, Handler] = {
            name.encode(): handler for name, handler in handlers.items()
        }

    def render(self, request: Request) -> int:
        """Any method."""
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)
        Deferred.fromCoroutine(self._answer(request, gone))
        return NOT_DONE_YET

    async def _answer(self, request: Request, gone: Sequence[Failure]) -> None:
        try:
            found = await self._handler(request)(request)
            status = 204 if found is None else 200
        except Refused as refused:
            status, found = self._refused(request, refused)
        except DatabaseError as error:
            self.log.warn("the database does not answer the web: {error}", error=str(error))
            headers = (("retry-after", "10"),)
            message = "The PBX cannot reach its database at the moment."
            status, found = self._refused(request, Refused(503, "unavailable", message, headers))
        except Exception:
            self.log.failure("a request of the web failed")
            message = "The PBX failed to answer; its log says why."
            status, found = self._refused(request, Refused(500, "internal", message))
        if gone:
            return
        body = b"" if found is None else json.dumps(found, ensure_ascii=False).encode() + b"\n"
        request.setResponseCode(status)
        request.setHeader("cache-control", "no-store")
        if body:
            request.setHeader("content-type", "application/json; charset=utf-8")
            request.setHeader("content-length", str(len(body)))
        if request.method != b"HEAD":
            request.write(body)
        request.finish()

    def _handler(self, request: Request) -> Handler:
        if any(request.postpath or ()):
            raise NOT_FOUND
        method = b"GET" if request.method == b"HEAD" else request.method
        handler = self._handlers.get(method)
        if handler is None:
            allow = (("allow", ", ".join(name.decode() for name in self._handlers)),)
            raise Refused(405, "method", "This page is asked in another way.", allow)
        if not self._visitors.from_own_page(request):
            raise Refused(403, "foreign_page", "A page of another site may not ask this.")
        return handler

    @staticmethod
    def _refused(request: Request, refused: Refused) -> tuple[int, Mapping[str, str]]:
        for name, value in refused.headers:
            request.setHeader(name, value)
        return refused.status, {"error": refused.code, "message": refused.message}


class NothingPage(JSONPage):
    """Everything else below ``/api``."""

    isLeaf = False

    def getChild(self, path: bytes, request: Request) -> resource.IResource:
        """No page."""
        return self

    def _handler(self, request: Request) -> Handler:
        raise NOT_FOUND


def body_of(request: Request) -> Mapping[str, Any]:
    """The JSON object that was sent. Raises Refused."""
    kind = (request.getHeader("content-type") or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "content_type", "JSON is expected (Content-Type: application/json).")
    text = request.content.read(MAX_BODY + 1) if request.content is not None else b""
    if len(text) > MAX_BODY:
        raise Refused(413, "too_large", "The question is too long.")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused(400, "bad_json", "The question is no JSON.") from None
    if not isinstance(found, dict):
        raise Refused(400, "bad_json", "A JSON object is expected.")
    return found


def text_in(body: Mapping[str, Any], key: str, longest: int) -> str:
    """A text of the question, "" when it is not there. Raises Refused."""
    found = body.get(key, "")
    if not isinstance(found, str) or len(found) > longest or "\0" in found:
        raise Refused(400, "bad_value", f"{key}: a text of at most {longest} characters.")
    # A lone surrogate has no place in a digest or a database.
    return found.encode("utf-8", "replace").decode()


def argument(request: Request, key: str, longest: int = 256) -> str:
    """A value of the query string, "" when it is not there. Raises Refused."""
    found: bytes = request.args.get(key.encode(), [b""])[-1]
    try:
        text = found.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(400, "bad_value", f"{key}: no UTF-8.") from None
    if len(text) > longest or "\0" in text:
        raise Refused(400, "bad_value", f"{key}: a text of at most {longest} characters.")
    return text


def limit_of(request: Request, usual: int, most: int) -> int:
    """How many are wanted. Raises Refused."""
    text = argument(request, "limit") or str(usual)
    if not (text.isascii() and text.isdigit() and len(text) < 7) or int(text) < 1:
        raise Refused(400, "bad_value", f"limit: a number from 1 to {most}.")
    return min(int(text), most)
