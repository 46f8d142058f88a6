"""The XCAP server on the HTTP site."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import resource
from twisted.web.server import NOT_DONE_YET, Request

from pbx.services.xcap.server import Answer, Asked, XCAPServer
from pbx.sip.address import Address


class XCAPPage(resource.Resource):
    """Everything below the XCAP root; paths count as they were sent, percent-encoding and all."""

    isLeaf = True
    log = Logger()

    def __init__(self, server: XCAPServer) -> None:
        super().__init__()
        self._server = server

    def render(self, request: Request) -> int:
        """Any method."""
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)
        answered = Deferred.fromCoroutine(self._server.answer(asked(request)))
        answered.addErrback(self._failed).addCallback(self._send, request, gone)
        return NOT_DONE_YET

    def _failed(self, failure: Failure) -> Answer:
        self.log.failure("an XCAP request failed", failure=failure)
        return Answer(500)

    def _send(self, answer: Answer, request: Request, gone: Sequence[Failure]) -> None:
        if gone:
            return
        request.setResponseCode(answer.status)
        for name, value in answer.headers:
            request.responseHeaders.addRawHeader(name, value)
        request.setHeader("cache-control", "private, no-cache")
        if answer.status != 304:
            request.setHeader("content-length", str(len(answer.body)))
            # Without effect for HEAD.
            request.write(answer.body)
        request.finish()


def asked(request: Request) -> Asked:
    """The request as the server wants it."""
    uri = request.uri.decode("latin-1")
    path, _, query = uri.partition("?")
    client = request.getClientAddress()
    host, port = getattr(client, "host", ""), getattr(client, "port", 0)
    transport = "TLS" if request.isSecure() else "TCP"
    return Asked(
        method=request.method.decode("latin-1"),
        uri=uri,
        path="/".join(path.split("/")[2:]),
        query=query,
        peer=Address(transport, host, port),
        authorization=request.requestHeaders.getRawHeaders("authorization") or (),
        if_match=_joined(request, "if-match"),
        if_none_match=_joined(request, "if-none-match"),
        content_type=request.getHeader("content-type") or "",
        body=request.content.read() if request.content is not None else b"",
    )


def _joined(request: Request, name: str) -> str:
    return ", ".join(request.requestHeaders.getRawHeaders(name) or ())
